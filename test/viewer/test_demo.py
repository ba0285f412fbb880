"""The demo as a user runs it: processes over DDS, a summary of what really happened, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from egopose_ros import cli

KEYS = [
    "network", "weights_trained", "frames_in", "poses_out", "input_hz", "output_hz", "latency_ms", "frames_dropped",
    "mpjpe_mm", "pa_mpjpe_mm",
]  # fmt: skip


class Demo:
    """A running demo whose processes carry a mark."""

    def __init__(self, *arguments):
        pytest.importorskip("rclpy", reason="the live graph needs rclpy")
        pytest.importorskip("egopose_ros.msg", reason="the live graph needs the built messages: make setup")
        self._mark = f"EGOPOSE_TEST={uuid.uuid4()}"
        environment = {**os.environ, **dict([self._mark.split("=")]), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "egopose_ros.cli", "demo", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )  # fmt: skip

    def running(self, name):
        """Return the processes of this demo whose command names a module."""
        found = []
        for process in Path("/proc").iterdir():
            try:
                marked = self._mark.encode() in (process / "environ").read_bytes().split(b"\0")
                if marked and name.encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except (OSError, ValueError):
                continue
        return found

    def await_line(self, text):
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"the demo ended without '{text}'")

    def finish(self):
        """Return status and output of the ended demo, of which nothing may be left."""
        output = self.process.communicate(timeout=120)[0]
        assert self.running("egopose_ros") == []
        return self.process.returncode, output


@pytest.fixture
def demo(domain):
    """Start a demo with some arguments on the tests' domain."""
    return lambda *arguments: Demo("--domain", domain, *arguments)


def test_a_bag_is_played_and_summed_up(demo, bag, tmp_path):
    file = tmp_path / "summary.json"
    status, output = demo("--bag", bag, "--headless", "--network", "ag_egopose", "--json", file).finish()
    assert status == 0, output
    assert f"bag: {bag}\n" in output
    summary = json.loads(file.read_text())
    assert summary["network"] == "ag_egopose"
    assert list(summary) == KEYS
    assert summary["frames_in"] == 45
    assert 0 < summary["poses_out"] <= 45 and 0 <= summary["frames_dropped"] <= 45 - 1
    assert 0 < summary["output_hz"] and 0 < summary["input_hz"]
    latency = summary["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert 0 < summary["pa_mpjpe_mm"] < summary["mpjpe_mm"]
    assert ("untrained" in output) == (not summary["weights_trained"])
    assert f"MPJPE {summary['mpjpe_mm']:.1f} mm" in output


def test_an_estimator_that_dies_ends_the_demo_with_the_reason(demo, bag, tmp_path):
    running = demo("--bag", bag, "--headless", "--json", tmp_path / "summary.json", "--rate", "0.1")
    running.await_line("network: egoposeformer")
    (estimator,) = running.running("egopose_ros.ros.estimator")
    os.kill(estimator, signal.SIGKILL)
    status, output = running.finish()
    assert status == 1
    assert "estimator ended with status -9" in output and "egoposeformer_v2 on" in output  # the end of its log
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_no_process_and_no_file(demo, bag, tmp_path, number):
    running = demo("--bag", bag, "--no-browser", "--json", tmp_path / "summary.json", "--rate", "0.1")
    running.await_line("page: http://localhost:")
    deadline = time.monotonic() + 60
    while not running.running("egopose_ros.ros.estimator") and time.monotonic() < deadline:
        time.sleep(0.1)
    running.process.send_signal(number)
    status, output = running.finish()
    assert status == 130, output
    assert "Traceback" not in output
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--bag", "nowhere.mcap"], "expected a bag"),
        (["--bag", "{bag}", "--topics", "/other"], "expected images on /other, got /camera/image_raw/compressed (sensor_msgs/msg/CompressedImage)"),
        (["--bag", "{bag}", "--json", "/nowhere/summary.json"], "expected a folder"),
        (["--bag", "{bag}", "--json", "{bag}"], "expected the name of a file, got a folder"),
        (["--bag", "{bag}", "--rate", "-1"], "rate: expected"),
    ],
)
def test_wrong_arguments_are_one_line(bag, capsys, arguments, reason):
    pytest.importorskip("rclpy", reason="the live graph needs rclpy")
    assert cli.main(["demo", "--headless", *(argument.format(bag=bag) for argument in arguments)]) == 1
    said = capsys.readouterr()
    assert reason in said.err and len(said.err.splitlines()) == 1 and not said.out
