"""Metrics of how poses move: velocity, acceleration, jitter, feet that slide, feet below the floor.

Joints are (T, J, 3) in metres at a constant rate, an array or what gives one for a slice of its rows; a NaN in the truth
leaves out what depends on it.
"""

from __future__ import annotations

from typing import Callable, Iterable

import numpy as np

from egopose_ros.evaluation.rows import Derived, gathered, mean, slices

Joints = np.ndarray | Derived


def columns(joints: Joints, some: list[int]) -> Derived:
    """Return some of the joints."""
    return Derived((len(joints), len(some), 3), lambda rows: joints[rows][:, some])


def measurable(truth: Joints) -> bool:
    """Return whether joints are long enough for every metric here, and known somewhere."""
    return len(truth) > 3 and any(np.isfinite(truth[rows]).any() for rows in slices(len(truth)))


def mpjve(predicted: Joints, truth: Joints, fps: float) -> float:
    """Return the mean error of the joints' velocity [m/s], T >= 2 (HMD-Poser's definition)."""
    return _mean_difference_error(predicted, truth, 1) * fps


def acceleration_error(predicted: Joints, truth: Joints, fps: float) -> float:
    """Return the mean error of the joints' acceleration [m/s^2], T >= 3."""
    return _mean_difference_error(predicted, truth, 2) * fps**2


def jitter(joints: Joints, fps: float) -> float:
    """Return the mean third derivative [m/s^3], T >= 4 (HMD-Poser's definition); of the truth too, to compare with."""
    return _mean_change(len(joints), lambda rows: joints[rows], 3) * fps**3


def foot_skate(feet: Joints, contact: np.ndarray, fps: float, up: int = 2) -> float:
    """Return the mean horizontal speed [m/s] of feet (T, F, 3) between frames that both have contact (T, F).

    NaN where no foot stays in contact.
    """

    def planted() -> Iterable[np.ndarray]:
        for rows in slices(len(feet), 1):
            horizontal = np.delete(feet[rows], up, axis=-1)
            speed = np.linalg.norm(np.diff(horizontal, axis=0), axis=-1) * fps
            yield speed[contact[rows][1:] & contact[rows][:-1]]

    return mean(planted())


def ground_penetration(joints: Joints, floor_height: float = 0.0, up: int = 2) -> float:
    """Return how far the lowest joint of a frame is below the floor [m], mean over frames."""
    lowest = (np.nanmin(joints[rows][..., up], axis=-1) for rows in slices(len(joints)))
    return mean(np.maximum(0.0, floor_height - heights) for heights in lowest)


def speeds(joints: Joints, fps: float) -> np.ndarray:
    """Return the speed (T, J) [m/s] at which each joint came to where it is; at first, at which it leaves."""
    if len(joints) < 2:
        return np.full(joints.shape[:2], np.nan)
    found = gathered(np.linalg.norm(np.diff(joints[rows], axis=0), axis=-1) * fps for rows in slices(len(joints), 1))
    return np.concatenate([found[:1], found])


def _mean_difference_error(predicted: Joints, truth: Joints, order: int) -> float:
    if predicted.shape != truth.shape:
        raise ValueError(f"expected equal shapes, got {predicted.shape} and {truth.shape}")
    return _mean_change(len(predicted), lambda rows: predicted[rows] - truth[rows], order)


def _mean_change(frames: int, get: Callable[[slice], np.ndarray], order: int) -> float:
    """Return the mean length of the differences of some order of vectors (T, J, 3)."""
    if frames <= order:
        raise ValueError(f"expected more than {order} frames, got {frames}")
    return mean(np.linalg.norm(np.diff(get(rows), n=order, axis=0), axis=-1) for rows in slices(frames, order))
