"""Models of the radius as a function of the angle: OCam, Kannala-Brandt, and its six-coefficient descendants."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.camera.interface import CameraModel, FocalModel, turn
from egopose_ros.camera.solve import (
    Pair,
    derivative,
    distort,
    invert_monotone,
    polynomial,
    polynomial_at,
    safe_norm,
    undistort,
)

AXIS = -math.pi / 2
"""OCam's angle on the optical axis; 0 is 90 degrees off it"""

NEAR_AXIS = 1e-3
"""r / z below which direction-over-radius is taken from its series"""


@dataclass(frozen=True, kw_only=True)
class OCam(CameraModel):
    """Scaramuzza's polynomial model: one polynomial each way, which agree as well as the calibration fitted them."""

    c2w: tuple[float, ...]
    """a_i, lowest order first: z = -sum a_i rho^i for a ray (p, q, z); a_0 < 0"""
    w2c: tuple[float, ...]
    """b_i, lowest order first: rho = sum b_i theta^i, theta = atan2(-z, r) [px]"""
    affine: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)
    """row-major A: pixel = centre + A (p, q)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(len(self.c2w) > 0 and len(self.w2c) > 1, "expected coefficients both ways; fit_w2c makes w2c")
        self._require(self.c2w[0] < 0, f"c2w: expected a_0 < 0 (z forward), got {self.c2w[0]}")
        self._require_lengths(affine=4)
        a, b, c, d = self.affine
        self._require(a * d - b * c > 0, f"affine: expected a positive determinant, got {self.affine}")

    @property
    def max_radius(self) -> float:
        """Radius of the lens circle [px]."""
        return polynomial_at(self.w2c, AXIS + self.max_angle)

    def _project(self, points: Tensor) -> Tensor:
        z = points[..., 2]
        r = safe_norm(points[..., :2])
        theta = torch.atan2(-z, r)
        rim = AXIS + self.max_angle
        slope = derivative(self.w2c)
        inner = theta.clamp(max=rim)
        rho = polynomial(self.w2c, inner) + polynomial_at(slope, rim) * (theta - inner)
        near = r < NEAR_AXIS * z.abs()
        # Behind the camera the direction is lost on the axis; any finite factor will do there.
        on_axis = polynomial_at(slope, AXIS) / torch.where(near, z.abs(), 1.0)
        factor = torch.where(near | (r == 0), on_axis, rho / torch.where(r > 0, r, 1.0))
        p, q = (points[..., :2] * factor[..., None]).unbind(-1)
        a, b, c, d = self.affine
        return torch.stack([self.centre[0] + a * p + b * q, self.centre[1] + c * p + d * q], -1)

    def _unproject(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        u, v = pixels[..., 0] - self.centre[0], pixels[..., 1] - self.centre[1]
        a, b, c, d = self.affine
        determinant = a * d - b * c
        plane = torch.stack([(d * u - b * v) / determinant, (a * v - c * u) / determinant], -1)
        rho = safe_norm(plane)
        rays = torch.cat([plane, -polynomial(self.c2w, rho)[..., None]], -1)
        return torch.nn.functional.normalize(rays, dim=-1), rho <= self.max_radius

    def _scaled(self, x: float, y: float) -> OCam:
        a, b, c, d = self.affine
        return dataclasses.replace(self, affine=(a * x, b * x, c * y, d * y))

    def _turned(self) -> OCam:
        a, b, c, d = self.affine
        return dataclasses.replace(self, affine=(d, -c, -b, a))


@dataclass(frozen=True, kw_only=True)
class KannalaBrandt(FocalModel):
    """r = theta + k1 theta^3 + ... + k4 theta^9, as OpenCV's fisheye and ROS's `equidistant`."""

    k: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_lengths(**self._lengths)

    @property
    def _lengths(self) -> dict[str, int]:
        return {"k": 4}

    @property
    def _tangential(self) -> Pair:
        return 0.0, 0.0

    @property
    def _prism(self) -> tuple[Pair, Pair]:
        return (0.0, 0.0), (0.0, 0.0)

    @property
    def _bends(self) -> bool:
        return any((*self._tangential, *self._prism[0], *self._prism[1]))

    def _project(self, points: Tensor) -> Tensor:
        z = points[..., 2]
        r = safe_norm(points[..., :2])
        theta = torch.atan2(r, z)
        near = r < NEAR_AXIS * z
        tangent = r / torch.where(near, z, 1.0)
        series = (1.0 - tangent * tangent / 3.0) / torch.where(near, z, 1.0)
        direction = torch.where(near, series, theta / torch.where(r > 0, r, 1.0))
        # Beyond the rim the radius goes on with the slope it has there, so that it stays monotone and finite.
        inner = theta.clamp(max=self.max_angle)
        rim_gain, rim_slope = (polynomial_at(c, self.max_angle**2) for c in self._gain_and_slope)
        beyond = (rim_slope - rim_gain) * (theta - inner) / theta.clamp(min=self.max_angle)
        gain = polynomial(self._gain_and_slope[0], inner * inner) + beyond
        plane = points[..., :2] * (direction * gain)[..., None]
        if self._bends:
            plane = distort(plane, _unit_gain, self._tangential, self._prism)
        return self._pixels(plane)

    def _unproject(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        plane = self._plane(pixels)
        solved = torch.ones_like(plane[..., 0], dtype=torch.bool)
        if self._bends:
            plane, solved = undistort(plane, plane, _unit_gain, self._tangential, self._prism)
        radius = safe_norm(plane)
        theta = self._angle(radius)
        near = radius < NEAR_AXIS
        ratio = torch.where(near, 1.0 - theta * theta / 6.0, theta.sin() / torch.where(near, 1.0, radius))
        rays = torch.cat([plane * ratio[..., None], theta.cos()[..., None]], -1)
        return torch.nn.functional.normalize(rays, dim=-1), solved & (theta <= self.max_angle)

    @property
    def _gain_and_slope(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Coefficients in theta² of radius / theta and of d radius / d theta."""
        gain = (1.0, *self.k)
        return gain, tuple((2 * i + 1) * c for i, c in enumerate(gain))

    def _angle(self, radius: Tensor) -> Tensor:
        """Return the angle of a radius on the normalised plane."""
        if not any(self.k):
            return radius
        gain, slope = self._gain_and_slope

        def function(theta: Tensor) -> tuple[Tensor, Tensor]:
            squared = theta * theta
            return theta * polynomial(gain, squared), polynomial(slope, squared)

        rim = self.max_angle * polynomial_at(gain, self.max_angle**2)
        inner = radius.clamp(max=rim)
        beyond = (radius - inner) / polynomial_at(slope, self.max_angle**2)
        return invert_monotone(function, inner, self.max_angle) + beyond


