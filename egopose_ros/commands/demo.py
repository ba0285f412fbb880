"""`egopose demo`: play a bag through the live graph in processes of their own, watch it, and sum up what happened."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator

from egopose_ros.config import DEFAULT_NETWORK, Config, Leaf, PlayerConfig, ViewerConfig, options
from egopose_ros.files import require_folder, write_whole
from egopose_ros.flags import add_flags, configuration
from egopose_ros.ros import graph, processes, viewer_bridge
from egopose_ros.ros.bag_settings import estimator_settings
from egopose_ros.ros.bag_source import BagSource
from egopose_ros.ros.estimator_watch import EstimatorWatch
from egopose_ros.viewer import report
from egopose_ros.viewer.monitor import GraphMonitor

START_S = 120.0
"""Loading torch and a network from a cold disk takes long."""
QUIET_S, PATIENCE_S = 1.0, 10.0
"""The graph has finished when no pose has come for so long after the end of the bag; it is waited for at most."""
TERMINAL_PERIOD_S, LOG_PERIOD_S = 0.25, 2.0
LOG_LINES = 15
# Where DDS ports neither collide with ephemeral ports nor, as the default 0 and small numbers do, with live graphs.
DOMAINS = range(20, 102)
NETWORK = next(item for item in options(Config) if item.name == "network.name")


class DemoError(ValueError):
    """The demo broke off: why, with the last lines of the log of the process that ended it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bag", type=Path, help="bag to play instead of the sample")
    parser.add_argument("--network", choices=NETWORK.named_choices, help=f"default {DEFAULT_NETWORK}")
    parser.add_argument("--headless", action="store_true", help="no browser page, only the table")
    parser.add_argument("--no-browser", action="store_true", help="serve the page, but do not open a browser")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary as one JSON object")
    parser.add_argument(
        "--domain", type=int, help="ROS_DOMAIN_ID of the graph (default: a random one, apart from live graphs)"
    )
    add_flags(parser, replace(ViewerConfig(), port=0), only=("host", "port", "topics"))
    add_flags(parser, PlayerConfig, only=("rate",))


def run(arguments: argparse.Namespace) -> int:
    if arguments.json is not None:
        require_folder(arguments.json, "--json")
    player = configuration(arguments, PlayerConfig())
    bag = arguments.bag or _sample_bag()
    topics = configuration(arguments, replace(ViewerConfig(), topics=())).topics
    with BagSource(bag) as source:
        settings = estimator_settings(source, topics)
    if arguments.network:
        settings[NETWORK.name] = arguments.network
    print(f"bag: {bag}", flush=True)
    os.environ.update(_environment(arguments.domain))
    # Both end the demo as Ctrl-C does, children first; a shell starts what runs in its background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)

    monitor = GraphMonitor()
    viewer = replace(
        configuration(arguments, replace(ViewerConfig(), port=0)),
        topics=settings["camera.topics"],
        calibration=settings.get("camera.calibration", ""),
    )
    with contextlib.ExitStack() as stack:
        page = None if arguments.headless else stack.enter_context(_page(monitor, viewer, not arguments.no_browser))
        node = stack.enter_context(viewer_bridge.watching(viewer, monitor, page))
        estimator = EstimatorWatch(node)
        _play(bag, settings, player.rate, monitor, estimator, stack.enter_context(_children()))
        summary = _summary(monitor, estimator)
    _report(summary, estimator.frames_thinned_out)
    if arguments.json is not None:
        write_whole(arguments.json, json.dumps(summary, indent=2) + "\n")
    return 0


def _sample_bag() -> Path:
    from egopose_ros.synth.sample import sample_bag  # brings torch, which another bag does not need here

    return sample_bag()


