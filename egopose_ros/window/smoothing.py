"""Calm poses: the One Euro filter over the newest of them (Casiez, Roussel and Vogel, CHI 2012).

    y_t = y_{t-1} + a(f_t) (x_t - y_{t-1}),    a(f) = r / (1 + r) with r = 2 pi f dt,    f_t = cutoff + slope |v_t|

v_t is the velocity, itself filtered with a cutoff of 1 Hz: what keeps still is averaged, what moves fast is let
through. The filter begins at the oldest of the last MEMORY poses, for each pose anew, so that a stream depends on its
last frames alone and forgets a lost one. (On validation clips of 10 to 30 Hz eight poses do what all do.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egopose_ros.config import SmoothingConfig
from egopose_ros.geometry.alignment import nearest_rotation

MEMORY = 8
"""poses"""
_VELOCITY_CUTOFF_HZ = 1.0
_LEVER_M = 0.3
"""A joint that turns by 1 rad/s is taken to move as one at the end of a limb of this length."""


@dataclass(frozen=True)
class Reading:
    """A pose as the network said it, in a frame that does not matter here."""

    stamp_ns: int
    joints: np.ndarray
    """(J, 3) [m]"""
    rotations: np.ndarray | None
    """(J, 3, 3)"""


def remember(readings: tuple[Reading, ...], newest: Reading) -> tuple[Reading, ...]:
    """Return the newest MEMORY readings; one of the same stamp replaces what was said of it before."""
    if readings and readings[-1].stamp_ns == newest.stamp_ns:
        readings = readings[:-1]
    return (*readings, newest)[-MEMORY:]


def smooth(readings: Sequence[Reading], config: SmoothingConfig) -> tuple[np.ndarray, np.ndarray | None]:
    """Return joints (J, 3) float32 and rotations (J, 3, 3) float32 of the last of some readings, of rising stamps."""
    newest = readings[-1]
    if len(readings) == 1:
        return newest.joints, newest.rotations
    seconds = np.diff([reading.stamp_ns for reading in readings]) * 1e-9
    joints = _one_euro(seconds, np.stack([reading.joints for reading in readings]), config)
    if newest.rotations is None:
        return joints.astype(np.float32), None
    turned = np.stack([reading.rotations.reshape(-1, 9) for reading in readings])
    # A turn by a small angle changes the matrix by sqrt(2) times that, by its Frobenius norm.
    turned = _one_euro(seconds, turned * (_LEVER_M / math.sqrt(2.0)), config)
    return joints.astype(np.float32), nearest_rotation(turned.reshape(-1, 3, 3))[0].astype(np.float32)


def _one_euro(seconds: np.ndarray, values: np.ndarray, config: SmoothingConfig) -> np.ndarray:
    """Filter values (T, J, D), `seconds` (T-1,) apart; return the last (J, D), D being the axes of one speed."""
    steps = np.diff(values, axis=0)
    share = _share(_VELOCITY_CUTOFF_HZ, seconds)
    # The filter of the velocity is the same for all joints: a triangular matrix, dt already divided out.
    left = np.cumprod(1.0 - share)
    velocity = np.tril(left[:, None] / left * (share / seconds)) @ steps.reshape(len(steps), -1)
    speed = np.linalg.norm(velocity.reshape(steps.shape), axis=-1)
    share = _share(config.cutoff_hz + config.cutoff_slope * speed, seconds[:, None])  # (T-1, J)
    # y is a weighted mean: what a reading is worth is its share of what all later ones left.
    left = np.cumprod(1.0 - share[::-1], axis=0)[::-1]
    later = np.concatenate([left[1:], np.ones_like(left[:1])])
    return values[0] * left[0][:, None] + np.einsum("tj,tjd->jd", share * later, values[1:])


def _share(cutoff_hz: float | np.ndarray, seconds: np.ndarray) -> np.ndarray:
    ratio = 2.0 * math.pi * cutoff_hz * seconds
    return ratio / (1.0 + ratio)
