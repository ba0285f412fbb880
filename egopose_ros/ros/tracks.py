"""Head pose and IMU messages as tracks over time in the head frame, whoever hands the messages over; no ROS needed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from egopose_ros.config import HeadPoseConfig
from egopose_ros.geometry import rigid
from egopose_ros.ros.stamps import FrameLock, to_ns
from egopose_ros.structs import ImuSample
from egopose_ros.window.ring import Lookup, PoseRing, Push, VectorRing


ALIVE_S = 2.0
"""A source that has been silent for this long is not waited for."""


class Problem(NamedTuple):
    """Why a message was not used, or what was assumed for it."""

    reason: str
    text: str


def asked(tree: Any, target: str, source: str) -> tuple[np.ndarray, Lookup]:
    """Return T_target_source by the newest transforms; the identity unless FOUND, without a tree unconnected."""
    return (np.eye(4), Lookup.UNCONNECTED) if tree is None else tree.lookup(target, source, None, 0)


def mounting(tree: Any, head: str, camera: str) -> tuple[np.ndarray | None, Problem | None]:
    """Return T_head_camera by TF, or None and what is assumed in its place."""
    T, lookup = asked(tree, head, camera)
    if lookup is Lookup.FOUND:
        return T, None
    text = f"TF has no {head} -> {camera} ({lookup.value}): the camera is taken to be at its nominal place"
    return None, Problem(lookup.name.lower(), text)


class HeadTrack:
    """T_world_head from odometry, pose or pose-with-covariance messages."""

    CAPACITY = 4096

    def __init__(self, settings: HeadPoseConfig, tree: Any) -> None:
        """`tree` answers `lookup` as TransformTree does, None without TF."""
        self._settings = settings
        self._tree = tree
        self._ring = PoseRing(self.CAPACITY)
        self._lock = FrameLock()
        self._T_body_head: dict[str, np.ndarray] = {}
        self._unplaced = False
        self.assumption: Problem | None = None
        """what the last message had to be taken for, because TF does not tell"""

    @property
    def global_frame(self) -> str:
        """frame_id of the poses, empty before the first."""
        return self._lock.identity[0] if isinstance(self._lock.identity, tuple) else ""

    def clear(self) -> None:
        self._ring.clear()

    def at(self, stamp_ns: int, max_gap_ns: int) -> tuple[np.ndarray, Lookup]:
        """Return T_world_head (4, 4) at a stamp, the identity unless FOUND."""
        return self._ring.at(stamp_ns, max_gap_ns)

    def take(self, message: Any, now_s: float) -> Problem | None:
        """Keep a pose; otherwise return why not."""
        body = getattr(message, "child_frame_id", "").lstrip("/")
        pose = message.pose if self._settings.source == "pose" else message.pose.pose
        p, q = pose.position, pose.orientation
        values = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])
        stamp_ns, frame = to_ns(message.header.stamp), message.header.frame_id.lstrip("/")
        if stamp_ns <= 0:
            return Problem("stamp_zero", "expected a stamp, got 0")
        if not np.isfinite(values).all():
            return Problem("not_finite", f"expected finite numbers, got {values.tolist()}")
        rotation, unit = rigid.matrix_from_quaternion(values[3:])
        if not unit:
            return Problem("bad_quaternion", f"expected a quaternion of norm 1, got {values[3:].tolist()}")
        if not frame and not self._settings.global_frame:
            text = "expected frame_id to name the global frame, got none; head_pose.global_frame names it"
            return Problem("no_frame", text)
        previous = self._lock.identity
        if not self._lock.admits((frame, body), now_s):
            text = f"expected poses of '{previous[1]}' in '{previous[0]}', got '{body}' in '{frame}'"
            return Problem("other_frame", text)
        if previous not in (None, self._lock.identity):
            self._ring.clear()
        self.assumption = None
        T_world_head = self._to_global(frame) @ rigid.transform(rotation, values[:3]) @ self._extrinsics(body)
        quaternion = rigid.quaternion_from_matrix(T_world_head[:3, :3])
        if self._ring.push_pose(stamp_ns, T_world_head[:3, 3], quaternion) is Push.REPEATED:
            return Problem("stamp_repeated", "expected a new stamp, got one that is there already")
        return None

    def _to_global(self, frame: str) -> np.ndarray:
        """Return T_global_frame by the newest TF; the identity where poses are in it, or TF does not know it."""
        wanted = self._settings.global_frame.lstrip("/")
        if not frame or wanted in ("", frame):
            return np.eye(4)
        T, lookup = asked(self._tree, wanted, frame)
        if lookup is not Lookup.FOUND:
            text = f"TF has no {wanted} -> {frame} ({lookup.value}): '{frame}' is taken to be the global frame"
            self.assumption = Problem(f"global {lookup.name}".lower(), text)
            self._unplaced = True
        elif self._unplaced:  # between what was taken for the global frame and what is lie poses that never were
            self._ring.clear()
            self._unplaced = False
        return T

    def _extrinsics(self, body: str) -> np.ndarray:
        """Return T_body_head by TF; the identity where TF does not know it."""
        head = self._settings.head_frame
        if self._tree is None or body in ("", head):
            return np.eye(4)
        if body not in self._T_body_head:
            T, lookup = asked(self._tree, body, head)
            if lookup is not Lookup.FOUND:
                text = f"TF has no {body} -> {head} ({lookup.value}): '{body}' is taken to be the head frame"
                self.assumption = Problem(lookup.name, text)
                return T
            self._T_body_head[body] = T
        return self._T_body_head[body]


class ImuTrack:
    """Angular velocity and specific force in the head frame."""

    CAPACITY = 2048
    SPACING_NS = 2_000_000
    """readings closer than this to the one before tell nothing more"""

    def __init__(self, head_frame: str, tree: Any) -> None:
        self._head = head_frame
        self._tree = tree
        self._ring = VectorRing(self.CAPACITY, 6)
        self._newest_ns = 0
        self._R_head_imu: dict[str, np.ndarray] = {}
        self.assumption: Problem | None = None
        """what the last message had to be taken for, because TF does not tell"""

    @property
    def newest_ns(self) -> int | None:
        return self._ring.newest_ns

    def clear(self) -> None:
        self._ring.clear()

    def at(self, stamp_ns: int, max_gap_ns: int) -> ImuSample | None:
        """Return the reading at a stamp, None without one."""
        values, lookup = self._ring.at(stamp_ns, max_gap_ns)
        return ImuSample(values[:3], values[3:]) if lookup is Lookup.FOUND else None

    def admits(self, stamp_ns: int) -> bool:
        """Say whether a reading is worth taking."""
        if 0 < stamp_ns - self._newest_ns < self.SPACING_NS:
            return False
        self._newest_ns = stamp_ns
        return True

    def take(self, message: Any) -> Problem | None:
        """Keep a reading; otherwise return why not."""
        w, a = message.angular_velocity, message.linear_acceleration
        values = np.array([w.x, w.y, w.z, a.x, a.y, a.z])
        stamp_ns = to_ns(message.header.stamp)
        # REP 145: a covariance that begins with -1 marks a quantity that is not measured.
        unmeasured = message.angular_velocity_covariance[0] == -1 or message.linear_acceleration_covariance[0] == -1
        if stamp_ns <= 0 or unmeasured or not np.isfinite(values).all():
            text = "expected a stamp, finite angular velocity and linear acceleration, got a message without"
            return Problem("invalid", text)
        R = self._rotation(message.header.frame_id)
        self._ring.push(stamp_ns, np.concatenate([R @ values[:3], R @ values[3:]]))
        return None

    def _rotation(self, frame: str) -> np.ndarray:
        """Return R_head_imu by TF; the identity where TF does not know it."""
        self.assumption = None
        if frame not in self._R_head_imu:
            T, lookup = asked(self._tree, self._head, frame)
            if lookup is not Lookup.FOUND:
                text = f"TF has no {self._head} -> '{frame}' ({lookup.value}): its axes are taken to be those of the head"
                self.assumption = Problem(lookup.name.lower(), text)
                return np.eye(3)
            self._R_head_imu[frame] = T[:3, :3]
        return self._R_head_imu[frame]
