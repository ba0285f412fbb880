"""From what a person controls (pelvis, trunk, gaze, where hands and feet are) to the rotations of all segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from egopose_ros.skeleton import SMPL22
from egopose_ros.synth.motion.body import (
    INDEX,
    REFERENCE,
    bone_frame,
    rotation_about,
    shortest_arc,
    soft_limit,
    two_bone,
    unit,
    yaw_pitch_roll,
)
from egopose_ros.synth.motion.curves import minimum_jerk

SHOULDERS = (REFERENCE[INDEX["left_shoulder"]] + REFERENCE[INDEX["right_shoulder"]]) / 2
"""(3,) the middle between the shoulders of the T-pose: origin of hands in chest axes"""
_CHEST = INDEX["spine3"]
_SPINE_SHARES = {"spine1": 0.3, "spine2": 0.65, "spine3": 1.0}
_TRUNK_HALF_WIDTH, _TRUNK_DEPTH = 0.175, 0.165

PRONATION, WRIST_FLEXION, WRIST_DEVIATION = (-1.5, 1.5), (-1.2, 1.2), (-0.45, 0.6)
"""[rad] limits of the hand; pronation 0 is the thumb up with a bent elbow, positive palm down"""


@dataclass(frozen=True)
class Controls:
    """What is controlled, over T frames, on the reference body. Pairs are left, right."""

    pelvis_world: np.ndarray
    """(T, 3) [m]"""
    pelvis_angles: np.ndarray
    """(T, 3) yaw, pitch (forwards), roll (to the right) [rad]"""
    spine: np.ndarray
    """(T, 3) of the chest against the pelvis: twist, flexion, side bend to the right [rad]"""
    head: np.ndarray
    """(T, 3) of the head against the chest: yaw, pitch, roll [rad]"""
    wrist_chest: np.ndarray
    """(T, 2, 3) [m] in chest axes from the middle between the shoulders"""
    swivel: np.ndarray
    """(T, 2) [rad] elbows outwards of their relaxed plane"""
    hand: np.ndarray
    """(T, 2, 3) pronation, wrist flexion, deviation to the thumb [rad]"""
    ankle_world: np.ndarray
    """(T, 2, 3) [m]"""
    foot_angles: np.ndarray
    """(T, 2, 3) yaw, pitch (toes down), roll [rad]"""
    toe: np.ndarray
    """(T, 2) toes bent up [rad]"""
    knee_out: np.ndarray
    """(T, 2) [rad] knees outwards of the foot's direction"""


def chest_rotation(pelvis_angles: np.ndarray, spine: np.ndarray) -> np.ndarray:
    """Return the chest's world rotation (T, 3, 3)."""
    return yaw_pitch_roll(pelvis_angles) @ yaw_pitch_roll(spine)


def shoulders_world(pelvis_world: np.ndarray, pelvis_angles: np.ndarray, spine: np.ndarray) -> np.ndarray:
    """Return the middle between the shoulders (T, 3), clavicles at rest."""
    R_pelvis = yaw_pitch_roll(pelvis_angles)
    point, previous, R = pelvis_world, REFERENCE[0], R_pelvis
    for name, share in _SPINE_SHARES.items():
        point = point + R @ (REFERENCE[INDEX[name]] - previous)
        previous, R = REFERENCE[INDEX[name]], R_pelvis @ yaw_pitch_roll(share * spine)
    return point + R @ (SHOULDERS - previous)


def outside_trunk(wrist_chest: np.ndarray) -> np.ndarray:
    """Push wrists (T, 2, 3) out of an elliptic cylinder around the trunk and the neck, to the side they are on."""
    x, y, z = np.moveaxis(wrist_chest, -1, 0)
    neck = minimum_jerk((z - 0.0) / 0.12)  # above the shoulders only neck and head are in the way
    width = _TRUNK_HALF_WIDTH + neck * (0.11 - _TRUNK_HALF_WIDTH)
    depth = _TRUNK_DEPTH + neck * (0.13 - _TRUNK_DEPTH)
    width, depth = width * (1 - 0.9 * (z > 0.45)), depth * (1 - 0.9 * (z > 0.45))
    x0 = -0.01 + 0.05 * neck
    radius = np.sqrt(((x - x0) / depth) ** 2 + (y / width) ** 2)
    wanted = soft_limit(radius, 1.0, 1e9, 0.25)
    factor = wanted / np.maximum(radius, 0.05)
    return np.stack([x0 + (x - x0) * factor, y * factor, z], -1)


def solve(controls: Controls) -> np.ndarray:
    """Return world rotations (T, 22, 3, 3) of all segments."""
    frames = len(controls.pelvis_world)
    R = np.empty((frames, SMPL22.size, 3, 3))
    R[:, 0] = yaw_pitch_roll(controls.pelvis_angles)
    for name, share in _SPINE_SHARES.items():
        R[:, INDEX[name]] = R[:, 0] @ yaw_pitch_roll(share * controls.spine)
    R[:, INDEX["neck"]] = R[:, _CHEST] @ yaw_pitch_roll(0.4 * controls.head)
    R[:, INDEX["head"]] = R[:, _CHEST] @ yaw_pitch_roll(controls.head)
    wrists = outside_trunk(controls.wrist_chest)
    for side, sign in enumerate((1.0, -1.0)):
        _arm(R, side, sign, wrists[:, side], controls.swivel[:, side], controls.hand[:, side])
        _leg(R, side, sign, controls)
    return R


