"""Closest rotation, translation and scale between two sets of points, on NumPy arrays with any leading axes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from egopose_ros.geometry.rigid import transform


class Similarity(NamedTuple):
    """target ≈ scale * R_target_source @ source + translation."""

    scale: np.ndarray
    """(...)"""
    R_target_source: np.ndarray
    """(..., 3, 3), determinant +1"""
    translation: np.ndarray
    """(..., 3), in the target's frame and unit"""

    def apply(self, points_source: np.ndarray) -> np.ndarray:
        """Take points (..., N, 3) to the target's frame."""
        rotated = points_source @ np.swapaxes(self.R_target_source, -1, -2)
        return self.scale[..., None, None] * rotated + self.translation[..., None, :]

    @property
    def T_target_source(self) -> np.ndarray:
        """(..., 4, 4) without the scale."""
        return transform(self.R_target_source, self.translation)


def nearest_rotation(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotations R nearest to matrices M (..., 3, 3), never a mirror, and tr(R^T M) (...)."""
    U, singular, Vt = np.linalg.svd(matrices)
    signs = np.ones_like(singular)
    signs[..., 2] = np.where(np.linalg.det(U) * np.linalg.det(Vt) < 0, -1.0, 1.0)
    return (U * signs[..., None, :]) @ Vt, np.sum(singular * signs, -1)


def procrustes(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None, *, scale: bool = True
) -> Similarity:
    """Return the similarity that minimises the weighted squared distance of source to target, both (..., N, 3).

    Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991, equations 39-43.
    Points of weight zero may be anything, NaN included. Never mirrors. Points that leave the rotation open (fewer
    than three, or on a line) give one of the equally good ones; a source without extent keeps scale one.
    """
    source, target = np.broadcast_arrays(np.asarray(source, np.float64), np.asarray(target, np.float64))
    weights = np.ones(source.shape[:-1]) if weights is None else np.broadcast_to(weights, source.shape[:-1])
    used = (weights > 0)[..., None]
    source, target = np.where(used, source, 0.0), np.where(used, target, 0.0)
    total = np.sum(weights, -1, keepdims=True)
    share = (weights / np.where(total > 0, total, 1.0))[..., None]  # (..., N, 1)

    mean_source, mean_target = np.sum(share * source, -2), np.sum(share * target, -2)
    centred_source, centred_target = source - mean_source[..., None, :], target - mean_target[..., None, :]
    covariance = np.swapaxes(share * centred_target, -1, -2) @ centred_source
    R, overlap = nearest_rotation(covariance)
    factor = np.ones(R.shape[:-2])
    if scale:
        variance = np.sum(share * centred_source**2, (-2, -1))
        factor = np.where(variance > 0, overlap / np.where(variance > 0, variance, 1.0), 1.0)
    translation = mean_target - factor[..., None] * (R @ mean_source[..., None])[..., 0]
    return Similarity(factor, R, translation)
