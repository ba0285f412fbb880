"""ResNet-18 and ResNet-50 (He et al. 2016), stride in the 3x3 convolution of a bottleneck.

Module names are torchvision's, so that its state dicts load strictly.
"""

from __future__ import annotations

from torch import Tensor, nn

from egopose_ros.features.statistics import IMAGENET


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Stem, four layers of blocks, and a classifier where `classes` > 0."""

    mean, deviation = IMAGENET
    classifier_names = ("fc",)

    def __init__(
        self, block: type[_BasicBlock] | type[_Bottleneck], counts: tuple[int, int, int, int], classes: int = 0
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for number, count in enumerate(counts, 1):
            width = 32 * 2**number
            blocks = []
            for index in range(count):
                blocks.append(block(inputs, width, 2 if index == 0 and number > 1 else 1))
                inputs = width * block.expansion
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.pyramid_channels = (inputs // 8, inputs // 4, inputs // 2, inputs)
        self.channels = self.pyramid_channels[2:]
        if classes:
            self.fc = nn.Linear(inputs, classes)

    def early(self) -> list[nn.Module]:
        """Return the layers up to stride 8."""
        return [self.conv1, self.bn1, self.layer1, self.layer2]

    def last(self) -> list[nn.Module]:
        """Return the layers from stride 16 to stride 32."""
        return [self.layer4]

    def pyramid(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the maps at strides 4, 8, 16 and 32 of normalised images (N, 3, H, W)."""
        early = self.early_maps(images)
        return *early, *self.late_maps(early[-1])

    def early_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 4 and 8 of normalised images (N, 3, H, W)."""
        x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        return x, self.layer2(x)

    def late_maps(self, early: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 16 and 32 of that at stride 8."""
        fine = self.layer3(early)
        return fine, self.layer4(fine)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps at strides 16 and 32 of normalised images (N, 3, H, W)."""
        return self.pyramid(images)[2:]

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (N, classes)."""
        return self.fc(self.features(images)[1].mean((2, 3)))


def resnet18(classes: int = 0) -> ResNet:
    """Return ResNet-18: 11.7 M parameters with 1000 classes."""
    return ResNet(_BasicBlock, (2, 2, 2, 2), classes)


def resnet50(classes: int = 0) -> ResNet:
    """Return ResNet-50: 25.6 M parameters with 1000 classes."""
    return ResNet(_Bottleneck, (3, 4, 6, 3), classes)
