"""Stamp-ordered memory of the live inputs: bounded rings that interpolate, and a matcher that pairs cameras by stamp.

NumPy only. One thread may push while another asks.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from typing import Any, Sequence

import numpy as np

from egopose_ros.geometry import rigid


class Lookup(enum.Enum):
    """How a question about one instant was answered."""

    FOUND = "found"
    EMPTY = "nothing has arrived"
    NOT_YET = "nothing as new has arrived"
    TOO_OLD = "older than everything kept"
    GAP = "its neighbours are too far apart in time"
    UNCONNECTED = "the frames are not connected"
    LOOP = "the frames form a loop"


class Push(enum.Enum):
    """What became of a new row."""

    KEPT = "kept"
    REPEATED = "its stamp is there already"
    REWOUND = "time went back: everything older was forgotten"


class Ring:
    """Rows of numbers in the order of their stamps; the oldest fall out."""

    def __init__(self, capacity: int, width: int, rewind_ns: int = 500_000_000) -> None:
        """Keep `capacity` rows of `width` numbers; a stamp more than `rewind_ns` below the newest empties the ring."""
        self._capacity = capacity
        self._rewind_ns = rewind_ns
        # Twice the capacity, so that rows move to the front once in `capacity` pushes and not at each one.
        self._stamps = np.zeros(2 * capacity, np.int64)
        self._rows = np.zeros((2 * capacity, width))
        self._start = self._end = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def newest_ns(self) -> int | None:
        with self._lock:
            return int(self._stamps[self._end - 1]) if self._end > self._start else None

    def clear(self) -> None:
        with self._lock:
            self._start = self._end = 0

    def push(self, stamp_ns: int, row: Sequence[float] | np.ndarray) -> Push:
        """Put a row in its place."""
        with self._lock:
            outcome = Push.KEPT
            if self._end > self._start and stamp_ns < self._stamps[self._end - 1] - self._rewind_ns:
                self._start = self._end = 0
                outcome = Push.REWOUND
            at = self._start + int(np.searchsorted(self._stamps[self._start : self._end], stamp_ns))
            if at < self._end and self._stamps[at] == stamp_ns:
                return Push.REPEATED
            if self._end == len(self._stamps):
                at -= self._move_to_front()
            self._stamps[at + 1 : self._end + 1] = self._stamps[at : self._end]
            self._rows[at + 1 : self._end + 1] = self._rows[at : self._end]
            self._stamps[at] = stamp_ns
            self._rows[at] = row
            self._end += 1
            self._start = max(self._start, self._end - self._capacity)
            return outcome

    def _move_to_front(self) -> int:
        """Return by how much every row moved."""
        shift, count = self._start, self._end - self._start
        self._stamps[:count] = self._stamps[self._start : self._end]
        self._rows[:count] = self._rows[self._start : self._end]
        self._start, self._end = 0, count
        return shift

    def bracket(self, stamp_ns: int, max_gap_ns: int) -> tuple[Lookup, np.ndarray, float]:
        """Return the rows (2, W) around an instant and where it lies between them, 0 to 1."""
        nothing = np.zeros((2, self._rows.shape[1]))
        with self._lock:
            if self._end == self._start:
                return Lookup.EMPTY, nothing, 0.0
            after = self._start + int(np.searchsorted(self._stamps[self._start : self._end], stamp_ns))
            if after == self._end:
                return Lookup.NOT_YET, nothing, 0.0
            if self._stamps[after] == stamp_ns:
                return Lookup.FOUND, self._rows[[after, after]], 0.0
            if after == self._start:
                return Lookup.TOO_OLD, nothing, 0.0
            before_ns, after_ns = self._stamps[after - 1], self._stamps[after]
            if after_ns - before_ns > max_gap_ns:
                return Lookup.GAP, nothing, 0.0
            fraction = float(stamp_ns - before_ns) / float(after_ns - before_ns)
            return Lookup.FOUND, self._rows[after - 1 : after + 1].copy(), fraction


class VectorRing(Ring):
    """Vectors, interpolated linearly."""

    def at(self, stamp_ns: int, max_gap_ns: int) -> tuple[np.ndarray, Lookup]:
        """Return the vector (W,) at an instant, zeros unless FOUND."""
        lookup, rows, fraction = self.bracket(stamp_ns, max_gap_ns)
        return rows[0] + fraction * (rows[1] - rows[0]), lookup


class PoseRing(Ring):
    """Rigid transforms: positions interpolated linearly, rotations on the shorter arc."""

    def __init__(self, capacity: int, rewind_ns: int = 500_000_000) -> None:
        super().__init__(capacity, 7, rewind_ns)

    def push_pose(self, stamp_ns: int, translation: Sequence[float], quaternion_xyzw: Sequence[float]) -> Push:
        """Put a pose in its place; the quaternion is a unit one."""
        return self.push(stamp_ns, (*translation, *quaternion_xyzw))

    def at(self, stamp_ns: int, max_gap_ns: int) -> tuple[np.ndarray, Lookup]:
        """Return the transform (4, 4) at an instant, the identity unless FOUND."""
        lookup, rows, fraction = self.bracket(stamp_ns, max_gap_ns)
        if lookup is not Lookup.FOUND:
            return np.eye(4), lookup
        quaternion = rigid.slerp(rows[0, 3:], rows[1, 3:], np.asarray(fraction))
        rotation, _ = rigid.matrix_from_quaternion(quaternion)
        return rigid.transform(rotation, rows[0, :3] + fraction * (rows[1, :3] - rows[0, :3])), lookup


class Matcher:
    """Pairs the images of several cameras by stamp. Each camera's own stamps rise, but for the loop of a bag."""

    def __init__(self, views: int, tolerance_ns: int, capacity: int = 16) -> None:
        self._waiting: list[deque[tuple[int, Any]]] = [deque() for _ in range(views)]
        self._tolerance_ns = tolerance_ns
        self._capacity = capacity
        self.unmatched = 0
        """images that left without partners"""

    def clear(self) -> None:
        for queue in self._waiting:
            queue.clear()

    def push(self, view: int, stamp_ns: int, item: Any) -> tuple[int, tuple[Any, ...]] | None:
        """Take an image; return the newest stamp and one item a camera as soon as every camera has one."""
        if self._waiting[view] and stamp_ns <= self._waiting[view][-1][0]:
            self._rewind(view, stamp_ns)
        self._waiting[view].append((stamp_ns, item))
        chosen = [
            min(queue, key=lambda entry: abs(entry[0] - stamp_ns)) if queue else None for queue in self._waiting
        ]
        stamps = [entry[0] for entry in chosen if entry is not None]
        if len(stamps) < len(chosen) or max(stamps) - min(stamps) > self._tolerance_ns:
            if len(self._waiting[view]) > self._capacity:
                self._waiting[view].popleft()
                self.unmatched += 1
            return None
        for queue, stamp in zip(self._waiting, stamps):
            while queue and queue[0][0] <= stamp:
                self.unmatched += queue.popleft()[0] != stamp
        return max(stamps), tuple(entry[1] for entry in chosen if entry is not None)

    def _rewind(self, view: int, stamp_ns: int) -> None:
        """Forget what a camera that starts anew can no longer match; the others' new beginnings stay."""
        self._waiting[view].clear()
        for queue in self._waiting:
            while queue and queue[-1][0] > stamp_ns + self._tolerance_ns:
                queue.pop()
