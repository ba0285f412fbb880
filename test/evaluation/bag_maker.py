"""Small bags for the tests of evaluation, in every storage, written without ROS."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from egopose_ros.camera import calibration
from egopose_ros.camera.models import KannalaBrandt
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.geometry import rigid
from egopose_ros.ros.bag_reader import POSE_TYPE, typestore
from egopose_ros.skeleton import SMPL22

SIZE = 64
FOCAL = float(SIZE / np.radians(200.0))
START_NS, STEP_NS = 1_700_000_000_000_000_000, 33_333_333
T_HEAD_CAMERA = rigid.transform(np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]), np.array([0.1, 0.0, 0.1]))
IMAGE, INFO, HEAD, TRUTH = "/camera/image_raw", "/camera/camera_info", "/head_pose", "/ground_truth/pose"
KINDS = {
    IMAGE: "sensor_msgs/msg/Image", IMAGE + "/compressed": "sensor_msgs/msg/CompressedImage",
    INFO: "sensor_msgs/msg/CameraInfo", HEAD: "geometry_msgs/msg/PoseStamped", TRUTH: POSE_TYPE,
    "/tf": "tf2_msgs/msg/TFMessage", "/tf_static": "tf2_msgs/msg/TFMessage",
    "/truth_markers": "visualization_msgs/msg/MarkerArray",
}  # fmt: skip


def stamp_at(index: int) -> int:
    return START_NS + index * STEP_NS


def truth_at(index: float) -> np.ndarray:
    """Return joints (22, 3) in the camera's frame that move with a speed of their own each moment."""
    rest = np.random.default_rng(5).uniform((-0.3, -0.3, 0.2), (0.3, 0.3, 1.4), (SMPL22.size, 3))
    sway = np.sin(index / 30.0 * np.array([2.0, 3.1, 4.7]) + 0.002 * index**1.5)
    return (rest + 0.1 * sway).astype(np.float32)


def head_at(index: float) -> np.ndarray:
    """Return T_world_head (4, 4) of a head that turns and walks."""
    angle = index * 0.01
    R = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    return rigid.transform(R, np.array([0.02 * index, 0.0, 1.6]))


