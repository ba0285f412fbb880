"""Says what happens once, and again when it changes: a log that a fault at 30 Hz does not flood."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

REPEAT_S = 10.0
"""A state that comes back is said again after this long; states that flap are then said at this pace."""
LASTING_S = 5.0
"""A fault that nobody repeats for this long is over."""


class Notices:
    """Remembers for each topic the state it is in and when each state was last said."""

    def __init__(self, logger: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._states: dict[str, tuple[str, float]] = {}
        self._said: dict[tuple[str, str], float] = {}
        self._texts: dict[str, str] = {}
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()

    def fault(self, topic: str, state: str, text: str) -> None:
        """Warn that a topic has come into a faulty state, or is still in it."""
        with self._lock:
            now_s = self._clock()
            before, seen_s = self._states.get(topic, ("", now_s))
            self._states[topic] = state, now_s
            self._texts[topic] = text
            last_s = self._said.get((topic, state))
            said = last_s is not None and last_s > self._ended.get(topic, -1.0)
            goes_on = before == state and now_s - seen_s < LASTING_S
            if (goes_on and said) or (last_s is not None and now_s - last_s < REPEAT_S):
                return
            self._said[topic, state] = now_s
        self._logger.warning(f"{topic}: {text}")

    @contextmanager
    def guard(self, topic: str) -> Iterator[None]:
        """Make an exception a fault of the topic: what comes from outside must end neither the node nor its threads."""
        try:
            yield
        except Exception as error:
            self.fault(topic, type(error).__name__, f"{type(error).__name__}: {error}")

    def well(self, topic: str) -> None:
        """Note that a topic is well, so that its next fault is said again; say that a fault that was said is over."""
        if topic not in self._states:
            return
        with self._lock:
            state, _ = self._states.pop(topic, ("", 0.0))
            said = self._said.get((topic, state))
            over = said is not None and self._ended.get(topic, -1.0) < said
            self._ended[topic] = self._clock()
        if over:
            self._logger.info(f"{topic}: well again")

    def clear(self) -> None:
        """Begin anew, without saying anew what was said a moment ago."""
        with self._lock:
            self._states.clear()

    @property
    def told(self) -> dict[str, str]:
        """The faulty topics and what was said of each."""
        return {topic: self._texts[topic] for topic in self.faults}

    @property
    def faults(self) -> dict[str, str]:
        """The faulty topics and their states."""
        with self._lock:
            now_s = self._clock()
            return {topic: state for topic, (state, seen_s) in self._states.items() if now_s - seen_s < LASTING_S}
