"""Checkpoints: one safetensors file with fp16 weights that describes itself, loaded strictly and never unpickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from egopose_ros.camera.canonical import CANONICAL, MAX_ANGLE
from egopose_ros.config import DEFAULT_NETWORK, NetworkConfig
from egopose_ros.networks.table import NETWORKS, build, settings_of
from egopose_ros.resources import share_directory

_FORMAT = 1
_CAMERA = {"model": "equidistant", "size": list(CANONICAL.size), "centre": list(CANONICAL.centre), "max_angle": MAX_ANGLE}


@dataclass(frozen=True)
class Card:
    """What a checkpoint says about itself."""

    network: str
    """a name in `networks.table.NETWORKS`"""
    config: dict[str, Any]
    """the network's settings"""
    skeleton: str
    """a name in `skeleton.SKELETONS`"""
    camera: dict[str, Any] = field(default_factory=lambda: dict(_CAMERA))
    """the canonical camera that the weights were trained with"""
    training: dict[str, Any] = field(default_factory=dict)
    """how: command, seeds, steps, data, results"""


def save(path: str | Path, network: nn.Module, training: dict[str, Any]) -> None:
    """Write a network's weights, floats as fp16 where that holds them, and its card."""
    name = next(name for name, (kind, _) in NETWORKS.items() if type(network) is kind)
    card = Card(name, settings_of(network), network.skeleton, training=training)
    tensors = {key: _small(value).contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, str(path), {"format": str(_FORMAT), "card": json.dumps(asdict(card))})


def _small(value: torch.Tensor) -> torch.Tensor:
    """Return floats as fp16, but for tensors with numbers beyond its 65504."""
    if not value.is_floating_point() or bool((value.abs() > torch.finfo(torch.float16).max).any()):
        return value
    return value.half()


def load(path: str | Path, expected: str = "") -> tuple[nn.Module, Card]:
    """Return the network in evaluation mode, in fp32 on the CPU, and its card; `path` as `locate` takes it.

    ValueError names the file and what is wrong: missing, damaged, of another network than `expected`, of another
    canonical camera, or with weights that do not fit the configuration it carries. Without `expected` any network does.
    """
    path = locate(path)
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path}: not a complete safetensors file ({error})") from None
    card = _read_card(path, metadata, expected)
    if card.camera != _CAMERA:
        raise ValueError(f"checkpoint {path}: expected weights for the canonical camera {_CAMERA}, got {card.camera}")
    try:
        network = build(card.network, card.config)
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}") from None
    if card.skeleton != network.skeleton:
        raise ValueError(f"checkpoint {path}: expected skeleton {network.skeleton}, got {card.skeleton}")
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"checkpoint {path}: expected finite weights, got NaN or infinity in {key}")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path}: weights do not fit its own configuration: {error}") from None
    return network.eval(), card


def chosen_network(settings: NetworkConfig) -> str:
    """Return the network that settings mean, by name or by their checkpoint; ValueError as `load` has it."""
    if not settings.checkpoint:
        return settings.name or DEFAULT_NETWORK
    return network_of(settings.checkpoint, settings.name)


def network_of(path: str | Path, expected: str = "") -> str:
    """Return the network whose weights a checkpoint holds; ValueError as `load` has it."""
    path = locate(path)
    try:
        with safe_open(str(path), "pt") as file:
            return _read_card(path, file.metadata() or {}, expected).network
    except SafetensorError as error:
        raise ValueError(f"checkpoint {path}: not a complete safetensors file ({error})") from None


def locate(path: str | Path, directory: Path | None = None) -> Path:
    """Return the file of a checkpoint: the path itself or, where nothing lies there, the one of that name that ships.

    ValueError for neither, and for one that ships and is not what the manifest means.
    """
    path = Path(path)
    if path.is_file():
        return path
    directory = directory or share_directory() / "weights"
    entries = {Path(entry.file).stem: entry for entry in manifest(directory)}
    if str(path) not in entries:
        known = f" or the name of one that ships ({', '.join(entries)})" if entries else ""
        raise ValueError(f"checkpoint {path}: expected a file{known}, got nothing there")
    return _verified(directory, entries[str(path)])


def _read_card(path: Path, metadata: dict[str, str], expected: str) -> Card:
    if metadata.get("format") != str(_FORMAT):
        raise ValueError(f"checkpoint {path}: expected format {_FORMAT}, got {metadata.get('format', 'none')}")
    try:
        card = Card(**json.loads(metadata["card"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"checkpoint {path}: expected a card with network, config and skeleton: {error!r}") from None
    if expected and card.network != expected:
        raise ValueError(f"checkpoint {path}: expected weights of {expected}, got those of {card.network}")
    return card


@dataclass(frozen=True)
class Shipped:
    """An entry of weights/MANIFEST.json; the first that fits is the default."""

    file: str
    network: str
    views: int
    sha256: str
    bytes: int


def manifest(directory: Path | None = None) -> tuple[Shipped, ...]:
    """Return the checkpoints that ship; ValueError if the manifest is damaged, none if there is no manifest."""
    path = (directory or share_directory() / "weights") / "MANIFEST.json"
    if not path.is_file():
        return ()
    try:
        return tuple(Shipped(**entry) for entry in json.loads(path.read_text())["checkpoints"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected a list 'checkpoints' of file, network, views, sha256, bytes: {error!r}")


def defaults(network: str, directory: Path | None = None) -> dict[int, Shipped]:
    """Return views -> the checkpoint that a network has by default, of those that ship."""
    entries = [entry for entry in manifest(directory) if entry.network == network]
    return {entry.views: entry for entry in reversed(entries)}


def shipped(network: str, views: int, directory: Path | None = None) -> Path | None:
    """Return the checkpoint that ships for a network and number of views, verified; None where there is none."""
    directory = directory or share_directory() / "weights"
    entry = defaults(network, directory).get(views)
    return None if entry is None else _verified(directory, entry)


def _verified(directory: Path, entry: Shipped) -> Path:
    path = directory / entry.file
    verify(path, entry)
    return path


def verify(path: Path, entry: Shipped) -> None:
    """ValueError unless the file is the one that the manifest means."""
    if not path.is_file():
        raise ValueError(f"checkpoint {path}: listed in the manifest, but no such file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != entry.sha256:
        raise ValueError(
            f"checkpoint {path}: expected {entry.bytes} bytes with sha256 {entry.sha256}, "
            f"got {path.stat().st_size} bytes with {digest}"
        )


def enter(path: Path, network: str, views: int) -> Shipped:
    """Return the manifest's entry for a file."""
    data = path.read_bytes()
    return Shipped(path.name, network, views, hashlib.sha256(data).hexdigest(), len(data))
