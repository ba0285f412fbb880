"""Any camera in, the canonical camera out: images resampled ray by ray, exact because the centre stays.

A source that is finer than the canonical image is averaged over whole blocks of pixels first, so that nothing aliases;
the block is the number of source pixels across a canonical one, rounded. The maps are made once, in float64.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.interface import pixel_grid
from egopose_ros.camera.models import CameraModel

OUTSIDE = -2.0
"""normalised coordinate beyond any image, where sampling gives black"""


class Remapper:
    """Takes images of one camera to the canonical camera."""

    def __init__(
        self,
        model: CameraModel,
        R_camera_canonical: np.ndarray | None = None,
        canonical: CameraModel = CANONICAL,
        block: int | None = None,
    ) -> None:
        """Make the maps. `block` overrides the side of the averaged blocks; 1 is plain bilinear sampling."""
        self.model = model
        self.canonical = canonical
        R = np.eye(3) if R_camera_canonical is None else R_camera_canonical
        rays_canonical, in_canonical = canonical.unproject(pixel_grid(canonical.size, torch.float64))
        pixels, in_source = model.project(rays_canonical @ torch.from_numpy(np.asarray(R, np.float64)).T)
        valid = in_canonical & in_source
        self.valid: np.ndarray = valid.numpy()
        """(height, width) bool: the canonical pixels that the camera sees; the others are black"""
        self.block = block if block is not None else _block(pixels, valid)
        """side of the blocks of source pixels that are averaged before sampling"""

        width, height = (length // self.block for length in model.size)
        # A block's centre; at the border, hold on to the last one.
        reduced = (pixels + 0.5) / self.block - 0.5
        reduced = torch.minimum(reduced.clamp(min=0.0), torch.tensor([width - 1.0, height - 1.0], dtype=torch.float64))
        outside = torch.tensor([OUTSIDE * width, OUTSIDE * height], dtype=torch.float64)
        maps = torch.where(valid[..., None], reduced, outside).float().numpy()
        # OpenCV's fixed-point maps (1/32 px) are faster than floating-point ones.
        self._maps = cv2.convertMaps(maps[..., 0], maps[..., 1], cv2.CV_16SC2)
        normalised = (2.0 * reduced + 1.0) / torch.tensor([width, height], dtype=torch.float64) - 1.0
        grid = torch.where(valid[..., None], normalised, OUTSIDE).float()
        self._grids = {grid.device: grid}

    def numpy(self, image: Shaped[np.ndarray, "height width *channels"]) -> UInt8[np.ndarray, "out_height out_width 3"]:
        """Resample (H, W), (H, W, 1) or (H, W, 3) uint8 to (256, 256, 3); a mono image becomes three equal channels."""
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise ValueError(f"image: expected (H, W) or (H, W, 3) uint8, got {image.shape} {image.dtype}")
        self._check_size(image.shape[1], image.shape[0])
        if self.block > 1:
            width, height = (length // self.block for length in self.model.size)
            image = image[: height * self.block, : width * self.block]
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        canonical = cv2.remap(image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        return canonical if canonical.ndim == 3 else cv2.cvtColor(canonical, cv2.COLOR_GRAY2RGB)

    def torch(self, images: Shaped[Tensor, "*batch channels height width"]) -> Shaped[Tensor, "*batch 3 h w"]:
        """Resample (..., 1 or 3, H, W), uint8 or floating, on the device and in the type they come in.

        Half precision and uint8 are sampled in float32; uint8 is rounded. Differentiable with respect to the images.
        """
        if images.ndim < 3 or images.shape[-3] not in (1, 3):
            raise ValueError(f"images: expected (..., 1 or 3, height, width), got {tuple(images.shape)}")
        self._check_size(images.shape[-1], images.shape[-2])
        batch = images.shape[:-3]
        source = images.reshape(-1, *images.shape[-3:])
        source = source if source.dtype == torch.float64 else source.float()
        if self.block > 1:
            source = torch.nn.functional.avg_pool2d(source, self.block)
        if source.device not in self._grids:
            self._grids[source.device] = self._grids[torch.device("cpu")].to(source.device)
        grid = self._grids[source.device].to(source.dtype).expand(len(source), -1, -1, -1)
        canonical = torch.nn.functional.grid_sample(source, grid, padding_mode="zeros", align_corners=False)
        canonical = canonical.expand(-1, 3, -1, -1).reshape(*batch, 3, *canonical.shape[-2:])
        return canonical.round().to(images.dtype) if images.dtype == torch.uint8 else canonical.to(images.dtype)

    def _check_size(self, width: int, height: int) -> None:
        if (width, height) != self.model.size:
            expected = f"{self.model.size[0]}x{self.model.size[1]}"
            raise ValueError(f"image: expected {expected} as in the calibration, got {width}x{height}")


def _block(pixels: Tensor, valid: Tensor) -> int:
    """Return the median number of source pixels across a canonical pixel, rounded."""
    right, down = pixels[:-1, 1:] - pixels[:-1, :-1], pixels[1:, :-1] - pixels[:-1, :-1]
    area = (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).abs()
    area = area[valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1]]
    return max(1, round(math.sqrt(area.median().item()))) if len(area) else 1
