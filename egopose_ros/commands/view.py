"""`egopose view`: show the estimator's live topics, or a bag with a timeline, on a browser page."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from egopose_ros.config import Config, ViewerConfig, replace
from egopose_ros.evaluation.contenders import contenders
from egopose_ros.flags import add_flags, configuration, settings
from egopose_ros.viewer.monitor import GraphMonitor
from egopose_ros.viewer.page import Page
from egopose_ros.viewer.playback import Playback
from egopose_ros.viewer.timeline import Timeline

_OF_BAGS = ("network", "checkpoint", "predictions", "truth_frame", "set")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", nargs="?", type=Path, metavar="BAG", help="show a bag instead of live topics")
    add_flags(parser, ViewerConfig, only=("host", "port", "topics", "calibration"))
    add_flags(parser.add_argument_group("live topics"), ViewerConfig, only=("pose", "truth"))
    group = parser.add_argument_group("bags (default: the poses recorded in it, else those of the network that ships)")
    group.add_argument(
        "--network", action="append", default=[], help="compute the poses with this network; again: to choose from"
    )
    group.add_argument(
        "--checkpoint", action="append", default=[], metavar="FILE",
        help="compute them with these weights, a file or the name of some that ship; again: to choose from",
    )  # fmt: skip
    group.add_argument(
        "--predictions", action="append", default=[], type=Path, metavar="BAG", help="poses of another bag; repeatable"
    )
    group.add_argument("--truth-frame", default="", choices=("camera", "world"), help="frame of the truth, if unclear")
    group.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of the estimator; repeatable"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.bag is None:
        given = [f"--{name.replace('_', '-')}" for name in _OF_BAGS if getattr(arguments, name)]
        if given:
            raise ValueError(f"expected a BAG with {', '.join(given)}, got none")
    elif hasattr(arguments, "pose"):
        raise ValueError(f"expected no --pose with a BAG, got {arguments.pose}: its poses are those of --predictions")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return _live(arguments, stop) if arguments.bag is None else _bag(arguments, stop)


def _live(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from egopose_ros.ros import graph, viewer_bridge  # a bag is shown without ROS

    viewer = configuration(arguments, ViewerConfig())
    # Read by Fast DDS when the first participant is made.
    os.environ.update(graph.environment())
    monitor = GraphMonitor()
    page = Page(monitor, host=viewer.host, port=viewer.port)
    try:
        with viewer_bridge.watching(viewer, monitor, page):
            print(f"{page.url}  shows {viewer.pose}; Ctrl-C ends", flush=True)
            stop.wait()
    finally:
        page.close()
    return 0


def _bag(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from egopose_ros.ros import bag_view

    viewer = configuration(arguments, replace(ViewerConfig(), {"topics": (), "truth": ""}))
    overrides = settings(arguments.set, {"camera.calibration": viewer.calibration})
    named = replace(Config(), overrides).network
    some = arguments.network or arguments.checkpoint or named.name or named.checkpoint
    computed = contenders(arguments.network, arguments.checkpoint, named) if some else ()
    asked = bag_view.Asked(
        arguments.bag,
        viewer.topics,
        tuple(overrides.items()),
        computed,
        tuple(arguments.predictions),
        viewer.truth,
        arguments.truth_frame,
    )
    with contextlib.ExitStack() as stack:
        recording = stack.enter_context(bag_view.opened(asked))
        for line in recording.losses:
            print(f"egopose view: {line}", file=sys.stderr)
        playback = Playback(recording)
        timeline = Timeline(playback)
        page = Page(playback, host=viewer.host, port=viewer.port, controls=timeline.lay_out)
        stack.callback(page.close)
        page.set_views(recording.views)
        stack.callback(playback.close)
        playback.start(page.show, timeline.moved)
        print(f"{page.url}  shows {arguments.bag}; Ctrl-C ends", flush=True)
        stop.wait()
    return 0
