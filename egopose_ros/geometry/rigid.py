"""Rigid transforms and rotations on NumPy arrays with any leading axes. Quaternions here are x y z w, as in ROS."""

from __future__ import annotations

import numpy as np


def transform(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Join (..., 3, 3) and (..., 3) to (..., 4, 4)."""
    batch = np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    T = np.zeros((*batch, 4, 4))
    T[..., :3, :3] = rotation
    T[..., :3, 3] = translation
    T[..., 3, 3] = 1.0
    return T


def invert(T_a_b: np.ndarray) -> np.ndarray:
    """Return T_b_a of rigid transforms (..., 4, 4)."""
    R_b_a = np.swapaxes(T_a_b[..., :3, :3], -1, -2)
    return transform(R_b_a, -(R_b_a @ T_a_b[..., :3, 3:])[..., 0])


def apply(T_a_b: np.ndarray, points_b: np.ndarray) -> np.ndarray:
    """Take points (..., N, 3) to a."""
    return points_b @ np.swapaxes(T_a_b[..., :3, :3], -1, -2) + T_a_b[..., None, :3, 3]


def matrix_from_quaternion(xyzw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations (..., 3, 3) and whether each quaternion (..., 4) has a usable norm (within 1 % of one)."""
    xyzw = np.asarray(xyzw, np.float64)
    norm = np.linalg.norm(xyzw, axis=-1)
    valid = np.isfinite(norm) & (np.abs(norm - 1.0) < 0.01)
    x, y, z, w = np.moveaxis(xyzw / np.where(valid, norm, 1.0)[..., None], -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return _matrices(rows), valid


def quaternion_from_matrix(R: np.ndarray) -> np.ndarray:
    """Return unit quaternions (..., 4), w >= 0, of rotations (..., 3, 3), by the largest of four candidates."""
    m = np.asarray(R, np.float64)
    trace = np.trace(m, axis1=-2, axis2=-1)
    d0, d1, d2 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xx, yy, zz, ww = 1 + 2 * d0 - trace, 1 + 2 * d1 - trace, 1 + 2 * d2 - trace, 1 + trace
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    rows = ((xx, xy, xz, xw), (xy, yy, yz, yw), (xz, yz, zz, zw), (xw, yw, zw, ww))
    candidates = _matrices(rows)  # (..., 4, 4), each row 4 q_i q
    best = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), -1)[..., None, None]
    q = np.take_along_axis(candidates, best, -2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., 3:] < 0, -q, q)


def _matrices(rows: tuple[tuple[np.ndarray, ...], ...]) -> np.ndarray:
    """Return (..., N, N) of N x N entries (...); stacking them takes twice as long, for every pose of a live node."""
    result = np.empty((*rows[0][0].shape, len(rows), len(rows)))
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            result[..., i, j] = entry
    return result


def slerp(q0: np.ndarray, q1: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Interpolate unit quaternions (..., 4) on the shorter arc; fraction (...) in 0..1."""
    fraction = np.asarray(fraction, np.float64)[..., None]
    dot = np.sum(q0 * q1, -1, keepdims=True)
    q1 = np.where(dot < 0, -q1, q1)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    near = angle < 1e-6
    sine = np.where(near, 1.0, np.sin(angle))
    a = np.where(near, 1.0 - fraction, np.sin((1.0 - fraction) * angle) / sine)
    b = np.where(near, fraction, np.sin(fraction * angle) / sine)
    q = a * q0 + b * q1
    return q / np.linalg.norm(q, axis=-1, keepdims=True)
