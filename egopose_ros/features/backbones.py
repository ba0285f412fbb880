"""Image backbones by name, and what turns their maps into tokens."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from egopose_ros.features.efficientnet_lite import EfficientNetLite0
from egopose_ros.features.mobilenet_v4 import MobileNetV4Small
from egopose_ros.features.resnet import resnet18, resnet50

BACKBONES = {
    "mobilenetv4_s": MobileNetV4Small,
    "efficientnet_lite0": EfficientNetLite0,
    "resnet18": resnet18,
    "resnet50": resnet50,
}
"""name -> constructor; each has `pyramid(images) -> (stride 4, 8, 16, 32)`, in two steps
`early_maps` and `late_maps`, `pyramid_channels`, `features(images) ->
(stride 16, stride 32)` and `channels` of the two, `early()` and `last()`, the layers up to stride 8 and from stride 16,
`mean` and `deviation`, by which its images are normalised, and `classifier_names`"""


class Trunk(nn.Module):
    """A backbone and how its images are normalised."""

    def __init__(self, backbone: str):
        super().__init__()
        self.backbone = BACKBONES[backbone]()
        self.register_buffer("mean", torch.tensor(self.backbone.mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(self.backbone.deviation)[:, None, None], persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Return what the backbone takes for images (N, 3, H, W) in 0..255, uint8 or float, RGB."""
        dtype = next(self.backbone.parameters()).dtype
        x = ((images.to(self.mean.dtype) - self.mean) / self.deviation).to(dtype)
        return x.contiguous(memory_format=torch.channels_last)


class ImageEncoder(Trunk):
    """Images to a grid of tokens at stride 16, the map at stride 32 upsampled onto it (a feature pyramid of two)."""

    stride = 16

    def __init__(self, backbone: str, width: int):
        super().__init__(backbone)
        fine, coarse = self.backbone.channels
        self.fine = nn.Conv2d(fine, width, 1)
        self.coarse = nn.Conv2d(coarse, width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, C, H / 16, W / 16) of images (N, 3, H, W) in 0..255, uint8 or float, RGB."""
        return self.grid(*self.backbone.features(self.normalise(images)))

    def early(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the backbone's maps at strides 4 and 8."""
        return self.backbone.early_maps(self.normalise(images))

    def grid(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the grid of tokens of the maps at strides 16 and 32."""
        return self.fine(fine) + F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="bilinear")


def load_published(module: nn.Module, path: str | Path) -> None:
    """Load a published state dict strictly into a backbone without classifier; ValueError if it does not fit."""
    try:
        published = load_file(path) if str(path).endswith(".safetensors") else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, UnpicklingError, SafetensorError) as error:
        raise ValueError(f"backbone weights {path}: expected a state dict, got {error}") from None
    kept = {name: value for name, value in published.items() if name.partition(".")[0] not in module.classifier_names}
    try:
        module.load_state_dict(kept)
    except RuntimeError as error:
        raise ValueError(f"backbone weights {path}: expected those of {type(module).__name__}, got {error}") from None


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
