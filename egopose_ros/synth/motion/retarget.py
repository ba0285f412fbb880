"""From the segments of another skeleton to those of SMPL-22, relative to a T-pose.

With W(t) a source segment's world rotation and W(ref) that of the reference pose, the segment has turned by
W(t) W(ref)^T since. In the reference pose a limb may already leave the T-pose's direction, by the shortest arc A, so
R(t) = W(t) W(ref)^T A, and the limb's direction in R(t) is exactly the source's.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter1d

from egopose_ros.skeleton import SMPL22
from egopose_ros.synth.motion.body import INDEX, REFERENCE, REFERENCE_LEG, forward_kinematics, leg_length, shortest_arc
from egopose_ros.synth.motion.clip import Motion

R_WORLD_YUP = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""From y up, facing z, left x to z up, facing x, left y."""

LIMBS = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
"""Bones whose direction is kept exactly"""


def retarget(
    segments_yup: np.ndarray,
    joints_yup: np.ndarray,
    reference_segments_yup: np.ndarray,
    reference_joints_yup: np.ndarray,
    *,
    fps: float,
    name: str,
    source: str,
    family: str,
    licence: str,
    action: str,
    in_place: bool = False,
) -> Motion:
    """Return a motion of source segments (T, 22, 3, 3) and joints (T, 22, 3) [m], already in SMPL-22 order.

    A gait that was drawn `in_place`, its feet sliding backwards, is moved forwards so that they do not.
    """
    C = R_WORLD_YUP
    reference = reference_joints_yup @ C.T
    joints = joints_yup @ C.T
    rotations = C @ segments_yup @ np.swapaxes(reference_segments_yup, -1, -2) @ C.T
    for start, end in LIMBS:
        bone = REFERENCE[INDEX[end]] - REFERENCE[INDEX[start]]
        rotations[:, INDEX[start]] = rotations[:, INDEX[start]] @ shortest_arc(
            bone, reference[INDEX[end]] - reference[INDEX[start]]
        )
    for side in ("left", "right"):  # the wrist has no bone of its own: it goes with the reference forearm
        arc = shortest_arc(
            REFERENCE[INDEX[f"{side}_wrist"]] - REFERENCE[INDEX[f"{side}_elbow"]],
            reference[INDEX[f"{side}_wrist"]] - reference[INDEX[f"{side}_elbow"]],
        )
        rotations[:, INDEX[f"{side}_wrist"]] = rotations[:, INDEX[f"{side}_wrist"]] @ arc
    length = leg_length(reference)
    scaled = REFERENCE * (length / REFERENCE_LEG)
    hips = [INDEX["left_hip"], INDEX["right_hip"]]
    pelvis = joints[:, hips].mean(1) - rotations[:, 0] @ (scaled[hips].mean(0) - scaled[0])
    placed = forward_kinematics(rotations, pelvis, scaled)
    feet = [INDEX["left_foot"], INDEX["right_foot"]]
    floor = np.percentile(placed[:, feet, 2].min(1), 5) - scaled[feet[0], 2]
    pelvis[:, 2] -= floor
    pelvis[:, :2] -= pelvis[0, :2].copy()
    if in_place:
        pelvis = pelvis + np.arange(len(pelvis))[:, None] * _travel(forward_kinematics(rotations, pelvis, scaled))
    placed = forward_kinematics(rotations, pelvis, scaled)
    return Motion(
        name=name,
        source=source,
        family=family,
        licence=licence,
        fps=fps,
        rotations_world=rotations.astype(np.float32),
        pelvis_world=pelvis.astype(np.float32),
        leg_length=length,
        foot_contact=foot_contact(placed, fps),
        action=(action,) * len(rotations),
    )


def _travel(joints_world: np.ndarray) -> np.ndarray:
    """Return the steady motion (3,) [m] a frame against which the lower foot stands still."""
    feet = joints_world[:, [INDEX["left_foot"], INDEX["right_foot"]]]
    low = feet[..., 2].argmin(-1)[:-1]
    steps = np.diff(feet, axis=0)[np.arange(len(low)), low]
    near = feet[:-1, :, 2].min(-1) < 0.05
    return -steps[near].mean(0) * [1.0, 1.0, 0.0] if near.any() else np.zeros(3)


def foot_contact(joints_world: np.ndarray, fps: float, speed: float = 0.35, height: float = 0.05) -> np.ndarray:
    """Find planted feet (T, 2): a heel or ball near the floor (z = 0) and slow, for at least 0.08 s."""
    contact = np.zeros((len(joints_world), 2), bool)
    for column, side in enumerate(("left", "right")):
        for joint in ("ankle", "foot"):
            number = INDEX[f"{side}_{joint}"]
            track = gaussian_filter1d(joints_world[:, number], 0.02 * fps, axis=0, mode="nearest")
            velocity = np.linalg.norm(np.gradient(track, axis=0), axis=-1) * fps if len(track) > 1 else np.zeros(1)
            near = track[:, 2] < REFERENCE[number, 2] + height
            contact[:, column] |= near & (velocity < speed)
        size = max(3, int(round(0.08 * fps)))
        padded = np.pad(contact[:, column], size, mode="edge")
        contact[:, column] = binary_opening(binary_closing(padded, np.ones(size)), np.ones(size))[size:-size]
    return contact


def skeleton_rows(mapping: dict[str, str], names: list[str]) -> list[int]:
    """Return the source's joint number of each SMPL-22 joint; ValueError names the joint that the source lacks."""
    rows = []
    for joint in SMPL22.joints:
        stem, side = (joint.split("_", 1)[1], joint.split("_", 1)[0]) if "_" in joint else (joint, "")
        wanted = mapping[stem].format(side=side, Side=side.capitalize(), s=side[:1], S=side[:1].upper())
        if wanted not in names:
            raise ValueError(f"expected a joint '{wanted}' for {joint}, got {', '.join(names)}")
        rows.append(names.index(wanted))
    return rows
