"""A live graph for every test: a domain of its own, local discovery, whole images in shared memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Iterator

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: `make setup`, or source a distribution")

from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402

from egopose_ros.ros import graph  # noqa: E402


class Live:
    """A node beside the processes under test, spun while the test waits."""

    def __init__(self, context: Context, environment: dict[str, str]) -> None:
        self.environment = environment
        self.node = Node("observer", context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._children: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a Python module with arguments, its output captured."""
        return self.start_command(sys.executable, "-m", *command)

    def start_command(self, *command: str) -> subprocess.Popen[str]:
        """Start a process, its output captured."""
        child = subprocess.Popen(
            command, env=self.environment, text=True, start_new_session=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._children.append(child)
        return child

    def subscribe(self, message_type: type, topic: str, qos: Any = 50) -> list[Any]:
        """Return a list that fills with the messages of a topic."""
        heard: list[Any] = []
        self.node.create_subscription(message_type, topic, heard.append, qos)
        return heard

    def until(self, condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
        """Spin until the condition holds and return its value; the test fails where it never does."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.02)
            value = condition()
            if value:
                return value
        raise AssertionError(f"did not come within {timeout_s:g} s")

    def finish(self, child: subprocess.Popen[str], timeout_s: float = 60.0) -> tuple[int, str]:
        """Spin until a process has ended; return its status and what it said."""
        self.until(lambda: child.poll() is not None, timeout_s)
        for _ in range(10):
            self._executor.spin_once(timeout_sec=0.02)
        return child.wait(), child.stdout.read() if child.stdout else ""

    def interrupt(self, child: subprocess.Popen[str]) -> tuple[int, str]:
        """Send SIGINT; return the status of the process and what it said."""
        child.send_signal(signal.SIGINT)
        return self.finish(child)

    def close(self) -> None:
        for child in self._children:
            for number in (signal.SIGINT, signal.SIGKILL):
                if child.poll() is None:
                    child.send_signal(number)
                    try:
                        child.wait(10)
                    except subprocess.TimeoutExpired:
                        continue
            if child.stdout:
                child.stdout.close()
        self._executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    # Not the domain of test/ros, whose estimator lives as long as the session.
    domain = 1 + (int(os.environ.get("ROS_DOMAIN_ID") or os.getpid()) + 50) % 100
    isolation = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    for name, value in {**graph.environment(), **isolation}.items():
        monkeypatch.setenv(name, value)
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    live = Live(context, dict(os.environ))
    yield live
    live.close()
    rclpy.try_shutdown(context=context)
