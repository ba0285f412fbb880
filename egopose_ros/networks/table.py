"""Every network by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from egopose_ros.config import options, replace
from egopose_ros.networks.ag_egopose import AgEgoPose, AgEgoPoseConfig
from egopose_ros.networks.egoposeformer_v2 import EgoPoseFormerV2, EgoPoseFormerV2Config

NETWORKS: dict[str, tuple[type[nn.Module], type]] = {
    "egoposeformer_v2": (EgoPoseFormerV2, EgoPoseFormerV2Config),
    "ag_egopose": (AgEgoPose, AgEgoPoseConfig),
}
"""name -> network and its configuration"""


def build(name: str, settings: dict[str, Any]) -> nn.Module:
    """Return a network with random weights; ValueError for an unknown name or setting."""
    if name not in NETWORKS:
        raise ValueError(f"unknown network '{name}'; expected one of {', '.join(NETWORKS)}")
    network, config = NETWORKS[name]
    return network(replace(config(), settings))


def most_views(name: str) -> int:
    """Return how many cameras a network can take."""
    return int(next(item.maximum for item in options(NETWORKS[name][1]) if item.name == "views"))


def settings_of(network: nn.Module) -> dict[str, Any]:
    """Return what `build` needs to make the like of it again."""
    return {item.name: item.default for item in options(network.config)}
