"""Which way is up, from an IMU: a complementary filter on NumPy."""

from __future__ import annotations

import math

import numpy as np

from egopose_ros.structs import Frame, ImuSample

TIME_CONSTANT_S = 1.0
"""accelerometer against gyroscope: steps of a walk average out, a gyroscope's bias does not add up"""
GRAVITY_M_S2 = 9.81
DOWN_WORLD = np.array([0.0, 0.0, -1.0])


def filter_up(up_head: np.ndarray | None, imu: ImuSample, seconds: float) -> np.ndarray | None:
    """Return the upward unit vector (3,) in the head frame, `seconds` after the last one; None while unknown.

    Turns the last one by the angular velocity, then leans towards the specific force, the less the further its size
    is from gravity's.
    """
    force = np.asarray(imu.linear_acceleration_head, np.float64)
    rate = np.asarray(imu.angular_velocity_head, np.float64)
    size = math.hypot(*force)
    trust = max(0.0, 1.0 - abs(size - GRAVITY_M_S2) / (0.5 * GRAVITY_M_S2)) if math.isfinite(size) else 0.0
    if up_head is None:
        return force / size if trust > 0.0 else None
    if np.isfinite(rate).all():
        # np.cross does the same in five times the time.
        up_head = up_head - (rate[[1, 2, 0]] * up_head[[2, 0, 1]] - rate[[2, 0, 1]] * up_head[[1, 2, 0]]) * seconds
    if trust > 0.0:
        blend = trust * (1.0 - math.exp(-seconds / TIME_CONSTANT_S))
        up_head = (1.0 - blend) * up_head + blend * force / size
    length = math.hypot(*up_head)
    return up_head / length if length > 1e-6 else None


def follow_up(up_head: np.ndarray | None, before_ns: int | None, frame: Frame, max_gap_s: float) -> np.ndarray | None:
    """Return up (3,) in the head frame at a frame, from that at the frame before; a longer gap forgets it."""
    seconds = 0.0 if before_ns is None else (frame.stamp_ns - before_ns) * 1e-9
    if before_ns is not None and not 0.0 < seconds <= max_gap_s:
        up_head, seconds = None, 0.0
    return up_head if frame.imu is None else filter_up(up_head, frame.imu, seconds)


def down_in(
    R_world_reference: np.ndarray | None, up_head: np.ndarray | None, R_head_reference: np.ndarray
) -> np.ndarray | None:
    """Return gravity's direction (3,) in the reference frame, by the head pose or else by the IMU; None while unknown."""
    if R_world_reference is not None:
        return R_world_reference.T @ DOWN_WORLD
    return None if up_head is None else -R_head_reference.T @ up_head
