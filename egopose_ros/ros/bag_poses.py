"""Poses as a bag: written beside a report, read where they were recorded live."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from egopose_ros.geometry.alignment import procrustes
from egopose_ros.ros.bag_reader import POSE_TYPE, BagError, BagReader, typestore
from egopose_ros.ros.pose_fields import PoseStatus, in_global_frame, pose_fields, pose_from_message
from egopose_ros.structs import BodyPose

POSE, POSE_GLOBAL = "/estimator/pose", "/estimator/pose_global"
IMAGE = "/camera/image_raw/compressed"
_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"


class PoseBag:
    """A bag of poses being written; it takes its name when it is closed whole, and leaves nothing otherwise."""

    def __init__(self, path: Path) -> None:
        """Write below a folder that exists; a bag of the same name is replaced in the end. FileNotFoundError without."""
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"{path}: expected a folder to write in, got none")
        if path.exists() and not (path.is_dir() and (path / "metadata.yaml").is_file()):
            raise FileExistsError(f"{path}: expected a bag to replace, or nothing, got something else")
        self._path = path
        self._folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
        self._types = typestore()
        self._writer = Writer(self._folder / path.name, version=9, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> PoseBag:
        self._writer.open()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            self._writer.close()
            if kind is None:
                self._replace()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, pose: BodyPose, frame_id: str, global_frame: str, status: PoseStatus) -> None:
        """Write a pose at its stamp, and in the global frame where it has a head pose."""
        self._write(POSE, pose, frame_id, status, False)
        if pose.T_world_camera is not None and global_frame:
            self._write(POSE_GLOBAL, in_global_frame(pose), global_frame, status, True)

    def write_image(self, jpeg: np.ndarray, stamp_ns: int, frame_id: str) -> None:
        """Write the JPEG (N,) uint8 of the one camera, for poses whose images are in no bag of their own."""
        message = self._types.types[_IMAGE_TYPE](self._header(stamp_ns, frame_id), "jpeg", jpeg)
        self._put(IMAGE, _IMAGE_TYPE, stamp_ns, message)

    def _write(self, topic: str, pose: BodyPose, frame_id: str, status: PoseStatus, refined: bool) -> None:
        fields = pose_fields(pose, status, globally_refined=refined)
        message = self._types.types[POSE_TYPE](header=self._header(pose.stamp_ns, frame_id), **fields)
        self._put(topic, POSE_TYPE, pose.stamp_ns, message)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self._types.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
        return self._types.types["std_msgs/msg/Header"](stamp, frame_id)

    def _put(self, topic: str, kind: str, stamp_ns: int, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._types)
        self._writer.write(self._connections[topic], stamp_ns, self._types.serialize_cdr(message, kind))

    def _replace(self) -> None:
        if self._path.exists():
            # A folder cannot be renamed onto one that is not empty: the old one steps aside first.
            os.rename(self._path, self._folder / "old")
        os.rename(self._folder / self._path.name, self._path)


def read_poses(bag: BagReader, topic: str) -> Iterator[tuple[BodyPose, PoseStatus]]:
    """Yield recorded poses with T_world_camera where the bag has the global ones beside them; BagError without poses."""
    bag.require(topic, POSE_TYPE)
    beside = topic + "_global"
    globals_ = {}
    if bag.kinds.get(beside) == POSE_TYPE:
        for recorded in bag.messages([beside]):
            pose = pose_from_message(recorded.message)
            globals_[pose.stamp_ns] = pose.joints_camera
    for recorded in bag.messages([topic]):
        message = recorded.message
        pose = pose_from_message(message)
        yield placed(pose, globals_.get(pose.stamp_ns)), status_of(message)


def status_of(message: Any) -> PoseStatus:
    """Return what a recorded message tells beside the pose."""
    return PoseStatus(
        message.tracking_state, message.frames_dropped, message.age, message.network, message.weights_trained
    )


def placed(pose: BodyPose, joints_world: np.ndarray | None) -> BodyPose:
    """Return the pose with the transform that takes its joints to those of the global frame."""
    if joints_world is None:
        return pose
    T = procrustes(pose.joints_camera, joints_world, scale=False).T_target_source
    return replace(pose, T_world_camera=T)


def is_truth(topic: str) -> bool:
    """Say whether a topic of poses is called ground truth."""
    return "ground_truth" in topic


def estimated_topics(bag: BagReader) -> list[str]:
    """Return the topics of an estimator's poses, of those in the camera's frame."""
    return [topic for topic in bag.candidates(POSE_TYPE) if not is_truth(topic) and not topic.endswith("_global")]


def pose_topic(bag: BagReader) -> str:
    """Return the topic of recorded poses; BagError unless there is exactly one that is neither truth nor global."""
    there = estimated_topics(bag)
    if POSE in there:
        return POSE
    if len(there) != 1:
        listed = ", ".join(there) or f"none; it has {bag.contents()}"
        raise BagError(f"bag {bag.path}: expected one topic of {POSE_TYPE}, got {listed}; choose with --predictions-topic")
    return there[0]
