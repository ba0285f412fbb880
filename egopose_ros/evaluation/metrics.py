"""Errors of predicted joints. Arrays are (..., J, 3) in one frame; results are in the unit of the joints.

A joint whose truth is not finite does not count; a frame without any counted joint is NaN.
"""

from __future__ import annotations

import numpy as np

from egopose_ros.geometry.alignment import procrustes


def joint_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the distance (..., J) of each joint to its truth, NaN where there is no truth."""
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.ndim < 2 or truth.ndim < 2 or predicted.shape[-2:] != truth.shape[-2:] or truth.shape[-1] != 3:
        raise ValueError(f"expected joints (..., J, 3) of one skeleton, got {predicted.shape} and {truth.shape}")
    return np.linalg.norm(predicted - truth, axis=-1)


def mpjpe(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean per-joint position error (...) of each frame."""
    return _mean_over_joints(joint_errors(predicted, truth), truth)


def pa_mpjpe(predicted: np.ndarray, truth: np.ndarray, *, scale: bool = True) -> np.ndarray:
    """Return the error (...) of each frame after the Procrustes alignment of its prediction to its truth.

    `scale=False` aligns rigidly: the variant that some papers of the field report.
    """
    predicted = np.asarray(predicted, np.float64)
    joint_errors(predicted, truth)
    known = np.isfinite(truth).all(-1) & np.isfinite(predicted).all(-1)
    aligned = procrustes(predicted, truth, known, scale=scale).apply(predicted)
    return _mean_over_joints(joint_errors(aligned, truth), truth)


def _mean_over_joints(errors: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Average over the joints that have truth: a prediction that is not finite makes its frame NaN, not better."""
    known = np.isfinite(truth).all(-1)
    known = np.broadcast_to(known, errors.shape)
    count = known.sum(-1)
    total = np.sum(np.where(known, errors, 0.0), -1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
