"""What the benchmarks of the live graph share: the estimator in a process, a camera, an observer, tables."""

from __future__ import annotations

import argparse
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterable

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from egopose_ros.msg import BodyPose
from egopose_ros.ros import graph

CHANNELS = {"mono8": 1, "bgr8": 3}
# Encapsulation (4 bytes), then Image.header.stamp.
_STAMP_OFFSET = 4


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, help="write the numbers to this file as well")
    return made


def isolate() -> None:
    """Keep the benchmark's graph to itself: before the first ROS node."""
    os.environ.update(graph.environment())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))


class Child:
    """A Python process that is stopped by SIGINT. A context manager."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen([sys.executable, *command], env=os.environ.copy(), start_new_session=True)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def check(self) -> None:
        """RuntimeError where the process has ended by itself."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the process under test ended with status {self.process.returncode}")

    def usage(self) -> dict[str, float]:
        """Return resident memory [MB], threads, file handles and processor time [s] so far."""
        folder = Path("/proc") / str(self.process.pid)
        lines = (folder / "status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return {
            "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
            "threads": int(status["Threads"]),
            "handles": len(list((folder / "fd").iterdir())),
            "cpu_s": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        }


def estimator(calibration: Path, report: Path | None = None, inference_ms: float = 0.0, **settings: str) -> Child:
    """Start the estimator with the constant network."""
    values = {"camera.calibration": calibration, **settings}
    parameters = [argument for name, value in values.items() for argument in ("-p", f"{name}:={value}")]
    options = ["--inference-ms", str(inference_ms), *(["--report", str(report)] if report else [])]
    script = Path(__file__).with_name("estimator_under_test.py")
    return Child(str(script), *options, "--ros-args", *parameters, "--log-level", "warn")


class Bench:
    """A camera and an observer of the poses in this process."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = Node("benchmark")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self.received: dict[int, float] = {}
        """stamp of a pose [ns] -> when it came, on the steady clock [s]"""
        self.ages_s: list[float] = []
        self.dropped = 0
        self.node.create_subscription(BodyPose, "/estimator/pose", self._on_pose, 50)

    def _on_pose(self, pose: BodyPose) -> None:
        stamp = pose.header.stamp
        self.received[stamp.sec * 10**9 + stamp.nanosec] = time.monotonic()
        self.ages_s.append(pose.age)
        self.dropped = pose.frames_dropped

    def forget(self) -> None:
        self.received.clear()
        self.ages_s.clear()

    def spin(self, until_s: float) -> None:
        """Take poses until a time on the steady clock."""
        while (left := until_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def spin_while(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Take poses while the condition holds; TimeoutError where that lasts too long."""
        deadline = time.monotonic() + timeout_s
        while condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the graph did not come this far within {timeout_s:g} s")
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


class Camera:
    """Publishes one image again and again: its bytes are made once, and only the stamp is new."""

    def __init__(self, bench: Bench, width: int, height: int, encoding: str) -> None:
        self._bench = bench
        self._publisher = bench.node.create_publisher(Image, "/image_raw", 10)
        self._bytes = bytearray(serialize_message(image(width, height, encoding)))
        self.published: dict[int, float] = {}
        """stamp [ns] -> when it was published, on the steady clock [s]"""

    def publish(self, stamp_ns: int) -> None:
        struct.pack_into("<iI", self._bytes, _STAMP_OFFSET, *divmod(stamp_ns, 10**9))
        self.published[stamp_ns] = time.monotonic()
        self._publisher.publish(bytes(self._bytes))

    def close(self) -> None:
        self._bench.node.destroy_publisher(self._publisher)

    def warm_up(self, under_test: Child, rate_hz: float = 10.0) -> None:
        """Publish until the first pose has come, then until the graph is quiet."""
        while not self._bench.received:
            under_test.check()
            self.publish(time.time_ns())
            self._bench.spin(time.monotonic() + 1.0 / rate_hz)
        # Shorter than the gap that would empty the window.
        self._bench.spin(time.monotonic() + 0.3)
        self._bench.forget()
        self.published.clear()

    def run(self, frames: int, rate_hz: float) -> None:
        """Publish at a rate, on the steady clock, and take the poses meanwhile and one second longer."""
        origin = time.monotonic()
        for index in range(frames):
            self._bench.spin(origin + index / rate_hz)
            self.publish(time.time_ns())
        self._bench.spin(time.monotonic() + 1.0)


def image(width: int, height: int, encoding: str) -> Image:
    """Return an image of noise."""
    step = width * CHANNELS[encoding]
    message = Image(width=width, height=height, encoding=encoding, step=step)
    message.header.frame_id = "camera"
    message.data.frombytes(np.random.default_rng(0).integers(0, 256, step * height, np.uint8).tobytes())
    return message


def percentiles_ms(seconds: Iterable[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds."""
    values = np.percentile(list(seconds), (50, 95, 99)) * 1e3
    return {f"p{rank}": round(float(value), 2) for rank, value in zip((50, 95, 99), values)}


def report(rows: list[dict[str, Any]], path: Path | None) -> None:
    """Print rows with the same keys as a table, and write them as JSON where asked."""
    cells = [[str(key) for key in rows[0]], *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
    if path is not None:
        path.write_text(json.dumps(rows, indent=1) + "\n")
