"""Causal self-attention over time with rotary positions (Su et al. 2021) and a cache of fixed size.

A cache holds the keys and values of the `window - 1` frames before the newest, keys not yet rotated. Positions are
differences of stamps from the newest frame, taken as integers, so the result is as exact after a day as at the start
and a frame rate is only another spacing of positions. A frame attends to itself and to `window - 1` frames before it;
L such layers on top of each other see L (window - 1) + 1 frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOMINAL_RATE_HZ = 30.0
"""unit of positions: one frame at this rate"""


@dataclass(frozen=True)
class KeyValueCache:
    """What a layer remembers: W is the window."""

    keys: Tensor
    """(B, W - 1, C), not rotated"""
    values: Tensor
    """(B, W - 1, C)"""


@dataclass(frozen=True)
class Timeline:
    """Which frames there are and who sees whom, shared by all layers. S = W - 1 + T frames, T of them new."""

    stamps_ns: Tensor
    """(B, S) int64"""
    filled: Tensor
    """(B, S) bool, false in the empty part of a cache"""
    mask: Tensor
    """(B, 1, T, S) bool, true where a new frame attends"""
    positions: Tensor
    """(B, S) float64, frames at the nominal rate, 0 at the newest"""


def timeline(cached_ns: Tensor, cached: Tensor, new_ns: Tensor, window: int) -> Timeline:
    """Join the cached stamps (B, W - 1) and whether they are filled with new stamps (B, T)."""
    stamps = torch.cat([cached_ns, new_ns], 1)
    filled = torch.cat([cached, torch.ones_like(new_ns, dtype=torch.bool)], 1)
    past, total = cached_ns.shape[1], stamps.shape[1]
    query = torch.arange(past, total, device=stamps.device)[:, None]
    key = torch.arange(total, device=stamps.device)
    band = (key <= query) & (key > query - window)
    positions = (stamps - stamps[:, -1:]).double() * (1e-9 * NOMINAL_RATE_HZ)
    return Timeline(stamps, filled, (band & filled[:, None])[:, None], torch.where(filled, positions, 0.0))


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate pairs of channels of (B, heads, S, D) by angles (B, 1, S, D / 2)."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


class TemporalAttention(nn.Module):
    """Multi-head attention of new frames to themselves and to the cached past."""

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"expected a width divisible by twice the {heads} heads, got {width}")
        self.width, self.heads, self.window = width, heads, window
        self.project = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        # Wavelengths from 6 to 600 nominal frames: a step and a sit-down both span a good part of a turn.
        pairs = width // heads // 2
        self.register_buffer("frequencies", 100.0 ** (-torch.arange(pairs) / pairs).double(), persistent=False)

    def empty(self, batch: int) -> KeyValueCache:
        """Return the cache before the first frame."""
        nothing = self.project.weight.new_zeros(batch, self.window - 1, self.width)
        return KeyValueCache(nothing, nothing)

    def forward(self, x: Tensor, cache: KeyValueCache, time: Timeline) -> tuple[Tensor, KeyValueCache]:
        """Return (B, T, C) for new frames (B, T, C), and the cache with them."""
        query, keys, values = self.project(x).chunk(3, -1)
        keys = torch.cat([cache.keys, keys], 1)
        values = torch.cat([cache.values, values], 1)
        angles = time.positions[:, None, :, None] * self.frequencies.to(time.positions)
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        new = x.shape[1]
        attended = F.scaled_dot_product_attention(
            _rotate(self._split(query), cosine[:, :, -new:], sine[:, :, -new:]),
            _rotate(self._split(keys), cosine, sine),
            self._split(values),
            attn_mask=time.mask,
        )
        kept = self.window - 1
        # Copies, so that a state neither aliases nor keeps alive more than its window.
        cache = KeyValueCache(keys[:, keys.shape[1] - kept :].clone(), values[:, values.shape[1] - kept :].clone())
        return self.output(attended.transpose(1, 2).flatten(2)), cache

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
