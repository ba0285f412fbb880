"""The IMU at the stamp of an image, in the axes of the head."""

from __future__ import annotations

import time
from typing import Callable

from rclpy.node import Node
from sensor_msgs.msg import Imu

from egopose_ros.config import Config
from egopose_ros.ros.diagnostics import Statistics
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.tf_tree import Tf2Buffer, TfTree
from egopose_ros.ros.topics import FastTopic
from egopose_ros.ros.tracks import ALIVE_S, ImuTrack
from egopose_ros.structs import ImuSample


class HeadImu:
    """Angular velocity and specific force in the head frame."""

    def __init__(
        self,
        node: Node,
        config: Callable[[], Config],
        tree: TfTree | Tf2Buffer | None,
        statistics: Statistics,
        notices: Notices,
    ) -> None:
        self._config = config
        self._statistics = statistics
        self._notices = notices
        self._track = ImuTrack(config().head_pose.head_frame, tree)
        self._heard_s: float | None = None
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
        self._track.clear()

    def at(self, stamp_ns: int) -> ImuSample | None:
        """Return the reading at a stamp, None without one."""
        return self._track.at(stamp_ns, round(self._config().imu.max_age_s * 1e9))

    def may_come(self, stamp_ns: int) -> bool:
        """Say whether the reading at a stamp is not there yet, from a source that is alive."""
        if self._topic is None:
            return False
        if self._heard_s is None:
            # The first frame waits as the others do: its reading may be in the queue behind it.
            self._heard_s = time.monotonic()
        newest_ns = self._track.newest_ns
        return time.monotonic() - self._heard_s <= ALIVE_S and (newest_ns is None or newest_ns < stamp_ns)

    def report(self, sample: ImuSample | None) -> None:
        """Count and say once how a frame fared."""
        if self._topic is None or sample is not None:
            self._notices.well("IMU")
            return
        self._statistics.rejected("imu.missing")
        self._notices.fault("IMU", "missing", "no reading at the images' stamps")

    def _admit(self, stamp_ns: int) -> bool:
        self._statistics.received("imu")
        return self._track.admits(stamp_ns)

    def _on_message(self, message: Imu) -> None:
        problem = self._track.take(message)
        if problem is not None:
            self._statistics.rejected("imu." + problem.reason)
            self._notices.fault("IMU messages", *problem)
            return
        if self._track.assumption is not None:
            self._notices.fault("IMU extrinsics", *self._track.assumption)
        self._notices.well("IMU messages")
        self._heard_s = time.monotonic()
