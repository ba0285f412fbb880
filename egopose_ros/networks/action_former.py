"""ActionFormer's transformer blocks (Zhang et al. 2022, ECCV, arXiv 2202.07925) as a temporal encoder.

A block is pre-norm attention and feed-forward, each scaled by learned channel weights and dropped as a whole now and
then. The attention is multi-head convolutional attention, masked: query, key and value first pass a depthwise
convolution over three frames, which is where order comes from (there are no positional encodings), and a layer norm.
"Local" blocks attend within a span around a frame, the others over the whole sequence.

Module names are ActionFormer's, so that its state dicts load by key; arrays are (B, C, T) as there. Written anew, with
two differences: frames that are not there are zeroed *before* the convolutions (there, the bias of the norm leaks from
the padding into its neighbours), so a padded sequence gives what the bare one gives; and local attention is a band of
the full score matrix, exact for any length, where the original's overlapping chunks want multiples of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Span:
    """Which frames a block attends to: None is without limit."""

    back: int | None
    ahead: int | None

    def allows(self, length: int, device: torch.device) -> Bool[Tensor, "T T"]:
        """Return where queries (rows) see keys (columns) of a sequence."""
        index = torch.arange(length, device=device)
        offset = index[None, :] - index[:, None]
        allowed = torch.ones_like(offset, dtype=torch.bool)
        if self.back is not None:
            allowed &= offset >= -self.back
        if self.ahead is not None:
            allowed &= offset <= self.ahead
        return allowed


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, T)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.flatten(), self.bias.flatten()
        return F.layer_norm(x.transpose(1, 2), (x.shape[1],), weight, bias).transpose(1, 2)


class TemporalConv(nn.Module):
    """A depthwise convolution over a frame and its neighbours, or (causal) over it and the two before."""

    def __init__(self, channels: int, causal: bool):
        super().__init__()
        self.before, self.after = (2, 0) if causal else (1, 1)
        self.conv = nn.Conv1d(channels, channels, 3, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (self.before, self.after)))


class ConvAttention(nn.Module):
    """Masked multi-head convolutional attention: MaskedMHCA, and with a mask that is a band LocalMaskedMHCA."""

    def __init__(self, width: int, heads: int, causal: bool, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_conv = TemporalConv(width, causal)
        self.query_norm = ChannelNorm(width)
        self.key_conv = TemporalConv(width, causal)
        self.key_norm = ChannelNorm(width)
        self.value_conv = TemporalConv(width, causal)
        self.value_norm = ChannelNorm(width)
        self.key = nn.Conv1d(width, width, 1)
        self.query = nn.Conv1d(width, width, 1)
        self.value = nn.Conv1d(width, width, 1)
        self.proj = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """Return (B, C, T) for (B, C, T) that is zero where there is no frame; `allowed` is (B, 1, T, T)."""
        query = self._split(self.query(self.query_norm(self.query_conv(x))))
        key = self._split(self.key(self.key_norm(self.key_conv(x))))
        value = self._split(self.value(self.value_norm(self.value_conv(x))))
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout)
        attended = attended.transpose(2, 3).flatten(1, 2)  # (B, C, T)
        return F.dropout(self.proj(attended), dropout)

    def _split(self, x: Tensor) -> Tensor:
        """Return (B, H, T, D) of (B, C, T)."""
        return x.unflatten(1, (self.heads, -1)).transpose(2, 3)


class AffineDropPath(nn.Module):
    """Scale each channel, and in training leave the whole out of some sequences."""

    def __init__(self, channels: int, rate: float):
        super().__init__()
        # Small at first, so that a deep stack starts as the identity.
        self.scale = nn.Parameter(torch.full((1, channels, 1), 1e-4))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale * x
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.rate
        return x * kept / (1.0 - self.rate)


class Block(nn.Module):
    """Attention and feed-forward, normalised before each."""

    def __init__(self, width: int, heads: int, span: Span, causal: bool, dropout: float, path_dropout: float):
        super().__init__()
        self.span = span
        self.ln1 = ChannelNorm(width)
        self.ln2 = ChannelNorm(width)
        self.attn = ConvAttention(width, heads, causal, dropout)
        self.mlp = nn.Sequential(
            nn.Conv1d(width, 4 * width, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv1d(4 * width, width, 1),
            nn.Dropout(dropout),
        )
        self.drop_path_attn = AffineDropPath(width, path_dropout)
        self.drop_path_mlp = AffineDropPath(width, path_dropout)

    def forward(self, x: Tensor, filled: Tensor) -> Tensor:
        """Return (B, C, T); frames are where `filled` (B, 1, T) is true, elsewhere all is zero."""
        length = x.shape[-1]
        itself = torch.eye(length, dtype=torch.bool, device=x.device)
        # A frame that is not there sees itself, since a softmax over nothing is NaN; nothing sees it.
        allowed = (self.span.allows(length, x.device) & filled) | itself  # (B, T, T)
        x = x + self.drop_path_attn(self.attn(self.ln1(x) * filled, allowed[:, None])) * filled
        return x + self.drop_path_mlp(self.mlp(self.ln2(x))) * filled


class ActionFormerEncoder(nn.Module):
    """The blocks of ActionFormer's `branch`, all at full length."""

    def __init__(
        self, width: int, heads: int, spans: tuple[Span, ...], *, causal: bool, dropout: float, path_dropout: float
    ):
        super().__init__()
        self.branch = nn.ModuleList(Block(width, heads, span, causal, dropout, path_dropout) for span in spans)

    def forward(self, x: Float[Tensor, "B T C"], filled: Bool[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """Return (B, T, C), zero where there is no frame."""
        filled = filled[:, None]
        x = x.transpose(1, 2) * filled
        for block in self.branch:
            x = block(x, filled)
        return x.transpose(1, 2)


def load_action_former(encoder: ActionFormerEncoder, path: str | Path) -> None:
    """Load the branch of an ActionFormer checkpoint strictly, the averaged one where it has both.

    ValueError for a file without one, or of another number or width of blocks.
    """
    try:
        published = torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, UnpicklingError) as error:
        raise ValueError(f"ActionFormer weights {path}: expected a checkpoint, got {error}") from None
    for part in ("state_dict_ema", "state_dict"):
        if part in published:
            published = published[part]
            break
    bare = {name.removeprefix("module.").removeprefix("backbone."): value for name, value in published.items()}
    branch = {name: value for name, value in bare.items() if name.startswith("branch.")}
    try:
        encoder.load_state_dict(branch)
    except RuntimeError as error:
        blocks = len(encoder.branch)
        raise ValueError(f"ActionFormer weights {path}: expected {blocks} blocks as configured, {error}") from None
