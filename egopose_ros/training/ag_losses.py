"""AG-EgoPose's losses as pure functions: heatmaps, positions, bones, and the actions that guide the motion features.

L = l_pos L_pos + l_bone L_bone + l_cos L_cos with 1, 0.1 and 0.01, lengths in metres (the paper names no unit; in
millimetres the direction would not count at all).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from egopose_ros.structs import Visibility
from egopose_ros.training.data import Batch
from egopose_ros.training.losses import OCCLUDED_WEIGHT

HEATMAP_SIGMA = 2.0
"""[cells]"""
UNKNOWN_ACTION = -1
Bones = tuple[tuple[int, int], ...]


def heatmap_targets(
    joints_px: Float[Tensor, "*batch J 2"], visible: UInt8[Tensor, "*batch J"], size: int, side: int
) -> Float[Tensor, "*batch J side side"]:
    """Return maps of `side` cells with a Gaussian of height one at each joint of images of `size` pixels (eq. 7).

    A hidden joint has one too: it is where the joint is. One out of view has none.
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
    """Return the mean binary cross-entropy of a map's cells (eq. 1); `positive_weight` scales what pulls them up.

    `weight` says how much each map counts.
    """
    scale = logits.new_tensor(positive_weight)
    if weight is None:  # without a map of errors
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=scale)
    error = F.binary_cross_entropy_with_logits(logits, target, pos_weight=scale, reduction="none")
    return _mean(error.mean((-1, -2)), weight)


def heatmap_squared_error(
    maps: Float[Tensor, "*batch h w"], target: Float[Tensor, "*batch h w"], weight: Float[Tensor, "*batch"] | None = None
) -> Float[Tensor, ""]:
    """Return the mean squared error of a map's cells (an ablation); `weight` says how much each map counts."""
    return _mean((maps - target).square().mean((-1, -2)), weight)


def map_weights(batch: Batch) -> Tensor | None:
    """Return how much the heatmap of each joint of a batch counts (B, T, V, J); None where all are true.

    Of a teacher's labels those that pass the gate count, as hidden joints do; of the others nobody knows where they are.
    """
    if batch.teacher is None:
        return None
    weights = torch.ones(batch.visible.shape, device=batch.visible.device)
    weights[batch.teacher.taught] = OCCLUDED_WEIGHT * batch.teacher.trusted.float()[:, :, None]
    return weights


def position_error(
    joints: Float[Tensor, "*batch J 3"], truth: Float[Tensor, "*batch J 3"], known: Bool[Tensor, "*batch J"] | None = None
) -> Float[Tensor, ""]:
    """Return the mean distance [m], of the joints that are known."""
    return _mean(_length(joints - truth), known)


def bone_length_error(
    joints: Float[Tensor, "*batch J 3"],
    truth: Float[Tensor, "*batch J 3"],
    bones: Bones,
    known: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean squared error of the lengths of bones [m^2], of those between joints that are known."""
    error = (_length(_vectors(joints, bones)) - _length(_vectors(truth, bones))).square()
    return _mean(error, _between(known, bones))


def bone_direction_error(
    joints: Float[Tensor, "*batch J 3"],
    truth: Float[Tensor, "*batch J 3"],
    bones: Bones,
    known: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, ""]:
    """Return minus the mean cosine between bones, -1 at best, of those between joints that are known."""
    cosine = F.cosine_similarity(_vectors(joints, bones), _vectors(truth, bones), dim=-1)
    return -_mean(cosine, _between(known, bones))


def action_error(logits: Float[Tensor, "*batch A"], actions: Int64[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the frames whose action is known, zero without one."""
    error = F.cross_entropy(logits.flatten(0, -2), actions.flatten(), ignore_index=UNKNOWN_ACTION, reduction="sum")
    return error / (actions != UNKNOWN_ACTION).sum().clamp(min=1)


def _between(known: Tensor | None, bones: Bones) -> Tensor | None:
    """Return which bones (..., B) have two ends that are known."""
    if known is None:
        return None
    parents, children = zip(*bones)
    return known[..., list(children)] & known[..., list(parents)]


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean, weighted where there are weights; zero where none counts."""
    if weight is None:
        return values.mean()
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def _vectors(joints: Tensor, bones: Bones) -> Tensor:
    """Return the bones (..., B, 3) of (parent, child) pairs."""
    parents, children = zip(*bones)
    return joints[..., list(children), :] - joints[..., list(parents), :]


def _length(vectors: Tensor) -> Tensor:
    """Return norms that have a gradient at zero."""
    return (vectors.square().sum(-1) + 1e-12).sqrt()
