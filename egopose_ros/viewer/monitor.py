"""What a listener on the graph sees: rates, latency, drops and, where there is ground truth, the running error."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from dataclasses import dataclass
from itertools import islice
from typing import Any, Sequence

import numpy as np

from egopose_ros.evaluation.metrics import mpjpe, pa_mpjpe
from egopose_ros.skeleton import skeleton_map
from egopose_ros.structs import BodyPose, TrackingState

RECENT_S = 3.0
"""Span of the displayed rates."""
KEPT = 100_000
"""Latencies and errors that a summary covers, about an hour at 30 Hz: memory stays bounded."""
UNMATCHED = 256
"""Poses, and ground truth, that wait for their counterpart of the same stamp."""
CURVE_S = 30.0
"""Span of the graphs."""


@dataclass(frozen=True)
class PoseReport:
    """A pose as it came over the graph."""

    pose: BodyPose
    latency_s: float
    """from the image to the pose [s]"""
    frames_dropped: int
    """frames that the estimator says never entered its window"""
    network: str
    weights_trained: bool
    tracking_state: TrackingState


@dataclass(frozen=True)
class Status:
    """What the table and the page show."""

    network: str
    weights_trained: bool
    tracking_state: TrackingState
    skeleton: str
    frames_in: int
    poses_out: int
    frames_dropped: int
    input_hz: float
    """over the last seconds, as the other recent values"""
    output_hz: float
    latency_ms: tuple[float, float, float]
    """p50, p95, p99 of the recent poses; NaN before the first"""
    mpjpe_mm: float
    """mean over everything so far; NaN without ground truth"""
    pa_mpjpe_mm: float
    quiet_s: float
    """since the last pose, infinite before the first"""
    window: tuple[int, bool]
    """frames in the temporal window, and whether it is full"""
    problems: tuple[str, ...] = ()
    """a line for each thing that is wrong with the inputs now"""


@dataclass(frozen=True)
class Curves:
    """The last seconds, for graphs: x is seconds before now, negative."""

    pose_s: np.ndarray
    latency_ms: np.ndarray
    dropped: np.ndarray
    """frames dropped so far, at each pose"""
    error_s: np.ndarray
    error_mm: np.ndarray


class GraphMonitor:
    """Collect what comes over the graph. Every method may be called from any thread; times are of a steady clock."""

    def __init__(self) -> None:
        self.problems: tuple[str, ...] = ()
        """as in `Status`"""
        self._lock = threading.Lock()
        self._image_times: deque[float] = deque(maxlen=KEPT)
        self._pose_times: deque[float] = deque(maxlen=KEPT)
        self._latency_s: deque[float] = deque(maxlen=KEPT)
        self._dropped: deque[int] = deque(maxlen=KEPT)
        self._dropped_before_restart = 0
        self._errors: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._error_sums = np.zeros(3)  # count, MPJPE, PA-MPJPE
        self._poses: OrderedDict[int, BodyPose] = OrderedDict()
        self._truths: OrderedDict[int, BodyPose] = OrderedDict()
        self._last: PoseReport | None = None
        self._frames_in = 0
        self._poses_out = 0

    def observe_image(self, now_s: float) -> None:
        """Count a frame: one image of the first camera."""
        with self._lock:
            self._frames_in += 1
            self._image_times.append(now_s)

    def observe_pose(self, report: PoseReport, now_s: float) -> None:
        """Take a pose; it is compared with the ground truth of its stamp as soon as both are there."""
        with self._lock:
            if self._last is not None and report.frames_dropped < self._last.frames_dropped:
                # The counter of the estimator starts anew with each activation.
                self._dropped_before_restart += self._last.frames_dropped
            self._last = report
            self._poses_out += 1
            self._pose_times.append(now_s)
            self._latency_s.append(report.latency_s)
            self._dropped.append(self._dropped_before_restart + report.frames_dropped)
            _remember(self._poses, report.pose)
            self._compare(report.pose.stamp_ns, now_s)

    def observe_truth(self, truth: BodyPose, now_s: float) -> None:
        """Take the ground truth of a stamp, before or after the pose."""
        with self._lock:
            _remember(self._truths, truth)
            self._compare(truth.stamp_ns, now_s)

    def truth_at(self, stamp_ns: int) -> BodyPose | None:
        """Return the ground truth of a stamp, if it is among the recent ones."""
        with self._lock:
            return self._truths.get(stamp_ns)

    def _compare(self, stamp_ns: int, now_s: float) -> None:
        if stamp_ns not in self._poses or stamp_ns not in self._truths:
            return
        pose, truth = self._poses.pop(stamp_ns), self._truths[stamp_ns]
        joints, known = comparable(pose.joints_camera, pose.skeleton, truth.joints_camera, truth.skeleton)
        error, aligned = float(mpjpe(joints, known)), float(pa_mpjpe(joints, known))
        if np.isfinite(error):
            self._errors.append((now_s, error))
            self._error_sums += (1.0, error, aligned)

    def status(self, now_s: float) -> Status:
        """Return the numbers of the table."""
        with self._lock:
            last = self._last
            frames_in, poses_out = self._frames_in, self._poses_out
            frames_dropped = self._dropped[-1] if self._dropped else 0
            newest_s = self._pose_times[-1] if self._pose_times else -np.inf
            error_mm, aligned_mm = self._mean_errors_mm()
            image_times = _tail(self._image_times, _count_since(self._image_times, now_s - RECENT_S))
            recent = _count_since(self._pose_times, now_s - RECENT_S)
            pose_times, latency_s = _tail(self._pose_times, recent), _tail(self._latency_s, max(recent, 1))
        return Status(
            network=last.network if last else "",
            weights_trained=last.weights_trained if last else False,
            tracking_state=last.tracking_state if last else TrackingState.INITIALIZING,
            skeleton=last.pose.skeleton if last else "",
            frames_in=frames_in,
            poses_out=poses_out,
            frames_dropped=frames_dropped,
            input_hz=_rate(image_times),
            output_hz=_rate(pose_times),
            latency_ms=_percentiles_ms(latency_s),
            mpjpe_mm=error_mm,
            pa_mpjpe_mm=aligned_mm,
            quiet_s=now_s - newest_s,
            window=(last.pose.window_length, last.pose.window_full) if last else (0, False),
            problems=self.problems,
        )

    def curves(self, now_s: float) -> Curves:
        """Return what the graphs show."""
        with self._lock:
            poses = _count_since(self._pose_times, now_s - CURVE_S)
            pose_times, latency_s = _tail(self._pose_times, poses), _tail(self._latency_s, poses)
            dropped = _tail(self._dropped, poses)
            errors = _tail(self._errors, _count_since(self._errors, (now_s - CURVE_S, np.inf)))
        return Curves(
            pose_s=np.array(pose_times) - now_s,
            latency_ms=1e3 * np.array(latency_s),
            dropped=np.array(dropped, np.float64),
            error_s=np.array([t for t, _ in errors]) - now_s,
            error_mm=1e3 * np.array([error for _, error in errors]),
        )

    def summary(self) -> dict[str, Any]:
        """Return the run as one JSON object: the error entries are there only where ground truth was."""
        with self._lock:
            last, frames_in, poses_out = self._last, self._frames_in, self._poses_out
            input_hz, output_hz = _rate(self._image_times), _rate(self._pose_times)
            frames_dropped = self._dropped[-1] if self._dropped else 0
            error_mm, aligned_mm = self._mean_errors_mm()
            latency_s = list(self._latency_s)
        p50, p95, p99 = (None if np.isnan(p) else round(p, 3) for p in _percentiles_ms(latency_s))
        summary = {
            "network": last.network if last else None,
            "weights_trained": last.weights_trained if last else None,
            "frames_in": frames_in,
            "poses_out": poses_out,
            "input_hz": round(input_hz, 3),
            "output_hz": round(output_hz, 3),
            "latency_ms": {"p50": p50, "p95": p95, "p99": p99},
            "frames_dropped": frames_dropped,
        }
        if not np.isnan(error_mm):
            summary |= {"mpjpe_mm": round(error_mm, 3), "pa_mpjpe_mm": round(aligned_mm, 3)}
        return summary

    def _mean_errors_mm(self) -> tuple[float, float]:
        count, error, aligned = self._error_sums
        return (1e3 * error / count, 1e3 * aligned / count) if count else (np.nan, np.nan)


def comparable(
    joints: np.ndarray, skeleton: str, truth: np.ndarray, truth_skeleton: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return joints and truth, both (..., J, 3) in the skeleton of the truth, NaN in the truth where only one has one."""
    if skeleton == truth_skeleton:
        return joints, truth
    between = skeleton_map(skeleton, truth_skeleton)
    return between(joints), np.where(between.weights.any(-1)[:, None], truth, np.nan)


def _remember(poses: OrderedDict[int, BodyPose], pose: BodyPose) -> None:
    poses.pop(pose.stamp_ns, None)  # a bag that loops brings its stamps again: as the newest
    poses[pose.stamp_ns] = pose
    while len(poses) > UNMATCHED:
        poses.popitem(last=False)


def _count_since(values: Sequence[Any], start: Any) -> int:
    """Return how many of the values, which rise, are above a start."""
    return len(values) - bisect_right(values, start)


def _tail(values: deque, count: int) -> list:
    """Return the newest values in order without walking through all of them."""
    return list(islice(reversed(values), count))[::-1]


def _rate(times: Sequence[float]) -> float:
    """Return events a second between the first and the last, 0 for fewer than two."""
    span = times[-1] - times[0] if len(times) > 1 else 0.0
    return (len(times) - 1) / span if span > 0 else 0.0


def _percentiles_ms(seconds: Sequence[float]) -> tuple[float, float, float]:
    if not seconds:
        return (np.nan, np.nan, np.nan)
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99)) * 1e3
    return (float(p50), float(p95), float(p99))
