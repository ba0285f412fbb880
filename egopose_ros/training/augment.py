"""What training does to cached frames: exact changes of geometry, and changes of appearance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import SMPL22
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
    sample = roll(sample, np.radians(config.roll_deg) * rng.standard_normal(views))
    sample = dataclasses.replace(sample, images=_appearance(sample.images, config, rng))
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


def roll(sample: Sample, angles: np.ndarray) -> Sample:
    """Turn each view (V,) about its optical axis: a turn of the canonical image about its centre, and nothing else."""
    turns = np.stack([_about_axis(angle) for angle in angles])  # R_new_old, (V, 3, 3)
    images = np.empty(sample.images.shape, np.uint8)
    side = images.shape[2]
    centre = np.full(2, (side - 1) / 2)
    for view, turn in enumerate(turns):
        matrix = np.concatenate([turn[:2, :2], ((np.eye(2) - turn[:2, :2]) @ centre)[:, None]], 1)
        for frame, image in enumerate(sample.images[:, view]):
            cv2.warpAffine(np.ascontiguousarray(image), matrix, (side, side), images[frame, view], cv2.INTER_LINEAR)
    R = turns[0]
    homogeneous = rigid.transform(turns, np.zeros(3))
    return dataclasses.replace(
        sample,
        images=images,
        joints=sample.joints @ R.T,
        rotations=R @ sample.rotations,
        joints_px=np.einsum("vab,tvjb->tvja", turns[:, :2, :2], sample.joints_px - _CENTRE) + _CENTRE,
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


def _appearance(images: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Change light, sharpness and what is covered, alike in all frames of a clip; only noise is new in each.

    In place: the images are the copy that `roll` made.
    """
    side = images.shape[2]
    table = _colour_table(config.colour, rng)
    grey = rng.random() < config.mono
    blur = rng.uniform(0.5, 1.5) * side / CANONICAL.size[0] if rng.random() < config.blur else 0.0
    cover = _cover(side, config, rng)
    sigma = config.noise * rng.random() ** 2
    for image in images.reshape(-1, *images.shape[2:]):
        changed = cv2.LUT(image, table)
        if grey:
            changed = cv2.cvtColor(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if blur:
            changed = cv2.GaussianBlur(changed, (0, 0), blur)
        if sigma > 0.5:
            y, x = rng.integers(0, len(_grain()) - side, 2)
            changed = cv2.addWeighted(changed, 1.0, _grain()[y : y + side, x : x + side], sigma / 32, -4.0 * sigma)
        if cover is not None:
            changed = cv2.copyTo(cover[1], cover[0], changed)
        image[:] = changed
    return images


def _colour_table(spread: float, rng: np.random.Generator) -> np.ndarray:
    """Return a table (256, 1, 3) of gain, white balance, gamma and black level."""
    gain = np.exp(spread * (rng.standard_normal() + 0.3 * rng.standard_normal(3)))
    gamma = np.exp(spread * rng.standard_normal())
    black = 40.0 * spread * rng.standard_normal()
    level = np.linspace(0.0, 1.0, 256)[:, None] ** gamma * 255.0 * gain + black
    return np.clip(level, 0, 255).astype(np.uint8)[:, None]


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """Return normal noise (512, 512, 3) uint8 around 128, of deviation 32; a frame takes any part of it."""
    noise = np.random.default_rng(0).standard_normal((512, 512, 3), np.float32)
    return np.clip(np.rint(128.0 + 32.0 * noise), 0, 255).astype(np.uint8)


def _cover(side: int, config: AugmentConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what covers the image: a mask (S, S) uint8 and its filling, or None."""
    mask = np.zeros((side, side), np.uint8)
    fill = np.zeros((side, side, 3), np.uint8)
    if rng.random() < config.cutout:
        for _ in range(rng.integers(1, 4)):
            centre = tuple(int(value) for value in rng.integers(0, side, 2))
            axes = tuple(int(value * side) for value in rng.uniform(0.02, 0.16, 2))
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            angle = float(rng.uniform(0, 180))
            for target, value in ((mask, 255), (fill, colour)):
                cv2.ellipse(target, centre, axes, angle, 0, 360, value, -1)
    if rng.random() < config.lens_circle:
        circle = np.zeros_like(mask)
        centre = tuple(int(value) for value in np.rint(side * rng.normal(0.5, 0.025, 2)))
        cv2.circle(circle, centre, int(side * rng.uniform(0.36, 0.5)), 255, -1)
        mask[circle == 0] = 255
        fill[circle == 0] = 0
    return (mask, fill) if mask.any() else None