@dataclass(frozen=True, kw_only=True)
class Fisheye62(KannalaBrandt):
    """Six radial coefficients, then 2 (p·x) x + r² p on the radially distorted plane: Quest-like headsets, Aria."""

    p: tuple[float, float]

    @property
    def _lengths(self) -> dict[str, int]:
        return {"k": 6, "p": 2}

    @property
    def _tangential(self) -> Pair:
        return self.p

    def _turned(self) -> Fisheye62:
        return dataclasses.replace(super()._turned(), p=turn(self.p))


@dataclass(frozen=True, kw_only=True)
class Fisheye624(Fisheye62):
    """Fisheye62 plus thin prisms, x + s1 r² + s2 r⁴, y + s3 r² + s4 r⁴: Aria's FisheyeRadTanThinPrism."""

    s: tuple[float, float, float, float]

    @property
    def _lengths(self) -> dict[str, int]:
        return {"k": 6, "p": 2, "s": 4}

    @property
    def _prism(self) -> tuple[Pair, Pair]:
        return (self.s[0], self.s[2]), (self.s[1], self.s[3])

    def _turned(self) -> Fisheye624:
        (s1, s3), (s2, s4) = (turn(pair) for pair in self._prism)
        return dataclasses.replace(super()._turned(), s=(s1, s2, s3, s4))


def _unit_gain(squared: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(squared), torch.zeros_like(squared)
