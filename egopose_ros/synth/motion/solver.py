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
_RELAXED_SWIVEL = 0.6
"""[rad] of an elbow outwards from straight below the arm"""
_FOREHEAD = np.array([0.20, 0.0, 0.30])
"""[m] in chest axes, of a head held upright"""
_THIGH = 0.105
"""[m] of a wrist from the middle of a thigh"""

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
    """Push wrists (T, 2, 3) out of an elliptic cylinder around the trunk and the neck.

    Beside the spine they go to their own side, so that a hand moves from back to front around the body; on the way
    up and down they stay off the shoulder.
    """
    x, y, z = np.moveaxis(wrist_chest, -1, 0)
    neck = minimum_jerk(z / 0.12)  # above the shoulders only neck and head are in the way
    free = 1.0 - minimum_jerk((z - 0.32) / 0.10)  # nothing is above the head
    width = (_TRUNK_HALF_WIDTH + neck * (0.11 - _TRUNK_HALF_WIDTH)) * free
    depth = (_TRUNK_DEPTH + neck * (0.13 - _TRUNK_DEPTH)) * free
    x0 = -0.01 + 0.05 * neck
    side = np.array([1.0, -1.0])
    from_shoulder = ((side * y - _TRUNK_HALF_WIDTH) ** 2 + z**2) / 0.22**2
    x = x + _soft_excess(0.20 * (1.0 - from_shoulder) - x)  # a hand passes in front of its shoulder
    least = width * (1.0 - ((x - x0) / 0.12) ** 2) - 0.3 * (1.0 - free)
    own = side * y
    own = own + _soft_excess(least - own)
    offset = np.stack([x - x0, side * own], -1)
    radius = np.sqrt((offset[..., 0] / np.maximum(depth, 1e-3)) ** 2 + (offset[..., 1] / np.maximum(width, 1e-3)) ** 2)
    factor = soft_limit(radius, 1.0, 1e9, 0.25) / np.maximum(radius, 0.05)
    factor = np.where(free > 0.05, factor, 1.0)
    return np.stack([x0 + offset[..., 0] * factor, offset[..., 1] * factor, z], -1)


def _soft_excess(value: np.ndarray, softness: float = 0.02) -> np.ndarray:
    """Return max(value, 0) with a rounded corner."""
    return softness * np.logaddexp(0.0, np.clip(value / softness, -40.0, None))


def clear_of_the_rig(wrist_chest: np.ndarray) -> np.ndarray:
    """Keep wrists (T, 2, 3) off what the wearer has on the forehead, so that hands pass around the camera."""
    away = wrist_chest - _FOREHEAD + [0.02, 0.0, 0.0]
    distance = np.linalg.norm(away, axis=-1, keepdims=True)
    wanted = soft_limit(distance, 0.22, 1e9, 0.06)
    return wrist_chest + away / np.maximum(distance, 0.02) * (wanted - distance)


def outside_thighs(wrist_chest: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Push wrists (T, 2, 3) off the thighs, once the legs are solved."""
    rest = {joint: REFERENCE[INDEX[joint]] for joint in SMPL22.joints}
    R_chest_world = np.swapaxes(R[:, _CHEST], -1, -2)
    chain = ("pelvis", *_SPINE_SHARES)
    shoulders = sum(R[:, INDEX[a]] @ (rest[b] - rest[a]) for a, b in zip(chain, chain[1:]))
    shoulders = shoulders + R[:, _CHEST] @ (SHOULDERS - rest["spine3"])
    up = R_chest_world[..., 2]
    for name in ("left", "right"):
        hip = R[:, 0] @ (rest[f"{name}_hip"] - REFERENCE[0]) - shoulders
        knee = hip + R[:, INDEX[f"{name}_hip"]] @ (rest[f"{name}_knee"] - rest[f"{name}_hip"])
        start = (R_chest_world @ hip[..., None])[:, None, :, 0]
        bone = (R_chest_world @ knee[..., None])[:, None, :, 0] - start
        along = np.sum((wrist_chest - start) * bone, -1, keepdims=True) / np.sum(bone**2, -1, keepdims=True)
        away = wrist_chest - (start + np.clip(along, 0.15, 1.0) * bone) + 0.02 * up[:, None]
        distance = np.linalg.norm(away, axis=-1, keepdims=True)
        wanted = soft_limit(distance, _THIGH, 1e9, 0.02)
        wrist_chest = wrist_chest + away / np.maximum(distance, 0.01) * (wanted - distance)
    return wrist_chest


def solve(controls: Controls) -> np.ndarray:
    """Return world rotations (T, 22, 3, 3) of all segments."""
    frames = len(controls.pelvis_world)
    R = np.empty((frames, SMPL22.size, 3, 3))
    R[:, 0] = yaw_pitch_roll(controls.pelvis_angles)
    for name, share in _SPINE_SHARES.items():
        R[:, INDEX[name]] = R[:, 0] @ yaw_pitch_roll(share * controls.spine)
    R[:, INDEX["neck"]] = R[:, _CHEST] @ yaw_pitch_roll(0.4 * controls.head)
    R[:, INDEX["head"]] = R[:, _CHEST] @ yaw_pitch_roll(controls.head)
    for side, sign in enumerate((1.0, -1.0)):
        _leg(R, side, sign, controls)
    wrists = outside_thighs(outside_trunk(controls.wrist_chest), R)
    for side, sign in enumerate((1.0, -1.0)):
        _arm(R, side, sign, wrists[:, side], controls.swivel[:, side], controls.hand[:, side])
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
    # The elbow's relaxed side is carried along from forwards-outwards; it is undefined only backwards-inwards.
    neutral = unit(np.array([0.8, 0.6 * sign, 0.0]))
    pole = shortest_arc(neutral, axis) @ np.array([0.0, 0.0, -1.0])
    swivel = _RELAXED_SWIVEL + swivel[:, None]
    pole = np.cos(swivel) * pole + sign * np.sin(swivel) * np.cross(axis, pole)
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
    target = (np.swapaxes(R_pelvis, -1, -2) @ (controls.ankle_world[:, side] - controls.pelvis_world)[..., None])[
        ..., 0
    ]
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
