"""AG-EgoPose's losses as pure functions: positions, bones, and the actions that guide the motion features.

L = l_pos L_pos + l_bone L_bone + l_cos L_cos with 1, 0.1 and 0.01, lengths in metres (the paper names no unit; in
millimetres the direction would not count at all).
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from egopose_ros.training.losses import weighted_mean

UNKNOWN_ACTION = -1
Bones = tuple[tuple[int, int], ...]


def position_error(
    joints: Float[Tensor, "*batch J 3"], truth: Float[Tensor, "*batch J 3"], known: Bool[Tensor, "*batch J"] | None = None
) -> Float[Tensor, ""]:
    """Return the mean distance [m], of the joints that are known."""
    return weighted_mean(_length(joints - truth), known)


def bone_length_error(
    joints: Float[Tensor, "*batch J 3"],
    truth: Float[Tensor, "*batch J 3"],
    bones: Bones,
    known: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean squared error of the lengths of bones [m^2], of those between joints that are known."""
    error = (_length(_vectors(joints, bones)) - _length(_vectors(truth, bones))).square()
    return weighted_mean(error, _between(known, bones))


def bone_direction_error(
    joints: Float[Tensor, "*batch J 3"],
    truth: Float[Tensor, "*batch J 3"],
    bones: Bones,
    known: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, ""]:
    """Return minus the mean cosine between bones, -1 at best, of those between joints that are known."""
    cosine = F.cosine_similarity(_vectors(joints, bones), _vectors(truth, bones), dim=-1)
    return -weighted_mean(cosine, _between(known, bones))


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


def _vectors(joints: Tensor, bones: Bones) -> Tensor:
    """Return the bones (..., B, 3) of (parent, child) pairs."""
    parents, children = zip(*bones)
    return joints[..., list(children), :] - joints[..., list(parents), :]


def _length(vectors: Tensor) -> Tensor:
    """Return norms that have a gradient at zero."""
    return (vectors.square().sum(-1) + 1e-12).sqrt()
