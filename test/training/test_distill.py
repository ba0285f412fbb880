"""What a student learns of a teacher: nothing where they agree, more the more they differ, and through the gate."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose_ros.networks.egoposeformer_v2 import EgoPoseFormerV2, EgoPoseFormerV2Config
from egopose_ros.networks.interface import NetworkInput
from egopose_ros.training import distill
from egopose_ros.training.config import LossConfig
from egopose_ros.training.data import Batch, Teacher
from egopose_ros.training.losses import pose_losses

J = 22
MODEL = EgoPoseFormerV2Config(width=32, heads=2, layers=1, window=4, head_pose_dropout=0.0)


def cholesky(seed: int, *shape: int) -> torch.Tensor:
    lower = torch.randn(*shape, 3, 3, generator=torch.Generator().manual_seed(seed)).tril(-1) * 0.03
    return lower + torch.diag_embed(
        torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed + 1)) * 0.1 + 0.01
    )


def make_batch(taught: list[bool], frames: int = 5, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    count, labelled = len(taught), sum(taught)
    eye = torch.eye(4, dtype=torch.float64)
    flags = torch.ones(count, frames, dtype=torch.bool)
    new = NetworkInput(
        torch.randint(0, 255, (count, frames, 1, 3, 64, 64), dtype=torch.uint8, generator=generator),
        T_reference_camera=eye.float().expand(count, 1, 4, 4),
        stamps_ns=torch.arange(frames).expand(count, frames) * 10**8,
        T_world_reference=eye.expand(count, frames, 4, 4),
        head_pose_valid=flags,
        gravity_reference=torch.tensor([0.0, 0.0, -1.0]).expand(count, frames, 3),
        gravity_valid=flags,
    )
    teacher = Teacher(
        torch.tensor(taught),
        trusted=torch.rand(labelled, frames, J, generator=generator) < 0.7,
        cholesky=cholesky(seed, labelled, frames, J),
        doubted=torch.ones(labelled, frames, J, dtype=torch.bool),
    )
    joints = torch.randn(count, frames, J, 3, generator=generator) * 0.3 + torch.tensor([0.0, 0.0, 0.7])
    rotations = torch.linalg.qr(torch.randn(count, frames, J, 3, 3, generator=generator))[0]
    pixels = torch.rand(count, frames, 1, J, 2, generator=generator) * 255
    visible = torch.full((count, frames, 1, J), 2, dtype=torch.uint8)
    return Batch(new, joints, rotations, pixels, visible, teacher if labelled else None)


@pytest.fixture(scope="module")
def network() -> EgoPoseFormerV2:
    torch.manual_seed(0)
    return EgoPoseFormerV2(MODEL)


def agreeing(network: EgoPoseFormerV2, batch: Batch):
    """Return estimates that say what the labels of a batch that is all taught say."""
    with torch.no_grad():
        _, refined = network.estimate(batch.input)
    return dataclasses.replace(refined, joints=batch.joints, rotations=batch.rotations, cholesky=batch.teacher.cholesky)


def test_agreement_costs_nothing_and_disagreement_ever_more(network):
    batch = make_batch([True, True])
    same = agreeing(network, batch)
    arguments = batch.joints, batch.rotations, batch.teacher, LossConfig()
    losses = distill.teacher_losses(same, same, *arguments)
    assert losses.total.item() == 0.0
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))[0]
    shaking = torch.randn(same.joints.shape, generator=torch.Generator().manual_seed(1))
    changes = {
        "teacher_mse": lambda amount: {"joints": same.joints + amount * torch.tensor([0.1, 0.0, 0.0])},
        "teacher_jerk": lambda amount: {"joints": same.joints + amount * shaking},
        "teacher_rotation": lambda amount: {"rotations": same.rotations + amount * turn},
        "teacher_uncertainty": lambda amount: {"cholesky": same.cholesky * (1.0 + amount)},
    }
    for term, change in changes.items():
        values = []
        for amount in (0.0, 0.2, 0.5, 1.0):
            other = dataclasses.replace(same, **change(amount))
            values.append(distill.teacher_losses(other, other, *arguments).terms[term].item())
        assert values[0] == 0.0 and all(low < high for low, high in zip(values, values[1:])), term


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.05, 20.0))
def test_distance_of_uncertainties_is_one_of_ratios(seed, factor):
    one, two = cholesky(seed, 4), cholesky(seed + 7, 4)
    known = torch.ones(4, dtype=torch.bool)
    distance = distill.uncertainty_error(one, two, known)
    torch.testing.assert_close(distill.uncertainty_error(two, one, known), distance)
    torch.testing.assert_close(
        distill.uncertainty_error(factor * one, factor * two, known), distance, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(
        distill.uncertainty_error(one, factor * one, known),
        torch.tensor(abs(np.log(factor)), dtype=torch.float32),
        rtol=1e-3,
        atol=2e-3,
    )
    # A needle and a disc, as flat as can be, differ by no more than their shapes can.
    needle, disc = torch.diag(torch.tensor([1.0, 1e-3, 1e-3])), torch.diag(torch.tensor([1e-3, 1.0, 1.0]))
    assert distill.uncertainty_error(needle[None], disc[None], known[:1]) < 4.0


def test_what_does_not_pass_the_gate_teaches_nothing(network):
    batch = make_batch([True, True], seed=4)
    same = agreeing(network, batch)
    gate = batch.teacher.trusted[..., None]
    wrong = dataclasses.replace(same, joints=torch.where(gate, same.joints, same.joints + 1.0))
    losses = distill.teacher_losses(wrong, wrong, batch.joints, batch.rotations, batch.teacher, LossConfig())
    assert losses.terms["teacher_mse"].item() == 0.0 and losses.terms["teacher_jerk"].item() == 0.0
    open_ = dataclasses.replace(batch.teacher, trusted=torch.ones_like(batch.teacher.trusted))
    losses = distill.teacher_losses(wrong, wrong, batch.joints, batch.rotations, open_, LossConfig())
    assert losses.terms["teacher_mse"].item() > 10.0
    # A label without rotations teaches none.
    losses = distill.teacher_losses(same, same, batch.joints, torch.zeros_like(batch.rotations), open_, LossConfig())
    assert losses.terms["teacher_rotation"].item() == 0.0
    # Nothing known at all is nothing, not NaN.
    shut = dataclasses.replace(open_, trusted=~open_.trusted, doubted=~open_.doubted)
    assert distill.teacher_losses(wrong, wrong, batch.joints, batch.rotations, shut, LossConfig()).total.item() == 0.0


def test_true_clips_of_a_mixed_batch_cost_what_they_cost_alone(network):
    batch = make_batch([True, False, True, False])
    with torch.no_grad():
        proposal, refined = network.estimate(batch.input)
        mixed = distill.mixed_losses(proposal, refined, batch, 0.3, LossConfig())
        true = ~batch.teacher.taught
        alone = pose_losses(
            distill.rows(proposal, true),
            distill.rows(refined, true),
            batch.joints[true],
            batch.rotations[true],
            0.3,
            LossConfig(),
        )
        weightless = distill.mixed_losses(
            proposal, refined, batch, 0.3, dataclasses.replace(LossConfig(), teacher=0.0, uncertainty=0.0)
        )
    torch.testing.assert_close(weightless.total, alone.total)
    assert mixed.total > alone.total and {name: mixed.terms[name] for name in alone.terms} == alone.terms


def test_a_student_gets_nearer_to_its_teacher_and_every_part_of_it_learns():
    torch.manual_seed(0)
    network = EgoPoseFormerV2(MODEL)
    batch = make_batch([True, False, True], seed=2)
    sure = torch.diag(torch.tensor([0.01, 0.02, 0.03])).expand_as(batch.teacher.cholesky)
    batch = dataclasses.replace(batch, teacher=dataclasses.replace(batch.teacher, cholesky=sure))
    weights = dataclasses.replace(LossConfig(), uncertainty=5.0)  # else the random truth of the second clip outweighs it
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    course = []
    for step in range(10):
        losses = distill.mixed_losses(*network.estimate(batch.input), batch, 0.0, weights)
        optimizer.zero_grad()
        losses.total.backward()
        if step == 0:
            silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
            assert all("no_motion" in name or "no_gravity" in name for name in silent), silent  # its input has both
        optimizer.step()
        course.append({name: value.item() for name, value in losses.terms.items()})
    for term in ("teacher_mse", "teacher_uncertainty", "teacher_rotation"):
        assert course[-1][term] < 0.98 * course[0][term], term  # labels are random: few steps fit little of them


def test_uncertainty_is_learnt_where_the_pose_is_not_trusted(network):
    batch = make_batch([True], seed=6)
    closed = dataclasses.replace(batch.teacher, trusted=torch.zeros_like(batch.teacher.trusted))
    proposal, refined = network.estimate(batch.input)
    losses = distill.teacher_losses(proposal, refined, batch.joints, batch.rotations, closed, LossConfig())
    gradient = torch.autograd.grad(losses.total, [refined.cholesky, refined.joints], allow_unused=True)
    assert (gradient[0].abs().sum((-1, -2)) > 0).all()
    assert gradient[1] is None or not gradient[1].any()
