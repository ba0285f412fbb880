"""`egopose play`: publish a bag on the live graph."""

from __future__ import annotations

import argparse
import os

from egopose_ros.config import PlayerConfig
from egopose_ros.flags import configuration
from egopose_ros.ros import bag_player, graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bag_player.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    # Read by Fast DDS when the first participant is made.
    os.environ.update(graph.environment())
    return 0 if bag_player.play(arguments.bag, configuration(arguments, PlayerConfig())).ended else 130
