"""Isolate the tests' graph from every other, and have generated messages check their fields: before ROS is imported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)  # of each process that runs tests beside others
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"


@pytest.fixture(scope="session")
def probe():
    """An estimator in a process of its own, unconfigured, and the probe that talks to it."""
    pytest.importorskip("rclpy", reason="the live graph needs rclpy")
    pytest.importorskip("egopose_ros.msg", reason="the live graph needs the built messages: make setup")
    from graph_probe import Probe

    command = [sys.executable, "-m", "egopose_ros.ros.estimator", "--ros-args"]
    for setting in ("autostart:=false", "diagnostics_period_s:=0.1", "network.allow_untrained:=true"):
        command += ["-p", setting]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    probe = Probe()
    try:
        yield probe
        assert process.poll() is None, "the estimator died"
    finally:
        probe.close()
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in log, log


@pytest.fixture
def feed(probe):
    """Cameras and head of a wearer, with time and topics of its own."""
    from graph_probe import Feed

    return Feed(probe)
