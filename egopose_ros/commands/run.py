"""`egopose run`: start the estimator on live topics, or on a bag that it plays."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from egopose_ros.config import Config, Option, PlayerConfig, options
from egopose_ros.flags import add_flags, assignment, configuration
from egopose_ros.ros import graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, graph.LaunchConfig)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting, with a value in YAML; repeatable"
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
    settings = dict(assignment(item) for item in arguments.set)
    replay = None
    if arguments.bag:
        player = configuration(arguments, PlayerConfig())
        replay = graph.Replay(arguments.bag, player.rate, player.loop)
        if not config.params_file and "camera_topic" not in arguments:
            settings = {**graph.bag_settings(Path(arguments.bag)), **settings}
    if arguments.settings:
        print(parameter_file(graph.effective(config, settings)))
        return 0
    return graph.start(config, settings, replay)


def parameter_file(config: Config) -> str:
    """Return every setting, described, as a ROS parameter file to edit."""
    lines = ["/**:", "  ros__parameters:"]
    for item in options(config):
        lines.append(f"    # {item.description}{_limits(item)}")
        value = list(item.default) if isinstance(item.default, tuple) else item.default
        lines.append(f"    {item.name}: {yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}")
    return "\n".join(lines)


def _limits(item: Option) -> str:
    if item.choices:
        return f" One of {', '.join(item.choices)}."
    return f" [{item.unit}]" if item.unit else ""
