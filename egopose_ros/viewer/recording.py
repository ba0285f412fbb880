"""A recording to look at: its frames, its ground truth, and poses of several origins, some still being computed."""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from dataclasses import dataclass, field, replace
from typing import Callable, Sequence

import numpy as np

from egopose_ros.evaluation.metrics import mpjpe, pa_mpjpe
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import SMPL22, skeleton
from egopose_ros.structs import BodyPose, TrackingState
from egopose_ros.viewer.monitor import PoseReport, comparable
from egopose_ros.viewer.overlay import Shot, View


class Track:
    """Poses of one origin by stamp. One thread may add while others read."""

    def __init__(self, label: str, start: Callable[[Track], None] | None = None) -> None:
        """`start` begins to fill a track whose poses are computed; without it the track is filled by its maker."""
        self.label = label
        self.network = ""
        self.weights_trained = False
        self.problem = ""
        """why no more poses come, empty while all is well"""
        self.complete = False
        self.stamps_ns: list[int] = []
        """of the poses so far, in order"""
        self._reports: dict[int, PoseReport] = {}
        self._lock = threading.Lock()
        self._start = start

    def begin(self) -> None:
        """Start to fill it, once."""
        start, self._start = self._start, None
        if start is not None:
            start(self)

    def add(
        self,
        pose: BodyPose,
        segment: int = 0,
        age_s: float = np.nan,
        step_s: float = np.nan,
        *,
        frames_dropped: int = 0,
        tracking_state: TrackingState | None = None,
    ) -> None:
        """Take a pose, as `evaluation.runs.RunBuilder` does; its latency is its age or else what its step took."""
        if tracking_state is None:
            tracking_state = TrackingState.TRACKING if pose.window_full else TrackingState.INITIALIZING
        latency_s = step_s if np.isnan(age_s) else age_s
        # The page draws no rotations, and an hour of them weighs.
        pose = replace(pose, rotations_camera=None)
        report = PoseReport(pose, latency_s, frames_dropped, self.network, self.weights_trained, tracking_state)
        with self._lock:
            if pose.stamp_ns not in self._reports:
                insort(self.stamps_ns, pose.stamp_ns)
            self._reports[pose.stamp_ns] = report

    def at(self, stamp_ns: int) -> PoseReport | None:
        """Return the pose of a stamp."""
        return self._reports.get(stamp_ns)

    def before(self, stamp_ns: int) -> PoseReport | None:
        """Return the newest pose up to a stamp."""
        with self._lock:
            count = bisect_right(self.stamps_ns, stamp_ns)
            return self._reports[self.stamps_ns[count - 1]] if count else None

    def count(self, stamp_ns: int) -> int:
        """Return how many poses there are up to a stamp."""
        with self._lock:
            return bisect_right(self.stamps_ns, stamp_ns)

    def reached(self, stamp_ns: int) -> bool:
        """Say whether it is settled if there is a pose of a stamp."""
        return self.complete or (bool(self.stamps_ns) and stamp_ns <= self.stamps_ns[-1])


@dataclass
class Recording:
    """T frames in the order of their stamps."""

    name: str
    stamps_ns: np.ndarray
    """(T,) int64, strictly increasing"""
    T_world_camera: np.ndarray
    """(T, 4, 4) float64 of the first camera, NaN without a head pose"""
    views: tuple[View, ...]
    """cameras of the rig, empty where no calibration is known"""
    tracks: tuple[Track, ...]
    """at least one"""
    truth: np.ndarray | None = None
    """(T, J, 3) float32 in the first camera's optical frame [m], NaN where unknown"""
    truth_skeleton: str = ""
    images: Callable[[int], Sequence[np.ndarray]] | None = None
    """gives the images of a frame, one a view, RGB"""
    losses: tuple[str, ...] = ()
    """one line for each damaged bag that it comes from"""
    _errors: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.stamps_ns)

    def shot(self, index: int, track: Track) -> Shot:
        """Return what to draw of a frame; without a pose in the track, joints that are NaN."""
        stamp_ns, T = int(self.stamps_ns[index]), self.T_world_camera[index]
        T_world_camera = T if np.isfinite(T).all() else None
        report = track.at(stamp_ns)
        if report is not None:
            pose = report.pose
            if pose.T_world_camera is None:
                pose = replace(pose, T_world_camera=T_world_camera)
        else:
            last = track.before(stamp_ns)
            body = skeleton(last.pose.skeleton if last else self.truth_skeleton or SMPL22.name)
            unknown = np.full((body.size, 3), np.nan, np.float32)
            pose = BodyPose(stamp_ns, body.name, unknown, None, None, None, T_world_camera, 0, False)
        truth = None
        if self.truth is not None and np.isfinite(self.truth[index]).any():
            truth = BodyPose(stamp_ns, self.truth_skeleton, self.truth[index], None, None, None, None, 1, True)
        images = None if self.images is None else lambda: self.images(index)
        return Shot(pose, truth, images, self.path(index))

    def path(self, index: int) -> np.ndarray:
        """Return where the camera was up to a frame, (N, 3) in the global frame."""
        positions = self.T_world_camera[: index + 1, :3, 3]
        return positions[np.isfinite(positions).all(-1)]

    def errors_m(self, track: Track, index: int) -> np.ndarray:
        """Return MPJPE and PA-MPJPE (index + 1, 2) of the frames up to one, NaN where pose or truth is missing."""
        if self.truth is None:
            return np.full((index + 1, 2), np.nan)
        errors = self._errors.setdefault(id(track), np.full((self.size, 2), np.inf))  # infinite: not yet known
        rows, poses = [], []
        for row in np.flatnonzero(np.isinf(errors[: index + 1, 0])).tolist():
            report = track.at(int(self.stamps_ns[row]))
            if report is not None:
                rows.append(row)
                poses.append(report.pose)
        if rows:
            joints, known = comparable(
                np.stack([pose.joints_camera for pose in poses]), poses[0].skeleton, self.truth[rows], self.truth_skeleton
            )
            errors[rows] = np.stack([mpjpe(joints, known), pa_mpjpe(joints, known)], -1)
        return np.where(np.isinf(errors[: index + 1]), np.nan, errors[: index + 1])


def truth_in_camera(joints: np.ndarray, frame: str, T_world_camera: np.ndarray) -> np.ndarray:
    """Return joints (T, J, 3) in 'camera' or 'world' in the camera's frame: NaN where there is no head pose (T, 4, 4)."""
    if frame == "camera":
        return joints.astype(np.float32)
    known = np.isfinite(T_world_camera).all((-1, -2))
    T_camera_world = rigid.invert(np.where(known[:, None, None], T_world_camera, np.eye(4)))
    return np.where(known[:, None, None], rigid.apply(T_camera_world, joints), np.nan).astype(np.float32)
