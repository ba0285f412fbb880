"""Recordings as rosbags (mcap) that the live graph plays: images, camera infos, head pose, IMUs, ground truth.

| topic | what |
|---|---|
| /camera/image_raw/compressed, /camera/camera_info | one camera; of several, /camera/NAME/... |
| /head_pose | pose of `head` in `world` |
| /imu, /imu/left_wrist, ... | of the head, of hands and lower legs |
| /ground_truth/pose | BodyPose in the first camera's optical frame, where the camera truly was |
| /ground_truth/skeleton, /tf_static | latched: names and topology; cameras on the head as calibrated |

Beside the messages lie `calibration.yaml` and `truth.npz` (`truth_arrays`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import cv2
import numpy as np
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from egopose_ros.camera import calibration
from egopose_ros.camera.models import KannalaBrandt
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.files import CALIBRATION, topic_part
from egopose_ros.geometry import rigid
from egopose_ros.resources import share_file
from egopose_ros.skeleton import SMPL22
from egopose_ros.synth.world import Recording

HEAD_FRAME, WORLD_FRAME = "head", "world"
START_NS = 1_700_000_000 * 10**9
"""of the first frame: stamps near zero mean 'no time' to ROS"""
JPEG_QUALITY = 95
"""high: the sensor has compressed the picture once already"""

_POSE, _SKELETON = "egopose_ros/msg/BodyPose", "egopose_ros/msg/Skeleton"
_NO_TIME = QosTime(0, 0)
_LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
    _NO_TIME, _NO_TIME, QosLiveliness.AUTOMATIC, _NO_TIME, False,
)  # fmt: skip


def camera_topics(rig: Rig) -> tuple[str, ...]:
    """Return the base topic of each camera."""
    if len(rig.cameras) == 1:
        return ("/camera",)
    return tuple(f"/camera/{topic_part(camera.name)}" for camera in rig.cameras)


def camera_frames(rig: Rig) -> tuple[str, ...]:
    """Return the frame_id of each camera."""
    if len(rig.cameras) == 1:
        return ("camera",)
    return tuple(f"camera_{topic_part(camera.name)}" for camera in rig.cameras)


def write_bag(recording: Recording, folder: Path) -> None:
    """Write a recording as a bag; the folder must not exist."""
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bag = _Bag(writer, recording)
        for topic, stamp_ns, message in _messages(bag, recording):
            bag.write(topic, stamp_ns, message)
    calibration.save(recording.rig, folder / CALIBRATION)
    stamps_ns = recording.stamps_ns + START_NS  # as in the messages
    np.savez_compressed(folder / "truth.npz", **truth_arrays(recording) | {"stamps_ns": stamps_ns})


def truth_arrays(recording: Recording) -> dict[str, np.ndarray]:
    """Return everything known of a recording but its images, by the names that `Recording` gives it."""
    names = (
        "stamps_ns", "joints_world", "rotations_world", "landmarks_world", "T_world_head", "T_head_camera", "visible",
        "joints_px", "foot_contact",
    )  # fmt: skip
    arrays = {name: np.asarray(getattr(recording, name)) for name in names}
    arrays["joints_camera"] = recording.joints_camera
    arrays["floor_height"] = np.float64(recording.floor_height)
    arrays["action"] = np.array(recording.action)
    imu = recording.imu._asdict()
    return arrays | {f"imu_{name}": np.array(value) for name, value in imu.items()}


def jpeg(image: np.ndarray) -> np.ndarray:
    """Return the JPEG bytes (N,) of an RGB image (H, W, 3) uint8."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    if not done:
        raise ValueError(f"expected an RGB image that JPEG can hold, got shape {image.shape}")
    return data.ravel()


