"""`egopose run`: start the estimator on live topics, or on a bag that it plays."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from egopose_ros.config import Config, Leaf, Option, PlayerConfig, options
from egopose_ros.flags import add_flags, configuration, settings
from egopose_ros.ros import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, graph.LaunchConfig)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting, with a value in YAML; repeatable"
    )
    parser.add_argument(
        "--topics", nargs="+", default=(), help="image topics of the rig, in its order: camera.topics"
    )
    parser.add_argument(
        "--settings", action="store_true",
        help="print every setting, as the other arguments make it, as a parameter file, and end",
    )
    replay = parser.add_argument_group(
        "replay",
        "play a bag, on its time; the graph ends when the bag ends. Without --camera-topic and --params-file the bag "
        "says which cameras, calibration and head pose there are",
    )
    replay.add_argument("--bag", help="bag folder, or a .mcap, .db3 or ROS 1 .bag file")
    add_flags(replay, PlayerConfig, only=("rate", "loop"))


def run(arguments: argparse.Namespace) -> int:
    config = configuration(arguments, graph.LaunchConfig())
    told = estimator_settings(arguments, config)
    effective = graph.effective(config, told)
    check(effective)
    if arguments.settings:
        print(parameter_file(effective))
        return 0
    replay = None
    if arguments.bag:
        player = configuration(arguments, PlayerConfig())
        replay = graph.Replay(arguments.bag, player.rate, player.loop)
    return graph.start(config, told, replay)


def estimator_settings(arguments: argparse.Namespace, config: graph.LaunchConfig) -> dict[str, Leaf]:
    """Return what the parameter file or else the bag says, then what the user says."""
    flags = {leaf: getattr(config, name) for name, leaf in graph.OVERRIDES.items()}
    given = settings(arguments.set, {**flags, "camera.topics": tuple(arguments.topics)})
    told: dict[str, Leaf] = {}
    if config.params_file:
        told = graph.read_parameters(config.params_file)
    elif arguments.bag and "camera_topic" not in arguments:
        topics = given.get("camera.topics", ())
        assert isinstance(topics, (list, tuple))
        told = graph.bag_settings(Path(arguments.bag), tuple(topics), str(given.get("camera.calibration", "")))
    return {**told, **given}


def check(config: Config) -> None:
    """Refuse a calibration or checkpoint that the estimator cannot start with: ValueError or OSError."""
    if config.camera.calibration:
        from egopose_ros import pipeline  # with torch

        pipeline.configured_rig(config)
    if config.network.checkpoint:
        from egopose_ros import checkpoint  # with torch

        checkpoint.chosen_network(config.network)


def parameter_file(config: Config) -> str:
    """Return every setting, described, as a ROS parameter file to edit."""
    lines = ["/**:", "  ros__parameters:"]
    for item in options(config):
        lines.append(f"    # {item.description}{_limits(item)}")
        value = list(item.default) if isinstance(item.default, tuple) else item.default
        lines.append(f"    {item.name}: {yaml.safe_dump(value, default_flow_style=True, width=float('inf')).splitlines()[0]}")
    return "\n".join(lines)


def _limits(item: Option) -> str:
    if item.choices:
        return f" One of {', '.join(item.named_choices)}."
    return f" [{item.unit}]" if item.unit else ""
