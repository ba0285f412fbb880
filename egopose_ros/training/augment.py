"""What training does to cached frames: exact changes of geometry, the error of a calibration, changes of appearance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import SMPL22
from egopose_ros.training import appearance
from egopose_ros.training.config import AugmentConfig

_CENTRE = CANONICAL.centre[0]
_MIRROR_CAMERA = np.diag([-1.0, 1.0, 1.0])
_MIRROR_BODY = np.diag([1.0, -1.0, 1.0])
_SWAP = list(SMPL22.mirror)


@dataclass(frozen=True)
class Sample:
    """A clip of T frames ready for a batch; fields as in `cache.CachedClip`, decoded."""

    images: np.ndarray
    """(T, V, S, S, 3) uint8, the canonical image at any size"""
    stamps_ns: np.ndarray
    joints: np.ndarray
    rotations: np.ndarray
    joints_px: np.ndarray
    visible: np.ndarray
    T_reference_camera: np.ndarray
    T_world_reference: np.ndarray
    gravity_reference: np.ndarray
    """(T, 3) float64, unit vector downwards, with the error of a sensor"""
    actions: np.ndarray
    """(T,) int64, numbers in `synth.motion.clip.ACTIONS`, -1 where unknown"""


@dataclass(frozen=True)
class LabelledSample(Sample):
    """A clip with a teacher's labels in place of truth."""

    trusted: np.ndarray
    """(T, J) bool, joints that pass the gate"""
    covariance: np.ndarray
    """(T, J, 3, 3) float32 [m^2]; NaN where unknown"""


def augment(sample: Sample, config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Return a changed copy; the same generator state gives the same change."""
    if rng.random() < config.mirror:
        sample = mirror(sample)
    views = sample.images.shape[1]
    turns = np.radians(config.roll_deg) * rng.standard_normal(views)
    sample = roll(sample, turns, np.exp(config.lens * rng.standard_normal(views)))
    appearance.change(sample.images, config, rng)  # in place: the images are the copy that `roll` made
    axis = rng.standard_normal(3)
    error = axis / np.linalg.norm(axis) * np.radians(config.gravity_deg) * rng.standard_normal()
    tilted = sample.gravity_reference + np.cross(error, sample.gravity_reference)
    return dataclasses.replace(
        sample, gravity_reference=tilted / np.linalg.norm(tilted, axis=-1, keepdims=True)
    )


def mirror(sample: Sample) -> Sample:
    """Swap left and right: images, joints, rotations and the rig, whose views change places."""
    images = sample.images[:, ::-1, :, ::-1]
    # The last view becomes the first: a left-first stereo rig stays left-first.
    T_old_new = sample.T_reference_camera[-1]
    R = T_old_new[:3, :3].T
    flip = rigid.transform(_MIRROR_CAMERA, np.zeros(3))
    joints = (sample.joints - T_old_new[:3, 3]) @ R.T @ _MIRROR_CAMERA
    joints_px = sample.joints_px[:, ::-1][:, :, _SWAP].copy()
    joints_px[..., 0] = 2 * _CENTRE - joints_px[..., 0]
    world = rigid.transform(_MIRROR_BODY, np.zeros(3))
    return dataclasses.replace(
        sample,
        images=images,
        joints=joints[:, _SWAP],
        rotations=_MIRROR_CAMERA @ R @ sample.rotations[:, _SWAP] @ _MIRROR_BODY,
        joints_px=joints_px,
        visible=sample.visible[:, ::-1][:, :, _SWAP],
        T_reference_camera=flip @ rigid.invert(T_old_new) @ sample.T_reference_camera[::-1] @ flip,
        T_world_reference=world @ sample.T_world_reference @ T_old_new @ flip,
        gravity_reference=sample.gravity_reference @ R.T @ _MIRROR_CAMERA,
        **_teacher(sample, _MIRROR_CAMERA @ R, _SWAP),
    )


def roll(sample: Sample, angles: np.ndarray, stretch: np.ndarray | float = 1.0) -> Sample:
    """Turn each view (V,) about its optical axis: a turn of the canonical image about its centre, and nothing else.

    `stretch` (V,) is how many times as far from the axis a wrong calibration takes every ray for: the image is as much
    larger, the truth is not.
    """
    turns = np.stack([_about_axis(angle) for angle in angles])  # R_new_old, (V, 3, 3)
    images = np.empty(sample.images.shape, np.uint8)
    side = images.shape[2]
    centre = np.full(2, (side - 1) / 2)
    in_image = np.broadcast_to(stretch, angles.shape)[:, None, None] * turns[:, :2, :2]
    for view, turn in enumerate(in_image):
        matrix = np.concatenate([turn, ((np.eye(2) - turn) @ centre)[:, None]], 1)
        for frame, image in enumerate(sample.images[:, view]):
            cv2.warpAffine(np.ascontiguousarray(image), matrix, (side, side), images[frame, view], cv2.INTER_LINEAR)
    R = turns[0]
    homogeneous = rigid.transform(turns, np.zeros(3))
    return dataclasses.replace(
        sample,
        images=images,
        joints=sample.joints @ R.T,
        rotations=R @ sample.rotations,
        joints_px=np.einsum("vab,tvjb->tvja", in_image, sample.joints_px - _CENTRE) + _CENTRE,
        T_reference_camera=homogeneous[0] @ sample.T_reference_camera @ rigid.invert(homogeneous),
        T_world_reference=sample.T_world_reference @ rigid.invert(homogeneous[0]),
        gravity_reference=sample.gravity_reference @ R.T,
        **_teacher(sample, R, range(SMPL22.size)),
    )


def _teacher(sample: Sample, R_new_old: np.ndarray, order: Sequence[int]) -> dict[str, np.ndarray]:
    """Return a teacher's gate and covariance in new axes, with the joints in a new order; nothing for a true sample."""
    if not isinstance(sample, LabelledSample):
        return {}
    covariance = R_new_old @ sample.covariance[:, order] @ R_new_old.T
    return {"trusted": sample.trusted[:, order], "covariance": covariance.astype(np.float32)}


def _about_axis(angle: float) -> np.ndarray:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
