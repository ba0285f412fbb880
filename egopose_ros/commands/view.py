"""`egopose view`: show the estimator's live topics on a browser page."""

from __future__ import annotations

import argparse
import os
import signal
import threading

from egopose_ros.config import ViewerConfig
from egopose_ros.flags import add_flags, configuration
from egopose_ros.ros import graph, viewer_bridge
from egopose_ros.viewer.monitor import GraphMonitor
from egopose_ros.viewer.page import Page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, ViewerConfig)


def run(arguments: argparse.Namespace) -> int:
    viewer = configuration(arguments, ViewerConfig())
    # Read by Fast DDS when the first participant is made.
    os.environ.update(graph.environment())
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    monitor = GraphMonitor()
    page = Page(monitor, host=viewer.host, port=viewer.port)
    try:
        with viewer_bridge.watching(viewer, monitor, page):
            print(f"{page.url}  shows {viewer.pose}; Ctrl-C ends", flush=True)
            stop.wait()
    finally:
        page.close()
    return 0
