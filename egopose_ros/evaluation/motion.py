"""Metrics of how poses move: velocity, acceleration, jitter, feet that slide, feet below the floor.

Joints are (..., T, J, 3) in metres at a constant rate; a NaN in the truth leaves out what depends on it.
"""

from __future__ import annotations

import numpy as np


def mpjve(predicted: np.ndarray, truth: np.ndarray, fps: float) -> float:
    """Return the mean error of the joints' velocity [m/s], T >= 2 (HMD-Poser's definition)."""
    return _mean_difference_error(predicted, truth, 1) * fps


def acceleration_error(predicted: np.ndarray, truth: np.ndarray, fps: float) -> float:
    """Return the mean error of the joints' acceleration [m/s^2], T >= 3."""
    return _mean_difference_error(predicted, truth, 2) * fps**2


def jitter(joints: np.ndarray, fps: float) -> float:
    """Return the mean third derivative [m/s^3], T >= 4 (HMD-Poser's definition); of the truth too, to compare with."""
    return _mean_difference_error(joints, np.zeros_like(joints), 3) * fps**3


def foot_skate(feet: np.ndarray, contact: np.ndarray, fps: float, up: int = 2) -> float:
    """Return the mean horizontal speed [m/s] of feet (..., T, F, 3) between frames that both have contact (..., T, F).

    NaN where no foot stays in contact.
    """
    horizontal = np.delete(feet, up, axis=-1)
    speed = np.linalg.norm(np.diff(horizontal, axis=-3), axis=-1) * fps
    planted = contact[..., 1:, :] & contact[..., :-1, :]
    return float(speed[planted].mean()) if planted.any() else float("nan")


def ground_penetration(joints: np.ndarray, floor_height: float = 0.0, up: int = 2) -> float:
    """Return how far the lowest joint of a frame is below the floor [m], mean over frames."""
    return float(np.nanmean(np.maximum(0.0, floor_height - np.nanmin(joints[..., up], axis=-1))))


def _mean_difference_error(predicted: np.ndarray, truth: np.ndarray, order: int) -> float:
    frames = predicted.shape[-3]
    if predicted.shape != truth.shape:
        raise ValueError(f"expected equal shapes, got {predicted.shape} and {truth.shape}")
    if frames <= order:
        raise ValueError(f"expected more than {order} frames, got {frames}")
    return float(np.nanmean(np.linalg.norm(np.diff(predicted - truth, n=order, axis=-3), axis=-1)))
