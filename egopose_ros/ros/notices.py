"""Says what happens once, and again when it changes: a log that a fault at 30 Hz does not flood."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

REPEAT_S = 10.0
"""A state that comes back is said again after this long; states that flap are then said at this pace."""


class Notices:
    """Remembers for each topic the state it is in and when each state was last said."""

    def __init__(self, logger: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._states: dict[str, str] = {}
        self._said: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def fault(self, topic: str, state: str, text: str) -> None:
        """Warn that a topic has come into a faulty state."""
        with self._lock:
            changed = self._states.get(topic) != state
            self._states[topic] = state
            last = self._said.get((topic, state))
            if not changed or (last is not None and self._clock() - last < REPEAT_S):
                return
            self._said[topic, state] = self._clock()
        self._logger.warning(f"{topic}: {text}")

    def well(self, topic: str) -> None:
        """Note that a topic is well, so that its next fault is said again."""
        if topic in self._states:
            with self._lock:
                self._states.pop(topic, None)

    @property
    def faults(self) -> dict[str, str]:
        """The faulty topics and their states."""
        with self._lock:
            return dict(self._states)