class _Bag:
    """An open bag: its types, connections and how to make a message."""

    def __init__(self, writer: Writer, recording: Recording) -> None:
        self.types = _types()
        self._writer = writer
        self._kinds = dict(_kinds(recording))
        self._connections: dict[str, Connection] = {
            topic: writer.add_connection(
                topic,
                kind,
                typestore=self.types,
                offered_qos_profiles=(_LATCHED,) if topic in ("/tf_static", "/ground_truth/skeleton") else (),
            )
            for topic, kind in self._kinds.items()
        }

    def make(self, kind: str, *values: Any, **fields: Any) -> Any:
        return self.types.types[kind](*values, **fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", *divmod(stamp_ns, 10**9))
        return self.make("std_msgs/msg/Header", stamp, frame_id)

    def vector(self, values: np.ndarray) -> Any:
        return self.make("geometry_msgs/msg/Vector3", *map(float, values))

    def quaternion(self, R: np.ndarray) -> Any:
        return self.make("geometry_msgs/msg/Quaternion", *map(float, rigid.quaternion_from_matrix(R)))

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        data = self.types.serialize_cdr(message, self._kinds[topic])
        self._writer.write(self._connections[topic], stamp_ns, data)


def _types() -> Typestore:
    types = get_typestore(Stores.ROS2_KILTED)
    for kind in (_POSE, _SKELETON):
        text = share_file(f"msg/{kind.rpartition('/')[2]}.msg").read_text(encoding="utf-8")
        types.register(get_types_from_msg(text, kind))
    return types


def _kinds(recording: Recording) -> Iterator[tuple[str, str]]:
    yield "/tf_static", "tf2_msgs/msg/TFMessage"
    yield "/ground_truth/skeleton", _SKELETON
    yield "/head_pose", "geometry_msgs/msg/PoseStamped"
    for place in recording.imu.places:
        yield _imu_topic(place), "sensor_msgs/msg/Imu"
    for base, camera in zip(camera_topics(recording.rig), recording.rig.cameras):
        if _has_camera_info(camera):
            yield f"{base}/camera_info", "sensor_msgs/msg/CameraInfo"
        yield f"{base}/image_raw/compressed", "sensor_msgs/msg/CompressedImage"
    yield "/ground_truth/pose", _POSE


def _imu_topic(place: str) -> str:
    return "/imu" if place == "head" else "/imu/" + place.replace("knee", "lower_leg")


def _has_camera_info(camera: RigCamera) -> bool:
    """Only ROS's own models fit a CameraInfo; the others are in the calibration file alone."""
    return type(camera.model) is KannalaBrandt


def _messages(bag: _Bag, recording: Recording) -> Iterator[tuple[str, int, Any]]:
    """Yield (topic, stamp, message) in the order of the stamps."""
    frames = camera_frames(recording.rig)
    joints, rotations = recording.joints_camera[:, 0], _rotations_camera(recording)
    for index, stamp_ns in enumerate((recording.stamps_ns + START_NS).tolist()):
        if index == 0:
            yield "/tf_static", stamp_ns, _static_transforms(bag, recording.rig, stamp_ns)
            yield "/ground_truth/skeleton", stamp_ns, _skeleton(bag, stamp_ns)
        yield "/head_pose", stamp_ns, _head_pose(bag, recording.T_world_head[index], stamp_ns)
        for sensor, place in enumerate(recording.imu.places):
            yield _imu_topic(place), stamp_ns, _imu(bag, recording, index, sensor, stamp_ns)
        for view, (base, camera) in enumerate(zip(camera_topics(recording.rig), recording.rig.cameras)):
            header = bag.header(stamp_ns, frames[view])
            if _has_camera_info(camera):
                yield f"{base}/camera_info", stamp_ns, _camera_info(bag, camera.model, header)
            data = jpeg(recording.images[index, view].cpu().numpy())
            image = bag.make("sensor_msgs/msg/CompressedImage", header, "jpeg", data)
            yield f"{base}/image_raw/compressed", stamp_ns, image
        truth = _body_pose(bag, joints[index], rotations[index], bag.header(stamp_ns, frames[0]))
        yield "/ground_truth/pose", stamp_ns, truth


def _rotations_camera(recording: Recording) -> np.ndarray:
    R_camera_world = np.swapaxes(recording.T_world_camera[:, 0, :3, :3], -1, -2)
    return R_camera_world[:, None] @ recording.rotations_world


def _static_transforms(bag: _Bag, rig: Rig, stamp_ns: int) -> Any:
    transforms = []
    for frame, camera in zip(camera_frames(rig), rig.cameras):
        T = camera.T_head_camera
        moved = bag.make("geometry_msgs/msg/Transform", bag.vector(T[:3, 3]), bag.quaternion(T[:3, :3]))
        header = bag.header(stamp_ns, HEAD_FRAME)
        transforms.append(bag.make("geometry_msgs/msg/TransformStamped", header, frame, moved))
    return bag.make("tf2_msgs/msg/TFMessage", transforms)


def _skeleton(bag: _Bag, stamp_ns: int) -> Any:
    return bag.make(
        _SKELETON,
        header=bag.header(stamp_ns, ""),
        name=SMPL22.name,
        joint_names=list(SMPL22.joints),
        parents=np.array(SMPL22.parents, np.int32),
        mirror=np.array(SMPL22.mirror, np.int32),
    )


def _head_pose(bag: _Bag, T_world_head: np.ndarray, stamp_ns: int) -> Any:
    point = bag.make("geometry_msgs/msg/Point", *map(float, T_world_head[:3, 3]))
    pose = bag.make("geometry_msgs/msg/Pose", point, bag.quaternion(T_world_head[:3, :3]))
    return bag.make("geometry_msgs/msg/PoseStamped", bag.header(stamp_ns, WORLD_FRAME), pose)


def _imu(bag: _Bag, recording: Recording, index: int, sensor: int, stamp_ns: int) -> Any:
    imu, place = recording.imu, recording.imu.places[sensor]
    unknown = np.zeros(9)
    return bag.make(
        "sensor_msgs/msg/Imu",
        header=bag.header(stamp_ns, HEAD_FRAME if place == "head" else place.replace("knee", "lower_leg")),
        orientation=bag.quaternion(imu.R_world_sensor[index, sensor]),
        orientation_covariance=unknown,
        angular_velocity=bag.vector(imu.angular_velocity[index, sensor]),
        angular_velocity_covariance=unknown,
        linear_acceleration=bag.vector(imu.specific_force[index, sensor]),
        linear_acceleration_covariance=unknown,
    )


def _camera_info(bag: _Bag, model: KannalaBrandt, header: Any) -> Any:
    (width, height), (fx, fy), (cx, cy) = model.size, model.focal, model.centre
    return bag.make(
        "sensor_msgs/msg/CameraInfo",
        header=header,
        height=height,
        width=width,
        distortion_model="equidistant",
        d=np.array(model.k, float),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], float),
        r=np.eye(3).ravel(),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], float),
        binning_x=0,
        binning_y=0,
        roi=bag.make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False),
    )


def _body_pose(bag: _Bag, joints: np.ndarray, rotations: np.ndarray, header: Any) -> Any:
    none = np.zeros(0, np.float32)
    return bag.make(
        _POSE,
        header=header,
        skeleton=SMPL22.name,
        joint_names=list(SMPL22.joints),
        positions=joints.astype(np.float32).ravel(),
        orientations=rigid.quaternion_from_matrix(rotations).astype(np.float32).ravel(),
        covariance=none,
        confidence=none,
        tracking_state=1,
        globally_refined=False,
        window_length=1,
        frames_dropped=0,
        age=0.0,
        network="ground truth",
        weights_trained=True,
    )
