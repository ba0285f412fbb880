"""Models that divide by something: pinhole, EUCM and Double Sphere, each with OpenCV's distortion where a file has it.

A point goes to a plane, is distorted there, and is scaled to pixels. Formulas: Khomutenko 2016 (EUCM), Usenko 2018
(Double Sphere), OpenCV's calib3d (distortion). The unified model of Mei, Kalibr's `omni`, is EUCM with beta = 1.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.camera.interface import FocalModel
from egopose_ros.camera.solve import distort, invert_monotone, polynomial, safe_norm, undistort

NO_DISTORTION = (0.0,) * 8
NO_PRISM = ((0.0, 0.0), (0.0, 0.0))
LIMIT_MARGIN = 1e-3
"""[rad] kept from the angle where a denominator vanishes"""


@dataclass(frozen=True, kw_only=True)
class PlanarModel(FocalModel):
    """Base of the models whose formula divides."""

    distortion: tuple[float, ...] = NO_DISTORTION
    """k1 k2 p1 p2 k3 k4 k5 k6, in OpenCV's order; k4 to k6 belong to the denominator"""

    def __post_init__(self) -> None:
        self._require_lengths(distortion=8)
        super().__post_init__()

    @abstractmethod
    def _denominator(self, r_squared: Tensor, z: Tensor) -> Tensor:
        """Return what (x, y) is divided by; it has the dimension of the point."""

    @abstractmethod
    def _lift(self, plane: Tensor) -> Tensor:
        """Return rays (..., 3) of any length from the undistorted plane (..., 2)."""

    @property
    def max_plane_radius(self) -> float:
        """Radius on the undistorted plane at `max_angle`."""
        sine, cosine = (torch.tensor(f(self.max_angle), dtype=torch.float64) for f in (math.sin, math.cos))
        return float(sine / self._denominator(sine * sine, cosine))

    def _project(self, points: Tensor) -> Tensor:
        xy, z = points[..., :2], points[..., 2]
        floor = 1e-6 * points.detach().norm(dim=-1).clamp(min=1e-30)
        plane = xy / self._denominator((xy * xy).sum(-1), z).clamp(min=floor)[..., None]
        if any(self.distortion):
            # Polynomials run away beyond the rim: from there on the plane goes on undistorted.
            rim = self.max_plane_radius
            inner = plane * (rim / safe_norm(plane).clamp(min=rim))[..., None]
            plane = distort(inner, self._radial, self._tangential, NO_PRISM) + (plane - inner)
        return self._pixels(plane)

    def _unproject(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        plane = self._plane(pixels)
        solved = torch.ones_like(plane[..., 0], dtype=torch.bool)
        if any(self.distortion):
            plane, solved = undistort(plane, self._radial_inverse(plane), self._radial, self._tangential, NO_PRISM)
        rim = self.max_plane_radius
        radius = safe_norm(plane)
        within = solved & (radius <= rim)
        rays = self._lift(plane * (rim / radius.clamp(min=rim))[..., None])
        return torch.nn.functional.normalize(rays, dim=-1), within

    @property
    def _tangential(self) -> tuple[float, float]:
        return self.distortion[3], self.distortion[2]

    def _radial(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        """Return the radial gain and its slope, both functions of r²."""
        k1, k2, _, _, k3, k4, k5, k6 = self.distortion
        above, below = polynomial((1.0, k1, k2, k3), squared), polynomial((1.0, k4, k5, k6), squared)
        above_slope = polynomial((k1, 2 * k2, 3 * k3), squared)
        below_slope = polynomial((k4, 2 * k5, 3 * k6), squared)
        return above / below, (above_slope - below_slope * above / below) / below

    def _radial_inverse(self, plane: Tensor) -> Tensor:
        """Undo the radial part alone, a start for Newton's method in two dimensions."""

        def function(radius: Tensor) -> tuple[Tensor, Tensor]:
            gain, slope = self._radial(radius * radius)
            return radius * gain, gain + 2.0 * radius * radius * slope

        distorted = safe_norm(plane.detach())
        radius = invert_monotone(function, distorted, self.max_plane_radius)
        return plane.detach() * torch.where(distorted > 0, radius / distorted.clamp(min=1e-12), 1.0)[..., None]

    def _turned(self) -> PlanarModel:
        k1, k2, p1, p2, *rest = self.distortion
        return dataclasses.replace(super()._turned(), distortion=(k1, k2, -p2, p1, *rest))


@dataclass(frozen=True, kw_only=True)
class Pinhole(PlanarModel):
    """x / z, y / z: less than 90 degrees from the axis. ROS's `plumb_bob` and `rational_polynomial`."""

    @property
    def angle_limit(self) -> float:
        return math.pi / 2 - LIMIT_MARGIN

    def _denominator(self, r_squared: Tensor, z: Tensor) -> Tensor:
        return z

    def _lift(self, plane: Tensor) -> Tensor:
        return torch.cat([plane, torch.ones_like(plane[..., :1])], -1)


@dataclass(frozen=True, kw_only=True)
class EUCM(PlanarModel):
    """Enhanced unified camera model."""

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        self._require(0 <= self.alpha <= 1, f"alpha: expected 0 to 1, got {self.alpha}")
        self._require(self.beta > 0, f"beta: expected above zero, got {self.beta}")
        super().__post_init__()

    @property
    def angle_limit(self) -> float:
        w = _opening(self.alpha)
        return math.pi - math.atan2(math.sqrt(1.0 - w * w), w * math.sqrt(self.beta)) - LIMIT_MARGIN

    def _denominator(self, r_squared: Tensor, z: Tensor) -> Tensor:
        return self.alpha * _safe_sqrt(self.beta * r_squared + z * z) + (1.0 - self.alpha) * z

    def _lift(self, plane: Tensor) -> Tensor:
        scaled = self.beta * (plane * plane).sum(-1)
        root = _safe_sqrt(1.0 - (2.0 * self.alpha - 1.0) * scaled)
        z = (1.0 - self.alpha**2 * scaled) / (self.alpha * root + 1.0 - self.alpha)
        return torch.cat([plane, z[..., None]], -1)


@dataclass(frozen=True, kw_only=True)
class DoubleSphere(PlanarModel):
    """Two unit spheres, xi apart, then a pinhole shifted by alpha / (1 - alpha)."""

    xi: float
    alpha: float

    def __post_init__(self) -> None:
        self._require(0 <= self.alpha <= 1, f"alpha: expected 0 to 1, got {self.alpha}")
        self._require(-1 < self.xi < 1, f"xi: expected between -1 and 1, got {self.xi}")
        super().__post_init__()

    @property
    def angle_limit(self) -> float:
        # z + xi > -w |(x, y, z + xi)| on the unit sphere, solved for z; the paper's w2 is too wide for small alpha.
        w = _opening(self.alpha)
        narrowed = 1.0 - w * w
        z = -self.xi * narrowed - w * math.sqrt(1.0 - self.xi**2 * narrowed)
        return math.acos(z) - LIMIT_MARGIN

    def _denominator(self, r_squared: Tensor, z: Tensor) -> Tensor:
        shifted = self.xi * _safe_sqrt(r_squared + z * z) + z
        return self.alpha * _safe_sqrt(r_squared + shifted * shifted) + (1.0 - self.alpha) * shifted

    def _lift(self, plane: Tensor) -> Tensor:
        squared = (plane * plane).sum(-1)
        root = _safe_sqrt(1.0 - (2.0 * self.alpha - 1.0) * squared)
        z = (1.0 - self.alpha**2 * squared) / (self.alpha * root + 1.0 - self.alpha)
        reach = (z * self.xi + _safe_sqrt(z * z + (1.0 - self.xi**2) * squared)) / (z * z + squared)
        return torch.cat([plane * reach[..., None], (z * reach - self.xi)[..., None]], -1)


def _opening(alpha: float) -> float:
    """Return w of the two papers: points with z > -w d are imaged."""
    return alpha / (1.0 - alpha) if alpha <= 0.5 else (1.0 - alpha) / alpha


def _safe_sqrt(squared: Tensor) -> Tensor:
    """Return the root with a finite gradient at zero, and zero below it."""
    return squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()
