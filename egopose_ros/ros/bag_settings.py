"""What a bag says about itself: the settings of an estimator that is to run on it."""

from __future__ import annotations

from pathlib import Path

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu

from egopose_ros.config import Leaf
from egopose_ros.ros.bag_source import BagError, BagSource

CALIBRATION = "calibration.yaml"
"""Kept in a bag's folder: what CameraInfo cannot express."""
HEAD_POSE, IMU = "/head_pose", "/imu"
"""Topics of our own bags."""

_HEAD_POSES = {PoseStamped: "pose", PoseWithCovarianceStamped: "pose_with_covariance", Odometry: "odometry"}


def estimator_settings(bag: BagSource, topics: tuple[str, ...] = ()) -> dict[str, Leaf]:
    """Return leaves of `Config` for a bag: its cameras, and calibration, head pose and IMU where it has them.

    `topics` names the image topics where the bag has more than one rig. BagError where they are not there or unclear.
    """
    calibration = (bag.path if bag.path.is_dir() else bag.path.parent) / CALIBRATION
    kinds = {track.topic: track.message_type for track in bag.tracks}
    settings: dict[str, Leaf] = {"camera.topics": _cameras(bag, topics)}
    if calibration.is_file():
        settings["camera.calibration"] = str(calibration)
    if kinds.get(HEAD_POSE) in _HEAD_POSES:
        settings.update({"head_pose.source": _HEAD_POSES[kinds[HEAD_POSE]], "head_pose.topic": HEAD_POSE})
    if kinds.get(IMU) is Imu:
        settings.update({"imu.enabled": True, "imu.topic": IMU})
    return settings


def _cameras(bag: BagSource, topics: tuple[str, ...]) -> tuple[str, ...]:
    # A topic and its compressed twin are one camera.
    there = sorted({track.topic.removesuffix("/compressed") for track in bag.tracks if track.is_image})
    listed = ", ".join(there) or "none"
    if topics:
        missing = [topic for topic in topics if topic.removesuffix("/compressed") not in there]
        if missing:
            raise BagError(f"bag {bag.path}: expected images on {', '.join(missing)}; its image topics are {listed}")
        return topics
    stereo = [topic for topic in there if "/left/" in topic or "/right/" in topic]
    if len(there) == 1 or (len(there) == 2 and len(stereo) == 2):
        return tuple(there)
    raise BagError(f"bag {bag.path}: expected the images of one rig, got image topics {listed}; choose with --topics")
