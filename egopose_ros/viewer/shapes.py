"""Colours of the joints, and how bones, ellipsoids and a camera are placed in the 3D scene, as plain arrays."""

from __future__ import annotations

import numpy as np

from egopose_ros.geometry.rigid import quaternion_from_matrix

LEFT, RIGHT, MIDLINE = (10, 142, 190), (236, 98, 20), (132, 140, 160)
TRUTH = (70, 190, 90)
"""RGB"""


def side_colours(joints: tuple[str, ...]) -> np.ndarray:
    """Return a colour (J, 3) uint8 for each joint, by side."""
    by_side = {"left": LEFT, "right": RIGHT}
    return np.array([by_side.get(joint.split("_")[0], MIDLINE) for joint in joints], np.uint8)


def wxyz_from_matrix(R: np.ndarray) -> np.ndarray:
    """Return quaternions (..., 4) in the order that viser takes."""
    return np.roll(quaternion_from_matrix(R), 1, axis=-1)


def along(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the quaternions wxyz (N, 4) that turn +z from start to end, both (N, 3), and their distance (N,)."""
    direction = end - start
    length = np.linalg.norm(direction, axis=-1)
    extended = (length > 1e-9)[:, None]
    z = np.where(extended, direction / np.where(extended, length[:, None], 1.0), (0.0, 0.0, 1.0))
    x = np.cross(np.where(np.abs(z[:, 2:]) < 0.9, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)), z)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return wxyz_from_matrix(np.stack([x, np.cross(z, x), z], -1)), length


def ellipsoids(covariance: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return orientations wxyz (N, 4) and half axes (N, 3) of covariances (N, 3, 3); half axes 0 where not finite."""
    finite = np.isfinite(covariance).all((-1, -2))
    variance, axes = np.linalg.eigh(np.where(finite[:, None, None], covariance, np.eye(3)))
    axes[..., 0] *= np.linalg.det(axes)[:, None]  # eigenvectors may come mirrored
    return wxyz_from_matrix(axes), np.where(finite[:, None], sigma * np.sqrt(np.maximum(variance, 0.0)), 0.0)


def frustum(half_angle: float, size: float) -> np.ndarray:
    """Return line segments (N, 2, 3) of a round field of view about +z, with a tick at the top of the image."""
    angle = np.linspace(0.0, 2 * np.pi, 33)
    radius, z = size * np.sin(half_angle), size * np.cos(half_angle)
    rim = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full_like(angle, z)], -1)
    tick = np.array([[-0.25, -1.0], [0.0, -1.35], [0.25, -1.0]]) * radius
    tick = np.concatenate([tick, np.full((3, 1), z)], -1)
    circle = np.stack([rim[:-1], rim[1:]], 1)
    spokes = np.stack([np.zeros((8, 3)), rim[:-1:4]], 1)
    return np.concatenate([circle, spokes, np.stack([tick[:-1], tick[1:]], 1)]).astype(np.float32)
