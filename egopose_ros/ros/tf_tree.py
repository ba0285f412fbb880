"""Transforms between frames: tf2_ros where it can be imported, a small tree over /tf and /tf_static elsewhere.

Both answer `lookup(target, source, stamp_ns, max_gap_ns) -> (T_target_source (4, 4), Lookup)` at once and never wait.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from egopose_ros.geometry import rigid
from egopose_ros.ros import qos
from egopose_ros.ros.transform_tree import TransformTree, numbers
from egopose_ros.window.ring import Lookup


def listen(node: Node, own_prefix: str, refuse: Callable[[str, str], None]) -> TfTree | Tf2Buffer:
    """Start to listen to TF, by the best means there is; `refuse(reason, text)` hears of unusable transforms."""
    try:
        import tf2_ros
    except ImportError:
        return TfTree(node, own_prefix, refuse)
    return Tf2Buffer(node, tf2_ros)


class TfTree(TransformTree):
    """The tree of what is heard on /tf and /tf_static."""

    def __init__(self, node: Node, own_prefix: str, refuse: Callable[[str, str], None]) -> None:
        super().__init__(own_prefix, refuse)
        self._node = node
        self._subscriptions = [
            node.create_subscription(TFMessage, "/tf", self._on_tf, qos.TF),
            node.create_subscription(TFMessage, "/tf_static", self._on_tf_static, qos.TF_STATIC),
        ]

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def rewind(self) -> None:
        """Go on after images went back in time: the rings see to themselves."""

    def _on_tf(self, message: TFMessage) -> None:
        self.take(message, static=False)

    def _on_tf_static(self, message: TFMessage) -> None:
        self.take(message, static=True)


class Tf2Buffer:
    """The same questions to tf2_ros, which keeps ten seconds and bridges any gap within them, whatever `max_gap_ns`.

    The buffer is not told its node: it would make a service and a handler of time jumps that outlive it, and the session
    clears it when time jumps.
    """

    def __init__(self, node: Node, tf2_ros: Any) -> None:
        self._tf2 = tf2_ros
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def close(self) -> None:
        self._listener.unregister()

    def clear(self) -> None:
        self._buffer.clear()

    def rewind(self) -> None:
        """Go on after images went back in time: tf2 would refuse what is older than ten seconds before its newest."""
        self.clear()

    def lookup(self, target: str, source: str, stamp_ns: int | None, max_gap_ns: int) -> tuple[np.ndarray, Lookup]:
        """Return T_target_source at a stamp, or by the newest transforms for None; the identity unless FOUND."""
        try:
            frames = (target.lstrip("/"), source.lstrip("/"))  # tf2 refuses the names of ROS 1
            stamped = self._buffer.lookup_transform(*frames, Time(nanoseconds=stamp_ns or 0))
        except self._tf2.ExtrapolationException as error:
            return np.eye(4), Lookup.NOT_YET if "future" in str(error) else Lookup.TOO_OLD
        except self._tf2.TransformException as error:
            return np.eye(4), Lookup.LOOP if "loop" in str(error) else Lookup.UNCONNECTED
        values = numbers(stamped.transform)
        return rigid.transform(rigid.matrix_from_quaternion(values[3:])[0], values[:3]), Lookup.FOUND
