"""Image backbones by name, and what turns their maps into tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from egopose_ros.features.mobilenet_v4 import MobileNetV4Small
from egopose_ros.features.resnet import resnet18, resnet50

BACKBONES = {"mobilenetv4_s": MobileNetV4Small, "resnet18": resnet18, "resnet50": resnet50}
"""name -> constructor; each has `features(images) -> (stride 16, stride 32)` and `channels` of the two"""


class ImageEncoder(nn.Module):
    """Images to a grid of tokens at stride 16, the map at stride 32 upsampled onto it (a feature pyramid of two)."""

    stride = 16

    def __init__(self, backbone: str, width: int):
        super().__init__()
        self.backbone = BACKBONES[backbone]()
        fine, coarse = self.backbone.channels
        self.fine = nn.Conv2d(fine, width, 1)
        self.coarse = nn.Conv2d(coarse, width, 1)
        # ImageNet statistics, so that published backbone weights fit.
        self.register_buffer("mean", torch.tensor([123.675, 116.28, 103.53])[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor([58.395, 57.12, 57.375])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, C, H / 16, W / 16) of images (N, 3, H, W) in 0..255, uint8 or float, RGB."""
        dtype = self.fine.weight.dtype
        x = ((images.to(self.mean.dtype) - self.mean) / self.deviation).to(dtype)
        fine, coarse = self.backbone.features(x.contiguous(memory_format=torch.channels_last))
        return self.fine(fine) + F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="bilinear")


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, in place; for inference only.

    Relies on a fact of this room's backbones: a norm follows its convolution in the order of registration.
    """
    for child in module.children():
        fold_batch_norms(child)
    convolution: str | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            convolution = name
        elif isinstance(child, nn.BatchNorm2d) and convolution is not None:
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), child))
            setattr(module, name, nn.Identity())
            convolution = None
