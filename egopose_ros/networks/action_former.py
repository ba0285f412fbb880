"""ActionFormer's transformer blocks (Zhang et al. 2022, ECCV, arXiv 2202.07925) as a temporal encoder.

A block is pre-norm attention and feed-forward, each scaled by learned channel weights and dropped as a whole now and
then. The attention is multi-head convolutional attention, masked: query, key and value first pass a depthwise
convolution over three frames, which is where order comes from (there are no positional encodings), and a layer norm.
"Local" blocks attend within a span around a frame, the others over the whole sequence.

Module names and the shapes of parameters are ActionFormer's, so that its state dicts load by key. Written anew, on
(B, T, C), where a convolution of one frame is a matrix product, with two differences: frames that are not there are
zeroed *before* the convolutions (there, the bias of the norm leaks from the padding into its neighbours), so a padded
sequence gives what the bare one gives; and local attention is a band of the full score matrix, exact for any length,
where the original's overlapping chunks want multiples of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
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
    """Layer norm over the channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight.flatten(), self.bias.flatten())


class Pointwise(nn.Conv1d):
    """A convolution of one frame, as the linear map of channels that it is."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight[..., 0], self.bias)


class TemporalConv(nn.Module):
    """A depthwise convolution over a frame and its neighbours, or (causal) over it and the two before."""

    def __init__(self, channels: int, causal: bool):
        super().__init__()
        self.padding = (2, 0) if causal else (1, 1)
        self.conv = nn.Conv1d(channels, channels, 3, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, *self.padding))
        return sum(padded[:, k : k + x.shape[1]] * self.conv.weight[:, 0, k] for k in range(3))


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
        self.key = Pointwise(width, width)
        self.query = Pointwise(width, width)
        self.value = Pointwise(width, width)
        self.proj = Pointwise(width, width)

    def forward(self, x: Tensor, allowed: Tensor, at: Tensor | None = None) -> Tensor:
        """Return (B, T, C) for (B, T, C) that is zero where there is no frame; `allowed` is (B, 1, T, T).

        With `at` (B,), that frame alone: (B, 1, C), and `allowed` is (B, 1, 1, T).
        """
        query = self._split(self.query(self.query_norm(_row(self.query_conv(x), at))))
        key = self._split(self.key(self.key_norm(self.key_conv(x))))
        value = self._split(self.value(self.value_norm(self.value_conv(x))))
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout)
        return F.dropout(self.proj(attended.transpose(1, 2).flatten(2)), dropout)

    def _split(self, x: Tensor) -> Tensor:
        """Return (B, H, T, D) of (B, T, C)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AffineDropPath(nn.Module):
    """Scale each channel, and in training leave the whole out of some sequences."""

    def __init__(self, channels: int, rate: float):
        super().__init__()
        # Small at first, so that a deep stack starts as the identity.
        self.scale = nn.Parameter(torch.full((1, channels, 1), 1e-4))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale.flatten()
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
            Pointwise(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            Pointwise(4 * width, width),
            nn.Dropout(dropout),
        )
        self.drop_path_attn = AffineDropPath(width, path_dropout)
        self.drop_path_mlp = AffineDropPath(width, path_dropout)

    def forward(self, x: Tensor, filled: Tensor, at: Tensor | None = None) -> Tensor:
        """Return (B, T, C), or (B, 1, C) of frames `at` (B,); where `filled` (B, T) is false, all is zero."""
        there = filled[..., None]
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        # A frame that is not there sees itself, since a softmax over nothing is NaN; nothing sees it.
        allowed = (self.span.allows(x.shape[1], x.device) & filled[:, None]) | itself  # (B, T, T)
        attended = self.attn(self.ln1(x) * there, _row(allowed, at)[:, None], at)
        x, there = _row(x, at), _row(there, at)
        x = x + self.drop_path_attn(attended) * there
        return x + self.drop_path_mlp(self.mlp(self.ln2(x))) * there


def _row(x: Tensor, at: Tensor | None) -> Tensor:
    """Return the frames (B, 1, ...) at indices (B,) of (B, T, ...), or all."""
    return x if at is None else x[torch.arange(len(x), device=x.device), at][:, None]


class ActionFormerEncoder(nn.Module):
    """The blocks of ActionFormer's `branch`, all at full length."""

    def __init__(
        self, width: int, heads: int, spans: tuple[Span, ...], *, causal: bool, dropout: float, path_dropout: float
    ):
        super().__init__()
        self.branch = nn.ModuleList(Block(width, heads, span, causal, dropout, path_dropout) for span in spans)

    def forward(
        self, x: Float[Tensor, "B T C"], filled: Bool[Tensor, "B T"], at: Int64[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """Return (B, T, C), zero where there is no frame; with `at` those frames alone, (B, 1, C), which costs less."""
        x = x * filled[..., None]
        for block in self.branch[:-1]:
            x = block(x, filled)
        return self.branch[-1](x, filled, at)


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
        wanted, found = (len({name.split(".")[1] for name in names}) for names in (encoder.state_dict(), branch))
        raise ValueError(
            f"ActionFormer weights {path}: expected {wanted} blocks as local_blocks + global_blocks have it, "
            f"got {found}: {error}"
        ) from None
