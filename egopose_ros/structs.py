"""The nouns that pass between the stages: NumPy only, so that every room may import them.

Frames are in names: `T_a_b` takes b-coordinates to a, `p_a = T_a_b @ p_b`. Optical camera frames are x right, y down,
z forward; head and world frames are x forward, y left, z up. Metres, radians, integer nanoseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from egopose_ros.camera.rig import Rig


DEGREES_OF_FREEDOM = 4.0
"""of the Student t distribution that the covariances of our networks' joints are of"""


@dataclass(frozen=True)
class ImuSample:
    """An IMU reading in the head frame, at the stamp of the image that carries it."""

    angular_velocity_head: np.ndarray
    """(3,) float64 [rad/s]"""
    linear_acceleration_head: np.ndarray
    """(3,) float64 [m/s^2], specific force: +9.81 upwards at rest"""


@dataclass(frozen=True)
class Frame:
    """What the rig saw at one instant."""

    stamp_ns: int
    images: tuple[np.ndarray, ...]
    """one a camera, in the order of the rig: (H, W) or (H, W, 3) uint8, RGB, as that camera took it"""
    T_world_head: np.ndarray | None = None
    """(4, 4) float64, the head pose at the stamp, None without one"""
    imu: ImuSample | None = None


class TrackingState(enum.IntEnum):
    """Values equal those of BodyPose.msg."""

    INITIALIZING = 0
    TRACKING = 1
    DEGRADED = 2


@dataclass(frozen=True)
class BodyPose:
    """The pose of the wearer at the stamp of an image: the newest, but for networks that look ahead."""

    stamp_ns: int
    skeleton: str
    """a name in `skeleton.SKELETONS`"""
    joints_camera: np.ndarray
    """(J, 3) float32 [m], optical frame of the rig's first camera"""
    rotations_camera: np.ndarray | None
    """(J, 3, 3) float32, from T-pose axes (x forward, y left, z up) to the camera frame; None where not predicted"""
    covariance_camera: np.ndarray | None
    """(J, 3, 3) float32 [m^2]"""
    confidence: np.ndarray | None
    """(J,) float32, probability that the joint lies within 0.1 m"""
    T_world_camera: np.ndarray | None
    """(4, 4) float64, first camera in the global frame; None without a head pose"""
    window_length: int
    """frames in the temporal window, the newest included"""
    window_full: bool


@dataclass(frozen=True)
class Clip:
    """A recording with ground truth: what data set readers, synthetic clips and labelled bags all give."""

    name: str
    stamps_ns: np.ndarray
    """(T,) int64, strictly increasing"""
    images: Sequence[tuple[np.ndarray, ...]]
    """T frames of V images as in `Frame`, each read when it is indexed"""
    skeleton: str
    """a name in `skeleton.SKELETONS`"""
    joints: np.ndarray
    """(T, J, 3) float32 [m]; NaN where a joint has no truth"""
    frame: str
    """of the joints: camera (optical, of the first camera), device (as the data set defines it), pelvis or world"""
    rig: Rig | None = None
    """calibrated cameras, None where the recording brings none"""
    joints_px: np.ndarray | None = None
    """(T, V, J, 2) float32, truth in the images; NaN where there is none"""
    visible: np.ndarray | None = None
    """(T, V, J) uint8, values of `Visibility`; None where unknown"""
    T_world_head: np.ndarray | None = None
    """(T, 4, 4) float64"""
    action: tuple[str, ...] | None = None
    """T action labels"""

    def __post_init__(self) -> None:
        length = len(self.stamps_ns)
        for field in ("images", "joints", "joints_px", "visible", "T_world_head", "action"):
            value = getattr(self, field)
            if value is not None and len(value) != length:
                raise ValueError(f"clip {self.name}: expected {length} frames of {field}, got {len(value)}")
        if np.any(np.diff(self.stamps_ns) <= 0):
            raise ValueError(f"clip {self.name}: expected strictly increasing stamps")


class Visibility(enum.IntEnum):
    """Of a joint in one view. A joint is inside its limb: visible when the surface at its pixel is an adjacent part."""

    OUT_OF_VIEW = 0
    OCCLUDED = 1
    VISIBLE = 2
