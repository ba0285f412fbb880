"""One thread that always takes the newest: what came meanwhile goes along, as long as the network keeps up with it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable

import numpy as np

from egopose_ros.ros.cameras import Capture

LOOK_S = 0.002
"""how often a waiting capture is looked at: TF and topics alike tell nobody when they have news"""


LOAD_MEMORY_S = 3.0
"""how long an inference counts in what inferences cost"""

LATER = 1.5
"""frames are left out once encoding every one of them makes inferences longer by this factor"""


class Load:
    """What an inference costs by the number of its frames, against the pace at which frames come.

    An inference of n frames takes fixed + n * each seconds. A backlog that is encoded whole settles where as many
    frames come during an inference as it encodes: fixed * period / (period - each) seconds, without end once a frame
    costs more than the time to the next. The newest frame alone takes fixed + each.
    """

    def __init__(self) -> None:
        self._runs: deque[tuple[float, int, float]] = deque()  # [s] its end, its frames, [s] its duration
        self._arrivals_s: deque[float] = deque()

    def came(self, arrival_s: float) -> None:
        """Count a frame."""
        self._arrivals_s.append(arrival_s)
        self._forget(arrival_s)

    def ran(self, end_s: float, frames: int, duration_s: float) -> None:
        """Count an inference."""
        self._runs.append((end_s, frames, duration_s))
        self._forget(end_s)

    def room(self, frames: int) -> int:
        """Return how many of the frames that wait to encode, the newest ones: all, or as many as there is time for.

        What is not known of the last seconds is tried: one frame, then two.
        """
        if frames == 1 or not self._runs or len(self._arrivals_s) < 2:
            return frames
        period_s = (self._arrivals_s[-1] - self._arrivals_s[0]) / (len(self._arrivals_s) - 1)
        if np.median([duration_s for _, _, duration_s in self._runs]) < period_s:
            return frames
        singles = [duration_s for _, count, duration_s in self._runs if count == 1]
        if not singles:
            return 1
        single_s = float(np.median(singles))
        if single_s < period_s:
            return frames
        more = [(duration_s - single_s) / (count - 1) for _, count, duration_s in self._runs if count > 1]
        if not more:
            return min(frames, 2)
        each_s = min(max(float(np.median(more)), 0.0), single_s)
        together_s = (single_s - each_s) * period_s / (period_s - each_s) if each_s < period_s else np.inf
        return frames if together_s <= LATER * single_s else 1

    def _forget(self, now_s: float) -> None:
        while self._runs and now_s - self._runs[0][0] > LOAD_MEMORY_S:
            self._runs.popleft()
        while self._arrivals_s and now_s - self._arrivals_s[0] > LOAD_MEMORY_S:
            self._arrivals_s.popleft()


class Worker:
    """Hands captures on in the order of their stamps, the newest last, with those that have come meanwhile."""

    def __init__(
        self,
        process: Callable[[list[Capture]], None],
        must_wait_s: Callable[[Capture], float],
        max_pending: Callable[[], int],
        on_drop: Callable[[int], None],
        on_thin_out: Callable[[int], None],
        thin_out: Callable[[], bool],
    ) -> None:
        """`must_wait_s` says how long a capture may still wait for its head pose: 0 when it is ready.

        `thin_out` says whether captures may be left out to keep up.
        """
        self._process = process
        self._must_wait_s = must_wait_s
        self._max_pending = max_pending
        self._on_drop = on_drop
        self._on_thin_out = on_thin_out
        self._thin_out = thin_out
        self._load = Load()
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
            self._load.came(capture.arrival_s)
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
                thinned = len(captures) - self._load.room(len(captures)) if self._thin_out() else 0
            if thinned:
                self._on_thin_out(thinned)
            began_s = time.monotonic()
            self._process(captures[thinned:])
            ended_s = time.monotonic()
            with self._changed:
                self._load.ran(ended_s, len(captures) - thinned, ended_s - began_s)

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
