"""What EgoPoseFormer v2 is trained by, in closed form, and how the loop goes down it: rate, average, weight decay."""

import contextlib
import math

import pytest
import torch

from egopose_ros.config import replace
from egopose_ros.networks import student_t
from egopose_ros.networks.ag_egopose import AgEgoPoseConfig
from egopose_ros.networks.egoposeformer_v2 import EgoPoseFormerV2Config, Estimate
from egopose_ros.networks.table import build
from egopose_ros.structs import Visibility
from egopose_ros.training import data, losses, recipes
from egopose_ros.training.ag_recipe import AgLossConfig, AgTrainConfig
from egopose_ros.training.config import LossConfig, TrainConfig
from egopose_ros.training.loop import Trainer
from stick_figures import draw_clip

MODEL = {"width": 64, "heads": 4, "layers": 1, "window": 4}


def estimate(joints, turn=0.0):
    """Return what a decoder says: rotations about z, a scale matrix of 0.2 m."""
    c, s = math.cos(turn), math.sin(turn)
    R = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]).expand(*joints.shape, 3)
    return Estimate(joints, joints, R, 0.2 * torch.eye(3).expand(*joints.shape, 3), joints)


@pytest.mark.parametrize("w_d", [1.0, 0.25, 0.0])
def test_the_loss_is_the_papers(w_d):
    truth = torch.randn(2, 6, 22, 3, generator=torch.Generator().manual_seed(0))
    refined, proposal = estimate(truth + torch.tensor([0.1, 0.0, 0.0]), 0.5), estimate(truth + torch.tensor([0.0, 0.2, 0.2]))
    weights = LossConfig(position=2.0, jerk=0.0, rotation=3.0)
    found = losses.pose_losses(proposal, refined, truth, estimate(truth).rotations, w_d, weights)
    # In units of 0.1 m: errors of 1 and of 2 sqrt 2, a scale of 2; nu is 4 and there are three dimensions.
    likelihood = (4 + 3) / 2 * math.log(1 + (1 / 2) ** 2 / 4) + 3 * math.log(2.0)
    rotation = 4 * (1 - math.cos(0.5))
    expected = 2.0 * (w_d * 1.0 + (1 - w_d) * likelihood + 8.0) + 3.0 * rotation
    assert student_t.NU == 4 and float(found.total) == pytest.approx(expected, rel=1e-4)


def test_jerk_is_the_third_difference_of_the_error_of_both_decoders():
    truth = torch.randn(1, 7, 22, 3, generator=torch.Generator().manual_seed(0))
    time = torch.arange(7.0)[:, None, None]
    quadratic, cubic = (truth + 0.1 * time**power * torch.tensor([1.0, 0.0, 0.0]) for power in (2, 3))
    assert float(losses.jerk(quadratic, truth)) == pytest.approx(0.0, abs=1e-3)
    assert float(losses.jerk(cubic, truth)) == pytest.approx(6.0, rel=1e-3)
    with_jerk, without = (
        losses.pose_losses(estimate(cubic), estimate(cubic), truth, estimate(truth).rotations, 1.0, LossConfig(jerk=factor)).total
        for factor in (0.8, 0.0)
    )  # fmt: skip
    assert float(with_jerk - without) == pytest.approx(0.8 * (6.0 + 6.0), rel=1e-3)


def test_attention_is_drawn_to_the_cell_of_the_joint():
    """Of all heads that look at a single cell, the one that looks at the joint's costs least: x is the column."""
    middle = torch.tensor([[43.5, 11.5]])  # of the cell in row 1, column 5 of a grid of 8x8 over 64 pixels
    visible = torch.tensor([int(Visibility.VISIBLE)], dtype=torch.uint8)
    looks = 4.0 * torch.eye(64).view(64, 1, 8, 8)
    cost = [float(losses.attention_cross_entropy(look, middle, visible, 64)) for look in looks]
    assert divmod(cost.index(min(cost)), 8) == (1, 5)


def small_run(**overrides):
    base = {
        "small.steps": 8, "small.batch": 2, "small.warmup": 3, "small.side": 64, "small.learning_rate": 1e-3, "frames.steps": 0,
        "sequences.steps": 0, "loader_workers": 0, "threads": 1, "autocast": False, "ema": 0.5,
    }  # fmt: skip
    return replace(TrainConfig(), {**base, **overrides})


