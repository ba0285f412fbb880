"""One thread that always takes the newest: what it skipped goes along, so that the window holds every frame."""

from __future__ import annotations

import threading
import time
from typing import Callable

from egopose_ros.ros.cameras import Capture

LOOK_S = 0.002
"""how often a waiting capture is looked at: TF and topics alike tell nobody when they have news"""


class Worker:
    """Hands captures on in the order of their stamps, the newest last, as many as have come meanwhile."""

    def __init__(
        self,
        process: Callable[[list[Capture]], None],
        must_wait_s: Callable[[Capture], float],
        max_pending: Callable[[], int],
        on_drop: Callable[[int], None],
    ) -> None:
        """`must_wait_s` says how long a capture may still wait for its head pose: 0 when it is ready."""
        self._process = process
        self._must_wait_s = must_wait_s
        self._max_pending = max_pending
        self._on_drop = on_drop
        self._pending: list[Capture] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="estimator worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Wait for the inference in progress, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def put(self, capture: Capture) -> None:
        """Store a capture and return at once; one of a new epoch drives out those before."""
        with self._changed:
            kept = [old for old in self._pending if old.epoch == capture.epoch]
            kept = (kept + [capture])[-self._max_pending() :]
            dropped = len(self._pending) + 1 - len(kept)
            self._pending = kept
            self._changed.notify()
        if dropped:
            self._on_drop(dropped)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and not (captures := self._take()):
                    self._changed.wait(self._patience_s())
                if self._stopping:
                    return
            self._process(captures)

    def _take(self) -> list[Capture]:
        """Remove and return everything up to the newest capture that is ready."""
        for count in range(len(self._pending), 0, -1):
            if self._must_wait_s(self._pending[count - 1]) <= 0.0:
                taken, self._pending = self._pending[:count], self._pending[count:]
                return taken
        return []

    def _patience_s(self) -> float | None:
        """Return how long until another look at what waits; None when nothing waits."""
        return min((min(self._must_wait_s(capture), LOOK_S) for capture in self._pending), default=None)


def remaining_s(arrival_s: float, wait_s: float) -> float:
    """Return what is left of a wait that began with an arrival, on the steady clock."""
    return max(0.0, arrival_s + wait_s - time.monotonic())
