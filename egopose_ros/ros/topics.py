"""A subscription that finds its topic: it takes the type that is published, and the QoS that its publishers offer."""

from __future__ import annotations

import struct
import time
from typing import Any, Callable, Sequence

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

from egopose_ros.ros import qos
from egopose_ros.ros.notices import Notices

SILENCE_S = 3.0
"""A publisher that was heard and is silent for this long is reported."""
FIRST_SILENCE_S = 15.0
"""The same of one that was not heard yet: a player that waits for its subscribers is silent while networks load."""


class Topic:
    """Subscribes as soon as somebody publishes, and anew when the publishers' type or QoS no longer fits."""

    def __init__(
        self,
        node: Node,
        candidates: Sequence[tuple[str, type]],
        callback: Callable[[Any], None],
        notices: Notices,
        depth: int = 10,
        silence_hint: str | None = None,
    ) -> None:
        """Take the first candidate (topic, message type) that is published; `poll` looks for it.

        With a hint, a publisher that stays silent is reported, and the hint says why that may be.
        """
        self._node = node
        self._candidates = [(node.resolve_topic_name(name), kind) for name, kind in candidates]
        self.name = self._candidates[0][0]
        self._callback = callback
        self._notices = notices
        self._depth = depth
        self._silence_hint = silence_hint
        self._subscription: Any = None
        self._chosen: tuple[str, type, Any, Any] | None = None
        self._heard_s = 0.0
        self._patience_s = FIRST_SILENCE_S
        self.publishers = 0

    def close(self) -> None:
        """Let go of the topic for good."""
        self._unsubscribe()

    def poll(self) -> None:
        """Look at who publishes; call it a few times a second."""
        before, self.publishers = self.publishers, 0
        others = []
        for name, kind in self._candidates:
            wanted = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
            publishers = self._node.get_publishers_info_by_topic(name)
            fitting = [publisher for publisher in publishers if publisher.topic_type == wanted]
            if fitting:
                self.publishers = len(fitting)
                profile = qos.matching(fitting, self._depth)
                self._subscribe((name, kind, profile.reliability, profile.durability), profile)
                break
            others += [f"expected {wanted} on {name}, got {publisher.topic_type}" for publisher in publishers]
        if self.publishers and not before:
            self._heard_s, self._patience_s = time.monotonic(), FIRST_SILENCE_S
        if others and not self.publishers:
            self._notices.fault(self.name, "type", "; ".join(others))
        self._report()

    def _subscribe(self, choice: tuple[str, type, Any, Any], profile: QoSProfile) -> None:
        if choice == self._chosen:
            return
        self._unsubscribe()
        self.name, kind = choice[:2]
        self._subscription = self._create(kind, profile)
        self._chosen = choice

    def _create(self, kind: type, profile: QoSProfile) -> Any:
        return self._node.create_subscription(kind, self.name, self._on_message, profile)

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._chosen = None

    def _on_message(self, message: Any) -> None:
        self._heard_s, self._patience_s = time.monotonic(), SILENCE_S
        with self._notices.guard(self.name):
            self._callback(message)

    def _report(self) -> None:
        topic = f"{self.name} publishers"
        silent = self.publishers and time.monotonic() - self._heard_s > self._patience_s
        if silent and self._silence_hint is not None:
            text = f"a publisher is there and nothing has arrived for {self._patience_s:g} s. {self._silence_hint}"
            self._notices.fault(topic, "silent", text)
        elif self.publishers > 1:
            text = f"expected one publisher, found {self.publishers}: what they say would mix"
            self._notices.fault(topic, "several", text)
        else:
            self._notices.well(topic)


class _Parked(CallbackGroup):
    """Keeps its subscriptions from the executor: somebody else takes their messages."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


class FastTopic(Topic):
    """A topic whose messages are taken in batches, and thinned out by their stamps before they are deserialised.

    The executor spends a quarter of a millisecond on a message, at 10 kHz more than there is, and holds the
    interpreter meanwhile: without this the network gets one frame in ten. Messages begin with a std_msgs/Header.
    """

    PERIOD_S = 0.005

    def __init__(self, *arguments: Any, admit: Callable[[int], bool], **options: Any) -> None:
        """`admit` sees every stamp [ns] and says whether the message behind it is wanted."""
        super().__init__(*arguments, **options)
        self._admit = admit
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._node.create_timer(self.PERIOD_S, self._drain, clock=clock)

    def close(self) -> None:
        super().close()
        self._node.destroy_timer(self._timer)

    def _create(self, kind: type, profile: QoSProfile) -> Any:
        group = _Parked()
        return self._node.create_subscription(
            kind, self.name, self._on_message, profile, callback_group=group, raw=True
        )

    def _drain(self) -> None:
        if self._subscription is None or self._chosen is None:
            return
        kind = self._chosen[1]
        for _ in range(self._depth):
            with self._subscription.handle:
                taken = self._subscription.handle.take_message(kind, True)
            if taken is None:
                return
            with self._notices.guard(self.name):
                if self._admit(_stamp_ns(taken[0])):
                    self._on_message(deserialize_message(taken[0], kind))


def _stamp_ns(serialized: bytes) -> int:
    """Read header.stamp off CDR: four bytes that name the byte order, seconds, nanoseconds."""
    seconds, nanoseconds = struct.unpack_from("<iI" if serialized[1] & 1 else ">iI", serialized, 4)
    return seconds * 1_000_000_000 + nanoseconds
