"""Heatmaps of joints: a backbone, a feature pyramid decoder, and what is read off a heatmap."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from egopose_ros.features.backbones import Trunk


def _unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True))


class HeatmapDecoder(nn.Module):
    """A feature pyramid from stride 32 to stride 4, with the same skip from every level of the backbone.

    Each level passes a 1x1 convolution, is joined to the upsampled coarser one, and a 3x3 convolution brings both to
    the level's own width.
    """

    def __init__(self, channels: tuple[int, int, int, int], joints: int):
        super().__init__()
        self.skips = nn.ModuleList(_unit(width, width, 1) for width in channels)
        self.joins = nn.ModuleList(
            _unit(fine + coarse, fine, 3) for fine, coarse in zip(channels[:-1], channels[1:])
        )
        self.heatmaps = nn.Conv2d(channels[0], joints, 1)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Return (N, J, h, w) of maps at strides 4, 8, 16 and 32."""
        x = self.skips[-1](pyramid[-1])
        for level in (2, 1, 0):
            x = self.joins[level](torch.cat([self.upsample(x), self.skips[level](pyramid[level])], 1))
        return self.heatmaps(x)


class HeatmapNetwork(Trunk):
    """Images to a heatmap of each joint at a quarter of their size; all joints share backbone and decoder."""

    def __init__(self, backbone: str, joints: int):
        super().__init__(backbone)
        self.decoder = HeatmapDecoder(self.backbone.pyramid_channels, joints)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return heatmaps (N, J, H / 4, W / 4), before any sigmoid, and the backbone's map (N, C, H / 32, W / 32)."""
        pyramid = self.backbone.pyramid(self.normalise(images))
        return self.decoder(pyramid), pyramid[-1]


def peaks(heatmaps: Float[Tensor, "*batch h w"], size: int) -> Float[Tensor, "*batch 2"]:
    """Return the pixel of the highest cell in images of `size` pixels a side."""
    height, width = heatmaps.shape[-2:]
    highest = heatmaps.flatten(-2).argmax(-1)
    cells = torch.stack([highest % width, highest // width], -1).to(heatmaps.dtype)
    return (cells + 0.5) * (size / cells.new_tensor([width, height])) - 0.5


def shape_of_peaks(heatmaps: Float[Tensor, "*batch h w"]) -> Float[Tensor, "*batch 3"]:
    """Return what says how sure a heatmap in 0..1 is: its maximum, and mass and spread relative to its side."""
    height, width = heatmaps.shape[-2:]
    mass = heatmaps.sum((-2, -1)).clamp(min=1e-6)
    rows = torch.linspace(-0.5, 0.5, height, device=heatmaps.device, dtype=heatmaps.dtype)
    columns = torch.linspace(-0.5, 0.5, width, device=heatmaps.device, dtype=heatmaps.dtype)
    variance = 0.0
    for marginal, at in ((heatmaps.sum(-1), rows), (heatmaps.sum(-2), columns)):
        mean = (marginal * at).sum(-1) / mass
        variance = variance + (marginal * (at - mean[..., None]).square()).sum(-1) / mass
    return torch.stack([heatmaps.amax((-2, -1)), (mass / (height * width)).sqrt(), (variance + 1e-8).sqrt()], -1)
