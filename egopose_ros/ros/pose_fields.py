"""A BodyPose message as plain values, both ways: for generated messages and for those of a bag, without ROS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from egopose_ros.geometry import rigid
from egopose_ros.ros.stamps import to_ns
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import BodyPose, TrackingState

_UPPER = np.triu_indices(3)


@dataclass(frozen=True)
class PoseStatus:
    """What a BodyPose message tells beside the pose."""

    tracking_state: TrackingState
    frames_dropped: int
    age_s: float
    network: str
    weights_trained: bool


def pose_fields(pose: BodyPose, status: PoseStatus, *, globally_refined: bool = False) -> dict[str, Any]:
    """Return every field of the message but its header; arrays are (N,) float32."""
    covariance, rotations = pose.covariance_camera, pose.rotations_camera
    return {
        "skeleton": pose.skeleton,
        "joint_names": list(skeleton(pose.skeleton).joints),
        "positions": _flat(pose.joints_camera),
        "orientations": _flat(None if rotations is None else rigid.quaternion_from_matrix(rotations)),
        "covariance": _flat(None if covariance is None else covariance[:, _UPPER[0], _UPPER[1]]),
        "confidence": _flat(pose.confidence),
        "tracking_state": int(status.tracking_state),
        "globally_refined": globally_refined,
        "window_length": pose.window_length,
        "frames_dropped": status.frames_dropped,
        "age": float(status.age_s),
        "network": status.network,
        "weights_trained": status.weights_trained,
    }


def _flat(values: np.ndarray | None) -> np.ndarray:
    return np.zeros(0, np.float32) if values is None else np.ascontiguousarray(values, np.float32).ravel()


def pose_from_message(message: Any) -> BodyPose:
    """Return the pose of a message, in the message's frame; ValueError where lengths disagree.

    `*_camera` are in header.frame_id, T_world_camera is unknown to the message and None.
    """
    count = len(message.joint_names)
    covariance = _rows(message, "covariance", count, 6)
    if covariance is not None:
        full = np.empty((count, 3, 3), np.float32)
        full[:, _UPPER[0], _UPPER[1]] = full[:, _UPPER[1], _UPPER[0]] = covariance
        covariance = full
    quaternions = _rows(message, "orientations", count, 4)
    joints = _rows(message, "positions", count, 3)
    confidence = _rows(message, "confidence", count, 1)
    if joints is None:
        raise ValueError("expected positions of every joint, got none")
    return BodyPose(
        stamp_ns=to_ns(message.header.stamp),
        skeleton=message.skeleton,
        joints_camera=joints,
        rotations_camera=None if quaternions is None else _rotations(quaternions),
        covariance_camera=covariance,
        confidence=None if confidence is None else confidence[:, 0],
        T_world_camera=None,
        window_length=message.window_length,
        window_full=message.tracking_state != TrackingState.INITIALIZING,
    )


def _rows(message: Any, field: str, count: int, width: int) -> np.ndarray | None:
    values = getattr(message, field)
    if len(values) == 0:
        return None
    if len(values) != count * width:
        raise ValueError(f"{field}: expected {count} joints x {width} = {count * width} numbers, got {len(values)}")
    return np.frombuffer(values, np.float32).reshape(count, width)


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    return rigid.matrix_from_quaternion(quaternions)[0].astype(np.float32)


def in_global_frame(pose: BodyPose) -> BodyPose:
    """Take the arrays of a pose that has T_world_camera to the global frame."""
    assert pose.T_world_camera is not None
    R = pose.T_world_camera[:3, :3]
    covariance, rotations = pose.covariance_camera, pose.rotations_camera
    return replace(
        pose,
        joints_camera=rigid.apply(pose.T_world_camera, pose.joints_camera),
        rotations_camera=None if rotations is None else R @ rotations,
        covariance_camera=None if covariance is None else R @ covariance @ R.T,
    )
