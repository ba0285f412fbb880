"""What surfaces are made of: a pattern of the texture bank, its scale, three colours, gloss and light of its own."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import torch
from torch import Tensor

from egopose_ros.synth.textures import TextureBank

Colour = tuple[float, float, float]
_COLUMNS = 15


class Draw:
    """Random choices in plain numbers from one generator, so that a seed gives the same world on every device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        return mean + deviation * float(torch.randn((), generator=self.generator))

    def integer(self, low: int, high: int) -> int:
        """Return an integer, both ends included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def chance(self, probability: float) -> bool:
        return self.uniform(0.0, 1.0) < probability

    def choice(self, options):
        return options[self.integer(0, len(options) - 1)]

    def colour(self, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
        """Return a linear colour from ranges of hue, saturation and (display) value."""
        r, g, b = colorsys.hsv_to_rgb(self.uniform(*hue) % 1.0, self.uniform(*saturation), self.uniform(*value))
        return r**2.2, g**2.2, b**2.2

    def any_colour(self) -> Colour:
        return self.colour((0.0, 1.0), (0.0, 0.9), (0.05, 0.95))

    def grey(self, low: float, high: float) -> Colour:
        return self.colour((0.0, 1.0), (0.0, 0.08), (low, high))


@dataclass(frozen=True)
class Material:
    """One look."""

    pattern: int
    size: float
    """[m] a tile"""
    colours: tuple[Colour, Colour, Colour]
    """linear"""
    gloss: float = 0.0
    emission: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)


@dataclass
class MaterialList:
    """Collects materials and becomes one tensor."""

    bank: TextureBank
    draw: Draw
    rows: list[Material] = field(default_factory=list)

    def add(
        self, kinds: tuple[str, ...], size: float, *colours: Colour, gloss: float = 0.0, emission: float = 0.0
    ) -> int:
        """Add a material with a pattern of one of these kinds; missing colours vary the last one. Returns its row."""
        shades = list(colours)
        while len(shades) < 3:
            factor = self.draw.uniform(0.55, 1.35)
            shades.append(tuple(min(channel * factor, 1.0) for channel in shades[-1]))
        origin = (self.draw.uniform(0, 1), self.draw.uniform(0, 1))
        pattern = self.draw.choice(self.bank.kind(*kinds))
        self.rows.append(Material(pattern, size, tuple(shades[:3]), gloss, emission, origin))
        return len(self.rows) - 1

    def tensor(self, device: torch.device | str) -> Tensor:
        """Return (K, 15): pattern, 1 / size, three colours, gloss, emission, origin."""
        rows = [
            [m.pattern, 1.0 / m.size, *(c for colour in m.colours for c in colour), m.gloss, m.emission, *m.origin]
            for m in self.rows
        ]
        return torch.tensor(rows, device=device).reshape(-1, _COLUMNS)


def evaluate(
    bank: TextureBank, table: Tensor, material: Tensor, uv: Tensor, footprint: Tensor, smooth: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return albedo (M, 3), gloss (M,) and emission (M,) of materials (M,) at uv (M, 2) [m]; footprint (M,) [m]."""
    row = table.index_select(0, material)
    scale = row[:, 1:2]
    texel = bank.sample(row[:, 0].long(), uv * scale + row[:, 13:15], footprint * scale[:, 0], smooth)
    first, second, third = row[:, 2:5], row[:, 5:8], row[:, 8:11]
    colour = first + texel[:, :1] * (second - first)
    colour = colour + texel[:, 1:2] * (third - colour)
    return (colour * (2.0 * texel[:, 2:])).clamp(max=1.0), row[:, 11], row[:, 12]
