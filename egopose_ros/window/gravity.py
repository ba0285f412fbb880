"""Which way is up, from an IMU: a complementary filter on NumPy."""

from __future__ import annotations

import math

import numpy as np

from egopose_ros.structs import ImuSample

TIME_CONSTANT_S = 1.0
"""accelerometer against gyroscope: steps of a walk average out, a gyroscope's bias does not add up"""
GRAVITY_M_S2 = 9.81


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
