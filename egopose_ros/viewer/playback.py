"""The playhead over a recording: play, pause, scrub, step, speed and the choice of poses; and the numbers at its place."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Callable

import numpy as np

from egopose_ros.structs import TrackingState
from egopose_ros.viewer.monitor import CURVE_S, RECENT_S, Curves, PoseReport, Status
from egopose_ros.viewer.overlay import Shot
from egopose_ros.viewer.recording import Recording, Track

POLL_S = 0.1
"""Period of asking for a pose that is still being computed."""


@dataclass(frozen=True)
class Position:
    """Where the playhead is."""

    index: int
    seconds: float
    """since the first frame"""
    playing: bool
    track: Track
    settled: bool
    """the pose of this frame is there, or is known to be missing"""


class Playback:
    """A thread moves the playhead while it plays. Every method may be called from any thread."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._condition = threading.Condition()
        self._index, self._track = 0, recording.tracks[0]
        self._playing = self._closed = False
        self._speed = 1.0
        self._origin = (0.0, 0)  # steady clock [s] and stamp [ns] that playing counts from
        self._thread: threading.Thread | None = None

    def start(self, show: Callable[[Shot], None], moved: Callable[[Position], None] = lambda position: None) -> None:
        """Hand the frame at the playhead to `show` and its position to `moved`, now and whenever either changes."""
        self._track.begin()
        self._thread = threading.Thread(target=self._run, args=(show, moved), name="playback", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(5.0)

    @property
    def position(self) -> Position:
        index, track = self._index, self._track
        stamp_ns = int(self.recording.stamps_ns[index])
        seconds = (stamp_ns - int(self.recording.stamps_ns[0])) / 1e9
        return Position(index, seconds, self._playing, track, track.reached(stamp_ns))

    def toggle(self) -> None:
        """Play, from the start where it stands at the end; or pause."""
        with self._condition:
            if not self._playing and self._index == self.recording.size - 1:
                self._index = 0
            self._playing = not self._playing
            self._changed()

    def seek(self, index: int) -> None:
        """Go to a frame, or to the nearest that there is."""
        with self._condition:
            self._index = min(max(index, 0), self.recording.size - 1)
            self._changed()

    def step(self, frames: int) -> None:
        """Pause, and go some frames on or back."""
        with self._condition:
            self._playing = False
            self.seek(self._index + frames)

    def set_speed(self, speed: float) -> None:
        """Play so many times as fast as it was recorded."""
        with self._condition:
            self._speed = speed
            self._changed()

    def choose(self, label: str) -> None:
        """Show the poses of another track, and begin to compute them where nobody has."""
        track = next(track for track in self.recording.tracks if track.label == label)
        track.begin()
        with self._condition:
            self._track = track
            self._changed()

    def _changed(self) -> None:
        self._origin = (time.monotonic(), int(self.recording.stamps_ns[self._index]))
        self._condition.notify()

    def _run(self, show: Callable[[Shot], None], moved: Callable[[Position], None]) -> None:
        shown: Position | None = None
        while True:
            with self._condition:
                wait_s = self._advance()
                position = self.position
                if position == shown and not self._closed:
                    self._condition.wait(wait_s)
                    continue
                if self._closed:
                    return
            shown = position
            show(self.recording.shot(position.index, position.track))
            moved(position)

    def _advance(self) -> float | None:
        """Move to the frame that is due; return how long nothing will happen [s], None until somebody acts."""
        stamps_ns, origin_s, origin_ns = self.recording.stamps_ns, *self._origin
        settled = self._track.reached(int(stamps_ns[self._index]))
        if self._playing and self._index == len(stamps_ns) - 1:
            self._playing = False
        if not self._playing:
            return None if settled else POLL_S
        now_s = time.monotonic()
        due_ns = origin_ns + (now_s - origin_s) * self._speed * 1e9
        target = int(np.searchsorted(stamps_ns, due_ns, "right")) - 1
        while target > self._index and not self._track.reached(int(stamps_ns[target])):
            target -= 1
        behind = target < len(stamps_ns) - 1 and not self._track.reached(int(stamps_ns[target + 1]))
        if target > self._index:
            self._index = target
        if behind:
            # Played no faster than the poses are computed.
            self._origin = (now_s, int(stamps_ns[self._index]))
            return POLL_S
        next_ns = int(stamps_ns[min(self._index + 1, len(stamps_ns) - 1)])
        return max(0.0, origin_s + (next_ns - origin_ns) / 1e9 / self._speed - now_s)

    def status(self, now_s: float) -> Status:
        """Return the numbers of the table at the playhead; input and output are counted in the recording's time."""
        index, track = self._index, self._track
        stamps_ns = self.recording.stamps_ns
        stamp_ns = int(stamps_ns[index])
        first = int(np.searchsorted(stamps_ns, stamp_ns - RECENT_S * 1e9, "right"))
        recent = [report for _, report in self._reports(first, index)]
        last = track.before(stamp_ns)
        errors = self.recording.errors_m(track, index)
        known = errors[np.isfinite(errors).all(-1)]
        error_mm, aligned_mm = known.mean(0) * 1e3 if len(known) else (np.nan, np.nan)
        latencies_s = [report.latency_s for report in recent if np.isfinite(report.latency_s)]
        p50, p95, p99 = np.percentile(latencies_s, (50, 95, 99)) * 1e3 if latencies_s else (np.nan,) * 3
        return Status(
            network=last.network if last else track.network,
            weights_trained=last.weights_trained if last else track.weights_trained,
            tracking_state=last.tracking_state if last else TrackingState.INITIALIZING,
            skeleton=last.pose.skeleton if last else "",
            frames_in=index + 1,
            poses_out=track.count(stamp_ns),
            frames_dropped=last.frames_dropped if last else 0,
            input_hz=_rate_hz(stamps_ns[first : index + 1]),
            output_hz=_rate_hz(np.array([report.pose.stamp_ns for report in recent])),
            latency_ms=(float(p50), float(p95), float(p99)),
            mpjpe_mm=float(error_mm),
            pa_mpjpe_mm=float(aligned_mm),
            quiet_s=(stamp_ns - last.pose.stamp_ns) / 1e9 if last else np.inf,
            window=(last.pose.window_length, last.pose.window_full) if last else (0, False),
        )

    def curves(self, now_s: float) -> Curves:
        """Return the graphs of the time before the playhead."""
        index = self._index
        stamps_ns = self.recording.stamps_ns
        first = int(np.searchsorted(stamps_ns, int(stamps_ns[index]) - CURVE_S * 1e9, "right"))
        seconds = (stamps_ns[first : index + 1] - stamps_ns[index]) / 1e9
        reports = self._reports(first, index)
        errors = self.recording.errors_m(self._track, index)[first:, 0]
        known = np.isfinite(errors)
        return Curves(
            pose_s=seconds[[row - first for row, _ in reports]],
            latency_ms=np.array([report.latency_s * 1e3 for _, report in reports]),
            dropped=np.array([report.frames_dropped for _, report in reports], np.float64),
            error_s=seconds[known],
            error_mm=errors[known] * 1e3,
        )

    def _reports(self, first: int, last: int) -> list[tuple[int, PoseReport]]:
        """Return frame and pose of the frames from one to another that have a pose."""
        stamps_ns = self.recording.stamps_ns[first : last + 1].tolist()
        found = ((row, self._track.at(stamp_ns)) for row, stamp_ns in enumerate(stamps_ns, first))
        return [(row, report) for row, report in found if report is not None]


def _rate_hz(stamps_ns: np.ndarray) -> float:
    """Return frames a second between the first and the last, 0 for fewer than two."""
    return (len(stamps_ns) - 1) * 1e9 / float(stamps_ns[-1] - stamps_ns[0]) if len(stamps_ns) > 1 else 0.0
