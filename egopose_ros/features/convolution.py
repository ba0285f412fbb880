"""Convolutions that train at full speed on a CPU, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Depthwise(nn.Conv2d):
    """A depthwise convolution that trains in fp32 on CPUs, where its bf16 gradient is up to ten times slower."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        differentiated = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        if x.device.type != "cpu" or not (differentiated and torch.is_autocast_enabled("cpu")):
            return super()._conv_forward(x, weight, bias)
        with torch.autocast("cpu", enabled=False):
            return super()._conv_forward(x.float(), weight, bias).to(x.dtype)


def normed(convolution: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """Return a convolution's batch norm.

    A norm whose statistics are fixed is trained as part of the convolution: the same function with the same gradients,
    without going over the maps once more in both directions.
    """
    fixed = isinstance(norm, nn.BatchNorm2d) and not norm.training
    if not (fixed and torch.is_grad_enabled()):
        return norm(convolution(x))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return convolution._conv_forward(x, convolution.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale)
