"""The graph as users start it: `egopose run`, the launch files, the parameter files, the RViz configuration."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy
from rclpy.qos import qos_check_compatible
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from visualization_msgs.msg import MarkerArray

from egopose_ros import cli
from egopose_ros.config import Config, ConfigError, options, replace
from egopose_ros.msg import BodyPose
from egopose_ros.resources import share_directory, share_file
from egopose_ros.ros import graph, processes
from egopose_ros.ros.processes import Process

pytestmark = pytest.mark.timeout(480)  # a loaded machine starts torch slowly, and several times

START_NS = 1_700_000_000_000_000_000
FRAMES, PERIOD_NS, SIZE = 20, 100_000_000, 256
UNTRAINED = ("--set", "network.allow_untrained=true")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of one camera at 10 Hz with its CameraInfo."""
    path = tmp_path_factory.mktemp("graph") / "bag"
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {name.rpartition("/")[2]: kind for name, kind in store.types.items()}
    kinds = {"/cap/image_raw": "sensor_msgs/msg/Image", "/cap/camera_info": "sensor_msgs/msg/CameraInfo"}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in kinds.items()}

        def write(topic: str, stamp_ns: int, message: Any) -> None:
            writer.write(connections[topic], stamp_ns, store.serialize_cdr(message, kinds[topic]))

        random = np.random.default_rng(0)
        for index in range(FRAMES):
            stamp_ns = START_NS + index * PERIOD_NS
            stamp = types["Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
            header = types["Header"](stamp=stamp, frame_id="down")
            roi = types["RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
            k = np.array([73.0, 0.0, 127.5, 0.0, 73.0, 127.5, 0.0, 0.0, 1.0])
            info = types["CameraInfo"](
                header=header, height=SIZE, width=SIZE, distortion_model="equidistant", d=np.zeros(4), k=k,
                r=np.eye(3).ravel(), p=np.zeros(12), binning_x=0, binning_y=0, roi=roi,
            )
            data = random.integers(0, 256, SIZE * SIZE, np.uint8)
            image = types["Image"](
                header=header, height=SIZE, width=SIZE, encoding="mono8", is_bigendian=0, step=SIZE, data=data
            )
            write("/cap/camera_info", stamp_ns, info)
            write("/cap/image_raw", stamp_ns, image)
    return path


def to_ns(stamp: Any) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def parameter(live: Any, node: str, name: str) -> Any:
    client = live.node.create_client(GetParameters, f"{node}/get_parameters")
    live.until(client.service_is_ready)
    future = client.call_async(GetParameters.Request(names=[name]))
    return live.until(future.done) and future.result().values[0]


def test_run_plays_a_bag_through_the_graph_and_ends_with_it(live: Any, bag: Path, tmp_path: Path) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("/**: {ros__parameters: {window: {max_gap_s: 2.0, thin_out: false}, head_pose.source: tf}}")
    poses = live.subscribe(BodyPose, "/wearer/estimator/pose")
    run = live.start(
        "egopose_ros.cli", "run", "--bag", str(bag), "--camera-topic", "/cap/image_raw", "--namespace", "wearer",
        "--params-file", str(parameters), "--head-pose", "none", *UNTRAINED,
    )
    live.until(lambda: poses, 150.0)
    assert parameter(live, "/wearer/estimator", "use_sim_time").bool_value
    assert parameter(live, "/wearer/estimator", "window.max_gap_s").double_value == 2.0
    assert parameter(live, "/wearer/estimator", "head_pose.source").string_value == "none"
    status, said = live.finish(run)

    assert status == 0, said
    stamps = [to_ns(pose.header.stamp) for pose in poses]
    assert set(stamps) <= {START_NS + index * PERIOD_NS for index in range(FRAMES)}
    assert stamps == sorted(set(stamps))
    assert all(pose.header.frame_id == "down" for pose in poses)
    # CameraInfo went ahead of the images, so that not even the first frames were lost.
    assert poses[-1].frames_dropped == 0 and stamps[0] < START_NS + FRAMES // 2 * PERIOD_NS
    assert "Traceback" not in said


RVIZ = """#!/bin/sh
while [ "$1" != -d ]; do shift; done
cp "$2" "$SHOWN.part" && mv "$SHOWN.part" "$SHOWN"
exec sleep 1000
"""


def test_rviz_shows_what_the_graph_publishes(live: Any, bag: Path, tmp_path: Path) -> None:
    rviz = tmp_path / "rviz2"
    rviz.write_text(RVIZ)
    rviz.chmod(0o755)
    shown_file = tmp_path / "shown.rviz"
    live.environment.update(PATH=f"{tmp_path}:{live.environment['PATH']}", SHOWN=str(shown_file))
    run = live.start("egopose_ros.cli", "run", "--bag", str(bag), "--loop", "--rviz", *UNTRAINED)
    heard = live.subscribe(DiagnosticArray, "/diagnostics")
    live.until(lambda: heard and live.node.get_publishers_info_by_topic("/estimator/trail"), 150.0)
    displays = yaml.safe_load(shown_file.read_text())["Visualization Manager"]["Displays"]
    kinds = {
        "MarkerArray": "visualization_msgs/msg/MarkerArray",
        "Path": "nav_msgs/msg/Path",
        "Image": "sensor_msgs/msg/Image",
    }
    classes = [display["Class"].rpartition("/")[2] for display in displays]
    assert {"Image", "MarkerArray", "Path", "TF"} <= set(classes)
    shown = {name for display in displays for name, on in display.get("Namespaces", {}).items() if on}
    assert shown == {"joints", "bones", "uncertainty", "camera", "status"}
    markers = live.subscribe(MarkerArray, "/estimator/markers")
    live.until(lambda: markers)
    assert {marker.ns for marker in markers[-1].markers} == shown
    for kind, display in zip(classes, displays):
        if kind in kinds:
            (publisher,) = live.node.get_publishers_info_by_topic("/" + display["Topic"]["Value"].lstrip("/"))
            assert publisher.topic_type == kinds[kind]
            verdict, reason = qos_check_compatible(publisher.qos_profile, rviz_qos(display["Topic"]))
            assert verdict != QoSCompatibility.ERROR, reason
            # Best effort takes images of reliable and of best-effort cameras.
            assert kind != "Image" or rviz_qos(display["Topic"]).reliability == ReliabilityPolicy.BEST_EFFORT
    # The bag said which camera there is.
    poses = live.subscribe(BodyPose, "/estimator/pose")
    live.until(lambda: poses and poses[0].header.frame_id == "down")
    (transforms,) = live.node.get_publishers_info_by_topic("/tf")
    assert transforms.topic_type == "tf2_msgs/msg/TFMessage"

    status, said = live.interrupt(run)
    assert status == 130 and "Traceback" not in said, said
    live.until(lambda: not live.node.get_publishers_info_by_topic("/tf"))


def rviz_qos(topic: dict[str, Any]) -> QoSProfile:
    return QoSProfile(
        depth=topic["Depth"],
        history=HistoryPolicy[topic["History Policy"].upper().replace(" ", "_")],
        reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
        durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
    )


@pytest.mark.parametrize(
    ("camera", "camera_topic", "shown"),
    [
        ("topics: [image_raw]", "/cap/image_raw", "/cap/image_raw"),
        ("topics: [left/image_raw, right/image_raw]", "image_raw", "left/image_raw"),
        ("topics: [/cap/image_raw/compressed]", "image_raw", "/cap/image_raw/compressed"),
        ("{topics: [image_raw], transport: compressed}", "/cap/image_raw", "/cap/image_raw/compressed"),
    ],
)
def test_rviz_shows_the_first_camera(tmp_path: Path, camera: str, camera_topic: str, shown: str) -> None:
    file = tmp_path / "mine.yaml"
    camera = camera if camera.startswith("{") else "{" + camera + "}"
    file.write_text(f"driver: {{ros__parameters: {{rate: 30}}}}\nestimator: {{ros__parameters: {{camera: {camera}}}}}")
    content = yaml.safe_load(Path(graph.rviz_config(str(file), camera_topic)).read_text())
    shipped = yaml.safe_load(share_file("config/egopose.rviz").read_text())
    images = [item for item in content["Visualization Manager"]["Displays"] if item["Class"].endswith("/Image")]
    assert [image["Topic"]["Value"] for image in images] == [shown]
    images[0]["Topic"]["Value"] = "image_raw"
    assert content == shipped


@pytest.fixture(scope="module")
def compressed_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One message each of two cameras that publish compressed images alone."""
    path = tmp_path_factory.mktemp("compressed") / "bag"
    store = get_typestore(Stores.ROS2_JAZZY)
    kind = "sensor_msgs/msg/CompressedImage"
    types = {name.rpartition("/")[2]: made for name, made in store.types.items()}
    header = types["Header"](stamp=types["Time"](sec=1, nanosec=0), frame_id="left")
    message = types["CompressedImage"](header=header, format="jpeg", data=np.zeros(1, np.uint8))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for side in ("left", "right"):
            connection = writer.add_connection(f"/cap/{side}/image_raw/compressed", kind, typestore=store)
            writer.write(connection, START_NS, store.serialize_cdr(message, kind))
    return path


def test_bag_alone_says_the_same_to_the_launch_file_and_to_run(
    compressed_bag: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["run", "--bag", str(compressed_bag), "--settings"]) == 0
    said = yaml.safe_load(capsys.readouterr().out)["/**"]["ros__parameters"]
    assert said["camera.topics"] == ["/cap/left/image_raw", "/cap/right/image_raw"]
    assert said["camera.transport"] == "compressed"

    replay = launch_file("replay", monkeypatch)
    monkeypatch.setattr(replay, "SetLaunchConfiguration", lambda *given: given)

    def settings(**given: str) -> Any:
        return replay.settings(SimpleNamespace(launch_configurations={"bag": str(compressed_bag), **given}))

    ((name, file),) = settings()
    assert name == "params_file" and graph.read_parameters(file) == said
    assert settings(camera_topic="/cap/left/image_raw") == settings(params_file="mine.yaml") == []
    with pytest.raises(ConfigError, match="bag nowhere: expected a bag folder"):
        settings(bag="nowhere")


@pytest.fixture(scope="module")
def crowded_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras that are no pair, and a head pose, in messages that nobody decodes."""
    path = tmp_path_factory.mktemp("crowded") / "bag"
    store = get_typestore(Stores.ROS2_JAZZY)
    kinds = {
        "/room/image_raw": "sensor_msgs/msg/Image",
        "/cap/image_raw": "sensor_msgs/msg/Image",
        "/head_pose": "nav_msgs/msg/Odometry",
    }
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in kinds.items():
            writer.write(writer.add_connection(topic, kind, typestore=store), START_NS, bytes(4))
    return path


def test_the_rig_of_a_bag_with_several_is_chosen(
    crowded_bag: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["run", "--bag", str(crowded_bag), "--settings"]
    assert cli.main(run) == 1
    assert "got image topics /cap/image_raw, /room/image_raw; choose with --topics" in capsys.readouterr().err
    for choice in (["--topics", "/cap/image_raw"], ["--set", "camera.topics=[/cap/image_raw]"]):
        assert cli.main([*run, *choice]) == 0
        said = yaml.safe_load(capsys.readouterr().out)["/**"]["ros__parameters"]
        assert (said["camera.topics"], said["head_pose.source"]) == (["/cap/image_raw"], "odometry")
    assert cli.main([*run, "--topics", "/cup/image_raw"]) == 1
    assert "expected images on /cup/image_raw" in capsys.readouterr().err

    replay = launch_file("replay", monkeypatch)
    monkeypatch.setattr(replay, "SetLaunchConfiguration", lambda *given: given)
    given = {"bag": str(crowded_bag), "topics": "/cap/image_raw"}
    ((_, file),) = replay.settings(SimpleNamespace(launch_configurations=given))
    assert graph.read_parameters(file) == said


@pytest.mark.parametrize("bag_too", [False, True])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--calibration nofile.yaml", "nofile.yaml: expected a calibration file, got nothing there"),
        ("--calibration {rig}", "one for each of the 2 cameras"),
        ("--set network.checkpoint=nothing", "checkpoint nothing: expected a file"),
        (
            "--set network.checkpoint=ag_egopose_mono --network egoposeformer_v2",
            "ag_egopose_mono.safetensors: expected weights of egoposeformer_v2, got those of ag_egopose",
        ),
    ],
)
def test_run_refuses_what_the_estimator_would(
    bag: Path, arguments: str, said: str, bag_too: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(graph, "start", lambda *given: started.append(given) or 0)
    given = arguments.format(rig=share_file("config/cameras/glasses_stereo.yaml")).split()
    assert cli.main(["run", *given, *(["--bag", str(bag)] if bag_too else [])]) == 1
    complaint = capsys.readouterr().err
    assert said in complaint and len(complaint.splitlines()) == 1 and not started


@pytest.mark.parametrize(
    ("which", "settings", "said"),
    [
        ("bag", "network.checkpoint=egoposeformer_v2_stereo", "configure failed: checkpoint .* a rig of 2 cameras, got 1"),
        ("compressed_bag", "network.allow_untrained=true", "expected poses, published none; .*frames_in 0"),
    ],
    ids=["start", "poses"],
)
def test_a_replay_without_a_pose_fails(
    live: Any, request: pytest.FixtureRequest, which: str, settings: str, said: str
) -> None:
    started_s = time.monotonic()
    path = request.getfixturevalue(which)
    status, log = live.finish(live.start("egopose_ros.cli", "run", "--bag", str(path), "--set", settings), 150.0)
    assert status == 1 and re.search(f"estimator: {said}", log), log
    assert which != "bag" or time.monotonic() - started_s < graph.REPLAY_WAIT_S, "the player waited for nobody"


def launch_file(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a launch file, with something in place of `launch` where ROS has none."""
    if graph.launch_obstacle():
        for module in ("", ".actions", ".conditions", ".launch_description_sources", ".substitutions"):
            monkeypatch.setitem(sys.modules, "launch" + module, MagicMock())
        for module in ("", ".actions", ".parameter_descriptions"):
            monkeypatch.setitem(sys.modules, "launch_ros" + module, MagicMock())
    location = importlib.util.spec_from_file_location(name, share_file(f"launch/{name}.launch.py"))
    assert location is not None and location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


def test_estimator_that_refuses_to_start_is_reported(live: Any) -> None:
    status, said = live.finish(live.start("egopose_ros.cli", "run", "--device", "gpu"))
    assert status == 1 and "runtime.device: expected auto, cpu, cuda or cuda:N, got 'gpu'" in said


@pytest.mark.parametrize("path", sorted((share_directory() / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_parameter_files_hold_known_settings(path: Path) -> None:
    assert graph.read_parameters(str(path))


def test_default_parameter_file_changes_no_default() -> None:
    assert replace(Config(), graph.read_parameters(str(share_file("config/estimator.yaml")))) == Config()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("/**: {ros__parameters: {window: {max_gap: 1.0}}}", "window.max_gap: no such setting"),
        ("/**: {ros__parameters: {window: {max_gap_s: soon}}}", "window.max_gap_s: expected float, got str 'soon'"),
        ("window: {max_gap_s: 1.0}", "expected a parameter file of ROS"),
        ("[1, 2", "expected a parameter file of ROS"),
    ],
)
def test_parameter_file_that_does_not_fit_is_named(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=expected.replace("(", r"\(")) as error:
        graph.read_parameters(str(path))
    assert str(path) in str(error.value)


def test_printed_settings_are_a_parameter_file_of_the_defaults(tmp_path: Path) -> None:
    from egopose_ros.commands import run

    path = tmp_path / "settings.yaml"
    path.write_text(run.parameter_file(Config()))
    values = graph.read_parameters(str(path))
    assert list(values) == [item.name for item in options(Config)]
    assert replace(Config(), values) == Config()
    topics = tuple(f"/headset/{where}/image_raw" for where in ("front_left", "front_right", "side_left", "side_right"))
    long = replace(Config(), {"camera.topics": topics, "camera.calibration": "/home/somebody/a rig " * 12 + ".yaml"})
    path.write_text(run.parameter_file(long))
    assert replace(Config(), graph.read_parameters(str(path))) == long


def test_an_argument_that_renames_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/**: {ros__parameters: {camera: {topics: [/cap/image]}}}")
    with pytest.raises(ConfigError, match="camera_topic /other: expected image_raw among camera.topics"):
        graph.effective(graph.LaunchConfig(camera_topic="/other", params_file=str(file)), {})
    with pytest.raises(ConfigError, match="camera_topic /other"):
        graph.require_camera_topic(str(file), "/other")
    graph.require_camera_topic("", "/other")
    assert graph.effective(graph.LaunchConfig(camera_topic="/other"), {}).camera.topics == ("image_raw",)


def test_arguments_of_the_launch_are_there() -> None:
    names = {item.name for item in options(graph.LaunchConfig)}
    asked = "camera_topic calibration network device head_pose rviz namespace params_file use_sim_time log_level"
    assert set(asked.split()) <= names
    assert set(graph.OVERRIDES) <= names and set(graph.OVERRIDES.values()) <= {item.name for item in options(Config)}


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def interrupt_when(path: Path) -> None:
    """Send this process SIGINT when a file has appeared."""

    def wait() -> None:
        while not path.exists():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def test_processes_end_together_with_the_status_of_the_first(tmp_path: Path) -> None:
    marker = tmp_path / "interrupted"
    stays = f"""
import pathlib, time
try:
    pathlib.Path({str(tmp_path / 'ready')!r}).touch()
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path({str(marker)!r}).touch()
"""
    ends = f"import pathlib, sys, time\nwhile not pathlib.Path({str(tmp_path / 'ready')!r}).exists(): time.sleep(0.01)"
    ended = processes.run([Process("stays", python(stays)), Process("ends", python(ends + "\nsys.exit(3)"))], {})
    assert ended == 3 and marker.exists()


@pytest.mark.parametrize(("judged", "expected"), [(True, 4), (False, 0)])
def test_a_judged_process_fails_the_others(tmp_path: Path, judged: bool, expected: int) -> None:
    ready = tmp_path / "ready"
    fails = f"""
import pathlib, sys, time
try:
    pathlib.Path({str(ready)!r}).touch()
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(4)
"""
    ends = f"import pathlib, time\nwhile not pathlib.Path({str(ready)!r}).exists(): time.sleep(0.01)"
    assert processes.run([Process("fails", python(fails), judged), Process("ends", python(ends))], {}) == expected


def test_deaf_process_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PATIENCE_S", {signal.SIGINT: 0.2, signal.SIGTERM: 0.2, signal.SIGKILL: 5.0})
    ready = tmp_path / "ready"
    deaf = f"""
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({str(ready)!r}).touch()
time.sleep(60)
"""
    interrupt_when(ready)
    assert processes.run([Process("deaf", python(deaf))], {}) == 130


class TestRealLaunch:
    """Where ROS has `launch`, the launch files are started by it."""

    @pytest.fixture(autouse=True)
    def needs_launch(self) -> None:
        obstacle = graph.launch_obstacle()
        if obstacle:
            pytest.skip(obstacle)

    def test_arguments_are_declared(self) -> None:
        from launch import LaunchContext
        from launch.launch_description_sources import PythonLaunchDescriptionSource

        declared = {}
        for name in ("egopose", "replay"):
            source = PythonLaunchDescriptionSource(str(share_file(f"launch/{name}.launch.py")))
            arguments = source.get_launch_description(LaunchContext()).get_launch_arguments()
            assert all(argument.description for argument in arguments)
            declared[name] = {argument.name: argument.choices for argument in arguments}
        expected = {item.name: item.choices or None for item in options(graph.LaunchConfig)}
        assert {name: tuple(choices) if choices else None for name, choices in declared["egopose"].items()} == expected
        assert {"bag", "rate", "loop"} <= set(declared["replay"])

    def test_replay_ends_with_the_bag(self, live: Any, bag: Path, tmp_path: Path) -> None:
        parameters = tmp_path / "parameters.yaml"
        parameters.write_text("/**: {ros__parameters: {network: {allow_untrained: true}, head_pose.source: tf}}")
        poses = live.subscribe(BodyPose, "/wearer/estimator/pose")
        config = graph.LaunchConfig(
            camera_topic="/cap/image_raw", namespace="wearer", params_file=str(parameters), head_pose="none"
        )
        code = (
            "from egopose_ros.ros import graph; import sys; "
            f"sys.exit(graph.start(graph.LaunchConfig(**{dataclasses.asdict(config)!r}), {{}}, "
            f"graph.Replay({str(bag)!r}, 1.0, False)))"
        )
        run = live.start_command(sys.executable, "-c", code)
        live.until(lambda: poses, 150.0)
        assert parameter(live, "/wearer/estimator", "use_sim_time").bool_value
        assert parameter(live, "/wearer/estimator", "head_pose.source").string_value == "none"
        status, said = live.finish(run)
        assert status == 0 and "process[player-2] was required: shutting down" in said, said
