"""The graph of launch/: its arguments, and a stand-in that starts it where ROS has no `launch`."""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import yaml

from egopose_ros.config import (
    CameraConfig,
    Config,
    ConfigError,
    HeadPoseConfig,
    Leaf,
    NetworkConfig,
    RuntimeConfig,
    flatten,
    option,
    replace,
)
from egopose_ros.resources import share_file
from egopose_ros.ros import processes
from egopose_ros.ros.processes import Process

OVERRIDES = {
    "calibration": "camera.calibration",
    "network": "network.name",
    "device": "runtime.device",
    "head_pose": "head_pose.source",
}
"""argument of `LaunchConfig` -> the leaf of `Config` that it stands for"""


_SIM_TIME = "use_sim_time"
_IMAGE = "image_raw"
"""What the argument camera_topic renames."""
_COMPRESSED = "/compressed"
_DEFAULTS = "config/estimator.yaml"

REPLAY_WAIT_S = 120.0
"""How long a bag waits for the estimator that starts beside it: torch and a network from a cold disk take long."""


def _override(tree: type, name: str) -> Any:
    """Declare a text argument for a leaf, whose empty default leaves the leaf as the parameter file has it."""
    leaf = tree.__dataclass_fields__[name].metadata
    choices = tuple(dict.fromkeys(("", *leaf["choices"]))) if leaf["choices"] else ()
    return option("", leaf["description"] + " Not given: as in params_file.", choices=choices)


@dataclass(frozen=True)
class LaunchConfig:
    """The arguments of launch/egopose.launch.py and of `egopose run`."""

    camera_topic: str = option(
        "image_raw", "Image topic of a rig with one camera: image_raw is renamed to it. More cameras: params_file."
    )
    calibration: str = _override(CameraConfig, "calibration")
    network: str = _override(NetworkConfig, "name")
    device: str = _override(RuntimeConfig, "device")
    head_pose: str = _override(HeadPoseConfig, "source")
    params_file: str = option("", "Parameter file (YAML). Not given: config/estimator.yaml of this package.")
    namespace: str = option("", "Namespace of every node.")
    use_sim_time: str = option(
        "", "Take the time from /clock. Not given: as in params_file.", choices=("", "true", "false")
    )
    strict: bool = option(
        False, "End with status 1 where the estimator cannot start or publishes no pose; a replay always does."
    )
    log_level: str = option("info", "Log level.", choices=("debug", "info", "warn", "error", "fatal"))
    rviz: bool = option(False, "Start RViz as well, with config/egopose.rviz.")
    rviz_frame: str = option(
        "camera", "Fixed frame of RViz: the frame_id of the images, or the global frame where there is a head pose."
    )


@dataclass(frozen=True)
class Replay:
    """A bag to play through the graph, as launch/replay.launch.py does."""

    bag: str
    rate: float
    loop: bool


def text(value: Leaf) -> str:
    """Write a leaf as launch arguments and ROS parameter rules do."""
    return value if isinstance(value, str) else json.dumps(value)


def start(config: LaunchConfig, settings: Mapping[str, Leaf], replay: Replay | None = None) -> int:
    """Start the graph and return its exit status when it has ended: by `launch` where it is there, else by ourselves.

    `settings` are leaves of `Config`; they win over the parameter file, and the arguments over both.
    ModuleNotFoundError without ROS or without the built messages.
    """
    effective(config, settings)
    parameters = yaml.safe_dump(_parameter_file(_parameters(config, settings)))
    merged = dataclasses.replace(config, params_file=_kept("parameters.yaml", parameters))
    if launch_obstacle():
        for module in ("rclpy", "egopose_ros.msg"):
            if importlib.util.find_spec(module) is None:
                raise ModuleNotFoundError(f"No module named '{module}'", name=module)
        return processes.run(_processes(merged, replay), environment())
    return _launch(merged, replay)


def effective(config: LaunchConfig, settings: Mapping[str, Leaf]) -> Config:
    """Return the configuration that `start` gives the estimator; ConfigError for what does not fit."""
    parameters = {**_parameters(config, settings), **_overrides(config)}
    told = replace(Config(), {name: value for name, value in parameters.items() if name != _SIM_TIME})
    _require_renamed(told, config.camera_topic)
    return told


