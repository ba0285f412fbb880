"""Which motion a recording gets: procedural families and, where a folder of clips is at hand, motion capture.

Splits share no family and no captured subject.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from egopose_ros.synth.materials import Draw
from egopose_ros.synth.motion.augment import mirror, resample, restyle, retime
from egopose_ros.synth.motion.bvh import load_bvh
from egopose_ros.synth.motion.clip import Motion
from egopose_ros.synth.motion.gltf import load_glb
from egopose_ros.synth.splits import Split

CLIPS_SHARE = 0.4
"""of the recordings take a captured or keyframed clip where a folder of them is given"""


def motion_directory() -> Path | None:
    """Return the folder that EGOPOSE_MOTION_DIR names, None without one; FileNotFoundError if it is not there."""
    name = os.environ.get("EGOPOSE_MOTION_DIR", "")
    if not name:
        return None
    if not Path(name).is_dir():
        raise FileNotFoundError(f"EGOPOSE_MOTION_DIR: expected a folder of .bvh and .glb clips, got '{name}'")
    return Path(name)


@lru_cache(maxsize=2)
def load_clips(directory: Path) -> tuple[Motion, ...]:
    """Load every clip below a folder, in order of names, at no more than 60 frames a second."""
    motions = [load_bvh(path) for path in sorted(directory.rglob("*.bvh"))]
    for path in sorted(directory.rglob("*.glb")):
        motions += load_glb(path)
    return tuple(retime(m, 1.0, 60.0) if m.fps > 60 else m for m in motions if m.frames > 8)


def draw_motion(draw: Draw, split: Split, frames: int, fps: float, directory: Path | None) -> Motion:
    """Draw a motion of so many frames: a stretch of a clip, or a procedural one, with changes of style."""
    if directory is not None and draw.chance(CLIPS_SHARE):
        pool = [m for m in load_clips(directory) if _owner(m, split)]
        if pool:
            return _stretch(draw, draw.choice(pool), frames, fps)
    from egopose_ros.synth.motion.procedural import procedural

    family = draw.choice(split.families) if split.families else None
    motion = procedural(draw.integer(0, 2**31 - 1), family, seconds=frames / fps + 0.5, fps=fps)
    start = draw.integer(0, max(motion.frames - frames, 0))
    motion = motion.cut(start, start + frames)
    return mirror(motion) if draw.chance(0.5) else motion


def _owner(motion: Motion, split: Split) -> bool:
    return f"{motion.source}/{motion.family}" in split.clips


def _stretch(draw: Draw, motion: Motion, frames: int, fps: float) -> Motion:
    """Return `frames` at `fps` from a clip at some speed; a clip that is too short goes there and back again."""
    speed = draw.uniform(0.75, 1.25)
    if draw.chance(0.5):
        motion = mirror(motion)
    if draw.chance(0.3):
        motion = restyle(motion, arm_swing=draw.uniform(0.7, 1.3), trunk_lean=draw.uniform(-0.08, 0.12))
    length = (motion.frames - 1) / motion.fps
    needed = (frames - 1) / fps * speed
    times = draw.uniform(0, max(length - needed, 0.0)) + np.arange(frames) / fps * speed
    folded = np.abs((times + length) % (2 * length) - length) if needed > length else times
    return resample(motion, folded, fps)
