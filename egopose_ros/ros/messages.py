"""Structs to messages and back. Arrays cross as `array.array`: NumPy scalars and lists fail checks or are slow."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Transform, TransformStamped
from std_msgs.msg import Header

from egopose_ros import msg
from egopose_ros.geometry import rigid
from egopose_ros.ros.pose_fields import (  # noqa: F401  both ways from here
    PoseStatus,
    in_global_frame,
    pose_fields,
    pose_from_message,
)
from egopose_ros.ros.stamps import to_ns  # noqa: F401
from egopose_ros.skeleton import Skeleton, skeleton
from egopose_ros.structs import BodyPose


def named_pose(message: msg.BodyPose) -> BodyPose:
    """Return the pose of a message; ValueError for a skeleton or joints that are not known."""
    pose = pose_from_message(message)
    if tuple(message.joint_names) != skeleton(pose.skeleton).joints:
        raise ValueError(f"expected the joints of {pose.skeleton}, got {', '.join(message.joint_names)}")
    return pose


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
    fields = pose_fields(pose, status, globally_refined=globally_refined)
    arrays = {name: floats(value) for name, value in fields.items() if isinstance(value, np.ndarray)}
    return msg.BodyPose(header=header(pose.stamp_ns, frame_id), **{**fields, **arrays})


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
    rows = zip(joints, positions, quaternions)
    return [_transform(shared, prefix + joint, position, quaternion) for joint, position, quaternion in rows]


def transform_message(stamp_ns: int, frame_id: str, child_frame_id: str, T_frame_child: np.ndarray) -> TransformStamped:
    """Return the transform (4, 4) of a child's frame."""
    quaternion = rigid.quaternion_from_matrix(T_frame_child[:3, :3]).tolist()
    return _transform(header(stamp_ns, frame_id), child_frame_id, T_frame_child[:3, 3].tolist(), quaternion)


def _transform(shared: Header, child_frame_id: str, position: list[float], quaternion: list[float]) -> TransformStamped:
    transform = Transform()
    transform.translation.x, transform.translation.y, transform.translation.z = position
    rotation = transform.rotation
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion
    return TransformStamped(header=shared, child_frame_id=child_frame_id, transform=transform)