def require_camera_topic(params_file: str, camera_topic: str) -> None:
    """ConfigError where a parameter file has topics of its own beside an argument that names one."""
    if camera_topic == _IMAGE:
        return
    told = {name: value for name, value in _flat(params_file).items() if name == "camera.topics"} if params_file else {}
    _require_renamed(replace(Config(), told), camera_topic)


def _require_renamed(config: Config, camera_topic: str) -> None:
    if camera_topic != _IMAGE and not {_IMAGE, f"/{_IMAGE}"} & {*config.camera.topics}:
        raise ConfigError(
            f"camera_topic {camera_topic}: expected {_IMAGE} among camera.topics, which it renames, got "
            f"{', '.join(config.camera.topics)}; name it in camera.topics instead"
        )


def bag_settings(bag: Path, topics: tuple[str, ...] = (), calibration: str = "") -> dict[str, Leaf]:
    """Return what a bag says of cameras, calibration, head pose and IMU, as leaves of `Config`.

    `topics` names the image topics where the bag has more than one rig, `calibration` another file than the bag's.
    """
    # rosbags may be missing where a launch file imports this module.
    from egopose_ros.ros.bag_settings import estimator_settings
    from egopose_ros.ros.bag_source import BagSource

    with BagSource(bag) as source:
        settings = estimator_settings(source, topics, calibration)
        cameras = settings["camera.topics"]
        assert isinstance(cameras, tuple)
        if all(topic + _COMPRESSED in source.kinds and topic not in source.kinds for topic in cameras):
            settings["camera.transport"] = "compressed"
    return settings


def bag_parameters(bag: str, topics: Sequence[str] = (), calibration: str = "") -> str:
    """Return the path of a parameter file with the settings of `egopose run --bag`; ConfigError for a bad bag.

    The Python of `ros2` does not see the environment beside it, in which rosbags lies: our executables' does.
    """
    python = sys.executable if importlib.util.find_spec("rosbags") else "python3"
    chosen = ("--topics", *topics) if topics else ()
    chosen += ("--calibration", calibration) if calibration else ()
    command = (python, "-m", "egopose_ros.cli", "run", "--bag", bag, "--settings", *chosen)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(done.stderr.strip())
    return _kept("parameters.yaml", done.stdout)


def rviz_config(params_file: str, camera_topic: str) -> str:
    """Return the path of an RViz configuration: config/egopose.rviz with the image of the rig's first camera."""
    told = _flat(params_file or str(share_file(_DEFAULTS)))  # perhaps of other nodes, too
    camera = replace(Config(), {name: value for name, value in told.items() if name.startswith("camera.")}).camera
    topic = camera_topic if camera.topics[0] == _IMAGE else camera.topics[0]
    # RViz takes the transport from the end of the name.
    if camera.transport == "compressed" and not topic.endswith(_COMPRESSED):
        topic += _COMPRESSED
    content = yaml.safe_load(share_file("config/egopose.rviz").read_text())
    for display in content["Visualization Manager"]["Displays"]:
        if display["Class"].endswith("/Image"):
            display["Topic"]["Value"] = topic
    return _kept("egopose.rviz", yaml.safe_dump(content, sort_keys=False))


def launch_obstacle() -> str:
    """Return why the launch files cannot be started here, '' where they can: the one place that decides."""
    try:
        for module in ("launch", "launch_ros"):
            importlib.import_module(module)
        prefix = importlib.import_module("ament_index_python.packages").get_package_prefix("egopose_ros")
    except ImportError as error:
        return f"ROS has no launch here: {error}"
    except LookupError as error:
        return f"egopose_ros is not among the packages that ROS knows: {error}"
    executable = Path(prefix) / "lib" / "egopose_ros" / "estimator"
    return "" if executable.exists() else f"the executables are not installed: expected {executable}"


def environment() -> dict[str, str]:
    """Return the environment for our processes: with a shared-memory segment that holds whole images."""
    return {profile_variable(): str(share_file("config/fastdds_shm.xml")), **os.environ}


