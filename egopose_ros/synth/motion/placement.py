"""A motion on a body: scaled to its legs, soles on the floor, planted feet still."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from egopose_ros.synth.motion.body import (
    INDEX,
    REFERENCE,
    REFERENCE_LEG,
    forward_kinematics,
    leg_length,
    shortest_arc,
    two_bone,
    unit,
)
from egopose_ros.synth.motion.clip import Motion, PlacedMotion, Support

SIDES = ("left", "right")
_LEGS = [[INDEX[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle", "foot")] for side in SIDES]
_HIPS = [INDEX["left_hip"], INDEX["right_hip"]]

_FLESH = {"pelvis": 0.09, "spine3": 0.10, "head": 0.10, "knee": 0.045, "elbow": 0.04, "wrist": 0.03, "shoulder": 0.06}
"""[m] joint above the surface that it would rest on, on the reference body"""


def sole_points(rest_joints: np.ndarray, sole_height: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return heel (3,) from the ankle and ball, toe (2, 3) from the foot joint, in T-pose axes, on the sole."""
    _, _, ankle, ball = _LEGS[side]
    forward = rest_joints[ball] - rest_joints[ankle]
    above = sole_height + forward[2]
    heel = np.array([-0.35 * forward[0], 0.0, -sole_height])
    return heel, np.array([[0.0, 0.0, -above], [0.5 * forward[0], 0.0, -above]])


def soles(rotations_world: np.ndarray, joints_world: np.ndarray, rest: np.ndarray, sole_height: float) -> np.ndarray:
    """Return heel, ball and toe (T, 2, 3, 3) on the sole of each foot."""
    points = np.empty((len(joints_world), 2, 3, 3))
    for side, (_, _, ankle, ball) in enumerate(_LEGS):
        heel, front = sole_points(rest, sole_height, side)
        points[:, side, 0] = joints_world[:, ankle] + rotations_world[:, ankle] @ heel
        points[:, side, 1:] = joints_world[:, ball, None] + front @ np.swapaxes(rotations_world[:, ball], -1, -2)
    return points


def ground_below(points: np.ndarray, supports: tuple[Support, ...]) -> np.ndarray:
    """Return the height (...) of the floor or of the highest step under points (..., 3)."""
    height = np.zeros(points.shape[:-1])
    for support in supports:
        if support.kind == "step":
            offset = points[..., :2] - support.centre[:2]
            cos, sin = np.cos(support.yaw), np.sin(support.yaw)
            along = np.abs(offset[..., 0] * cos + offset[..., 1] * sin) <= support.size[0] / 2
            across = np.abs(offset[..., 1] * cos - offset[..., 0] * sin) <= support.size[1] / 2
            top = support.centre[2] + support.size[2] / 2
            height = np.where(along & across, np.maximum(height, top), height)
    return height


def solve_legs(
    rotations_world: np.ndarray, pelvis_world: np.ndarray, ankles: np.ndarray, rest: np.ndarray
) -> np.ndarray:
    """Return rotations whose ankles reach (T, 2, 3), with the same bending planes and the same feet in the world."""
    rotations = rotations_world.copy()
    for side, (hip, knee, ankle, _) in enumerate(_LEGS):
        root = pelvis_world + rotations[:, 0] @ (rest[hip] - rest[0])
        thigh, shank = rest[knee] - rest[hip], rest[ankle] - rest[knee]
        hinge = rotations[:, hip, :, 1]
        pole = np.cross(unit(ankles[:, side] - root), hinge)
        lengths = np.linalg.norm(thigh), np.linalg.norm(shank)
        up, down, _ = two_bone(root, ankles[:, side], pole, *lengths, fold=0.2, stretch=0.9995, softness=0.002)
        rotations[:, hip] = shortest_arc(rotations[:, hip] @ thigh, up) @ rotations[:, hip]
        rotations[:, knee] = shortest_arc(rotations[:, knee] @ shank, down) @ rotations[:, knee]
    return rotations


