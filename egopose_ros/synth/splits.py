"""The benchmark's splits: what of the world training may see, and what it never has. Changing this changes `VERSION`.

Motions have their table in `motion.library`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

VERSION = 1


@dataclass(frozen=True)
class Split:
    """One split's share of everything that varies."""

    name: str
    people: tuple[float, float]
    """stretch of the asset's list of people"""
    texture_seed: int
    """of its own texture bank"""
    rig_bands: tuple[int, ...]
    """bands of where cameras sit and look (`rigs.BANDS` in all)"""


SPLITS = {
    "train": Split("train", (0.0, 0.7), 101, tuple(b for b in range(20) if b % 5 not in (1, 3))),
    "validation": Split("validation", (0.7, 0.8), 102, tuple(b for b in range(20) if b % 5 == 1)),
    "test": Split("test", (0.8, 1.0), 103, tuple(b for b in range(20) if b % 5 == 3)),
}


def split(name: str) -> Split:
    """Return a split by name; ValueError names those there are."""
    if name not in SPLITS:
        raise ValueError(f"unknown split '{name}'; expected one of {', '.join(SPLITS)}")
    return SPLITS[name]


def generator(name: str, seed: int, purpose: str, device: str = "cpu") -> torch.Generator:
    """Return the random numbers of one purpose of one recording; on a CPU they are the same everywhere."""
    key = f"egopose world {VERSION} {name} {seed} {purpose}".encode()
    return torch.Generator(device).manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:7], "big"))
