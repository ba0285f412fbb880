"""Judges the stamps and senders of one stream: what repeats, slips back or comes from elsewhere is refused."""

from __future__ import annotations

import enum
from typing import Any


def to_ns(stamp: Any) -> int:
    """Return a builtin_interfaces/Time in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


class Verdict(enum.Enum):
    GOOD = "good"
    ZERO = "zero"
    REPEATED = "repeated"
    BACK = "back"
    """older than its predecessor, but not by enough to mean that time began anew"""


class StampGate:
    """Judges each stamp by the last accepted one. A jump back, as when a bag loops, is good."""

    BACK_IN_A_ROW = 5
    """so many refused as BACK without a good one between them mean that time went back for good"""

    def __init__(self) -> None:
        self._last: int | None = None
        self._back = 0

    def clear(self) -> None:
        self._last, self._back = None, 0

    def judge(self, stamp_ns: int, max_gap_ns: int) -> Verdict:
        """Refuse what slips back by at most `max_gap_ns`."""
        if stamp_ns <= 0:
            return Verdict.ZERO
        if stamp_ns == self._last:
            return Verdict.REPEATED
        if self._last is not None and self._last - max_gap_ns <= stamp_ns < self._last:
            self._back += 1
            if self._back < self.BACK_IN_A_ROW:
                return Verdict.BACK
        self._last, self._back = stamp_ns, 0
        return Verdict.GOOD


class FrameLock:
    """Holds a stream to one sender: another frame (or size) is taken only when the first has been silent."""

    SILENCE_S = 2.0

    def __init__(self) -> None:
        self.identity: object = None
        self._heard_s = 0.0

    def clear(self) -> None:
        self.identity = None

    def admits(self, identity: object, now_s: float) -> bool:
        """Say whether a message of this identity, at this steady time, belongs to the stream."""
        if self.identity is not None and identity != self.identity and now_s - self._heard_s < self.SILENCE_S:
            return False
        self.identity, self._heard_s = identity, now_s
        return True