def test_the_rate_warms_up_and_falls_along_a_cosine_and_weights_are_averaged(tmp_path):
    clips = [draw_clip(0), draw_clip(1)]
    trainer = Trainer(small_run(**{"small.final_rate": 0.2}), MODEL, tmp_path, clips, clips)
    trained = {"network": trainer.network.start, "head": trainer.head.heatmaps.weight}
    average = {"network": trainer.average.start, "head": trainer.average_head.heatmaps.weight}
    averaged = {name: value.detach().clone() for name, value in trained.items()}
    for step in range(7):  # with the last of the eight the next stage would begin
        assert trainer.step == step
        trainer.run(stop_after=1)
        cosine = 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * step / 8))
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        assert rates == pytest.approx([1e-3 * min(1.0, (step + 1) / 3) * cosine] * len(rates))
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in trained.items():
            averaged[name] = decay * averaged[name] + (1 - decay) * value.detach()
            torch.testing.assert_close(average[name].detach(), averaged[name], atol=1e-6, rtol=1e-5)
    for name, value in trained.items():
        assert (value - averaged[name]).abs().max() > 1e-5, f"the average is the {name}: this shows nothing"


def test_a_batch_that_is_not_finite_leaves_nothing_behind(tmp_path):
    """Its forward pass has been through the batch norms, whose statistics would never heal."""
    clips = [draw_clip(0), draw_clip(1)]
    trainer = Trainer(small_run(), MODEL, tmp_path, clips, clips)
    trainer.run(stop_after=1)
    convolution = next(p for name, p in trainer.network.named_parameters() if name.startswith("encoder.backbone."))
    kept = convolution.detach()[0].clone()
    convolution.detach()[0] = math.inf
    trainer.run(stop_after=1)
    assert trainer.bad_steps == 1
    convolution.detach()[0] = kept
    trainer.run(stop_after=1)
    assert trainer.bad_steps == 0
    for network in (trainer.network, trainer.average):
        assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


AG_MODEL = {
    "spatial_backbone": "mobilenetv4_s", "temporal_backbone": "shared", "window": 4, "local_blocks": 1, "global_blocks": 1,
    "temporal_width": 32, "temporal_heads": 2,
}  # fmt: skip


@pytest.mark.parametrize(("name", "model"), [("egoposeformer_v2", MODEL), ("ag_egopose", AG_MODEL)])
def test_no_loss_mixes_devices(name, model, monkeypatch):
    """Of tensors without numbers, which do not mix with a CPU's any more than those of a GPU do."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # knows no such device
    recipe, config = recipes.RECIPES[name][0], recipes.RECIPES[name][1]()
    network = build(name, model).to("meta")
    head = recipe.heads(network).to("meta")
    for stage in recipe.stages:
        frames = min(getattr(config, stage).frames, 4)
        batch = data.collate([data.decode(draw_clip(seed), 0, frames) for seed in range(2)]).of(network.skeleton).to("meta")
        recipe.trained(network, head, stage, config)
        total = recipe.losses(network, head, batch, None, stage, 0.5, config).total
        total.backward()
        assert total.device.type == "meta"


def test_weights_decay_where_they_are_matrices(tmp_path):
    config = AgTrainConfig(weight_decay=0.1, loader_workers=0, threads=1)
    config = replace(config, {f"{stage}.frames": 1 for stage in ("actions", "poses")})
    trainer = Trainer(config, AG_MODEL, tmp_path, [draw_clip(0)], [draw_clip(0)])
    trainer.stage = trainer.recipe.stages.index("actions")
    groups = trainer._start_stage().param_groups
    decaying = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    names = {name: id(p) in decaying for name, p in trainer.network.temporal.named_parameters()}
    assert {name for name, decays in names.items() if decays} == {
        name for name in names if name.endswith(".weight") and "norm" not in name and ".ln" not in name
    }


def test_numbers_that_the_papers_publish_are_the_defaults():
    assert LossConfig().jerk == 0.8 and EgoPoseFormerV2Config().window == 16
    ours = AgLossConfig()
    assert (ours.position, ours.bone, ours.direction) == (1.0, 0.1, 0.01)
    network = AgEgoPoseConfig()
    assert (network.window, network.local_blocks, network.global_blocks, network.local_window) == (64, 4, 4, 8)
    assert (network.temporal_width, network.width, network.layers, network.heads) == (384, 128, 3, 4)
    assert (network.spatial_backbone, network.temporal_backbone) == ("resnet18", "resnet50")