def _arm(R: np.ndarray, side: int, sign: float, wrist: np.ndarray, swivel: np.ndarray, hand: np.ndarray) -> None:
    """Write collar, shoulder, elbow and wrist of one side. The clavicle rises and turns with the arm's elevation."""
    name = ("left", "right")[side]
    rest = {j: REFERENCE[INDEX[f"{name}_{j}"]] for j in ("collar", "shoulder", "elbow", "wrist")}
    flip = np.array([1.0, sign, 1.0])
    target = wrist + SHOULDERS
    direction = (target - rest["shoulder"]) * flip
    far = np.linalg.norm(direction, axis=-1) / 0.535
    raised = 0.42 * minimum_jerk((direction[:, 2] / 0.535 + 0.35) / 1.35)
    forward = 0.30 * minimum_jerk((direction[:, 0] - 0.5 * direction[:, 1]) / 0.535 - 0.35) * minimum_jerk(far / 1.2)
    collar = rotation_about("z", -sign * forward) @ rotation_about("x", sign * raised)
    shoulder = rest["collar"] + collar @ (rest["shoulder"] - rest["collar"])
    axis = unit(target - shoulder)
    neutral = unit(np.array([0.55, 0.15 * sign, -0.82]))
    pole = shortest_arc(neutral, axis) @ np.array([-0.8, 0.40 * sign, -0.55])
    pole = unit(pole - np.sum(pole * axis, -1, keepdims=True) * axis)
    pole = np.cos(swivel)[:, None] * pole + sign * np.sin(swivel)[:, None] * np.cross(axis, pole)
    lengths = np.linalg.norm(rest["elbow"] - rest["shoulder"]), np.linalg.norm(rest["wrist"] - rest["elbow"])
    upper, lower, hinge = two_bone(shoulder, target, pole, *lengths, fold=0.26, stretch=0.995)
    T_pose = bone_frame(np.array([0.0, sign, 0.0]), np.array([0.0, 0.0, sign])).T
    chest = R[:, _CHEST]
    pronation, flexion, deviation = (
        soft_limit(hand[:, k], *limits, 0.2) for k, limits in enumerate((PRONATION, WRIST_FLEXION, WRIST_DEVIATION))
    )
    forearm = chest @ bone_frame(lower, hinge) @ T_pose
    R[:, INDEX[f"{name}_collar"]] = chest @ collar
    R[:, INDEX[f"{name}_shoulder"]] = chest @ bone_frame(upper, hinge) @ T_pose
    R[:, INDEX[f"{name}_elbow"]] = forearm @ rotation_about("y", 0.5 * pronation)
    bend = rotation_about("x", -sign * flexion) @ rotation_about("z", -sign * deviation)
    R[:, INDEX[f"{name}_wrist"]] = forearm @ rotation_about("y", pronation) @ bend


def _leg(R: np.ndarray, side: int, sign: float, controls: Controls) -> None:
    """Write hip, knee, ankle and foot of one side."""
    name = ("left", "right")[side]
    rest = {j: REFERENCE[INDEX[f"{name}_{j}"]] for j in ("hip", "knee", "ankle")}
    hip = rest["hip"] - REFERENCE[0]
    R_pelvis = R[:, 0]
    target = (np.swapaxes(R_pelvis, -1, -2) @ (controls.ankle_world[:, side] - controls.pelvis_world)[..., None])[..., 0]
    axis = unit(target - hip)
    pole = shortest_arc(np.array([0.0, 0.0, -1.0]), axis) @ np.array([1.0, 0.0, 0.0])
    turned = controls.foot_angles[:, side, 0] - controls.pelvis_angles[:, 0]
    out = controls.knee_out[:, side] + 0.6 * sign * np.arctan2(np.sin(turned), np.cos(turned))
    pole = np.cos(out)[:, None] * pole - sign * np.sin(out)[:, None] * np.cross(axis, pole)
    lengths = np.linalg.norm(rest["knee"] - rest["hip"]), np.linalg.norm(rest["ankle"] - rest["knee"])
    upper, lower, hinge = two_bone(hip, target, pole, *lengths, fold=0.24, stretch=0.9985, softness=0.012)
    T_pose = bone_frame(np.array([0.0, 0.0, -1.0]), np.array([0.0, -1.0, 0.0])).T
    R[:, INDEX[f"{name}_hip"]] = R_pelvis @ bone_frame(upper, hinge) @ T_pose
    R[:, INDEX[f"{name}_knee"]] = R_pelvis @ bone_frame(lower, hinge) @ T_pose
    R[:, INDEX[f"{name}_ankle"]] = yaw_pitch_roll(controls.foot_angles[:, side])
    R[:, INDEX[f"{name}_foot"]] = R[:, INDEX[f"{name}_ankle"]] @ rotation_about("y", -controls.toe[:, side])
