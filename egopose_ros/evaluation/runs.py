"""One network's poses over a recording: a few hundred bytes a frame, whatever the images weigh."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

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
        R, t = self.T_world_camera[:, :3, :3], self.T_world_camera[:, None, :3, 3]
        return self.joints @ np.swapaxes(R, -1, -2) + t


@dataclass
class RunBuilder:
    """Collects poses as they come."""

    stamps_ns: list[int] = field(default_factory=list)
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    segment: list[int] = field(default_factory=list)
    age_s: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)
    window_length: list[int] = field(default_factory=list)
    skeleton: str = ""

    def add(self, pose: BodyPose, segment: int, age_s: float = np.nan, step_s: float = np.nan) -> None:
        """Keep a pose."""
        if self.skeleton not in ("", pose.skeleton):
            raise ValueError(f"poses: expected skeleton {self.skeleton} throughout, got {pose.skeleton}")
        self.skeleton = pose.skeleton
        self.stamps_ns.append(pose.stamp_ns)
        self.segment.append(segment)
        self.age_s.append(age_s)
        self.step_s.append(step_s)
        self.window_length.append(pose.window_length)
        size = skeleton(pose.skeleton).size
        values = {
            "joints": (pose.joints_camera, (size, 3)),
            "covariance": (pose.covariance_camera, (size, 3, 3)),
            "confidence": (pose.confidence, (size,)),
            "T_world_camera": (pose.T_world_camera, (4, 4)),
        }
        for name, (value, shape) in values.items():
            dtype = np.float64 if name == "T_world_camera" else np.float32
            row = np.full(shape, np.nan, dtype) if value is None else np.array(value, dtype)
            self.rows.setdefault(name, []).append(row)

    def build(
        self,
        label: str,
        network: str,
        weights_trained: bool,
        frames_dropped: int = 0,
        degrees_of_freedom: float | None = None,
    ) -> Run:
        """Return the run; ValueError without a pose."""
        if not self.stamps_ns:
            raise ValueError(f"{label}: expected at least one frame, got none")
        covariance, confidence = (np.stack(self.rows[name]) for name in ("covariance", "confidence"))
        return Run(
            label,
            network,
            weights_trained,
            self.skeleton,
            np.array(self.stamps_ns, np.int64),
            np.stack(self.rows["joints"]),
            None if np.isnan(covariance).all() else covariance,
            None if np.isnan(confidence).all() else confidence,
            np.stack(self.rows["T_world_camera"]),
            np.array(self.segment, np.int32),
            np.array(self.age_s, np.float32),
            np.array(self.step_s, np.float32),
            frames_dropped,
            degrees_of_freedom,
            np.array(self.window_length, np.int32),
        )


def merge_runs(runs: list[Run]) -> Run:
    """Join the runs of one network on several recordings."""
    segments, last = [], 0
    for run in runs:
        segments.append(run.segment + last)
        last = int(segments[-1].max()) + 1

    def joined(name: str) -> np.ndarray | None:
        values = [getattr(run, name) for run in runs]
        return None if any(value is None for value in values) else np.concatenate(values)

    names = ("stamps_ns", "joints", "covariance", "confidence", "T_world_camera", "age_s", "step_s", "window_length")
    return replace(
        runs[0],
        segment=np.concatenate(segments),
        frames_dropped=sum(run.frames_dropped for run in runs),
        **{name: joined(name) for name in names},
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
    distance = np.linalg.norm(complete.joints[mine[~unlike]] - other.joints[theirs[~unlike]], axis=-1)
    return Agreement(
        len(stamps),
        tuple(np.setdiff1d(complete.stamps_ns, other.stamps_ns).tolist()),
        tuple(np.setdiff1d(other.stamps_ns, complete.stamps_ns).tolist()),
        tuple(stamps[unlike].tolist()),
        float(distance.max()) if len(distance) else float("nan"),
        float(np.median(distance)) if len(distance) else float("nan"),
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
