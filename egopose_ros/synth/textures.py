"""Procedural patterns: a bank of tileable textures that every surface takes its look from.

A pattern holds three channels, each 0..1: how far towards the second colour, how far towards the third, and a
brightness (0.5 is 1). A surface brings colours and scale, so one pattern serves any number of materials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Callable

import torch
from torch import Tensor

SIZE = 128
_LEVELS = 6
Draw = Callable[[float, float], float]


@dataclass(frozen=True)
class TextureBank:
    """Patterns with their halved copies."""

    table: Tensor
    """(texels of all levels, 3) uint8"""
    level_start: Tensor
    """(levels,) int64, first row of each level"""
    names: tuple[str, ...]
    """kind of each pattern"""

    def kind(self, *kinds: str) -> list[int]:
        """Return the patterns of some kinds."""
        return [i for i, name in enumerate(self.names) if name in kinds]

    def sample(self, pattern: Tensor, uv: Tensor, footprint: Tensor, smooth: bool = False) -> Tensor:
        """Return (M, 3) channels of patterns (M,) at uv (M, 2) [tiles]; footprint (M,) [tiles a pixel].

        The level is that whose texels are about a pixel wide; `smooth` interpolates in it, for pictures so large that
        pixels are smaller than the finest texels.
        """
        level = torch.log2((footprint * SIZE).clamp_(min=1.0)).round_().long().clamp_(max=_LEVELS - 1)
        size = SIZE >> level
        position = (uv - uv.floor()) * size[:, None]
        base = self.level_start.index_select(0, level) + pattern * size * size
        if not smooth:
            x, y = position.long().unbind(1)
            row = base + torch.minimum(y, size - 1) * size + torch.minimum(x, size - 1)
            return self.table.index_select(0, row).float().mul_(1.0 / 255.0)
        position = position - 0.5
        low = position.floor()
        fx, fy = (position - low).split(1, 1)
        low, mask = low.long(), size - 1
        x0, y0 = low[:, 0] & mask, low[:, 1] & mask
        x1, y1 = (low[:, 0] + 1) & mask, (low[:, 1] + 1) & mask
        rows = [base + y * size + x for y in (y0, y1) for x in (x0, x1)]
        texel = [self.table.index_select(0, row).float() for row in rows]
        top = texel[0] + fx * (texel[1] - texel[0])
        bottom = texel[2] + fx * (texel[3] - texel[2])
        return (top + fy * (bottom - top)) * (1.0 / 255.0)


@lru_cache(maxsize=4)
def texture_bank(seed: int, device: str = "cpu") -> TextureBank:
    """Make the bank of a seed: three patterns of each kind."""
    generator = torch.Generator().manual_seed(seed)
    names, images = [], []
    for _ in range(3):
        for name, make in _MAKERS.items():
            names.append(name)
            images.append(make(_Maker(generator)).clamp(0, 1))
    level = torch.stack(images).permute(0, 3, 1, 2)
    tables, starts, rows = [], [], 0
    for _ in range(_LEVELS):
        table = level.permute(0, 2, 3, 1).reshape(-1, 3)
        tables.append((table * 255.0).round().to(torch.uint8))
        starts.append(rows)
        rows += len(table)
        level = torch.nn.functional.avg_pool2d(level, 2)
    return TextureBank(torch.cat(tables).to(device), torch.tensor(starts, device=device), tuple(names))


class _Maker:
    """Tileable building blocks on a SIZE x SIZE grid, drawn from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        axis = (torch.arange(SIZE) + 0.5) / SIZE
        self.y, self.x = torch.meshgrid(axis, axis, indexing="ij")

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def noise(self, cells_x: int, cells_y: int | None = None) -> Tensor:
        """Return value noise in 0..1 with so many cells a tile."""
        grid = torch.rand(1, 1, cells_y or cells_x, cells_x, generator=self.generator)
        padded = torch.nn.functional.pad(grid, (2, 2, 2, 2), mode="circular") if min(grid.shape[2:]) >= 2 else grid
        if padded is grid:
            return grid.expand(1, 1, SIZE, SIZE)[0, 0]
        columns, rows = torch.meshgrid(self.x[0] * grid.shape[3], self.y[:, 0] * grid.shape[2], indexing="xy")
        where = torch.stack(
            [2 * (columns + 2) / padded.shape[3] - 1, 2 * (rows + 2) / padded.shape[2] - 1], -1
        )[None]
        return torch.nn.functional.grid_sample(padded, where, mode="bicubic", align_corners=False)[0, 0].clamp(0, 1)

    def fractal(self, cells: int, octaves: int = 5, gain: float = 0.55, stretch: int = 1) -> Tensor:
        """Return noise of several octaves, about 0..1, stretched along y."""
        total, weight, amount = torch.zeros(SIZE, SIZE), 0.0, 1.0
        for octave in range(octaves):
            count = min(cells << octave, SIZE)
            total = total + amount * self.noise(count, max(2, count // stretch))
            weight, amount = weight + amount, amount * gain
        return ((total / weight - 0.5) * 1.8 + 0.5).clamp(0, 1)

    def cells(self, columns: int, rows: int, shift: float = 0.0, gap: float = 0.04) -> tuple[Tensor, Tensor, Tensor]:
        """Return a random number of each cell of a brick-like grid, its joint mask, and x inside the cell."""
        row = (self.y * rows).floor()
        along = self.x * columns + shift * (row % 2)
        column = along.floor() % columns
        values = torch.rand(rows, columns, generator=self.generator)
        inside_x, inside_y = along % 1.0, (self.y * rows) % 1.0
        edge_x, edge_y = gap, gap * rows / columns
        joint = (inside_x < edge_x) | (inside_y < min(edge_y, 0.3))
        return values[row.long(), column.long()], joint.float(), inside_x


def _stack(p: Tensor, q: Tensor | float = 0.0, brightness: Tensor | float = 0.5) -> Tensor:
    like = torch.zeros(SIZE, SIZE)
    return torch.stack([p + like, q + like, brightness + like], -1)


def _plain(m: _Maker) -> Tensor:
    return _stack(m.uniform(0, 0.3) * m.fractal(2), 0.0, 0.5 + 0.06 * (m.fractal(16, 3) - 0.5))


def _planks(m: _Maker) -> Tensor:
    value, joint, _ = m.cells(m.integer(4, 8), m.integer(1, 3), 0.37, 0.03)
    grain = m.fractal(24, 3, stretch=12)
    return _stack(0.35 * value + 0.5 * grain, 0.0, 0.5 - 0.25 * joint + 0.2 * (value - 0.5) + 0.12 * (grain - 0.5))


def _parquet(m: _Maker) -> Tensor:
    count = 4
    flip = ((m.x * count).floor() + (m.y * count).floor()) % 2
    along = torch.where(flip > 0, m.x, m.y) * count * 4
    strip, inside = along.floor(), along % 1.0
    tone = (torch.sin(strip * 12.9 + flip * 78.2 + (m.x * count).floor() * 37.7) * 43758.5) % 1.0
    return _stack(0.7 * tone, 0.0, 0.5 - 0.2 * (inside < 0.07) + 0.1 * (m.fractal(32, 2) - 0.5))


def _tiles(m: _Maker) -> Tensor:
    count = m.integer(1, 4)
    value, joint, _ = m.cells(count, count, 0.0, m.uniform(0.01, 0.03) * count)
    return _stack(0.3 * value + 0.3 * m.fractal(4), joint, 0.5 + 0.08 * (m.fractal(32, 2) - 0.5))


def _bricks(m: _Maker) -> Tensor:
    value, joint, _ = m.cells(4, 12, 0.5, 0.05)
    return _stack(0.8 * value, joint, 0.5 + 0.25 * (m.fractal(16, 3) - 0.5))


def _carpet(m: _Maker) -> Tensor:
    return _stack(m.fractal(3, 3), 0.6 * (m.noise(64) > 0.75).float(), 0.5 + 0.4 * (m.noise(96) - 0.5))


def _rug(m: _Maker) -> Tensor:
    r = torch.maximum((m.x - 0.5).abs(), (m.y - 0.5).abs()) * 2
    rings = (r * m.integer(3, 7)).floor() % 2
    wave = 0.5 + 0.5 * torch.sin(2 * math.pi * m.integer(4, 10) * m.x) * torch.sin(2 * math.pi * m.integer(4, 10) * m.y)
    return _stack(rings, (wave > 0.6).float() * (1 - rings), 0.5 + 0.25 * (m.noise(96) - 0.5))


def _marble(m: _Maker) -> Tensor:
    vein = (m.fractal(3) + 0.35 * m.fractal(6) - 0.65).abs()
    return _stack((1 - vein * 6).clamp(0, 1) * 0.8, 0.0, 0.5 + 0.1 * (m.fractal(4) - 0.5))


def _terrazzo(m: _Maker) -> Tensor:
    fine = m.noise(48)
    return _stack((fine > 0.72).float(), (fine < 0.25).float(), 0.5 + 0.05 * (m.noise(64) - 0.5))


def _concrete(m: _Maker) -> Tensor:
    return _stack(m.fractal(2, 6), 0.0, 0.5 + 0.25 * (m.fractal(8, 5) - 0.5))


def _grass(m: _Maker) -> Tensor:
    return _stack(m.fractal(4), 0.5 * m.noise(64), 0.3 + 0.5 * m.fractal(32, 3, 0.9))


def _gravel(m: _Maker) -> Tensor:
    stones = m.noise(40) * m.noise(56)
    return _stack(m.noise(48), m.fractal(3), 0.2 + 0.9 * stones)


def _stripes(m: _Maker) -> Tensor:
    count = m.integer(4, 20)
    wave = (m.x * count) % 1.0
    thin = m.uniform(0.15, 0.6)
    second = ((m.x * count * 0.5) % 1.0 < 0.08).float() * m.integer(0, 1)
    return _stack((wave < thin).float(), second, 0.5 + 0.12 * (m.noise(96) - 0.5))


def _checks(m: _Maker) -> Tensor:
    count = m.integer(3, 12)
    a, b = ((m.x * count) % 1.0 < 0.5).float(), ((m.y * count) % 1.0 < 0.5).float()
    line = (((m.x * count) % 1.0 - 0.25).abs() < 0.04).float() + (((m.y * count) % 1.0 - 0.25).abs() < 0.04).float()
    return _stack(0.5 * (a + b), line.clamp(max=1) * m.integer(0, 1), 0.5 + 0.12 * (m.noise(96) - 0.5))


def _dots(m: _Maker) -> Tensor:
    count, radius = m.integer(4, 14), m.uniform(0.12, 0.34)
    x, y = (m.x * count) % 1.0 - 0.5, (m.y * count) % 1.0 - 0.5
    return _stack((x * x + y * y < radius**2).float(), 0.0, 0.5 + 0.1 * (m.noise(96) - 0.5))


def _print(m: _Maker) -> Tensor:
    return _stack((m.fractal(4, 3) > 0.5).float(), (m.fractal(5, 3) > 0.62).float(), 0.5 + 0.1 * (m.noise(96) - 0.5))


def _weave(m: _Maker) -> Tensor:
    knit = torch.sin(2 * math.pi * 32 * m.x) * torch.sin(2 * math.pi * 32 * m.y)
    return _stack(m.fractal(4) * 0.5, 0.0, 0.5 + 0.12 * knit + 0.1 * (m.fractal(16) - 0.5))


def _denim(m: _Maker) -> Tensor:
    twill = torch.sin(2 * math.pi * 40 * (m.x + m.y))
    return _stack(0.5 * m.fractal(2, 3) + 0.3 * m.noise(96), 0.0, 0.5 + 0.08 * twill + 0.1 * (m.noise(96) - 0.5))


def _books(m: _Maker) -> Tensor:
    value, joint, inside = m.cells(24, 3, 0.0, 0.1)
    top = ((m.y * 3) % 1.0) < 0.1 + 0.3 * value
    return _stack(value, ((value * 7.3) % 1.0 > 0.6).float(), 0.5 - 0.3 * joint - 0.35 * top.float())


def _poster(m: _Maker) -> Tensor:
    p, q = torch.zeros(SIZE, SIZE), torch.zeros(SIZE, SIZE)
    for _ in range(m.integer(4, 12)):
        x, y, w, h = (m.uniform(0, 0.9) for _ in range(4))
        block = ((m.x > x) & (m.x < x + 0.5 * w) & (m.y > y) & (m.y < y + 0.5 * h)).float()
        if m.integer(0, 1):
            p = torch.maximum(p, block)
        else:
            q = torch.maximum(q, block)
    return _stack(p, q, 0.5 + 0.3 * (m.fractal(3, 4) - 0.5))


def _text(m: _Maker) -> Tensor:
    lines = ((m.y * 32) % 1.0 < 0.55) & (m.noise(64, 32) > 0.35) & ((m.x * m.integer(2, 4)) % 1.0 > 0.08)
    picture = ((m.x - m.uniform(0.2, 0.7)).abs() < 0.15) & ((m.y - m.uniform(0.2, 0.7)).abs() < 0.12)
    lines = lines & ~picture
    return _stack(0.85 * lines.float(), 0.0, 0.5 - 0.25 * picture.float() * m.fractal(6))


def _screen(m: _Maker) -> Tensor:
    window = ((m.x - 0.5).abs() < m.uniform(0.2, 0.45)) & ((m.y - 0.5).abs() < m.uniform(0.2, 0.4))
    lines = ((m.y * 24) % 1.0 < 0.4) & (m.noise(24) > 0.5) & window
    return _stack(window.float(), lines.float(), 0.5 + 0.3 * (m.fractal(2, 2) - 0.5))


_MAKERS: dict[str, Callable[[_Maker], Tensor]] = {
    "plain": _plain, "planks": _planks, "parquet": _parquet, "tiles": _tiles, "bricks": _bricks, "carpet": _carpet,
    "rug": _rug, "marble": _marble, "terrazzo": _terrazzo, "concrete": _concrete, "grass": _grass, "gravel": _gravel,
    "stripes": _stripes, "checks": _checks, "dots": _dots, "print": _print, "weave": _weave, "denim": _denim,
    "books": _books, "poster": _poster, "text": _text, "screen": _screen,
}
