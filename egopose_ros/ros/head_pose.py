"""The head pose at the stamp of an image, whatever publishes it and however badly."""

from __future__ import annotations

import time
from typing import Any, Callable

import numpy as np
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node

from egopose_ros.config import Config
from egopose_ros.geometry import rigid
from egopose_ros.ros import messages
from egopose_ros.ros.diagnostics import Statistics
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.stamps import FrameLock
from egopose_ros.ros.tf_tree import Tf2Buffer, TfTree
from egopose_ros.ros.topics import Topic
from egopose_ros.window.ring import Lookup, PoseRing, Push

ALIVE_S = 2.0
"""A source that has been silent for this long is not waited for."""

_TYPES = {"odometry": Odometry, "pose": PoseStamped, "pose_with_covariance": PoseWithCovarianceStamped}
_NOTHING_YET = Lookup.EMPTY, Lookup.NOT_YET


class HeadPose:
    """T_world_head from a topic or from TF."""

    CAPACITY = 4096

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
        self._ring = PoseRing(self.CAPACITY)
        self._lock = FrameLock()
        self._heard_s = -np.inf
        self._T_body_head: dict[str, np.ndarray] = {}
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
        return self._lock.identity[0] if isinstance(self._lock.identity, tuple) else ""

    def poll(self) -> None:
        if self._topic is not None:
            self._topic.poll()

    def close(self) -> None:
        if self._topic is not None:
            self._topic.close()

    def clear(self) -> None:
        self._ring.clear()

    def at(self, stamp_ns: int) -> tuple[np.ndarray | None, Lookup]:
        """Return T_world_head (4, 4) at a stamp, None unless FOUND."""
        settings = self._config().head_pose
        max_gap_ns = round(settings.max_age_s * 1e9)
        if self._tree is not None and settings.source == "tf":
            T, lookup = self._tree.lookup(self.global_frame, settings.head_frame, stamp_ns, max_gap_ns)
            self._heard_s = time.monotonic() if lookup is Lookup.FOUND else self._heard_s
        else:
            T, lookup = self._ring.at(stamp_ns, max_gap_ns)
        return (T if lookup is Lookup.FOUND else None), lookup

    def may_come(self, stamp_ns: int) -> bool:
        """Say whether the pose at a stamp is not there yet, from a source that is alive."""
        if self._settings.source == "none" or time.monotonic() - self._heard_s > ALIVE_S:
            return False
        return self.at(stamp_ns)[1] in _NOTHING_YET

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
        problem = self._take(message)
        if problem is not None:
            reason, text = problem
            self._statistics.rejected("head_pose." + reason)
            self._notices.fault("head pose messages", reason, text)
            return
        self._heard_s = time.monotonic()

    def _take(self, message: Any) -> tuple[str, str] | None:
        """Keep a pose; otherwise return the reason and what to say."""
        body = getattr(message, "child_frame_id", "")
        pose = message.pose if self._settings.source == "pose" else message.pose.pose
        p, q = pose.position, pose.orientation
        values = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])
        stamp_ns, frame = messages.to_ns(message.header.stamp), message.header.frame_id
        if stamp_ns <= 0:
            return "stamp_zero", "expected a stamp, got 0"
        if not np.isfinite(values).all():
            return "not_finite", f"expected finite numbers, got {values.tolist()}"
        rotation, unit = rigid.matrix_from_quaternion(values[3:])
        if not unit:
            return "bad_quaternion", f"expected a quaternion of norm 1, got {values[3:].tolist()}"
        if not frame and not self._settings.global_frame:
            return "no_frame", "expected frame_id to name the global frame, got none; head_pose.global_frame names it"
        previous = self._lock.identity
        if not self._lock.admits((frame, body), time.monotonic()):
            return "other_frame", f"expected poses of '{previous[1]}' in '{previous[0]}', got '{body}' in '{frame}'"
        if previous not in (None, self._lock.identity):
            self._ring.clear()
        T_world_head = rigid.transform(rotation, values[:3]) @ self._extrinsics(body)
        quaternion = rigid.quaternion_from_matrix(T_world_head[:3, :3])
        if self._ring.push_pose(stamp_ns, T_world_head[:3, 3], quaternion) is Push.REPEATED:
            return "stamp_repeated", "expected a new stamp, got one that is there already"
        self._notices.well("head pose messages")
        return None

    def _extrinsics(self, body: str) -> np.ndarray:
        """Return T_body_head by TF; the identity, said once, where TF does not know it."""
        head = self._settings.head_frame
        if self._tree is None or body in ("", head):
            return np.eye(4)
        if body not in self._T_body_head:
            T, lookup = self._tree.lookup(body, head, None, 0)
            if lookup is not Lookup.FOUND:
                text = f"TF has no {body} -> {head} ({lookup.value}): '{body}' is taken to be the head frame"
                self._notices.fault("head pose extrinsics", lookup.name, text)
                return T
            self._T_body_head[body] = T
        return self._T_body_head[body]
