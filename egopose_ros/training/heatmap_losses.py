"""Losses of heatmaps, which both networks' image encoders are trained by, as pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from egopose_ros.structs import Visibility
from egopose_ros.training.data import Batch
from egopose_ros.training.losses import OCCLUDED_WEIGHT, weighted_mean

HEATMAP_SIGMA = 2.0
"""[cells]"""


def heatmap_targets(
    joints_px: Float[Tensor, "*batch J 2"], visible: UInt8[Tensor, "*batch J"], size: int, side: int
) -> Float[Tensor, "*batch J side side"]:
    """Return maps of `side` cells with a Gaussian of height one at each joint of images of `size` pixels.

    As AG-EgoPose's eq. 7 has it. A hidden joint has one too: it is where the joint is. One out of view has none.
    """
    at = (joints_px + 0.5) * (side / size) - 0.5
    cells = torch.arange(side, device=at.device)
    columns, rows = (torch.exp(-(cells - at[..., axis, None]).square() / (2 * HEATMAP_SIGMA**2)) for axis in (0, 1))
    inside = (visible != Visibility.OUT_OF_VIEW)[..., None, None]
    return torch.where(inside, rows[..., :, None] * columns[..., None, :], 0.0)


def heatmap_cross_entropy(
    logits: Float[Tensor, "*batch h w"],
    target: Float[Tensor, "*batch h w"],
    positive_weight: float = 1.0,
    weight: Float[Tensor, "*batch"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy of a map's cells (AG-EgoPose, eq. 1).

    `positive_weight` scales what pulls them up, `weight` says how much each map counts.
    """
    scale = logits.new_tensor(positive_weight)
    if weight is None:  # without a map of errors
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=scale)
    error = F.binary_cross_entropy_with_logits(logits, target, pos_weight=scale, reduction="none")
    return weighted_mean(error.mean((-1, -2)), weight)


def heatmap_squared_error(
    maps: Float[Tensor, "*batch h w"],
    target: Float[Tensor, "*batch h w"],
    weight: Float[Tensor, "*batch"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean squared error of a map's cells (an ablation); `weight` says how much each map counts."""
    return weighted_mean((maps - target).square().mean((-1, -2)), weight)


def map_weights(batch: Batch) -> Tensor | None:
    """Return how much the heatmap of each joint of a batch counts (B, T, V, J); None where all are true.

    Of a teacher's labels those that pass the gate count, less than truth; of the others nobody knows where they are.
    """
    if batch.teacher is None:
        return None
    weights = torch.ones(batch.visible.shape, device=batch.visible.device)
    weights[batch.teacher.taught] = OCCLUDED_WEIGHT * batch.teacher.trusted.float()[:, :, None]
    return weights
