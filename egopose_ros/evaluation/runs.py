"""One network's poses over a recording: some kilobytes a frame, on disk where there are many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator

import numpy as np

from egopose_ros.evaluation.rows import Rows, gathered, joined, percentile, slices
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import BodyPose
from egopose_ros.window.smoothing import MEMORY


@dataclass(frozen=True)
class Run:
    """T poses in the optical frame of the first camera."""

    label: str
    network: str
    weights_trained: bool
    skeleton: str
    stamps_ns: np.ndarray
    """(T,) int64"""
    joints: np.ndarray
    """(T, J, 3) float32 [m]"""
    covariance: np.ndarray | None
    """(T, J, 3, 3) float32 [m^2]"""
    confidence: np.ndarray | None
    """(T, J) float32"""
    T_world_camera: np.ndarray
    """(T, 4, 4) float64, NaN without a head pose"""
    segment: np.ndarray
    """(T,) int32: frames of different segments are not neighbours in time"""
    age_s: np.ndarray
    """(T,) float32: from the image's arrival to its pose; NaN where nothing waited"""
    step_s: np.ndarray
    """(T,) float32: what the pipeline took, NaN for recorded poses"""
    frames_dropped: int = 0
    """frames that never entered the window"""
    degrees_of_freedom: float | None = None
    """of the Student t that the covariances are of; None: a Gaussian"""
    window_length: np.ndarray | None = None
    """(T,) int32: frames in the window behind each pose"""

    @property
    def size(self) -> int:
        return len(self.stamps_ns)

    @property
    def rate_hz(self) -> float:
        """Of the poses: one over the median step."""
        steps = np.diff(self.stamps_ns)[np.diff(self.segment) == 0]
        return 1e9 / float(np.median(steps)) if len(steps) else float("nan")

    def joints_world(self) -> np.ndarray:
        """Return the joints (T, J, 3) in the global frame, NaN without a head pose."""
        return gathered(rigid.apply(self.T_world_camera[rows], self.joints[rows]) for rows in slices(self.size))

    def part(self, rows: slice) -> Run:
        """Return some of the poses."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _COLUMNS if getattr(self, name) is not None})


_COLUMNS = (
    "stamps_ns", "joints", "covariance", "confidence", "T_world_camera", "segment", "age_s", "step_s", "window_length"
)  # fmt: skip
_OPTIONAL = {"covariance", "confidence"}


class RunBuilder:
    """Collects poses as they come."""

    def __init__(self) -> None:
        self.skeleton = ""
        self.last_stamp_ns: int | None = None
        self._rows: dict[str, Rows] = {}
        self._told: set[str] = set()

    def add(self, pose: BodyPose, segment: int, age_s: float = np.nan, step_s: float = np.nan) -> None:
        """Keep a pose."""
        if self.skeleton not in ("", pose.skeleton):
            raise ValueError(f"poses: expected skeleton {self.skeleton} throughout, got {pose.skeleton}")
        self.skeleton, self.last_stamp_ns = pose.skeleton, pose.stamp_ns
        size = skeleton(pose.skeleton).size
        values = {
            "stamps_ns": (pose.stamp_ns, (), np.int64),
            "joints": (pose.joints_camera, (size, 3), np.float32),
            "covariance": (pose.covariance_camera, (size, 3, 3), np.float32),
            "confidence": (pose.confidence, (size,), np.float32),
            "T_world_camera": (pose.T_world_camera, (4, 4), np.float64),
            "segment": (segment, (), np.int32),
            "age_s": (age_s, (), np.float32),
            "step_s": (step_s, (), np.float32),
            "window_length": (pose.window_length, (), np.int32),
        }
        for name, (value, shape, dtype) in values.items():
            row = np.full(shape, np.nan, dtype) if value is None else np.asarray(value, dtype)
            if name in _OPTIONAL and not np.isnan(row).all():
                self._told.add(name)
            self._rows.setdefault(name, Rows(shape, dtype)).append(row)

    def build(
        self,
        label: str,
        network: str,
        weights_trained: bool,
        frames_dropped: int = 0,
        degrees_of_freedom: float | None = None,
    ) -> Run:
        """Return the run; ValueError without a pose."""
        if self.last_stamp_ns is None:
            raise ValueError(f"{label}: expected at least one frame, got none")
        columns = {name: rows.array() for name, rows in self._rows.items()}
        columns.update(dict.fromkeys(_OPTIONAL - self._told))
        return Run(
            label, network, weights_trained, self.skeleton, **columns,
            frames_dropped=frames_dropped, degrees_of_freedom=degrees_of_freedom,
        )  # fmt: skip


def merge_runs(runs: list[Run]) -> Run:
    """Join the runs of one network on several recordings."""
    first = np.cumsum([0, *(int(run.segment.max()) + 1 for run in runs)])
    segments = (run.segment + np.int32(before) for run, before in zip(runs, first))
    names = [name for name in _COLUMNS if name != "segment"]
    return replace(
        runs[0],
        segment=gathered(segments),
        frames_dropped=sum(run.frames_dropped for run in runs),
        **{name: joined([getattr(run, name) for run in runs]) for name in names},
    )


UNLIKE = "had another window: a frame was lost on its way to the node, or came without its head pose"
"""what the reports say of `Agreement.unlike_ns`"""


@dataclass(frozen=True)
class Agreement:
    """How two runs over the same recording compare, by stamp."""

    common: int
    """frames that both have"""
    missing_ns: tuple[int, ...]
    """stamps that only the complete run has: dropped live"""
    unknown_ns: tuple[int, ...]
    """stamps that only the other has"""
    unlike_ns: tuple[int, ...]
    """common stamps whose windows are known to differ"""
    largest_m: float
    """largest distance of a joint between the two, over the others; NaN where there are none"""
    median_m: float


def agreement(complete: Run, other: Run) -> Agreement:
    """Compare a run of every frame with one that may lack some: offline and live."""
    stamps, mine, theirs = np.intersect1d(complete.stamps_ns, other.stamps_ns, return_indices=True)
    unlike = _unlike_windows(complete, mine, other, theirs)
    mine, theirs = mine[~unlike], theirs[~unlike]

    def distances() -> Iterator[np.ndarray]:
        for rows in slices(len(mine)):
            yield np.linalg.norm(complete.joints[mine[rows]] - other.joints[theirs[rows]], axis=-1)

    return Agreement(
        len(stamps),
        tuple(np.setdiff1d(complete.stamps_ns, other.stamps_ns).tolist()),
        tuple(np.setdiff1d(other.stamps_ns, complete.stamps_ns).tolist()),
        tuple(stamps[unlike].tolist()),
        percentile(distances, 100.0),
        percentile(distances, 50.0),
    )


def _unlike_windows(complete: Run, mine: np.ndarray, other: Run, theirs: np.ndarray) -> np.ndarray:
    """Return for each common pose (C,) whether its windows are known to differ, from their lengths and head poses.

    What differs stays in the window for as long as that is, and what was said then in the poses smoothed with it. A frame
    that was lost before a full window left no trace.
    """
    if complete.window_length is None or other.window_length is None or not len(mine):
        return np.zeros(len(mine), bool)
    found = complete.window_length[mine] != other.window_length[theirs]
    posed, posed_other = (np.isfinite(run.T_world_camera[rows, 0, 0]) for run, rows in ((complete, mine), (other, theirs)))
    if posed_other.any():  # poses may have been recorded without those in the global frame
        found |= posed != posed_other
    newest = np.maximum.accumulate(np.where(found, np.arange(len(mine)), -1))
    age = mine - mine[newest]  # in frames of the complete run, whether or not the other has poses of them
    same_segment = complete.segment[mine] == complete.segment[mine[newest]]
    return (newest >= 0) & same_segment & (age < complete.window_length.max() + MEMORY - 1)
