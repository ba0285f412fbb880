"""All motions there are, who may see them, and how one is drawn.

Splits share no procedural family, no captured subject and no family of keyframed clips. Without a folder of clips
everything is procedural.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from egopose_ros.synth.motion.augment import mirror, resample, restyle, retime
from egopose_ros.synth.motion.bvh import load_bvh
from egopose_ros.synth.motion.clip import Motion
from egopose_ros.synth.motion.families import FAMILIES
from egopose_ros.synth.motion.gltf import load_glb
from egopose_ros.synth.motion.procedural import procedural

_HELD_OUT = {
    "validation": {
        "procedural": ("throw", "wave"),
        "cmu": ("10", "12", "27"),
        "mesh2motion": ("crouch",),
    },
    "test": {
        "procedural": ("drink", "eat_seated", "kick", "open_door", "sweep"),
        "cmu": ("08", "16", "26", "29"),
        "mesh2motion": ("exercise", "handle"),
    },
}
"""Everything else is for training"""

_WEIGHTS = {
    "walk": 3.0,
    "sit_desk": 2.0,
    "sit_lounge": 2.0,
    "mixed": 3.0,
    "mixed_seated": 2.0,
    "explore": 4.0,
    "idle": 1.5,
}
"""How often a procedural family is drawn, 1 unless said here: what fills a day, and what opens up the space of poses"""

_UNREAL = ("Flying", "Levitate", "Swim", "Run_Anime", "Backflip")
"""Beginnings of names of clips that nobody with a camera on the head does"""

CLIPS_SHARE = 0.4
"""of motions come from clips where a folder of them is given"""
_LOOP_RADIANS = 0.5
"""A clip whose last pose is this close to its first repeats; another one goes there and back again"""


def split_of(source: str, family: str) -> str:
    """Return train, validation or test."""
    for split, sources in _HELD_OUT.items():
        if family in sources.get(source, ()):
            return split
    return "train"


def families_of(split: str) -> tuple[str, ...]:
    """Return the procedural families of a split; ValueError for an unknown split."""
    if split not in ("train", *_HELD_OUT):
        raise ValueError(f"unknown split '{split}'; expected train, {', '.join(_HELD_OUT)}")
    return tuple(family for family in FAMILIES if split_of("procedural", family) == split)


def clip_folder() -> Path | None:
    """Return the folder that EGOPOSE_MOTION_DIR names, None without one; FileNotFoundError if it is not there."""
    name = os.environ.get("EGOPOSE_MOTION_DIR", "")
    if not name:
        return None
    if not Path(name).is_dir():
        raise FileNotFoundError(f"EGOPOSE_MOTION_DIR: expected a folder of .bvh and .glb clips, got '{name}'")
    return Path(name)


def mark_of(folder: Path | None) -> str:
    """Return what tells the motions of a folder of clips from those of another, or of none, for names of files.

    By names and sizes: what was made with other clips is other data, and reading them all would take seconds.
    """
    if folder is None:
        return "_generated"
    files = [[str(path.relative_to(folder)), path.stat().st_size] for path in _files(folder)]
    return "_clips" + hashlib.sha256(json.dumps(files).encode()).hexdigest()[:8]


def _files(folder: Path) -> list[Path]:
    return [*sorted(folder.rglob("*.bvh")), *sorted(folder.rglob("*.glb"))]


@lru_cache(maxsize=2)
def load_clips(folder: Path) -> tuple[Motion, ...]:
    """Load every clip below a folder, in order of names, at no more than 60 frames a second."""
    motions: list[Motion] = []
    for path in _files(folder):
        motions += [load_bvh(path)] if path.suffix == ".bvh" else load_glb(path)
    motions = [motion for motion in motions if motion.frames > 8 and not motion.name.startswith(_UNREAL)]
    return tuple(retime(motion, 1.0, 60.0) if motion.fps > 60 else motion for motion in motions)


def draw_motion(seed: int, split: str, frames: int, fps: float, folder: Path | None = None) -> Motion:
    """Draw a motion of so many frames, its tempo and style changed; the same arguments give the same numbers."""
    rng = np.random.default_rng([seed, 0x6C696272])
    families = families_of(split)
    if folder is not None and rng.random() < CLIPS_SHARE:
        pool = [motion for motion in load_clips(Path(folder)) if split_of(motion.source, motion.family) == split]
        if pool:
            weights = np.array([min(motion.frames / motion.fps, 8.0) for motion in pool])
            motion = _stretch(rng, pool[rng.choice(len(pool), p=weights / weights.sum())], frames, fps)
            return mirror(motion) if rng.random() < 0.5 else motion
    weights = np.array([_WEIGHTS.get(family, 1.0) for family in families])
    family = families[rng.choice(len(families), p=weights / weights.sum())]
    speed = rng.uniform(0.8, 1.25)
    # Never generated at a low rate, where a gesture would fall between two frames, and never a frame short.
    seconds = (frames - 1) / fps * speed + 0.2
    motion = procedural(int(rng.integers(2**31)), family, seconds=seconds, fps=max(fps, 30.0))
    return resample(motion, np.arange(frames) / fps * speed, fps)


def _stretch(rng: np.random.Generator, motion: Motion, frames: int, fps: float) -> Motion:
    """Return `frames` at `fps` from a clip at some speed and in some style; a short clip is repeated."""
    speed = rng.uniform(0.7, 1.4)
    if rng.random() < 0.5:
        motion = restyle(
            motion,
            arm_swing=rng.uniform(0.7, 1.3),
            trunk_lean=rng.normal(0.0, 0.08),
            stance=rng.normal(0.0, 0.015),
            crouch=abs(rng.normal(0.0, 0.02)),
        )
    length = (motion.frames - 1) / motion.fps
    needed = (frames - 1) / fps * speed
    if needed > length:
        motion = _repeat(motion, int(np.ceil(needed / length)) + 1)
        length = (motion.frames - 1) / motion.fps
    start = rng.uniform(0.0, max(length - needed, 0.0))
    return resample(motion, start + np.arange(frames) / fps * speed, fps)


def _repeat(motion: Motion, times: int) -> Motion:
    """Append a motion to itself: from its start, moved on, where it is a loop; backwards in turn where it is not."""
    first, last = motion.rotations_world[0].astype(float), motion.rotations_world[-1].astype(float)
    cosine = (np.trace(first @ np.swapaxes(last, -1, -2), axis1=-2, axis2=-1) - 1) / 2
    loop = np.arccos(np.clip(cosine, -1, 1)).max() < _LOOP_RADIANS
    order, shifts, step = [], [], (motion.pelvis_world[-1] - motion.pelvis_world[0]) * [1.0, 1.0, 0.0]
    forward = np.arange(motion.frames - 1)
    for k in range(times):
        order.append(forward if loop or k % 2 == 0 else forward[::-1] + 1)
        shifts.append(np.tile(k * step if loop else 0 * step, (len(forward), 1)))
    rows, shift = np.concatenate(order), np.concatenate(shifts)
    return replace(
        motion,
        rotations_world=motion.rotations_world[rows],
        pelvis_world=(motion.pelvis_world[rows] + shift).astype(np.float32),
        foot_contact=motion.foot_contact[rows],
        action=tuple(motion.action[row] for row in rows),
    )