def place(motion: Motion, rest_joints: np.ndarray, sole_height: float) -> PlacedMotion:
    """Put a motion on a body with T-pose joints (22, 3) [m] and soles `sole_height` [m] below its ankles.

    Feet in contact are held by inverse kinematics: their heel or ball stays where it is on the floor or on a step.
    """
    rest = np.asarray(rest_joints, float)
    if rest.shape != REFERENCE.shape or not np.isfinite(rest).all():
        raise ValueError(f"rest_joints: expected {REFERENCE.shape} finite numbers, got {rest.shape}")
    rotations = motion.rotations_world.astype(float)
    scale = leg_length(rest) / motion.leg_length
    supports = tuple(_scaled(support, scale) for support in motion.supports)
    reference = REFERENCE * (leg_length(rest) / REFERENCE_LEG)
    hips = (reference[_HIPS].mean(0) - reference[0]) - (rest[_HIPS].mean(0) - rest[0])
    pelvis = motion.pelvis_world * scale + rotations[:, 0] @ hips
    pelvis[:, 2] += sole_height - REFERENCE[INDEX["left_ankle"], 2] * scale * motion.leg_length / REFERENCE_LEG
    joints = forward_kinematics(rotations, pelvis, rest)
    pelvis = pelvis + [0.0, 0.0, _lift(joints, scale)]
    joints = forward_kinematics(rotations, pelvis, rest)
    points = soles(rotations, joints, rest, sole_height)
    correction = _plant(points, motion.foot_contact, supports, motion.fps)
    ankles = joints[:, [leg[2] for leg in _LEGS]] + correction
    pelvis[:, 2] -= sink(rotations[:, 0], pelvis, ankles, motion.foot_contact, rest, motion.fps, 0.995)
    rotations = solve_legs(rotations, pelvis, ankles, rest)
    return PlacedMotion(
        rotations.astype(np.float32),
        pelvis.astype(np.float32),
        forward_kinematics(rotations, pelvis, rest).astype(np.float32),
        motion.foot_contact,
        supports,
        0.0,
    )


def _scaled(support: Support, scale: float) -> Support:
    """Scale furniture with the motion; a thing in the hand keeps its size."""
    if support.holder:
        return support
    return replace(support, centre=support.centre * scale, size=support.size * scale)


def _lift(joints: np.ndarray, scale: float) -> float:
    """Return how far [m] the whole motion must rise so that nothing but the feet sinks into the floor."""
    lowest = np.inf
    for name, flesh in _FLESH.items():
        for joint in (name, f"left_{name}", f"right_{name}"):
            if joint in INDEX:
                lowest = min(lowest, float(np.percentile(joints[:, INDEX[joint], 2], 2)) - flesh * scale)
    return max(0.0, -lowest)


def _plant(points: np.ndarray, contact: np.ndarray, supports: tuple[Support, ...], fps: float) -> np.ndarray:
    """Return the shift (T, 2, 3) of each ankle that keeps soles (T, 2, 3, 3) still in contact, and above ground."""
    frames = len(points)
    shift = np.zeros((frames, 2, 3))
    for side in range(2):
        ground = ground_below(points[:, side, 1:2], supports)  # (T, 1): a foot stands on what is below its ball
        low = np.argmin(points[:, side, :2, 2], -1)  # heel or ball
        previous = np.roll(points[:, side], 1, axis=0)
        step = (points[:, side] - previous)[np.arange(frames), low, :2]
        needed = (ground - points[:, side, :, 2]).max(-1)
        for first, last in _runs(contact[:, side]):
            slide = -np.cumsum(np.concatenate([np.zeros((1, 2)), step[first + 1 : last]]), 0)
            shift[first:last, side, :2] = slide - slide.mean(0)
            shift[first:last, side, 2] = needed[first:last]
        _bridge(shift[:, side], contact[:, side])
        shift[:, side] = gaussian_filter1d(shift[:, side], 0.015 * fps, axis=0, mode="nearest")
        shift[:, side, 2] = np.maximum(shift[:, side, 2], needed)
    return shift


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return first and end (exclusive) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def _bridge(values: np.ndarray, known: np.ndarray) -> None:
    """Fill rows of `values` that are not known with minimum-jerk curves between the known ones, in place."""
    for first, last in _runs(~known):
        before = values[first - 1] if first > 0 else (values[last] if last < len(values) else 0.0 * values[0])
        after = values[last] if last < len(values) else before
        u = (np.arange(first, last) - first + 1) / (last - first + 1)
        values[first:last] = before + (after - before) * (u**3 * (10 - 15 * u + 6 * u**2))[:, None]


def sink(
    R_pelvis: np.ndarray,
    pelvis: np.ndarray,
    ankles: np.ndarray,
    contact: np.ndarray,
    rest: np.ndarray,
    fps: float,
    stretch: float,
) -> np.ndarray:
    """Return how far (T,) [m] the pelvis must sink, smoothly, for planted feet to be within `stretch` of the leg."""
    drop = np.zeros(len(pelvis))
    for side, (hip, knee, ankle, _) in enumerate(_LEGS):
        root = pelvis + R_pelvis @ (rest[hip] - rest[0])
        reach = stretch * (np.linalg.norm(rest[knee] - rest[hip]) + np.linalg.norm(rest[ankle] - rest[knee]))
        offset = root - ankles[:, side]
        allowed = np.sqrt(np.maximum(reach**2 - np.sum(offset[:, :2] ** 2, -1), 0.0))
        drop = np.maximum(drop, np.where(contact[:, side], offset[:, 2] - allowed, 0.0))
    sigma = 0.05 * fps
    return gaussian_filter1d(maximum_filter1d(drop, 2 * int(2 * sigma) + 1, mode="nearest"), sigma, mode="nearest")
