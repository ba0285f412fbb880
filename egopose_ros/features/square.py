"""The part of the canonical image that a network sees: the wearer fills a square of it, the rest is the room."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.config import ConfigError, option
from egopose_ros.structs import Visibility


@dataclass(frozen=True)
class SquareConfig:
    """Settings of a network that sees a square of the canonical image, at its own resolution."""

    crop_left: int = option(0, "Left edge of the square of the canonical image that is seen.", minimum=0, unit="px")
    crop_top: int = option(0, "Its upper edge.", minimum=0, unit="px")
    crop_side: int = option(256, "Its side, a multiple of 64.", minimum=64, unit="px")

    def __post_init__(self) -> None:
        if self.crop_side % 64 or max(self.crop_left, self.crop_top) + self.crop_side > CANONICAL.size[0]:
            raise ConfigError(
                f"crop_side: expected a multiple of 64 within {CANONICAL.size[0]} pixels, "
                f"got {self.crop_side} from {self.crop_left}, {self.crop_top}"
            )

    def cut(self, images: Tensor, views: int) -> Tensor:
        """Return what is seen (B T V, 3, h, w) of canonical images (B, T, V, 3, H, W) of any size.

        ValueError for images of another number of views.
        """
        if images.shape[2] != views:
            raise ValueError(f"expected images of {views} views, got {images.shape[2]}")
        scale = images.shape[-1] / CANONICAL.size[0]
        left, top, side = (round(scale * value) for value in (self.crop_left, self.crop_top, self.crop_side))
        return images.flatten(0, 2)[..., top : top + side, left : left + side]

    def fits(self, side: int) -> bool:
        """Return whether images of a side can be seen: the square is whole pixels of them and whole strides of 32."""
        edges = [side * value / CANONICAL.size[0] for value in (self.crop_left, self.crop_top)]
        return all(edge.is_integer() for edge in edges) and side * self.crop_side % (32 * CANONICAL.size[0]) == 0

    def seen(self, joints_px: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return joints (..., 2) in pixels of the square, and their visibility (...): none outside of it."""
        inside = self.holds(joints_px)
        joints_px = joints_px - joints_px.new_tensor([self.crop_left, self.crop_top])
        return joints_px, torch.where(inside, visible, int(Visibility.OUT_OF_VIEW))

    def holds(self, pixels: Tensor) -> Tensor:
        """Return whether pixels (..., 2) of the canonical image lie in the square (...)."""
        first = pixels.new_tensor([self.crop_left, self.crop_top]) - 0.5
        return ((pixels > first) & (pixels < first + self.crop_side)).all(-1)
