"""Transforms between frames: tf2_ros where it can be imported, a small tree over /tf and /tf_static elsewhere.

Both answer `lookup(target, source, stamp_ns, max_gap_ns) -> (T_target_source (4, 4), Lookup)` at once and never wait.
"""

from __future__ import annotations

import threading
from typing import Any, Callable

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from egopose_ros.geometry import rigid
from egopose_ros.ros import messages, qos
from egopose_ros.window.ring import Lookup, PoseRing

CAPACITY = 512
"""transforms kept of a frame"""


def listen(node: Node, own_prefix: str, refuse: Callable[[str, str], None]) -> TfTree | Tf2Buffer:
    """Start to listen to TF, by the best means there is; `refuse(reason, text)` hears of unusable transforms."""
    try:
        import tf2_ros
    except ImportError:
        return TfTree(node, own_prefix, refuse)
    return Tf2Buffer(node, tf2_ros)


class TfTree:
    """Parents and rings of every frame heard of."""

    def __init__(self, node: Node, own_prefix: str, refuse: Callable[[str, str], None]) -> None:
        self._node = node
        self._own_prefix = own_prefix
        self._refuse = refuse
        self._parents: dict[str, str] = {}
        self._edges: dict[str, PoseRing | np.ndarray] = {}
        self._lock = threading.Lock()
        self._subscriptions = [
            node.create_subscription(TFMessage, "/tf", self._on_tf, qos.TF),
            node.create_subscription(TFMessage, "/tf_static", self._on_tf_static, qos.TF_STATIC),
        ]

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def clear(self) -> None:
        """Forget what moves; what is static stays."""
        with self._lock:
            for edge in self._edges.values():
                if isinstance(edge, PoseRing):
                    edge.clear()

    def lookup(self, target: str, source: str, stamp_ns: int | None, max_gap_ns: int) -> tuple[np.ndarray, Lookup]:
        """Return T_target_source at a stamp, or by the newest transforms for None; the identity unless FOUND."""
        with self._lock:
            targets, sources = self._ancestors(target), self._ancestors(source)
            if targets is None or sources is None:
                return np.eye(4), Lookup.LOOP
            common = next((frame for frame in sources if frame in targets), None)
            if common is None:
                return np.eye(4), Lookup.UNCONNECTED
            T_common_source, found = self._chain(sources[: sources.index(common)], stamp_ns, max_gap_ns)
            if found is Lookup.FOUND:
                T_common_target, found = self._chain(targets[: targets.index(common)], stamp_ns, max_gap_ns)
        return (rigid.invert(T_common_target) @ T_common_source, found) if found is Lookup.FOUND else (np.eye(4), found)

    def _ancestors(self, frame: str) -> list[str] | None:
        """Return the frame and all above it, None where they form a loop."""
        frames = [frame]
        while frames[-1] in self._parents:
            parent = self._parents[frames[-1]]
            if parent in frames:
                return None
            frames.append(parent)
        return frames

    def _chain(self, frames: list[str], stamp_ns: int | None, max_gap_ns: int) -> tuple[np.ndarray, Lookup]:
        """Multiply the edges from the first frame up to the last one's parent."""
        T = np.eye(4)
        for frame in frames:
            edge = self._edges[frame]
            if isinstance(edge, PoseRing):
                at = edge.newest_ns if stamp_ns is None else stamp_ns
                edge, found = (np.eye(4), Lookup.EMPTY) if at is None else edge.at(at, max_gap_ns)
                if found is not Lookup.FOUND:
                    return np.eye(4), found
            T = edge @ T
        return T, Lookup.FOUND

    def _on_tf(self, message: TFMessage) -> None:
        self._take(message, static=False)

    def _on_tf_static(self, message: TFMessage) -> None:
        self._take(message, static=True)

    def _take(self, message: TFMessage, static: bool) -> None:
        for stamped in message.transforms:
            parent, child = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            if child.startswith(self._own_prefix):
                continue
            values = _values(stamped.transform)
            rotation, valid = rigid.matrix_from_quaternion(values[3:])
            if not valid or not np.isfinite(values).all() or not parent or not child or parent == child:
                self._refuse("bad_transform", f"expected a rigid transform between two frames, got {stamped}")
                continue
            with self._lock:
                if static:
                    self._parents[child], self._edges[child] = parent, rigid.transform(rotation, values[:3])
                    continue
                ring = self._edges.get(child)
                if not isinstance(ring, PoseRing) or self._parents[child] != parent:
                    ring = self._edges[child] = PoseRing(CAPACITY)
                    self._parents[child] = parent
                ring.push(messages.to_ns(stamped.header.stamp), values)


def _values(transform: Any) -> np.ndarray:
    t, q = transform.translation, transform.rotation
    return np.array([t.x, t.y, t.z, q.x, q.y, q.z, q.w])


class Tf2Buffer:
    """The same questions to tf2_ros, which keeps ten seconds and bridges any gap within them."""

    def __init__(self, node: Node, tf2_ros: Any) -> None:
        self._tf2 = tf2_ros
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def close(self) -> None:
        self._listener.unregister()

    def clear(self) -> None:
        self._buffer.clear()

    def lookup(self, target: str, source: str, stamp_ns: int | None, max_gap_ns: int) -> tuple[np.ndarray, Lookup]:
        """Return T_target_source at a stamp, or by the newest transforms for None; the identity unless FOUND."""
        try:
            stamped = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns or 0))
        except self._tf2.ExtrapolationException as error:
            return np.eye(4), Lookup.NOT_YET if "future" in str(error) else Lookup.TOO_OLD
        except self._tf2.TransformException as error:
            return np.eye(4), Lookup.LOOP if "loop" in str(error) else Lookup.UNCONNECTED
        values = _values(stamped.transform)
        return rigid.transform(rigid.matrix_from_quaternion(values[3:])[0], values[:3]), Lookup.FOUND
