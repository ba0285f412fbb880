"""A tree of transforms over time, fed with TF messages from wherever: no ROS needed."""

from __future__ import annotations

import threading
from typing import Any, Callable

import numpy as np

from egopose_ros.geometry import rigid
from egopose_ros.ros.stamps import to_ns
from egopose_ros.window.ring import Lookup, PoseRing

CAPACITY = 512
"""transforms kept of a frame"""


class TransformTree:
    """Parents and rings of every frame heard of."""

    def __init__(self, own_prefix: str, refuse: Callable[[str, str], None]) -> None:
        """Leave out frames below `own_prefix`, if it is not empty; `refuse(reason, text)` hears of bad transforms."""
        self._own_prefix = own_prefix
        self._refuse = refuse
        self._parents: dict[str, str] = {}
        self._edges: dict[str, PoseRing | np.ndarray] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget what moves; what is static stays."""
        with self._lock:
            for edge in self._edges.values():
                if isinstance(edge, PoseRing):
                    edge.clear()

    def lookup(self, target: str, source: str, stamp_ns: int | None, max_gap_ns: int) -> tuple[np.ndarray, Lookup]:
        """Return T_target_source at a stamp, or by the newest transforms for None; the identity unless FOUND."""
        with self._lock:
            targets, sources = (self._ancestors(frame.lstrip("/")) for frame in (target, source))
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

    def take(self, message: Any, static: bool) -> None:
        """Take over the transforms of a tf2_msgs/TFMessage."""
        for stamped in message.transforms:
            parent, child = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            if self._own_prefix and child.startswith(self._own_prefix):
                continue
            values = numbers(stamped.transform)
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
                ring.push(to_ns(stamped.header.stamp), values)


def numbers(transform: Any) -> np.ndarray:
    """Return translation and quaternion x y z w (7,) of a geometry_msgs/Transform."""
    t, q = transform.translation, transform.rotation
    return np.array([t.x, t.y, t.z, q.x, q.y, q.z, q.w])
