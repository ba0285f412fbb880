"""Play a bag onto the live graph: recorded bytes with their original stamps, paced on the steady clock, and /clock."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from egopose_ros.config import ConfigError, PlayerConfig, TfConfig
from egopose_ros.flags import add_flags, configuration
from egopose_ros.ros.bag_poses import POSE_TYPE, is_truth
from egopose_ros.ros.bag_source import BagSource, Message

_POLL_S = 0.02
# A subscriber that is matched on our side may not have matched us yet, and drops what comes before that.
_SETTLE_S = 1.0
# Fast DDS asks its subscribers every three seconds.
_ACKNOWLEDGE_S = 5.0
_CLOCK_QOS = QoSProfile(depth=10)
_JOINTS = TfConfig().prefix
_BESIDE = ("skeleton", "markers", "trail", "transition_event")
"""what an estimator publishes beside its poses"""


@dataclass(frozen=True)
class Played:
    """What a run of the player did."""

    messages: int
    seconds: float
    latest_s: float
    """how far the message furthest behind its time was published behind it"""
    ended: bool
    """the bag came to its end, nobody stopped the player"""


class BagPlayer:
    """Publishers for every track of a bag, and the pace."""

    def __init__(self, node: Node, bag: BagSource, config: PlayerConfig) -> None:
        self._node = node
        self._bag = bag
        self._config = config
        self._clock = node.create_publisher(Clock, "/clock", _CLOCK_QOS) if config.clock_hz else None
        old = frozenset() if config.estimates else estimates(bag, config.await_topics)
        if old:
            node.get_logger().info(f"left out, of an estimator that ran then: {', '.join(sorted(old))}, its joints in /tf")
        tracks = [t for t in bag.tracks if t.topic not in old and not (self._clock and t.topic == "/clock")]
        self._without_joints = bool(old)
        self._publishers: dict[str, Publisher] = {
            track.topic: node.create_publisher(track.message_type, track.topic, track.qos) for track in tracks
        }
        self._awaited = [track for track in tracks if track.is_image] or tracks
        self._required = [topic for topic in config.await_topics if topic in self._publishers]
        self._start_ns = bag.start_ns + round(config.start_s * 1e9)
        if self._start_ns > bag.end_ns:
            length_s = (bag.end_ns - bag.start_ns) / 1e9
            raise ConfigError(f"start_s: expected a time inside the bag of {length_s:.1f} s, got {config.start_s:g}")
        self._messages = 0
        self._latest_s = 0.0

    def play(self, stop: threading.Event) -> Played:
        """Publish the bag once, or again and again, until its end or the stop. BagError where the bag breaks off."""
        unmatched = self._await_subscribers(stop)
        if unmatched:
            wanted = self._config.subscribers
            found = "no subscriber" if wanted == 1 else f"fewer than {wanted} subscribers"
            self._node.get_logger().warning(
                f"{found} of {', '.join(unmatched)} after {self._config.wait_s:g} s; playing all the same"
            )
        else:
            self._introduce(stop)
        began = time.monotonic()
        while not stop.is_set():
            self._play_once(stop)
            if not self._config.loop:
                break
        self._flush(stop)
        return Played(self._messages, time.monotonic() - began, self._latest_s, not stop.is_set())

    def _play_once(self, stop: threading.Event) -> None:
        origin = time.monotonic()
        for event in self._events():
            stamp_ns = event.stamp_ns if isinstance(event, Message) else event
            # Latched messages from before the start are due at once.
            due = origin + max(0, stamp_ns - self._start_ns) / 1e9 / self._config.rate
            delay = due - time.monotonic()
            if delay > 0:
                stop.wait(delay)
            if stop.is_set():
                return
            if isinstance(event, Message):
                self._publish(event)
                self._messages += 1
                self._latest_s = max(self._latest_s, time.monotonic() - due)
            else:
                self._tick(event)

    def _publish(self, message: Message) -> None:
        data: Any = message.data
        if self._without_joints and message.track.topic == "/tf":
            data = deserialize_message(data, message.track.message_type)
            data.transforms = [t for t in data.transforms if not t.child_frame_id.lstrip("/").startswith(_JOINTS)]
        self._publishers[message.track.topic].publish(data)

    def _events(self) -> Iterator[Message | int]:
        """Yield messages and, as bare stamps [ns], the ticks of /clock between them."""
        period_ns = round(1e9 * self._config.rate / self._config.clock_hz) if self._clock else 0
        tick_ns = self._start_ns
        start_ns = self._start_ns if self._config.start_s else None
        for message in self._bag.messages(start_ns):
            if message.track.topic not in self._publishers:
                continue
            while self._clock and tick_ns <= message.stamp_ns:
                yield tick_ns
                tick_ns += period_ns
            yield message

    def _tick(self, stamp_ns: int) -> None:
        assert self._clock is not None
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(stamp_ns, 10**9)
        self._clock.publish(clock)

    def _await_subscribers(self, stop: threading.Event) -> list[str]:
        """Wait until every awaited topic is subscribed to; return those that are not when the time is over.

        Once one is, and all that are required, the others get the settling time, anew with every subscriber of any
        topic: a bag may hold cameras that nobody asks for, and on a busy machine the head pose finds its subscriber
        long after the images.
        """
        if not self._config.wait_s:
            return []
        deadline = time.monotonic() + self._config.wait_s
        matched, heard_by = False, 0
        while not stop.is_set():
            counts = {topic: publisher.get_subscription_count() for topic, publisher in self._publishers.items()}
            waiting = [track.topic for track in self._awaited if counts[track.topic] < self._config.subscribers]
            missing = [topic for topic in self._required if not counts[topic]]
            if self._clock:
                self._tick(self._start_ns)
            matched = matched or (len(waiting) < len(self._awaited) and not missing)
            if matched and sum(counts.values()) > heard_by:
                heard_by = sum(counts.values())
                deadline = time.monotonic() + _SETTLE_S
            if time.monotonic() >= deadline:
                return [] if matched else missing or waiting
            stop.wait(_POLL_S)
        return []

    def _introduce(self, stop: threading.Event) -> None:
        """Publish the first CameraInfo of every camera, so that the first image finds a calibrated subscriber."""
        first = [self._bag.first(t) for t in self._bag.tracks if t.is_camera_info and t.topic in self._publishers]
        for message in filter(None, first):
            self._publishers[message.track.topic].publish(message.data)
        if first:
            stop.wait(_SETTLE_S)

    def _flush(self, stop: threading.Event) -> None:
        """Wait until reliable subscribers have everything, so that nothing is lost when the process ends."""
        deadline = time.monotonic() + _ACKNOWLEDGE_S
        waiting = list(self._publishers.values())
        while waiting and time.monotonic() < deadline and not stop.is_set():
            if waiting[-1].wait_for_all_acked(Duration(seconds=_POLL_S)):
                waiting.pop()


def estimates(bag: BagSource, wanted: Sequence[str]) -> frozenset[str]:
    """Return the topics on which an estimator spoke while a bag was recorded; none where it holds no poses of one.

    Nobody's poses but ground truth are `wanted`, whatever they are called.
    """
    poses = {track.topic for track in bag.tracks if track.kind == POSE_TYPE and not is_truth(track.topic)} - {*wanted}
    if not poses:
        return frozenset()
    # By their names: a camera may publish beside a pose that somebody has renamed.
    beside = {f"{topic.rpartition('/')[0]}/{name}" for topic in poses for name in _BESIDE}
    return frozenset(poses | {t.topic for t in bag.tracks if t.topic in beside or t.topic.endswith("/diagnostics")})


def main(argv: list[str] | None = None) -> int:
    """Run the player as a ROS executable: `player BAG [flags] [--ros-args ...]`. Being stopped is no failure."""
    argv = sys.argv[1:] if argv is None else argv
    own = argv[: argv.index("--ros-args")] if "--ros-args" in argv else argv
    parser = argparse.ArgumentParser(prog="player", description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args(own)
    try:
        play(arguments.bag, configuration(arguments, PlayerConfig()), argv[len(own) :])
    except (OSError, ValueError) as error:
        print(f"player: {error}", file=sys.stderr)
        return 1
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="bag folder, or a .mcap, .db3 or ROS 1 .bag file")
    add_flags(parser, PlayerConfig)


def play(path: Path, config: PlayerConfig, ros_arguments: Sequence[str] = ()) -> Played:
    """Play a bag in this process, in its main thread, until its end, SIGINT or SIGTERM."""
    renames = [argument for rule in config.remap for argument in ("-r", _rename(rule))]
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with BagSource(path, config.topics) as bag:
        rclpy.init(args=[*ros_arguments, "--ros-args", *renames], signal_handler_options=SignalHandlerOptions.NO)
        try:
            # Never spun: services that nobody answers would only mislead.
            node = Node("egopose_player", start_parameter_services=False)
            _report_start(node, bag)
            played = BagPlayer(node, bag, config).play(stop)
            node.get_logger().info(
                f"played {played.messages} messages in {played.seconds:.1f} s, "
                f"the latest {played.latest_s * 1e3:.0f} ms behind its time"
            )
            node.destroy_node()
        finally:
            rclpy.try_shutdown()
    return played


def _rename(rule: str) -> str:
    source, separator, target = rule.partition(":=")
    if not (source and separator and target):
        raise ConfigError(f"remap: expected from:=to, got '{rule}'")
    return rule


def _report_start(node: Node, bag: BagSource) -> None:
    for topic, reason in bag.skipped.items():
        node.get_logger().warning(f"{topic} is left out: {reason}")
    total = sum(track.count for track in bag.tracks)
    seconds = (bag.end_ns - bag.start_ns) / 1e9
    node.get_logger().info(f"{bag.path}: {total} messages of {len(bag.tracks)} topics, {seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
