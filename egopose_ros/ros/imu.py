"""The IMU at the stamp of an image, in the axes of the head."""

from __future__ import annotations

import time
from typing import Callable

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Imu

from egopose_ros.config import Config
from egopose_ros.ros import messages
from egopose_ros.ros.diagnostics import Statistics
from egopose_ros.ros.head_pose import ALIVE_S
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.tf_tree import Tf2Buffer, TfTree
from egopose_ros.ros.topics import FastTopic
from egopose_ros.structs import ImuSample
from egopose_ros.window.ring import Lookup, VectorRing


class HeadImu:
    """Angular velocity and specific force in the head frame."""

    CAPACITY = 2048
    SPACING_NS = 2_000_000
    """readings closer than this to the one before tell nothing more"""

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
        self._ring = VectorRing(self.CAPACITY, 6)
        self._heard_s = -np.inf
        self._newest_ns = 0
        self._R_head_imu: dict[str, np.ndarray] = {}
        self._topic: FastTopic | None = None
        if config().imu.enabled:
            topics = [(config().imu.topic, Imu)]
            self._topic = FastTopic(
                node, topics, self._on_message, notices, depth=500, silence_hint="It may be off.", admit=self._admit
            )

    def poll(self) -> None:
        if self._topic is not None:
            self._topic.poll()

    def close(self) -> None:
        if self._topic is not None:
            self._topic.close()

    def clear(self) -> None:
        self._ring.clear()

    def at(self, stamp_ns: int) -> ImuSample | None:
        """Return the reading at a stamp, None without one."""
        values, lookup = self._ring.at(stamp_ns, round(self._config().imu.max_age_s * 1e9))
        return ImuSample(values[:3], values[3:]) if lookup is Lookup.FOUND else None

    def may_come(self, stamp_ns: int) -> bool:
        """Say whether the reading at a stamp is not there yet, from a source that is alive."""
        if self._topic is None or time.monotonic() - self._heard_s > ALIVE_S:
            return False
        newest_ns = self._ring.newest_ns
        return newest_ns is None or newest_ns < stamp_ns

    def report(self, sample: ImuSample | None) -> None:
        """Count and say once how a frame fared."""
        if self._topic is None or sample is not None:
            self._notices.well("IMU")
            return
        self._statistics.rejected("imu.missing")
        self._notices.fault("IMU", "missing", "no reading at the images' stamps")

    def _admit(self, stamp_ns: int) -> bool:
        self._statistics.received("imu")
        if 0 < stamp_ns - self._newest_ns < self.SPACING_NS:
            return False
        self._newest_ns = stamp_ns
        return True

    def _on_message(self, message: Imu) -> None:
        w, a = message.angular_velocity, message.linear_acceleration
        values = np.array([w.x, w.y, w.z, a.x, a.y, a.z])
        stamp_ns = messages.to_ns(message.header.stamp)
        # REP 145: a covariance that begins with -1 marks a quantity that is not measured.
        unmeasured = message.angular_velocity_covariance[0] == -1 or message.linear_acceleration_covariance[0] == -1
        if stamp_ns <= 0 or unmeasured or not np.isfinite(values).all():
            self._statistics.rejected("imu.invalid")
            text = "expected a stamp, finite angular velocity and linear acceleration, got a message without"
            self._notices.fault("IMU messages", "invalid", text)
            return
        R = self._rotation(message.header.frame_id)
        self._ring.push(stamp_ns, np.concatenate([R @ values[:3], R @ values[3:]]))
        self._notices.well("IMU messages")
        self._heard_s = time.monotonic()

    def _rotation(self, frame: str) -> np.ndarray:
        """Return R_head_imu by TF; the identity, said once, where TF does not know it."""
        if frame not in self._R_head_imu:
            head = self._config().head_pose.head_frame
            T, lookup = np.eye(4), Lookup.UNCONNECTED
            if self._tree is not None:
                T, lookup = self._tree.lookup(head, frame, None, 0)
            if lookup is not Lookup.FOUND:
                text = f"TF has no {head} -> '{frame}' ({lookup.value}): its axes are taken to be those of the head"
                self._notices.fault("IMU extrinsics", lookup.name.lower(), text)
                return np.eye(3)
            self._R_head_imu[frame] = T[:3, :3]
        return self._R_head_imu[frame]
