"""Structs to messages and back. Arrays cross as `array.array`: NumPy scalars and lists fail checks or are slow."""

from __future__ import annotations

import array
from dataclasses import dataclass, replace

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Transform, TransformStamped
from std_msgs.msg import Header

from egopose_ros import msg
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import Skeleton, skeleton
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


def to_ns(stamp: Time) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_stamp(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def header(stamp_ns: int, frame_id: str) -> Header:
    return Header(stamp=to_stamp(stamp_ns), frame_id=frame_id)


def floats(values: np.ndarray | None) -> array.array:
    """Flatten to float32, empty for None."""
    flat = array.array("f")
    if values is not None:
        flat.frombytes(np.ascontiguousarray(values, np.float32).tobytes())
    return flat


def pose_message(pose: BodyPose, frame_id: str, status: PoseStatus, *, globally_refined: bool = False) -> msg.BodyPose:
    """Return the message of a pose whose arrays are in `frame_id`."""
    covariance, rotations = pose.covariance_camera, pose.rotations_camera
    return msg.BodyPose(
        header=header(pose.stamp_ns, frame_id),
        skeleton=pose.skeleton,
        joint_names=list(skeleton(pose.skeleton).joints),
        positions=floats(pose.joints_camera),
        orientations=floats(None if rotations is None else rigid.quaternion_from_matrix(rotations)),
        covariance=floats(None if covariance is None else covariance[:, _UPPER[0], _UPPER[1]]),
        confidence=floats(pose.confidence),
        tracking_state=int(status.tracking_state),
        globally_refined=globally_refined,
        window_length=pose.window_length,
        frames_dropped=status.frames_dropped,
        age=float(status.age_s),
        network=status.network,
        weights_trained=status.weights_trained,
    )


def pose_from_message(message: msg.BodyPose) -> BodyPose:
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
        window_full=message.tracking_state != msg.BodyPose.INITIALIZING,
    )


def _rows(message: msg.BodyPose, field: str, count: int, width: int) -> np.ndarray | None:
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


def skeleton_message(joints: Skeleton, stamp_ns: int, frame_id: str) -> msg.Skeleton:
    return msg.Skeleton(
        header=header(stamp_ns, frame_id),
        name=joints.name,
        joint_names=list(joints.joints),
        parents=array.array("i", joints.parents),
        mirror=array.array("i", joints.mirror),
    )


def transform_messages(pose: BodyPose, frame_id: str, prefix: str) -> list[TransformStamped]:
    """Return one transform a joint, all children of the camera's optical frame."""
    joints = skeleton(pose.skeleton).joints
    positions = pose.joints_camera.tolist()
    if pose.rotations_camera is None:
        quaternions = [[0.0, 0.0, 0.0, 1.0]] * len(joints)
    else:
        quaternions = rigid.quaternion_from_matrix(pose.rotations_camera).tolist()
    shared = header(pose.stamp_ns, frame_id)
    messages = []
    for joint, position, quaternion in zip(joints, positions, quaternions):
        transform = Transform()
        transform.translation.x, transform.translation.y, transform.translation.z = position
        rotation = transform.rotation
        rotation.x, rotation.y, rotation.z, rotation.w = quaternion
        messages.append(TransformStamped(header=shared, child_frame_id=prefix + joint, transform=transform))
    return messages
