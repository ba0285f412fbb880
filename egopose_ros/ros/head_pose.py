"""The head pose at the stamp of an image, whatever publishes it and however badly."""

from __future__ import annotations

import time
from typing import Any, Callable

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node

from egopose_ros.config import Config
from egopose_ros.ros.diagnostics import Statistics
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.tf_tree import Tf2Buffer, TfTree
from egopose_ros.ros.topics import Topic
from egopose_ros.ros.tracks import ALIVE_S, HeadTrack
from egopose_ros.window.ring import Lookup

_TYPES = {"odometry": Odometry, "pose": PoseStamped, "pose_with_covariance": PoseWithCovarianceStamped}
_NOTHING_YET = Lookup.EMPTY, Lookup.NOT_YET


class HeadPose:
    """T_world_head from a topic or from TF."""

    def __init__(
        self,
        node: Node,
        config: Callable[[], Config],
        tree: TfTree | Tf2Buffer | None,
        statistics: Statistics,
        notices: Notices,
    ) -> None:
        self._config = config
        self._tree = tree
        self._statistics = statistics
        self._notices = notices
        self._settings = config().head_pose
        self._track = HeadTrack(self._settings, tree)
        self._heard_s: float | None = None
        self._topic: Topic | None = None
        if self._settings.source in _TYPES:
            kind = _TYPES[self._settings.source]
            topics = [(self._settings.topic, kind)]
            hint = "Tracking may be lost."
            self._topic = Topic(node, topics, self._on_message, notices, depth=100, silence_hint=hint)

    @property
    def global_frame(self) -> str:
        """The frame that poses are brought to; empty while it is not known."""
        if self._settings.global_frame:
            return self._settings.global_frame
        if self._settings.source == "tf":
            return "map"
        return self._track.global_frame

    def poll(self) -> None:
        if self._topic is not None:
            self._topic.poll()

    def close(self) -> None:
        if self._topic is not None:
            self._topic.close()

    def clear(self) -> None:
        self._track.clear()

    def at(self, stamp_ns: int) -> tuple[np.ndarray | None, Lookup]:
        """Return T_world_head (4, 4) at a stamp, None unless FOUND."""
        settings = self._config().head_pose
        max_gap_ns = round(settings.max_age_s * 1e9)
        if self._tree is not None and settings.source == "tf":
            T, lookup = self._tree.lookup(self.global_frame, settings.head_frame, stamp_ns, max_gap_ns)
            self._heard_s = time.monotonic() if lookup is Lookup.FOUND else self._heard_s
        else:
            T, lookup = self._track.at(stamp_ns, max_gap_ns)
        return (T if lookup is Lookup.FOUND else None), lookup

    def may_come(self, stamp_ns: int) -> bool:
        """Say whether the pose at a stamp is not there yet, from a source that is alive."""
        if self._settings.source == "none":
            return False
        if self._heard_s is None:
            # The first frame waits as the others do: its head pose may be in the queue behind it.
            self._heard_s = time.monotonic()
        return time.monotonic() - self._heard_s <= ALIVE_S and self.at(stamp_ns)[1] in _NOTHING_YET

    def report(self, lookup: Lookup) -> None:
        """Count and say once how a frame fared."""
        if lookup is Lookup.FOUND or self._settings.source == "none":
            self._notices.well("head pose")
            return
        self._statistics.rejected("head_pose." + lookup.name.lower())
        text = f"no pose of the head at the images' stamps: {lookup.value}; poses stay in the camera frame only"
        self._notices.fault("head pose", lookup.name.lower(), text)

    def _on_message(self, message: Any) -> None:
        self._statistics.received("head_poses")
        problem = self._track.take(message, time.monotonic())
        if self._track.assumption is not None:
            self._notices.fault("head pose extrinsics", *self._track.assumption)
        if problem is not None:
            self._statistics.rejected("head_pose." + problem.reason)
            self._notices.fault("head pose messages", *problem)
            return
        self._notices.well("head pose messages")
        self._heard_s = time.monotonic()
