"""What a student learns from a teacher's labels: its poses where it is sure, and how sure it is everywhere.

L = L_true + l_1 L_pose + l_2 |s_T - s_S| (EgoPoseFormer v2, automatic labelling). Where the paper is silent:

- L_pose is that of true data without the likelihood. The likelihood of a teacher's pose would teach the student the
  distance between two networks, which is smaller than that to the truth; its uncertainty comes from |s_T - s_S| alone.
- s is the size and the shape of a joint's scale matrix L L^T: (log r, L / r) with r^2 = |L|^2 / 3. So a doubt of 1 cm
  that should be 2 cm weighs as much as one of 10 cm that should be 20, and no entry can grow without bounds.
- The gate is for poses. Uncertainty is learnt of every joint that has one: a joint that the teacher is not sure of is
  what the student is to be not sure of.
- Every window that passes the gate is drawn alike, so a long recording weighs more than a short one.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from egopose_ros.networks.egoposeformer_v2 import Estimate
from egopose_ros.training.config import LossConfig
from egopose_ros.training.data import Batch, Teacher
from egopose_ros.training.losses import (
    Losses,
    jerk,
    pose_losses,
    rotation_error,
    smooth_norm,
    squared_error,
    weighted_mean,
)


def mixed_losses(proposal: Estimate, refined: Estimate, batch: Batch, mse_weight: float, weights: LossConfig) -> Losses:
    """Return the losses of a batch of which some clips are labelled by a teacher."""
    taught, true = batch.teacher.taught, ~batch.teacher.taught
    losses = pose_losses(
        rows(proposal, true), rows(refined, true), batch.joints[true], batch.rotations[true], mse_weight, weights
    )
    learnt = teacher_losses(
        rows(proposal, taught),
        rows(refined, taught),
        batch.joints[taught],
        batch.rotations[taught],
        batch.teacher,
        weights,
    )
    return Losses(losses.total + learnt.total, {**losses.terms, **learnt.terms})


def teacher_losses(
    proposal: Estimate,
    refined: Estimate,
    joints: Float[Tensor, "B T J 3"],
    rotations: Float[Tensor, "B T J 3 3"],
    teacher: Teacher,
    weights: LossConfig,
) -> Losses:
    """Return the losses of clips that are all labelled by a teacher; a label without a rotation has zeros there."""
    gate = teacher.trusted
    terms = {
        "teacher_mse": squared_error(refined.joints, joints, gate) + squared_error(proposal.joints, joints, gate),
        "teacher_jerk": jerk(refined.joints, joints, gate) + jerk(proposal.joints, joints, gate),
        "teacher_trusted": gate.float().mean(),
    }
    total = weights.position * terms["teacher_mse"] + weights.jerk * terms["teacher_jerk"]
    if refined.rotations is not None:
        turned = gate & (rotations != 0).flatten(-2).any(-1)
        parts = [rotation_error(estimate.rotations, rotations, turned) for estimate in (refined, proposal)]
        terms["teacher_rotation"] = parts[0] + parts[1]
        total = total + weights.rotation * terms["teacher_rotation"]
    total = weights.teacher * total
    if refined.cholesky is not None:
        terms["teacher_uncertainty"] = uncertainty_error(refined.cholesky, teacher.cholesky, teacher.doubted)
        total = total + weights.uncertainty * terms["teacher_uncertainty"]
    return Losses(total, terms)


def uncertainty_error(
    student: Float[Tensor, "B T J 3 3"], teacher: Float[Tensor, "B T J 3 3"], known: Bool[Tensor, "B T J"]
) -> Float[Tensor, ""]:
    """Return the mean |s_T - s_S| of two Cholesky factors, in both its units: nats of size, parts of shape."""
    return weighted_mean(smooth_norm(size_and_shape(student) - size_and_shape(teacher)), known)


def size_and_shape(cholesky: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 7"]:
    """Return (log r, L / r) of a lower triangular L, r its root mean square half axis [m]."""
    row, column = torch.tril_indices(3, 3, device=cholesky.device)
    entries = cholesky[..., row, column]
    size = (entries.square().sum(-1, keepdim=True) / 3.0).sqrt()
    return torch.cat([size.log(), entries / size], -1)


def rows(estimate: Estimate, chosen: Bool[Tensor, " B"]) -> Estimate:
    """Return some clips of an estimate."""
    parts = {field.name: getattr(estimate, field.name) for field in dataclasses.fields(estimate)}
    return Estimate(**{name: None if part is None else part[chosen] for name, part in parts.items()})
