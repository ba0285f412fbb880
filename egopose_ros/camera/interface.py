"""What every camera model is: project, unproject, and edits that follow the image.

Optical frame: x right, y down, z forward. Pixel centres are at integer coordinates. Parameters are Python numbers, so a
model is hashable and works on whatever device and precision the points come in; any leading axes.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Model = TypeVar("Model", bound="CameraModel")

MAXIMUM_SIZE = 32767
"""[px], what OpenCV's maps can address"""


@dataclass(frozen=True, kw_only=True)
class CameraModel(ABC):
    """A central camera. Rays beyond 90 degrees are normal."""

    size: tuple[int, int]
    """width, height [px]"""
    centre: tuple[float, float]
    """x, y of the optical axis [px]"""
    max_angle: float
    """largest angle from the optical axis that the lens images [rad]"""

    def __post_init__(self) -> None:
        self._require(
            all(0 < length <= MAXIMUM_SIZE for length in self.size),
            f"size: expected positive width and height of at most {MAXIMUM_SIZE}, got {self.size}",
        )
        finite = all(math.isfinite(value) for value in _numbers(dataclasses.astuple(self)))
        self._require(finite, f"expected finite parameters, got {self}")
        limit = self.angle_limit
        self._require(
            0 < self.max_angle <= limit,
            f"max_angle: expected above 0 and at most {math.degrees(limit):.2f} deg, which is as far as these "
            f"parameters reach, got {math.degrees(self.max_angle):.2f} deg",
        )

    @property
    def angle_limit(self) -> float:
        """The largest angle [rad] that the formula can represent; the lens may image less."""
        return math.pi

    def project(
        self, points: Float[Tensor, "*batch 3"]
    ) -> tuple[Float[Tensor, "*batch 2"], Bool[Tensor, "*batch"]]:
        """Return pixels, and whether each point is imaged: within `max_angle` and on the sensor.

        Pixels of finite points are finite also where not valid, and leave the image in the direction of the point.
        """
        pixels = self._project(points)
        length = points.norm(dim=-1)
        within = (length > 0) & (points[..., 2] >= math.cos(self.max_angle) * length)
        return pixels, within & self.contains(pixels)

    def unproject(
        self, pixels: Float[Tensor, "*batch 2"]
    ) -> tuple[Float[Tensor, "*batch 3"], Bool[Tensor, "*batch"]]:
        """Return unit rays, and whether each pixel is on the sensor and within `max_angle`."""
        rays, within = self._unproject(pixels)
        return rays, within & self.contains(pixels)

    def contains(self, pixels: Float[Tensor, "*batch 2"]) -> Bool[Tensor, "*batch"]:
        """Return whether pixels lie on the sensor, the outer halves of its border pixels included."""
        x, y = pixels.unbind(-1)
        return (x >= -0.5) & (x <= self.size[0] - 0.5) & (y >= -0.5) & (y <= self.size[1] - 0.5)

    def crop(self: Model, left: int, top: int, width: int, height: int) -> Model:
        """Follow image[top : top + height, left : left + width]; ValueError if that is not inside the image."""
        inside = left >= 0 and top >= 0 and left + width <= self.size[0] and top + height <= self.size[1]
        self._require(
            inside and width > 0 and height > 0,
            f"crop: expected a part of the {self.size[0]}x{self.size[1]} image, got {width}x{height} at {left}, {top}",
        )
        return dataclasses.replace(self, size=(width, height), centre=(self.centre[0] - left, self.centre[1] - top))

    def pad(self: Model, left: int, top: int, right: int, bottom: int) -> Model:
        """Follow a border of so many pixels on each side. The lens keeps its field of view, so rays may end in it."""
        self._require(
            min(left, top, right, bottom) >= 0, f"pad: expected widths of 0 or more, got {(left, top, right, bottom)}"
        )
        size = (self.size[0] + left + right, self.size[1] + top + bottom)
        return dataclasses.replace(self, size=size, centre=(self.centre[0] + left, self.centre[1] + top))

    def resize(self: Model, width: int, height: int) -> Model:
        """Follow a resize to another size, the two axes on their own; pixel areas, not centres, keep their place."""
        self._require(width > 0 and height > 0, f"resize: expected a positive size, got {width}x{height}")
        scale = (width / self.size[0], height / self.size[1])
        centre = tuple((c + 0.5) * s - 0.5 for c, s in zip(self.centre, scale))
        return dataclasses.replace(self._scaled(*scale), size=(width, height), centre=centre)

    def rotate(self: Model, quarter_turns: int) -> Model:
        """Follow numpy.rot90(image, quarter_turns), which turns counter-clockwise.

        The camera's axes turn with its image: `quarter_turn_matrix` takes points from the old frame to the new one.
        """
        model = self
        for _ in range(quarter_turns % 4):
            width, height = model.size
            centre = (model.centre[1], width - 1 - model.centre[0])
            model = dataclasses.replace(model._turned(), size=(height, width), centre=centre)
        return model

    @abstractmethod
    def _project(self, points: Tensor) -> Tensor: ...

    @abstractmethod
    def _unproject(self, pixels: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _scaled(self: Model, x: float, y: float) -> Model:
        """Scale the image about the centre."""

    @abstractmethod
    def _turned(self: Model) -> Model:
        """Turn everything but size and centre a quarter turn counter-clockwise."""

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")

    def _require_lengths(self, **lengths: int) -> None:
        for name, length in lengths.items():
            got = len(getattr(self, name))
            self._require(got == length, f"{name}: expected {length} numbers, got {got}")


@dataclass(frozen=True, kw_only=True)
class FocalModel(CameraModel):
    """A camera whose formula gives a plane, which focal lengths scale to pixels."""

    focal: tuple[float, float]
    """of x and y [px]"""

    def __post_init__(self) -> None:
        self._require_lengths(focal=2)
        self._require(min(self.focal) > 0, f"focal: expected above zero, got {self.focal}")
        super().__post_init__()

    def _pixels(self, plane: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        x, y = plane.unbind(-1)
        return torch.stack([self.centre[0] + self.focal[0] * x, self.centre[1] + self.focal[1] * y], -1)

    def _plane(self, pixels: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        x, y = pixels.unbind(-1)
        return torch.stack([(x - self.centre[0]) / self.focal[0], (y - self.centre[1]) / self.focal[1]], -1)

    def _scaled(self: Model, x: float, y: float) -> Model:
        return dataclasses.replace(self, focal=(self.focal[0] * x, self.focal[1] * y))

    def _turned(self: Model) -> Model:
        return dataclasses.replace(self, focal=self.focal[::-1])


def turn(vector: tuple[float, float]) -> tuple[float, float]:
    """Take an image-plane vector to axes that turned a quarter counter-clockwise with the image."""
    return vector[1], -vector[0]


def quarter_turn_matrix(quarter_turns: int) -> tuple[tuple[float, float, float], ...]:
    """Return R_new_old of `CameraModel.rotate`."""
    cosine, sine = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[quarter_turns % 4]
    return (cosine, sine, 0.0), (-sine, cosine, 0.0), (0.0, 0.0, 1.0)


def pixel_grid(
    size: tuple[int, int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Float[Tensor, "height width 2"]:
    """Return the coordinates of every pixel centre."""
    x = torch.arange(size[0], dtype=dtype, device=device)
    y = torch.arange(size[1], dtype=dtype, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _numbers(nested: object) -> list[float]:
    if isinstance(nested, (tuple, list)):
        return [number for item in nested for number in _numbers(item)]
    return [nested]
