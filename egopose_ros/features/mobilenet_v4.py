"""MobileNetV4-S (Qin et al. 2024, "MobileNetV4: Universal Models for the Mobile Ecosystem", table 11, Conv-S).

Module names are those of timm's `mobilenetv4_conv_small`, so that its state dicts load strictly.
"""

from __future__ import annotations

from torch import Tensor, nn

from egopose_ros.features.convolution import Depthwise
from egopose_ros.features.statistics import IMAGENET


class _ConvNorm(nn.Module):
    """Convolution and batch norm, ReLU unless told otherwise."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True):
        super().__init__()
        kind = nn.Conv2d if groups == 1 else Depthwise
        self.conv = kind(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class _ConvBlock(nn.Module):
    """The same with the name that timm gives the norm outside of inverted bottlenecks."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn1(self.conv(x)))


class _UniversalInvertedBottleneck(nn.Module):
    """Optional depthwise, expansion, optional depthwise, projection; a kernel of 0 leaves a depthwise out."""

    def __init__(self, inputs: int, outputs: int, start: int, middle: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        self.dw_start = (
            _ConvNorm(inputs, inputs, start, stride=1 if middle else stride, groups=inputs, act=False)
            if start
            else nn.Identity()
        )
        self.pw_exp = _ConvNorm(inputs, hidden, 1)
        self.dw_mid = _ConvNorm(hidden, hidden, middle, stride=stride, groups=hidden) if middle else nn.Identity()
        self.pw_proj = _ConvNorm(hidden, outputs, 1, act=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.pw_proj(self.dw_mid(self.pw_exp(self.dw_start(x))))
        return x + y if self.residual else y


def _uib(*arguments: int) -> _UniversalInvertedBottleneck:
    return _UniversalInvertedBottleneck(*arguments)


class MobileNetV4Small(nn.Module):
    """3.8 M parameters with the classifier, 1.3 M without; 0.25 G multiply-adds at 256x256."""

    pyramid_channels = (32, 64, 96, 960)
    """of the feature maps at strides 4, 8, 16 and 32"""
    channels = pyramid_channels[2:]
    mean, deviation = IMAGENET
    classifier_names = ("conv_head", "norm_head", "classifier")

    def __init__(self, classes: int = 0):
        """Make the classifier only where `classes` > 0."""
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.act = nn.ReLU(inplace=True)
        # inputs, outputs, start kernel, middle kernel, stride, expansion
        self.blocks = nn.Sequential(
            nn.Sequential(_ConvBlock(32, 32, 3, 2), _ConvBlock(32, 32, 1)),
            nn.Sequential(_ConvBlock(32, 96, 3, 2), _ConvBlock(96, 64, 1)),
            nn.Sequential(
                _uib(64, 96, 5, 5, 2, 3), *(_uib(96, 96, 0, 3, 1, 2) for _ in range(4)), _uib(96, 96, 3, 0, 1, 4)
            ),
            nn.Sequential(
                _uib(96, 128, 3, 3, 2, 6),
                _uib(128, 128, 5, 5, 1, 4),
                _uib(128, 128, 0, 5, 1, 4),
                _uib(128, 128, 0, 5, 1, 3),
                _uib(128, 128, 0, 3, 1, 4),
                _uib(128, 128, 0, 3, 1, 4),
            ),
            nn.Sequential(_ConvBlock(128, 960, 1)),
        )
        self.classes = classes
        if classes:
            self.conv_head = nn.Conv2d(960, 1280, 1, bias=False)
            self.norm_head = nn.BatchNorm2d(1280)
            self.classifier = nn.Linear(1280, classes)

    def early(self) -> list[nn.Module]:
        """Return the layers up to stride 8."""
        return [self.conv_stem, self.bn1, *self.blocks[:2]]

    def last(self) -> list[nn.Module]:
        """Return the layers from stride 16 to stride 32."""
        return [*self.blocks[3:]]

    def pyramid(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the maps at strides 4, 8, 16 and 32 of normalised images (N, 3, H, W)."""
        early = self.early_maps(images)
        return *early, *self.late_maps(early[-1])

    def early_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 4 and 8 of normalised images (N, 3, H, W)."""
        x = self.blocks[0](self.act(self.bn1(self.conv_stem(images))))
        return x, self.blocks[1](x)

    def late_maps(self, early: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 16 and 32 of that at stride 8."""
        fine = self.blocks[2](early)
        return fine, self.blocks[4](self.blocks[3](fine))

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 16 and 32 of normalised images (N, 3, H, W)."""
        return self.pyramid(images)[2:]

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (N, classes)."""
        x = self.features(images)[1].mean((2, 3), keepdim=True)
        return self.classifier(self.act(self.norm_head(self.conv_head(x))).flatten(1))
