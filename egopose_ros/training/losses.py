"""Losses as pure functions. Positions enter in metres; their losses are in units of 0.1 m, near one at the start.

With w_d going down along a cosine in each stage of training, by default from one or a half to zero (the paper has one
schedule; `mse_start`, `mse_end`),
L = l_pos (w_d MSE(refined) + (1 - w_d) NLL + MSE(proposal)) + l_jerk (jerk(refined) + jerk(proposal))
(EgoPoseFormer v2), plus the rotations' error, without which the turn of a limb about its own axis would be free, and
that of attention, which guides heads of the decoders to the joints of limbs. Heatmaps are in `heatmap_losses`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from egopose_ros.networks import student_t
from egopose_ros.networks.egoposeformer_v2 import Estimate
from egopose_ros.structs import Visibility
from egopose_ros.training.config import LossConfig

UNIT = 0.1
"""[m]"""
ATTENTION_SIGMA = 1.0
"""[tokens]"""
OCCLUDED_WEIGHT = 0.3
"""of a hidden joint in attention, whose place can only be guessed, and of a teacher's label in heatmaps"""
_SMOOTH = 1e-3
"""below this a norm is a square, so that it has a gradient at zero"""


def squared_error(
    joints: Float[Tensor, "*batch J 3"],
    truth: Float[Tensor, "*batch J 3"],
    gate: Bool[Tensor, "*batch J"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean squared distance [0.01 m^2] of the joints that pass the gate."""
    return weighted_mean(((joints - truth) / UNIT).square().sum(-1), gate)


def likelihood(
    joints: Float[Tensor, "*batch J 3"], cholesky: Float[Tensor, "*batch J 3 3"], truth: Float[Tensor, "*batch J 3"]
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of the truth under each joint's Student-t distribution."""
    return student_t.negative_log_likelihood((truth - joints) / UNIT, cholesky / UNIT).mean()


def jerk(
    joints: Float[Tensor, "B T J 3"], truth: Float[Tensor, "B T J 3"], gate: Bool[Tensor, "B T J"] | None = None
) -> Float[Tensor, ""]:
    """Return the mean size of the error's third difference [0.1 m per frame^3] where four frames pass the gate.

    Of the error, so that fast motion is not punished for being fast. Zero for clips below four frames.
    """
    if joints.shape[1] < 4:
        return joints.new_zeros(())
    third = ((joints - truth) / UNIT).diff(n=3, dim=1)
    return weighted_mean(smooth_norm(third), None if gate is None else gate.unfold(1, 4, 1).all(-1))


def rotation_error(
    rotations: Float[Tensor, "*batch 3 3"],
    truth: Float[Tensor, "*batch 3 3"],
    gate: Bool[Tensor, "*batch"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean squared Frobenius distance, 4 (1 - cos angle), where the gate is open."""
    return weighted_mean((rotations - truth).square().sum((-1, -2)), gate)


def attention_cross_entropy(
    logits: Float[Tensor, "*batch J h w"],
    joints_px: Float[Tensor, "*batch J 2"],
    visible: UInt8[Tensor, "*batch J"],
    size: int,
) -> Float[Tensor, ""]:
    """Return the cross-entropy between where heads look and a Gaussian around each joint of images of `size` pixels."""
    height, width = logits.shape[-2:]
    cells = (joints_px + 0.5) / size * joints_px.new_tensor([width, height]) - 0.5
    rows = torch.arange(height, device=logits.device) - cells[..., 1:]  # (..., J, h)
    columns = torch.arange(width, device=logits.device) - cells[..., :1]
    exponent = rows.square()[..., :, None] + columns.square()[..., None, :]
    target = (-exponent / (2 * ATTENTION_SIGMA**2)).flatten(-2).softmax(-1)
    entropy = -(target * logits.flatten(-2).log_softmax(-1)).sum(-1)
    weight = torch.where(visible == Visibility.VISIBLE, 1.0, OCCLUDED_WEIGHT) * (visible != Visibility.OUT_OF_VIEW)
    return weighted_mean(entropy, weight)


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean, weighted where there are weights or a gate; zero where none counts."""
    if weight is None:
        return values.mean()
    return (values * weight).sum() / weight.sum().clamp(min=1)


def smooth_norm(x: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch"]:
    """Return |x|, smooth and exactly zero at zero."""
    return (x.square().sum(-1) + _SMOOTH**2).sqrt() - _SMOOTH


def cosine(start: float, end: float, progress: float) -> float:
    """Return what lies between `start` and `end` along half a cosine, `progress` in 0..1."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


@dataclass(frozen=True)
class Losses:
    """The weighted sum and its unweighted terms."""

    total: Tensor
    terms: dict[str, Tensor]


def pose_losses(
    proposal: Estimate,
    refined: Estimate,
    joints: Float[Tensor, "B T J 3"],
    rotations: Float[Tensor, "B T J 3 3"],
    mse_weight: float,
    weights: LossConfig,
) -> Losses:
    """Return the losses of both decoders; without a covariance the squared error stands alone."""
    terms = {
        "mse": squared_error(refined.joints, joints),
        "mse_proposal": squared_error(proposal.joints, joints),
        "jerk": jerk(refined.joints, joints) + jerk(proposal.joints, joints),
    }
    position = terms["mse"] + terms["mse_proposal"]
    if refined.cholesky is not None:
        terms["nll"] = likelihood(refined.joints, refined.cholesky, joints)
        position = mse_weight * terms["mse"] + (1.0 - mse_weight) * terms["nll"] + terms["mse_proposal"]
    total = weights.position * position + weights.jerk * terms["jerk"]
    if refined.rotations is not None:
        terms["rotation"] = rotation_error(refined.rotations, rotations) + rotation_error(proposal.rotations, rotations)
        total = total + weights.rotation * terms["rotation"]
    return Losses(total, terms)
