"""Errors of predicted joints. Arrays are (..., J, 3) in one frame; results are in the unit of the joints.

A joint whose truth is not finite does not count; a frame without any counted joint is NaN.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from egopose_ros.geometry.alignment import procrustes
from egopose_ros.skeleton import MPI15, MPI15_MEAN

AUC_THRESHOLDS = tuple(np.linspace(0.0, 0.15, 31).tolist())
"""[m]"""
_ALIGNABLE = 3
"""known joints that an alignment leaves an error of"""


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

    NaN with fewer than three known joints, which any pose can be laid upon. `scale=False` aligns rigidly: the variant
    that some papers of the field report.
    """
    predicted = np.asarray(predicted, np.float64)
    joint_errors(predicted, truth)
    known = np.isfinite(truth).all(-1) & np.isfinite(predicted).all(-1)
    aligned = procrustes(predicted, truth, known, scale=scale).apply(predicted)
    return np.where(known.sum(-1) >= _ALIGNABLE, _mean_over_joints(joint_errors(aligned, truth), truth), np.nan)


def root_aligned(predicted: np.ndarray, truth: np.ndarray, roots: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return both poses moved so that the mean of their root joints is the origin."""
    rows = list(roots)
    return tuple(pose - np.asarray(pose)[..., rows, :].mean(-2, keepdims=True) for pose in (predicted, truth))


def ba_mpjpe(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the bone-length-aligned error (...) [m] of each frame of 15-joint MPI poses (SceneEgo's protocol).

    Both skeletons take the bone lengths of the mean skeleton, directions kept, then Procrustes with scale. A joint
    without truth leaves the joints below it without truth too.
    """
    if np.shape(truth)[-2] != MPI15.size:
        raise ValueError(f"expected {MPI15.size} joints of {MPI15.name}, got {np.shape(truth)[-2]}")
    return pa_mpjpe(_mean_bones(predicted), _mean_bones(truth))


def pck(predicted: np.ndarray, truth: np.ndarray, threshold: float = 0.15) -> float:
    """Return the share of joints that are at most `threshold` from their truth (3DPCK; [m] where the joints are)."""
    within, known = count_within(predicted, truth, (threshold,))
    return float(within[0] / known) if known else float("nan")


def auc(predicted: np.ndarray, truth: np.ndarray, thresholds: Sequence[float] = AUC_THRESHOLDS) -> float:
    """Return the mean 3DPCK over equally spaced thresholds."""
    within, known = count_within(predicted, truth, thresholds)
    return float(np.mean(within / known)) if known else float("nan")


def count_within(predicted: np.ndarray, truth: np.ndarray, thresholds: Sequence[float]) -> tuple[np.ndarray, int]:
    """Return how many joints are at most each threshold from their truth, and how many there are."""
    errors = joint_errors(predicted, truth)
    known = errors[np.broadcast_to(np.isfinite(truth).all(-1), errors.shape)]
    # NaN compares false: a prediction that is not finite is wrong.
    return np.array([np.count_nonzero(known <= threshold) for threshold in thresholds]), len(known)


def _mean_bones(pose: np.ndarray) -> np.ndarray:
    pose = np.asarray(pose, np.float64)
    result = np.array(pose)
    for parent, child in MPI15.bones:  # parents come before their children
        bone = pose[..., child, :] - pose[..., parent, :]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        direction = bone / np.where(length > 0, length, 1.0)
        wanted = np.linalg.norm(MPI15_MEAN[child] - MPI15_MEAN[parent])
        result[..., child, :] = result[..., parent, :] + wanted * direction
    return result


def _mean_over_joints(errors: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Average over the joints that have truth: a prediction that is not finite makes its frame NaN, not better."""
    known = np.isfinite(truth).all(-1)
    known = np.broadcast_to(known, errors.shape)
    count = known.sum(-1)
    total = np.sum(np.where(known, errors, 0.0), -1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
