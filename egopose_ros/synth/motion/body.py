"""The reference body of the motion room, its forward kinematics, and two-bone inverse kinematics of arms and legs."""

from __future__ import annotations

import numpy as np

from egopose_ros.skeleton import SMPL22

INDEX = {joint: number for number, joint in enumerate(SMPL22.joints)}

_MIDLINE = {
    "pelvis": (0.0, 0.0, 0.95),
    "spine1": (-0.02, 0.0, 1.06),
    "spine2": (-0.02, 0.0, 1.19),
    "spine3": (-0.01, 0.0, 1.25),
    "neck": (-0.02, 0.0, 1.46),
    "head": (0.025, 0.0, 1.555),
}
_LEFT = {
    "hip": (0.0, 0.09, 0.88),
    "knee": (0.0, 0.09, 0.475),
    "ankle": (0.0, 0.09, 0.08),
    "foot": (0.13, 0.10, 0.02),
    "collar": (-0.01, 0.075, 1.38),
    "shoulder": (-0.02, 0.175, 1.405),
    "elbow": (-0.02, 0.455, 1.405),
    "wrist": (-0.02, 0.71, 1.405),
}


def _reference() -> np.ndarray:
    left = {f"left_{name}": point for name, point in _LEFT.items()}
    right = {f"right_{name}": (x, -y, z) for name, (x, y, z) in _LEFT.items()}
    table = {**_MIDLINE, **left, **right}
    return np.array([table[joint] for joint in SMPL22.joints])


REFERENCE = _reference()
"""(22, 3) [m] T-pose joints of a person of 1.72 m, soles at z = 0, limbs exactly along the axes"""
SOLE = 0.08
"""[m] ankle above the sole of the reference body"""


def leg_length(rest_joints: np.ndarray) -> float:
    """Return hip-knee plus knee-ankle [m], mean of both legs, of T-pose joints (22, 3)."""
    chains = [[INDEX[f"{side}_{name}"] for name in ("hip", "knee", "ankle")] for side in ("left", "right")]
    return float(np.mean([np.linalg.norm(np.diff(rest_joints[chain], axis=0), axis=-1).sum() for chain in chains]))


REFERENCE_LEG = leg_length(REFERENCE)


def forward_kinematics(rotations_world: np.ndarray, pelvis_world: np.ndarray, rest_joints: np.ndarray) -> np.ndarray:
    """Return joints (..., 22, 3) of world rotations (..., 22, 3, 3), pelvis (..., 3) and T-pose joints (22, 3)."""
    joints = np.empty((*rotations_world.shape[:-3], SMPL22.size, 3))
    joints[..., 0, :] = pelvis_world
    for parent, child in SMPL22.bones:
        offset = rest_joints[child] - rest_joints[parent]
        joints[..., child, :] = joints[..., parent, :] + rotations_world[..., parent, :, :] @ offset
    return joints


def rotation_about(axis: str, angle: np.ndarray) -> np.ndarray:
    """Return rotations (..., 3, 3) about x, y or z; pitch about y is positive forwards, yaw about z to the left."""
    angle = np.asarray(angle, float)
    cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones_like(angle), np.zeros_like(angle)
    rows = {
        "x": [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]],
        "y": [[cos, zero, sin], [zero, one, zero], [-sin, zero, cos]],
        "z": [[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]],
    }[axis]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def yaw_pitch_roll(angles: np.ndarray) -> np.ndarray:
    """Return Rz(yaw) Ry(pitch) Rx(roll) (..., 3, 3) of angles (..., 3)."""
    yaw, pitch, roll = np.moveaxis(angles, -1, 0)
    return rotation_about("z", yaw) @ rotation_about("y", pitch) @ rotation_about("x", roll)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., 3) with length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def shortest_arc(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the smallest rotations (..., 3, 3) that take directions a to b; undefined where b = -a."""
    a, b = np.broadcast_arrays(unit(a), unit(b))
    cross = np.cross(a, b)
    cosine = np.sum(a * b, -1)[..., None, None]
    skew = np.zeros((*cross.shape, 3))
    skew[..., 0, 1], skew[..., 0, 2], skew[..., 1, 2] = -cross[..., 2], cross[..., 1], -cross[..., 0]
    skew -= np.swapaxes(skew, -1, -2)
    return np.eye(3) + skew + skew @ skew / np.maximum(1.0 + cosine, 1e-9)


def bone_frame(bone: np.ndarray, hinge: np.ndarray) -> np.ndarray:
    """Return frames (..., 3, 3) with columns bone, hinge made orthogonal to it, and their cross product."""
    bone = unit(bone)
    hinge = unit(hinge - np.sum(hinge * bone, -1, keepdims=True) * bone)
    return np.stack([bone, hinge, np.cross(bone, hinge)], -1)


def two_bone(
    root: np.ndarray,
    target: np.ndarray,
    pole: np.ndarray,
    upper: float,
    lower: float,
    *,
    fold: float = 0.25,
    stretch: float = 0.998,
    softness: float = 0.03,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve a limb: return the directions (..., 3) of the upper and lower bone and of the hinge.

    The bend points towards `pole`. Targets are kept between `fold` and `stretch` times the limb's length from the root,
    smoothly within `softness` of these limits. Law of cosines.
    """
    line = target - root
    distance = np.linalg.norm(line, axis=-1, keepdims=True)
    axis = line / np.maximum(distance, 1e-9)
    length = upper + lower
    distance = soft_limit(distance, fold * length, stretch * length, softness * length)
    pole = unit(pole - np.sum(pole * axis, -1, keepdims=True) * axis)
    cosine = np.clip((upper**2 + distance**2 - lower**2) / (2 * upper * distance), -1.0, 1.0)
    upper_direction = cosine * axis + np.sqrt(1.0 - cosine**2) * pole
    lower_direction = unit(distance * axis - upper * upper_direction)
    return upper_direction, lower_direction, np.cross(axis, pole)


def soft_limit(value: np.ndarray, low: float, high: float, softness: float) -> np.ndarray:
    """Keep values within low..high, bending away from the identity only within `softness` of a limit."""
    over = value - (high - softness)
    value = np.where(over > 0, high - softness * np.exp(-np.clip(over / softness, 0, 50)), value)
    under = (low + softness) - value
    return np.where(under > 0, low + softness * np.exp(-np.clip(under / softness, 0, 50)), value)
