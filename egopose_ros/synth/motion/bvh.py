"""Reader of BVH motion capture (Biovision hierarchy), with the joint names of the CMU database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from egopose_ros.synth.motion.clip import Motion
from egopose_ros.synth.motion.retarget import retarget, skeleton_rows

METRES_PER_UNIT = 0.05644
"""of the CMU database: 1 / 0.45 inch"""
LICENCE = "CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu), free for all uses; NSF EIA-0196217"

_SMPL22_FROM_CMU = {
    "pelvis": "Hips", "hip": "{Side}UpLeg", "knee": "{Side}Leg", "ankle": "{Side}Foot", "foot": "{Side}ToeBase",
    "spine1": "LowerBack", "spine2": "Spine", "spine3": "Spine1", "neck": "Neck1", "head": "Head",
    "collar": "{Side}Shoulder", "shoulder": "{Side}Arm", "elbow": "{Side}ForeArm", "wrist": "{Side}Hand",
}  # fmt: skip

_ACTIONS = {
    "05": "dance", "02_03": "run", "02_04": "jump", "02_05": "punch", "02_06": "lift", "02_07": "exercise",
    "02_08": "exercise", "02_09": "exercise", "02_10": "handle",
}  # fmt: skip
"""of clips and of subjects; the others walk"""


@dataclass(frozen=True)
class Hierarchy:
    """A BVH file as it is written."""

    names: list[str]
    parents: list[int]
    offsets: np.ndarray
    """(J, 3) in the file's unit"""
    channels: list[list[str]]
    values: np.ndarray
    """(T, C) in the order of the channels, degrees"""
    frame_time_s: float


def read_hierarchy(path: str | Path) -> Hierarchy:
    """Parse a BVH file; ValueError says what was expected."""
    head, found, motion = Path(path).read_text(encoding="utf-8", errors="replace").partition("MOTION")
    words = head.split()
    if not found or words[:1] != ["HIERARCHY"]:
        raise ValueError(f"{path}: expected a BVH file with HIERARCHY and MOTION, got '{' '.join(words[:3])}'")
    names, parents, offsets, channels, stack = [], [], [], [], []
    i = 1
    while i < len(words):
        word = words[i]
        if word in ("ROOT", "JOINT", "End"):
            names.append(words[i + 1] if word != "End" else f"{names[stack[-1]]}_end")
            parents.append(stack[-1] if stack else -1)
            channels.append([])
            offsets.append([0.0, 0.0, 0.0])
            i += 2
        elif word == "{":
            stack.append(len(names) - 1)
            i += 1
        elif word == "}":
            stack.pop()
            i += 1
        elif word == "OFFSET":
            offsets[stack[-1]] = [float(value) for value in words[i + 1 : i + 4]]
            i += 4
        elif word == "CHANNELS":
            count = int(words[i + 1])
            channels[stack[-1]] = words[i + 2 : i + 2 + count]
            i += 2 + count
        else:
            raise ValueError(f"{path}: expected ROOT, JOINT, End, OFFSET, CHANNELS or a brace, got '{word}'")
    header = motion.split(maxsplit=5)  # Frames: N Frame Time: S and the numbers
    frames, frame_time = int(header[1]), float(header[4])
    values = np.fromstring(header[5], sep=" ")
    width = sum(len(names) for names in channels)
    if values.size != frames * width or frames == 0:
        raise ValueError(f"{path}: expected {frames} frames of {width} values, got {values.size} values")
    return Hierarchy(names, parents, np.array(offsets), channels, values.reshape(frames, width), frame_time)


def world_segments(file: Hierarchy) -> tuple[np.ndarray, np.ndarray]:
    """Return world rotations (T, J, 3, 3) and positions (T, J, 3) in the file's axes and unit."""
    frames = len(file.values)
    rotations = np.empty((frames, len(file.names), 3, 3))
    positions = np.empty((frames, len(file.names), 3))
    column = 0
    for joint, (parent, channels) in enumerate(zip(file.parents, file.channels)):
        values = file.values[:, column : column + len(channels)]
        column += len(channels)
        local = np.broadcast_to(np.eye(3), (frames, 3, 3))
        turns = [(name[0], k) for k, name in enumerate(channels) if name.endswith("rotation")]
        if turns:  # channels apply from the outermost to the innermost: intrinsic
            order = "".join(axis for axis, _ in turns)
            local = Rotation.from_euler(order, values[:, [k for _, k in turns]], degrees=True).as_matrix()
        offset = np.broadcast_to(file.offsets[joint], (frames, 3)).copy()
        for k, name in enumerate(channels):
            if name.endswith("position"):
                offset[:, "XYZ".index(name[0])] = values[:, k]
        rotations[:, joint] = local if parent < 0 else rotations[:, parent] @ local
        shift = offset if parent < 0 else (rotations[:, parent] @ offset[..., None])[..., 0]
        positions[:, joint] = shift if parent < 0 else positions[:, parent] + shift
    return rotations, positions


def load_bvh(path: str | Path, metres_per_unit: float = METRES_PER_UNIT) -> Motion:
    """Load a CMU clip SUBJECT_CLIP.bvh, retargeted; its first frame is the T-pose and is left out."""
    path = Path(path)
    file = read_hierarchy(path)
    rotations, positions = world_segments(file)
    try:
        rows = skeleton_rows(_SMPL22_FROM_CMU, file.names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if len(rotations) < 2:
        raise ValueError(f"{path}: expected a T-pose and at least one frame, got {len(rotations)} frames")
    joints = positions[:, rows] * metres_per_unit
    return retarget(
        rotations[1:, rows],
        joints[1:],
        rotations[0, rows],
        joints[0],
        fps=round(1.0 / file.frame_time_s, 3),
        name=path.stem,
        source="cmu",
        family=path.stem.split("_")[0],
        licence=LICENCE,
        action=_ACTIONS.get(path.stem, _ACTIONS.get(path.stem.split("_")[0], "walk")),
    )
