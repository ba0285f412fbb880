"""Networks and weights that are looked at side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from egopose_ros.config import DEFAULT_NETWORK, Config, NetworkConfig, replace


@dataclass(frozen=True)
class Contender:
    """A network and its weights."""

    label: str
    """unlike that of every other"""
    network: str
    checkpoint: str
    """file, '' for the one that ships"""

    def configured(self, config: Config) -> Config:
        """Return the configuration with this network; without a checkpoint of its own, the configuration's stays."""
        own = {"network.checkpoint": self.checkpoint} if self.checkpoint else {}
        return replace(config, {"network.name": self.network, **own})


def contenders(
    networks: Sequence[str], checkpoints: Sequence[str], default: NetworkConfig = NetworkConfig()
) -> tuple[Contender, ...]:
    """Pair networks and checkpoints: one for all, or one for each; ValueError for other numbers of them.

    Without networks it is that of the default or, where that names none, each checkpoint says its own.
    """
    networks = networks or _unnamed(checkpoints, default)
    if checkpoints and len(networks) not in (1, len(checkpoints)):
        raise ValueError(f"--network: expected one, or one for each of {len(checkpoints)} checkpoints, got {len(networks)}")
    names = [*networks] * (len(checkpoints) if len(networks) == 1 and checkpoints else 1)
    pairs = list(zip(names, checkpoints or [""] * len(names)))
    # A contender alone is called by its network, whatever its weights are.
    labels = told_apart([(file if len(pairs) > 1 else "", network) for network, file in pairs])
    return tuple(Contender(label, *pair) for label, pair in zip(labels, pairs))


def _unnamed(checkpoints: Sequence[str], default: NetworkConfig) -> list[str]:
    if default.name or not (checkpoints or default.checkpoint):
        return [default.name or DEFAULT_NETWORK]
    from egopose_ros.checkpoint import network_of  # with torch, which a process of messages alone does without

    return [network_of(file) for file in checkpoints or [default.checkpoint]]


def told_apart(named: Sequence[tuple[str, str]]) -> list[str]:
    """Return a label for each (file, name): the file's name, without a file the other; with folder or number for twins."""
    labels = [Path(file).stem if file else name for file, name in named]
    if len(set(labels)) < len(labels):  # files of the same name differ in their folder
        labels = [f"{Path(file).absolute().parent.name}/{Path(file).stem}" if file else name for file, name in named]
    return [label if labels.count(label) == 1 else f"{label} ({number})" for number, label in enumerate(labels, 1)]