def image_at(index: int) -> np.ndarray:
    """Return an RGB image (SIZE, SIZE, 3) unlike its neighbours."""
    coarse = np.random.default_rng(index).integers(0, 255, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def write_rig(folder: Path) -> None:
    """Write the calibration of the camera into a bag's folder."""
    centre = (SIZE - 1) / 2
    lens = dict(centre=(centre, centre), focal=(FOCAL, FOCAL), k=(0.0,) * 4, max_angle=float(np.radians(100.0)))
    model = KannalaBrandt(size=(SIZE, SIZE), **lens)
    calibration.save(Rig((RigCamera("camera", model, T_HEAD_CAMERA),)), folder / "calibration.yaml")


class Maker:
    """Writes chosen topics of the same recording into a bag of a storage: mcap, db3 or ros1."""

    def __init__(self, path: Path, storage: str = "mcap") -> None:
        self._ros1 = storage == "ros1"
        self.types = typestore()
        plugin = StoragePlugin.SQLITE3 if storage == "db3" else StoragePlugin.MCAP
        self._writer = Writer1(path) if self._ros1 else Writer2(path, version=9, storage_plugin=plugin)
        if self._ros1:
            header = get_typestore(Stores.ROS1_NOETIC).fielddefs["std_msgs/msg/Header"]
            fields = {name: fields for name, fields in self.types.fielddefs.items() if name != "std_msgs/msg/Header"}
            self.types = get_typestore(Stores.EMPTY)
            self.types.register({**fields, "std_msgs/msg/Header": header})
        self._connections: dict[str, object] = {}

    def __enter__(self) -> Maker:
        self._writer.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def make(self, kind: str, *values: object, **fields: object) -> object:
        return self.types.types[kind](*values, **fields)

    def header(self, stamp_ns: int, frame_id: str) -> object:
        stamp = self.make("builtin_interfaces/msg/Time", *divmod(stamp_ns, 10**9))
        values = (0, stamp, frame_id) if self._ros1 else (stamp, frame_id)
        return self.make("std_msgs/msg/Header", *values)

    def transform(self, stamp_ns: int, parent: str, child: str, T: np.ndarray) -> object:
        quaternion = self.make("geometry_msgs/msg/Quaternion", *map(float, rigid.quaternion_from_matrix(T[:3, :3])))
        value = self.make("geometry_msgs/msg/Transform", self.make("geometry_msgs/msg/Vector3", *T[:3, 3].tolist()), quaternion)
        return self.make("geometry_msgs/msg/TransformStamped", self.header(stamp_ns, parent), child, value)

    def write(self, topic: str, message: object, stamp_ns: int, kind: str = "") -> None:
        kind = kind or KINDS[topic]
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self.types)
        pack = self.types.serialize_ros1 if self._ros1 else self.types.serialize_cdr
        self._writer.write(self._connections[topic], stamp_ns, pack(message, kind))

    def image(self, index: int, topic: str = IMAGE, frame_id: str = "eye") -> None:
        stamp_ns, pixels = stamp_at(index), image_at(index)
        header = self.header(stamp_ns, frame_id)
        if topic.endswith("/compressed"):
            data = cv2.imencode(".png", pixels[..., ::-1])[1].ravel()
            self.write(topic, self.make(KINDS[IMAGE + "/compressed"], header, "png", data), stamp_ns, KINDS[IMAGE + "/compressed"])
        else:
            message = self.make(KINDS[IMAGE], header, SIZE, SIZE, "rgb8", 0, 3 * SIZE, pixels.ravel())
            self.write(topic, message, stamp_ns, KINDS[IMAGE])

    def tf(self, index: int, parent: str, child: str, T: np.ndarray, topic: str = "/tf_static") -> None:
        """Write a transform at the time of a frame."""
        message = self.make(KINDS[topic], [self.transform(stamp_at(index), parent, child, T)])
        self.write(topic, message, stamp_at(index))

    def head(self, index: float) -> None:
        """Write a head pose a millisecond before the time of a frame."""
        T, stamp_ns = head_at(index), stamp_at(0) + round(index * STEP_NS)
        pose = self.make(
            "geometry_msgs/msg/Pose",
            self.make("geometry_msgs/msg/Point", *T[:3, 3].tolist()),
            self.make("geometry_msgs/msg/Quaternion", *map(float, rigid.quaternion_from_matrix(T[:3, :3]))),
        )
        self.write(HEAD, self.make(KINDS[HEAD], self.header(stamp_ns, "world"), pose), stamp_ns)

    def truth(self, index: float, topic: str = TRUTH, shift_s: float = 0.0) -> None:
        """Write the truth of a moment with a clock that is ahead."""
        stamp_ns = stamp_at(0) + round(index * STEP_NS + shift_s * 1e9)
        empty = np.zeros(0, np.float32)
        message = self.make(
            POSE_TYPE, header=self.header(stamp_ns, "eye"), skeleton="smpl22", joint_names=list(SMPL22.joints),
            positions=truth_at(index).ravel(), orientations=empty, covariance=empty, confidence=empty, tracking_state=1,
            globally_refined=False, window_length=1, frames_dropped=0, age=0.0, network="truth", weights_trained=True,
        )  # fmt: skip
        self.write(topic, message, stamp_ns, POSE_TYPE)


def write_bag(path: Path, frames: int, storage: str = "mcap", compressed: bool = False, truth: bool = True) -> Path:
    """Write images, head pose and truth, and the calibration beside them; return the path."""
    with Maker(path, storage) as maker:
        for index in range(frames):
            maker.head(index)
            maker.image(index, IMAGE + "/compressed" if compressed else IMAGE)
            if truth:
                maker.truth(index)
    write_rig(path if path.is_dir() else path.parent)
    return path


def unfinished(bag: Path, path: Path) -> Path:
    """Write an mcap as of a recorder that was killed: all messages, no index."""
    data = next(bag.glob("*.mcap")).read_bytes()
    footer = data.rindex(b"\x02\x14\x00\x00\x00\x00\x00\x00\x00")
    path.write_bytes(data[: int.from_bytes(data[footer + 9 : footer + 17], "little")])
    return path
