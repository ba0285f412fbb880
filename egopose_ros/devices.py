"""The devices that torch computes on, by the names that settings give them."""

from __future__ import annotations

import re

import torch

from egopose_ros.config import ConfigError


def require(name: str, setting: str = "device", others: str = "") -> torch.device:
    """Return the device of a name: cpu, cuda or cuda:N; ConfigError says of the setting that it is none or not there.

    `others` are names that the setting knows besides.
    """
    if name != "cpu" and not re.fullmatch(r"cuda(:\d+)?", name):
        raise ConfigError(f"{setting}: expected {others}cpu, cuda or cuda:N, got '{name}'")
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise ConfigError(f"{setting}: expected a CUDA device for {name}, torch sees none")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise ConfigError(f"{setting}: expected a number below the {count} CUDA devices, got {name}")
    return device
