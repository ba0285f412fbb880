"""What a bag says about itself: the settings of an estimator that is to run on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from egopose_ros.config import Leaf
from egopose_ros.files import CALIBRATION, topic_part
from egopose_ros.ros.bag_reader import BagError

HEAD_POSE, IMU = "/head_pose", "/imu"
"""Topics of our own bags."""

HEAD_POSES = {
    "geometry_msgs/msg/PoseStamped": "pose",
    "geometry_msgs/msg/PoseWithCovarianceStamped": "pose_with_covariance",
    "nav_msgs/msg/Odometry": "odometry",
}
"""type -> value of head_pose.source"""
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
IMU_TYPE = "sensor_msgs/msg/Imu"


class Contents(Protocol):
    """An open bag, as far as its settings go."""

    path: Path

    @property
    def kinds(self) -> Mapping[str, str]:
        """topic -> type"""
        ...


def estimator_settings(bag: Contents, topics: tuple[str, ...] = (), calibration: str = "") -> dict[str, Leaf]:
    """Return leaves of `Config` for a bag: its cameras, and calibration, head pose and IMU where it has them.

    `topics` names the image topics where the bag has more than one rig, `calibration` another file than that of the bag.
    BagError where they are not there or unclear.
    """
    beside = (bag.path if bag.path.is_dir() else bag.path.parent) / CALIBRATION
    calibration = calibration or (str(beside) if beside.is_file() else "")
    kinds = bag.kinds
    settings: dict[str, Leaf] = {"camera.topics": _cameras(bag, topics, calibration)}
    if calibration:
        settings["camera.calibration"] = calibration
    if kinds.get(HEAD_POSE) in HEAD_POSES:
        settings.update({"head_pose.source": HEAD_POSES[kinds[HEAD_POSE]], "head_pose.topic": HEAD_POSE})
        if "/tf" not in kinds:  # nothing else will say it
            settings["tf.head_pose"] = "head" if "/tf_static" in kinds else "camera"
    if kinds.get(IMU) == IMU_TYPE:
        settings.update({"imu.enabled": True, "imu.topic": IMU})
    return settings


def _cameras(bag: Contents, topics: tuple[str, ...], calibration: str) -> tuple[str, ...]:
    # A topic and its compressed twin are one camera.
    there = sorted({topic.removesuffix("/compressed") for topic, kind in bag.kinds.items() if kind in IMAGE_TYPES})
    if topics:
        missing = [topic for topic in topics if topic.removesuffix("/compressed") not in there]
        if missing:
            raise BagError(f"bag {bag.path}: expected images on {', '.join(missing)}, got {_all_topics(bag)}")
        return topics
    if len(there) == 1:
        return tuple(there)
    if there and calibration and (named := _by_name(there, calibration)):
        return named
    stereo = [topic for topic in there if "/left/" in topic or "/right/" in topic]
    if len(there) == len(stereo) == 2:
        return tuple(there)
    if not there:
        raise BagError(f"bag {bag.path}: expected images of {' or '.join(IMAGE_TYPES)}, got {_all_topics(bag)}")
    raise BagError(f"bag {bag.path}: expected the images of one rig, got image topics {', '.join(there)}; choose with --topics")


def _by_name(topics: list[str], calibration: str) -> tuple[str, ...]:
    """Return the topic of each camera of a calibration, in its order, where each has one by its name or its side."""
    from egopose_ros import pipeline  # with torch

    names = [camera.name for camera in pipeline.load_rig(calibration).cameras]
    found = [[topic for topic in topics if _is_of(topic, name)] for name in names]
    chosen = [some[0] for some in found if len(some) == 1]
    return tuple(chosen) if len(set(chosen)) == len(names) else ()


def _is_of(topic: str, camera: str) -> bool:
    parts = topic.split("/")
    return topic_part(camera) in parts or any(side in camera.lower() and side in parts for side in ("left", "right"))


def _all_topics(bag: Contents) -> str:
    return ", ".join(f"{topic} ({kind})" for topic, kind in bag.kinds.items()) or "no topics"