def profile_variable() -> str:
    """Return the variable that names Fast DDS's profile: Kilted warns of the one that Humble and Jazzy know."""
    former = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if former else "FASTDDS_DEFAULT_PROFILES_FILE"


def read_parameters(path: str) -> dict[str, Leaf]:
    """Return the settings in a ROS parameter file, checked, and use_sim_time, which is ROS's own.

    ConfigError names the file and what does not fit.
    """
    flat = _flat(path)
    try:
        replace(Config(), {name: value for name, value in flat.items() if name != _SIM_TIME})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return flat


def _flat(path: str) -> dict[str, Any]:
    """Return what a ROS parameter file says, of whichever node, by dotted names; ConfigError if it is none."""
    try:
        sections = yaml.safe_load(Path(path).read_text())
        flat: dict[str, Any] = {}
        for section in sections.values():
            flat.update(flatten(section["ros__parameters"]))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        expected = "expected a parameter file of ROS, node: ros__parameters: ..."
        raise ConfigError(f"{path}: {expected}, got {error!r}") from error
    return flat


def _parameters(config: LaunchConfig, settings: Mapping[str, Leaf]) -> dict[str, Leaf]:
    return {**read_parameters(config.params_file or str(share_file(_DEFAULTS))), **settings}


def _overrides(config: LaunchConfig) -> dict[str, str]:
    return {leaf: getattr(config, name) for name, leaf in OVERRIDES.items() if getattr(config, name)}


def _kept(name: str, content: str) -> str:
    """Write a file that is there until this process ends, and return its path."""
    folder = tempfile.mkdtemp(prefix="egopose_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / name
    path.write_text(content)
    return str(path)


def _parameter_file(parameters: Mapping[str, Leaf]) -> dict[str, Any]:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()}
    return {"/**": {"ros__parameters": plain}}


def _processes(config: LaunchConfig, replay: Replay | None) -> list[Process]:
    """Return what the launch files start."""
    common = ["-r", f"{_IMAGE}:={config.camera_topic}", "--log-level", config.log_level]
    use_sim_time = "true" if replay is not None else config.use_sim_time
    if use_sim_time:
        common += ["-p", f"{_SIM_TIME}:={use_sim_time}"]
    if config.namespace:
        common += ["-r", f"__ns:=/{config.namespace.strip('/')}"]
    # Quoted, so that YAML takes every value for text.
    rules = [part for leaf, value in _overrides(config).items() for part in ("-p", f"{leaf}:={json.dumps(value)}")]
    strict = config.strict or replay is not None
    own = ("--strict",) if strict else ()
    estimator = _module("estimator", *own, "--ros-args", "--params-file", config.params_file, *rules, *common)
    started = [dataclasses.replace(estimator, judged=strict)]
    if config.rviz:
        if shutil.which("rviz2") is None:
            raise ConfigError("rviz: expected rviz2 on the PATH, got none; `egopose view` shows the graph in a browser")
        view = ("-d", rviz_config(config.params_file, config.camera_topic), "-f", config.rviz_frame)
        started.append(Process("rviz2", ("rviz2", *view, "--ros-args", *common)))
    if replay is not None:
        flags = ("--no-estimates", "--rate", text(replay.rate), "--wait-s", text(REPLAY_WAIT_S))
        flags += ("--loop",) if replay.loop else ()
        started.append(_module("bag_player", replay.bag, *flags))
    return started


def _module(name: str, *arguments: str) -> Process:
    return Process(name, (sys.executable, "-m", f"egopose_ros.ros.{name}", *arguments))


def _launch(config: LaunchConfig, replay: Replay | None) -> int:
    """Start the launch files by the real `launch`."""
    from launch import LaunchDescription, LaunchService
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    name = "egopose" if replay is None else "replay"
    values = {**dataclasses.asdict(config), **(dataclasses.asdict(replay) if replay else {})}
    arguments = [(key, text(value)) for key, value in values.items()]
    source = PythonLaunchDescriptionSource(str(share_file(f"launch/{name}.launch.py")))
    service = LaunchService()
    service.include_launch_description(
        LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
    )
    return service.run()
