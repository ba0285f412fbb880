"""`egopose doctor` on a live graph: everything that is wrong is found, and nothing else."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("egopose_ros.msg", reason="needs the built messages")

from egopose_ros.installation import Status
from egopose_ros.resources import share_directory, share_file
from egopose_ros.ros import health

GRAPH = Path(__file__).with_name("doctor_graph.py")
WITHOUT = (*health.PROFILE_VARIABLES, "ROS_DISTRO")


@pytest.fixture
def environment():
    """The environment of a graph of its own, without a shared-memory profile."""
    inherited = {name: value for name, value in os.environ.items() if name not in WITHOUT}
    domain = str(1 + os.getpid() % 100)  # of each process that runs tests beside others
    return {**inherited, "ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def doctor(environment, graph, report, *arguments):
    """Run the command beside a graph in another process; return its exit status and its findings by item."""
    command = [sys.executable, "-m", "egopose_ros.cli", "doctor", "--seconds", "1", "--json", str(report), *arguments]
    beside = subprocess.Popen([sys.executable, GRAPH, graph], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert beside.stdout.readline() == "ready\n"
        done = subprocess.run(command, env=environment, cwd=share_directory(), capture_output=True, text=True)
    finally:
        beside.send_signal(signal.SIGINT)
        try:
            beside.communicate(timeout=20)
        except subprocess.TimeoutExpired:  # rclpy may miss a signal; the graph is not what is tested
            beside.kill()
            beside.communicate()
    document = json.loads(report.read_text())
    assert document["healthy"] == (done.returncode == 0)
    findings = {}
    for item in document["items"]:
        assert item["item"] in done.stdout and item["found"] in done.stdout and item["mend"] in done.stdout
        findings.setdefault(item["item"], []).append(item)
    return done.returncode, findings


def calibration(folder, *sizes):
    """Write a rig of ideal cameras, each with its width and height, and return the file."""
    lens = "model: kannala_brandt, centre: [300, 200], focal: [200, 200], k: [0, 0, 0, 0]"
    lens += ", T_head_camera: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]"
    cameras = [f"- {{name: camera{index}, {lens}, size: [{size}]}}" for index, size in enumerate(sizes)]
    file = folder / "rig.yaml"
    file.write_text("\n".join(["egopose_rig: 1", "cameras:", *cameras, ""]))
    return file


def statuses(findings, item):
    return [entry["status"] for entry in findings[item]]


def test_a_healthy_graph(environment, tmp_path):
    environment["FASTDDS_DEFAULT_PROFILES_FILE"] = str(share_file("config/fastdds_shm.xml"))
    given = ("--topics", "/front/image_raw", "--calibration", str(calibration(tmp_path, "1280, 800")))
    _, findings = doctor(environment, "healthy", tmp_path / "report.json", *given)
    for item in ("Python", "packages", "device", "ROS", "RMW", "interfaces", "shared memory", "transport", "clock"):
        assert statuses(findings, item) == ["ok"], findings[item]
    (topic,) = findings["topics"]
    assert topic["status"] == "ok" and "best effort" in topic["found"] and "3.07 MB" in topic["found"]
    assert findings["QoS"][0]["found"].startswith("1 pairs")
    assert statuses(findings, "calibration") == ["ok", "ok"], findings["calibration"]
    assert "/front/image_raw: 1280x800 images of camera 'camera0'" in findings["calibration"][1]["found"]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (("640, 480",), "/front/image_raw: expected 640x480 images of camera 'camera0', got 1280x800"),
        (("1280, 800", "1280, 800"), "each camera of the calibration (camera0, camera1), got /front/image_raw"),
    ],
)
def test_a_calibration_of_other_images_is_wrong(environment, tmp_path, sizes, said):
    given = ("--topics", "/front/image_raw", "--calibration", str(calibration(tmp_path, *sizes)))
    status, findings = doctor(environment, "healthy", tmp_path / "report.json", *given)
    assert status == 1 and statuses(findings, "calibration") == ["ok", "wrong"]
    assert said in findings["calibration"][1]["found"] and findings["calibration"][1]["mend"]


def test_everything_wrong_is_found(environment, tmp_path):
    topics = ("/front/image_raw", "/absent/image_raw", "/twice/image_raw")
    status, findings = doctor(environment, "broken", tmp_path / "report.json", "--topics", *topics)
    assert status == 1
    for item in ("shared memory", "transport", "QoS", "clock"):
        assert statuses(findings, item) == ["wrong"] and findings[item][0]["mend"], findings[item]
    assert "/front/image_raw, doctor_graph to doctor_graph" in findings["QoS"][0]["found"]
    assert "use_sim_time" in findings["clock"][0]["found"]
    said = " | ".join(entry["found"] for entry in findings["topics"] if entry["status"] == "wrong")
    assert "/front/image_raw: Image, best effort, 0.0 Hz: published, and nothing arrives" in said
    assert "/absent/image_raw: nobody publishes it" in said
    assert "/twice/image_raw: expected one publisher, found 2" in said


@pytest.mark.parametrize(
    "profile, said",
    [("<profiles", "no element found"), ("<a><segment_size>524288</segment_size></a>", "segment_size of 4194304")],
)
def test_a_profile_that_does_not_help_is_wrong(monkeypatch, tmp_path, profile, said):
    file = tmp_path / "profile.xml"
    file.write_text(profile)
    monkeypatch.setenv(health.PROFILE_VARIABLES[0], str(file))
    finding = health.shared_memory()
    assert finding.status is Status.WRONG and finding.mend
    assert said in finding.found or "unclosed token" in finding.found


def test_messages_older_than_their_definition_are_wrong(monkeypatch, tmp_path):
    assert health.interfaces().status is Status.OK
    (tmp_path / "msg").mkdir()
    definition = share_file("msg/BodyPose.msg").read_text()
    (tmp_path / "msg/BodyPose.msg").write_text(definition.replace("float32[] confidence", "float64[] confidence"))
    monkeypatch.setattr(health, "share_directory", lambda: tmp_path)
    finding = health.interfaces()
    assert finding.status is Status.WRONG and finding.found == "BodyPose is out of date: confidence"
