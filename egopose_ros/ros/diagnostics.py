"""Counters of the running node, and the DiagnosticStatus made of them."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from egopose_ros.ros.notices import Notices

RATE_WINDOW_S = 5.0
LATENCIES = 512
"""poses whose latency the percentiles are of"""


class Rate:
    """Events a second over the last few seconds of the steady clock."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def add(self, now_s: float) -> None:
        self._times.append(now_s)
        self._forget(now_s)

    def hz(self, now_s: float) -> float:
        self._forget(now_s)
        if len(self._times) < 2:
            return 0.0
        # From the first event to now, once the events stop; between events to the last, which does not flicker.
        span = max(self._times[-1], now_s - RATE_WINDOW_S / 4) - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0

    def _forget(self, now_s: float) -> None:
        while self._times and now_s - self._times[0] > RATE_WINDOW_S:
            self._times.popleft()


class Statistics:
    """Counts since activation; every thread may write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.frames_in = self.poses_out = self.images_unmatched = 0
            self.frames_dropped = self.frames_thinned_out = 0
            self.heard: Counter[str] = Counter()
            self.reasons: Counter[str] = Counter()
            self._input, self._output = Rate(), Rate()
            self._latencies_s: deque[float] = deque(maxlen=LATENCIES)
            self._newest_arrival_s: float | None = None

    def received(self, kind: str) -> None:
        """Count a message that arrived, good or bad: images, head_poses or imu."""
        with self._lock:
            self.heard[kind] += 1

    def captured(self, arrival_s: float) -> None:
        """Count a frame: an accepted image of every camera."""
        with self._lock:
            self.frames_in += 1
            self._input.add(arrival_s)

    def rejected(self, reason: str) -> None:
        """Count a message that was refused; reasons are dotted by their input, images have none."""
        with self._lock:
            self.reasons[reason] += 1

    def dropped(self, frames: int) -> None:
        """Count accepted frames that never entered the window."""
        with self._lock:
            self.frames_dropped += frames

    def thinned_out(self, frames: int) -> None:
        """Count frames that were left out of the window, and so dropped, for the network to keep up."""
        with self._lock:
            self.frames_dropped += frames
            self.frames_thinned_out += frames

    @property
    def frames_lost(self) -> int:
        """Frames that were dropped although there was a place for them."""
        with self._lock:
            return self.frames_dropped - self.frames_thinned_out

    def unmatched(self, images: int) -> None:
        """Count accepted images that found no partners of the other cameras."""
        with self._lock:
            self.images_unmatched += images

    def published(self, arrival_s: float) -> float:
        """Count a pose; return its latency [s] since the arrival of its newest image."""
        now_s = time.monotonic()
        with self._lock:
            self.poses_out += 1
            self._output.add(now_s)
            self._latencies_s.append(now_s - arrival_s)
            self._newest_arrival_s = arrival_s
        return now_s - arrival_s

    def values(self) -> dict[str, str]:
        """Return everything counted, by the keys of the diagnostics."""
        now_s = time.monotonic()
        with self._lock:
            latencies_ms = np.array(self._latencies_s) * 1e3
            p50, p95, p99 = np.percentile(latencies_ms, [50, 95, 99]) if len(latencies_ms) else [np.nan] * 3
            age_ms = np.nan if self._newest_arrival_s is None else (now_s - self._newest_arrival_s) * 1e3
            values = {
                "frames_in": str(self.frames_in),
                "poses_out": str(self.poses_out),
                "input_hz": f"{self._input.hz(now_s):.2f}",
                "output_hz": f"{self._output.hz(now_s):.2f}",
                "latency_p50_ms": f"{p50:.2f}",
                "latency_p95_ms": f"{p95:.2f}",
                "latency_p99_ms": f"{p99:.2f}",
                "age_ms": f"{age_ms:.1f}",
                "frames_dropped": str(self.frames_dropped),
                "frames_thinned_out": str(self.frames_thinned_out),
                "images_unmatched": str(self.images_unmatched),
            }
            values.update({f"{kind}_in": str(count) for kind, count in sorted(self.heard.items())})
            values.update({f"rejected.{reason}": str(count) for reason, count in sorted(self.reasons.items())})
        return values


def status(name: str, level: bytes, message: str, values: dict[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, hardware_id="", values=pairs)


def summarize(
    statistics: Statistics, notices: Notices, pipeline: Any, session: Any, failure: str
) -> tuple[bytes, str, dict[str, str]]:
    """Return level, one line and every value of the node's state; `pipeline` and `session` are None without."""
    values = statistics.values()
    values["state"] = "active" if session else "inactive" if pipeline else "unconfigured"
    if pipeline is not None:
        values.update(
            network=pipeline.network_name,
            weights_trained=str(pipeline.weights_trained).lower(),
            device=pipeline.device,
            precision=pipeline.precision,
            window=str(pipeline.window),
        )
    faults = notices.faults if session else {}
    values.update({f"fault.{topic}": state for topic, state in sorted(faults.items())})
    if session is not None:
        newest, state = session.inference.newest, session.inference.tracking_state
        values["tracking_state"] = state.name if state is not None else "NO_POSE"
        values["window_length"] = str(newest.window_length if newest is not None else 0)
        values["calibrated"] = str(session.cameras.sizes is not None).lower()
        values["publishers"] = " ".join(f"{topic.name}:{topic.publishers}" for topic in session.cameras.topics)
    if failure:
        return DiagnosticStatus.ERROR, failure, {**values, "failure": failure}
    if session is None:
        return DiagnosticStatus.OK, f"{values['state']}: nothing is estimated", values
    silent = [topic.name for topic in session.cameras.topics if not topic.publishers]
    if silent:  # one of a rig is enough: no frame is whole without it
        return DiagnosticStatus.STALE, f"nobody publishes {', '.join(silent)}", values
    if session.cameras.sizes is None:
        return DiagnosticStatus.WARN, "waiting for CameraInfo, or give camera.calibration", values
    if faults:
        return DiagnosticStatus.WARN, "; ".join(f"{topic}: {state}" for topic, state in faults.items()), values
    if not pipeline.weights_trained:
        return DiagnosticStatus.WARN, "the weights are random: poses mean nothing", values
    return DiagnosticStatus.OK, f"{values['tracking_state']} at {values['output_hz']} Hz", values


def shortfall(message: str, values: dict[str, str]) -> str:
    """Say of a summary why it tells of no pose, '' where it tells of some."""
    if "failure" in values:
        return values["failure"]
    if values["poses_out"] != "0":
        return ""
    counts = [f"{name} {n}" for name, n in values.items() if name.endswith("_in") or name.startswith("rejected.")]
    refused = {name: int(n) for name, n in values.items() if name.startswith("rejected.")}
    # At the end of a bag nobody publishes any more: what was refused before is what went wrong.
    most = max(refused, key=refused.__getitem__, default="")
    told = f"{refused[most]} times {most}" if most else f"at the end: {message}"
    return f"expected poses, published none; {told} ({', '.join(counts)})"
