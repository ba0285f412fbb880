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
from egopose_ros.training.losses import UNIT, Losses, pose_losses

_SMOOTH = 1e-3
"""below this a norm is a square, so that it has a gradient at zero"""


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
        "teacher_mse": pose_error(refined.joints, joints, gate) + pose_error(proposal.joints, joints, gate),
        "teacher_jerk": jerk_error(refined.joints, joints, gate) + jerk_error(proposal.joints, joints, gate),
        "teacher_trusted": gate.float().mean(),
    }
    total = weights.position * terms["teacher_mse"] + weights.jerk * terms["teacher_jerk"]
    if refined.rotations is not None:
        turned = gate & (rotations != 0).flatten(-2).any(-1)
        parts = [turn_error(estimate.rotations, rotations, turned) for estimate in (refined, proposal)]
        terms["teacher_rotation"] = parts[0] + parts[1]
        total = total + weights.rotation * terms["teacher_rotation"]
    total = weights.teacher * total
    if refined.cholesky is not None:
        terms["teacher_uncertainty"] = uncertainty_error(refined.cholesky, teacher.cholesky, teacher.doubted)
        total = total + weights.uncertainty * terms["teacher_uncertainty"]
    return Losses(total, terms)


def pose_error(
    joints: Float[Tensor, "B T J 3"], labels: Float[Tensor, "B T J 3"], gate: Bool[Tensor, "B T J"]
) -> Float[Tensor, ""]:
    """Return the mean squared distance [0.01 m^2] of the joints that pass the gate."""
    return _mean(((joints - labels) / UNIT).square().sum(-1), gate)


def jerk_error(
    joints: Float[Tensor, "B T J 3"], labels: Float[Tensor, "B T J 3"], gate: Bool[Tensor, "B T J"]
) -> Float[Tensor, ""]:
    """Return the mean size of the error's third difference [0.1 m per frame^3] where four frames pass the gate."""
    if joints.shape[1] < 4:
        return joints.new_zeros(())
    third = ((joints - labels) / UNIT).diff(n=3, dim=1)
    return _mean(_norm(third), gate.unfold(1, 4, 1).all(-1))


def turn_error(
    rotations: Float[Tensor, "B T J 3 3"], labels: Float[Tensor, "B T J 3 3"], gate: Bool[Tensor, "B T J"]
) -> Float[Tensor, ""]:
    """Return the mean squared Frobenius distance, 4 (1 - cos angle), where the gate is open."""
    return _mean((rotations - labels).square().sum((-1, -2)), gate)


def uncertainty_error(
    student: Float[Tensor, "B T J 3 3"], teacher: Float[Tensor, "B T J 3 3"], known: Bool[Tensor, "B T J"]
) -> Float[Tensor, ""]:
    """Return the mean |s_T - s_S| of two Cholesky factors, in both its units: nats of size, parts of shape."""
    return _mean(_norm(size_and_shape(student) - size_and_shape(teacher)), known)


def size_and_shape(cholesky: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 7"]:
    """Return (log r, L / r) of a lower triangular L, r its root mean square half axis [m]."""
    entries = cholesky[..., *torch.tril_indices(3, 3, device=cholesky.device)]
    size = (entries.square().sum(-1, keepdim=True) / 3.0).sqrt()
    return torch.cat([size.log(), entries / size], -1)


def rows(estimate: Estimate, chosen: Bool[Tensor, " B"]) -> Estimate:
    """Return some clips of an estimate."""
    parts = {field.name: getattr(estimate, field.name) for field in dataclasses.fields(estimate)}
    return Estimate(**{name: None if part is None else part[chosen] for name, part in parts.items()})


def _norm(x: Tensor) -> Tensor:
    """Return |x| over the last axis, smooth and exactly zero at zero."""
    return (x.square().sum(-1) + _SMOOTH**2).sqrt() - _SMOOTH


def _mean(values: Tensor, gate: Tensor) -> Tensor:
    """Return the mean of what passes the gate, zero where nothing does."""
    return (values * gate).sum() / gate.sum().clamp(min=1)
