"""The state of an estimator as its diagnostics tell it."""

from __future__ import annotations

import threading

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from egopose_ros.ros import qos


class EstimatorWatch:
    """The newest diagnostics of one estimator; read from any thread."""

    def __init__(self, node: Node, name: str = "/estimator") -> None:
        self._node = node
        self._title = f"{name}: pose"
        self._values: dict[str, str] = {}
        self._news = threading.Condition()
        create = node.create_subscription
        self._subscription = create(DiagnosticArray, "/diagnostics", self._on_message, qos.DIAGNOSTICS)

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)

    @property
    def active(self) -> bool:
        return self._values.get("state") == "active"

    @property
    def failure(self) -> str:
        """Why a transition failed, empty where none did."""
        return self._values.get("failure", "")

    @property
    def frames_in(self) -> int:
        """Frames that reached it and were accepted."""
        return int(self._values.get("frames_in", 0))

    @property
    def frames_thinned_out(self) -> int:
        """Frames of those that it left out to keep up."""
        return int(self._values.get("frames_thinned_out", 0))

    def wait(self, timeout_s: float) -> bool:
        """Wait for the next diagnostics; say whether they came."""
        with self._news:
            return self._news.wait(timeout_s)

    def _on_message(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._title:
                with self._news:
                    self._values = {item.key: item.value for item in status.values}
                    self._news.notify_all()