def _environment(domain: int | None) -> dict[str, str]:
    """Return the environment of the demo's own graph, which stays on this machine."""
    domain = random.choice(DOMAINS) if domain is None else domain
    return {**graph.environment(), "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


@contextlib.contextmanager
def _page(monitor: GraphMonitor, viewer: ViewerConfig, open_browser: bool) -> Iterator[Any]:
    from egopose_ros.viewer.page import Page

    page = Page(monitor, host=viewer.host, port=viewer.port)
    try:
        print(f"page: {page.url}", flush=True)
        # Without a display some systems would start a browser in this very terminal.
        display = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if open_browser and display:
            webbrowser.open(page.url)
        yield page
    finally:
        page.close()


class _Children:
    """The other processes of the graph, each with a log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        with self._log(name).open("wb") as log:
            # A session of its own: Ctrl-C reaches the child once, from here.
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", *command], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def ended(self, name: str) -> bool:
        """Say whether a process has ended well; DemoError where it failed."""
        status = self._running[name].poll()
        if status:
            raise self.failure(name, f"{name} ended with status {status}")
        return status is not None

    def failure(self, name: str, reason: str) -> DemoError:
        """Return the error to raise, with what the process said last."""
        lines = self._log(name).read_text(errors="replace").splitlines()[-LOG_LINES:]
        return DemoError("\n  ".join([f"{reason}; its last lines:", *lines]) if lines else reason)

    def end(self) -> None:
        processes.end(list(self._running.values()))

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


@contextlib.contextmanager
def _children() -> Iterator[_Children]:
    with tempfile.TemporaryDirectory(prefix="egopose_demo_") as folder:
        children = _Children(Path(folder))
        try:
            yield children
        finally:
            children.end()


def _play(
    bag: Path,
    settings: dict[str, Leaf],
    rate: float,
    monitor: GraphMonitor,
    estimator: EstimatorWatch,
    children: _Children,
) -> None:
    """Run estimator and player until the last frame of the bag is through. DemoError where one of them fails."""
    settings = {**settings, "network.allow_untrained": True, "diagnostics_period_s": 0.25}
    parameters = [part for name, value in settings.items() for part in ("-p", f"{name}:={_yaml(value)}")]
    children.start("estimator", "egopose_ros.ros.estimator", "--ros-args", *parameters)
    print(f"domain {os.environ['ROS_DOMAIN_ID']}: starting the estimator", flush=True)
    deadline = time.monotonic() + START_S
    while not estimator.active:
        if children.ended("estimator") or estimator.failure:
            raise children.failure("estimator", estimator.failure or "the estimator ended before it was active")
        if time.monotonic() > deadline:
            raise children.failure("estimator", f"expected an active estimator within {START_S:g} s, got none")
        time.sleep(0.05)

    # The estimator and this process, which counts: both must have the first frame.
    player = (str(bag), "--no-estimates", "--rate", str(rate), "--subscribers", "2")
    children.start("player", "egopose_ros.ros.bag_player", *player)
    table = _Table(monitor)
    while not children.ended("player"):
        _check_estimator(children)
        table.show()
        time.sleep(0.05)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and monitor.status(time.monotonic()).quiet_s < QUIET_S:
        _check_estimator(children)
        table.show()
        time.sleep(0.05)
    estimator.wait(QUIET_S)  # its counters, now that everything is through
    table.show(last=True)
    if not monitor.status(time.monotonic()).poses_out:
        raise children.failure("estimator", f"expected poses from {bag}, got none")


def _check_estimator(children: _Children) -> None:
    if children.ended("estimator"):
        raise children.failure("estimator", "the estimator ended before the bag")


def _yaml(value: Leaf) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


class _Table:
    """The monitor's numbers on the terminal: in place, or as lines now and then where it is none."""

    def __init__(self, monitor: GraphMonitor) -> None:
        self._monitor = monitor
        self._terminal = sys.stdout.isatty()
        self._due = 0.0
        self._height = 0

    def show(self, last: bool = False) -> None:
        now = time.monotonic()
        if now < self._due and not last:
            return
        self._due = now + (TERMINAL_PERIOD_S if self._terminal else LOG_PERIOD_S)
        status = self._monitor.status(now)
        if not self._terminal:
            print(report.line(status), flush=True)
            return
        lines = [f"  {label:<9}{value}" for label, value in report.rows(status)]
        up = f"\x1b[{self._height}F" if self._height else ""
        print(up + "\n".join(f"\x1b[2K{line}" for line in lines), flush=True)
        self._height = len(lines)


def _summary(monitor: GraphMonitor, estimator: EstimatorWatch) -> dict[str, Any]:
    summary = monitor.summary()
    # Either of the two may miss a frame that the other has; what never reached the estimator is lost to its window.
    summary["frames_in"] = max(summary["frames_in"], estimator.frames_in)
    summary["frames_dropped"] += summary["frames_in"] - estimator.frames_in
    return summary


def _report(summary: dict[str, Any], thinned_out: int) -> None:
    latency = summary["latency_ms"]
    slow = f", {thinned_out} of them because the machine is too slow for every frame" if thinned_out else ""
    print(f"done: {summary['poses_out']} poses of {summary['frames_in']} frames by {summary['network']}")
    print(f"  {summary['input_hz']:.1f} Hz in, {summary['output_hz']:.1f} Hz out, {summary['frames_dropped']} dropped{slow}")
    print(f"  latency p50 {latency['p50']:.1f}, p95 {latency['p95']:.1f}, p99 {latency['p99']:.1f} ms")
    if "mpjpe_mm" in summary:
        print(f"  MPJPE {summary['mpjpe_mm']:.1f} mm, PA-MPJPE {summary['pa_mpjpe_mm']:.1f} mm")
    if not summary["weights_trained"]:
        print(f"  {report.UNTRAINED}")
