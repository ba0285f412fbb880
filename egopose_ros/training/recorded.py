"""Recorded frames and their poses as training clips: images in the canonical camera, poses in its axes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.remap import Remapper
from egopose_ros.camera.rig import Rig
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import BodyPose, Frame, Visibility
from egopose_ros.training import cache
from egopose_ros.training.labelled import LabelledClip
from egopose_ros.window.gravity import down_in, follow_up

_SMALLEST = 1e-6
"""[m^2] variance that a pose's covariance is given at least"""
_FLATTEST = 1e-5
"""of its variances the smallest to the largest: flatter ones are rounded away in float32"""


class ClipMaker:
    """Collects frames of a rig and makes clips of them, in the frame of its first canonical camera."""

    def __init__(self, rig: Rig, views: int, max_gap_s: float) -> None:
        cameras = rig.cameras[:views]
        self._remappers = [Remapper(camera.model, camera.R_camera_canonical) for camera in cameras]
        self._R_camera_reference = cameras[0].R_camera_canonical
        self._head_known = rig.head_known
        self._T_head_reference = cameras[0].T_head_canonical
        T_head_canonical = np.stack([camera.T_head_canonical for camera in cameras])
        self._T_reference_camera = rigid.invert(self._T_head_reference) @ T_head_canonical
        self._max_gap_s = max_gap_s
        self._up_head: np.ndarray | None = None
        self._before_ns: int | None = None
        self._start()

    def _start(self) -> None:
        self._images: list[list[np.ndarray]] = []
        self._stamps_ns: list[int] = []
        self._poses: list[BodyPose | None] = []
        self._T_world_reference: list[np.ndarray] = []
        self._gravity: list[np.ndarray] = []

    @property
    def length(self) -> int:
        return len(self._stamps_ns)

    def add(self, frame: Frame, pose: BodyPose | None) -> None:
        """Take a frame and its pose of the skeleton smpl22, if it has one; NaN where a joint has none."""
        self._images.append([r.numpy(image) for r, image in zip(self._remappers, frame.images)])
        self._stamps_ns.append(frame.stamp_ns)
        self._poses.append(pose)
        T = frame.T_world_head if self._head_known else None
        self._T_world_reference.append(np.full((4, 4), np.nan) if T is None else T @ self._T_head_reference)
        self._gravity.append(self._down(frame))

    def _down(self, frame: Frame) -> np.ndarray:
        """Return gravity (3,) in the newest frame as `Pipeline` has it, NaN where unknown."""
        self._up_head = follow_up(self._up_head, self._before_ns, frame, self._max_gap_s)
        self._before_ns = frame.stamp_ns
        R = self._T_world_reference[-1][:3, :3]
        up_head = self._up_head if self._head_known else None
        down = down_in(R if np.isfinite(R).all() else None, up_head, self._T_head_reference[:3, :3])
        return np.full(3, np.nan) if down is None else down

    def clip(self) -> Iterator[LabelledClip]:
        """Yield the clip of the frames since the last one; nothing where none has a pose."""
        if any(pose is not None for pose in self._poses):
            yield self._clip()
        self._start()

    def _clip(self) -> LabelledClip:
        size, R = SMPL22.size, self._R_camera_reference
        joints = self._rows("joints_camera", (size, 3)) @ R
        covariance = R.T @ self._rows("covariance_camera", (size, 3, 3)) @ R
        pixels, inside = self._project(joints)
        jpeg, ends = cache.compress(np.array(self._images))
        return LabelledClip(
            jpeg=jpeg,
            ends=ends,
            stamps_ns=np.array(self._stamps_ns, np.int64),
            joints=joints.astype(np.float32),
            rotations=(R.T @ self._rows("rotations_camera", (size, 3, 3))).astype(np.float32),
            joints_px=pixels.astype(np.float32),
            # Nobody knows what is seen of a joint: the smaller weight of a hidden one.
            visible=np.where(inside, Visibility.OCCLUDED, Visibility.OUT_OF_VIEW).astype(np.uint8),
            T_reference_camera=self._T_reference_camera,
            T_world_reference=np.stack(self._T_world_reference),
            covariance=_bounded(covariance, self._stamps_ns).astype(np.float32),
            confidence=self._rows("confidence", (size,)).astype(np.float32),
            gravity_reference=np.stack(self._gravity),
        )

    def _rows(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a field of every pose (T, ...) float64, NaN where there is none."""
        values = [None if pose is None else getattr(pose, name) for pose in self._poses]
        return np.stack([np.full(shape, np.nan) if value is None else value.astype(np.float64) for value in values])

    def _project(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return joints (T, J, 3) in the canonical images (T, V, J, 2), and where they lie inside."""
        T_camera_reference = rigid.invert(self._T_reference_camera)
        points = np.einsum("vab,tjb->tvja", T_camera_reference[:, :3, :3], joints) + T_camera_reference[:, None, :3, 3]
        pixels, valid = (part.numpy() for part in CANONICAL.project(torch.from_numpy(points)))
        limit = np.array(CANONICAL.size) - 0.5
        return pixels, valid & ((pixels >= -0.5) & (pixels <= limit)).all(-1)


def _bounded(covariance: np.ndarray, stamps_ns: list[int]) -> np.ndarray:
    """Return covariances (T, J, 3, 3) that can be factored in float32; ValueError for one that is none."""
    known = np.isfinite(covariance).all((-1, -2))
    variances, axes = np.linalg.eigh(np.where(known[..., None, None], covariance, np.eye(3)))
    largest = variances[..., -1:]
    wrong = (variances[..., 0] < -_FLATTEST * np.abs(largest[..., 0])) | (largest[..., 0] <= 0)
    if wrong.any():
        frame, joint = np.argwhere(wrong)[0]
        raise ValueError(
            f"label at {stamps_ns[frame]} ns, {SMPL22.joints[joint]}: expected a covariance with variances above 0, "
            f"got {variances[frame, joint].tolist()} m^2"
        )
    variances = np.maximum(variances, np.maximum(_SMALLEST, _FLATTEST * largest))
    bounded = axes * variances[..., None, :] @ np.swapaxes(axes, -1, -2)
    return np.where(known[..., None, None], bounded, np.nan)
