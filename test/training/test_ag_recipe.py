"""AG-EgoPose's losses in closed form, and its stages on drawn stick figures: what learns and what is frozen."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from benchmarks import ablations
from egopose_ros import checkpoint
from egopose_ros.config import ConfigError, replace
from egopose_ros.networks.table import build
from egopose_ros.skeleton import MPI15, SMPL22
from egopose_ros.structs import Visibility
from egopose_ros.synth.motion.clip import ACTIONS
from egopose_ros.training import ag_losses, ag_recipe, cache, data, heatmap_losses, recipes
from egopose_ros.training.ag_recipe import AgRecipe, AgTrainConfig
from egopose_ros.training.config import HEADS, TrainConfig
from egopose_ros.training.loop import Trainer
from stick_figures import draw_clip

MODEL = {
    "spatial_backbone": "mobilenetv4_s", "temporal_backbone": "mobilenetv4_s", "window": 6, "local_window": 2,
    "local_blocks": 1, "global_blocks": 1, "temporal_width": 32, "temporal_heads": 2, "width": 32, "heads": 2,
    "layers": 1, "dropout": 0.0, "path_dropout": 0.0,
}  # fmt: skip
SQUARE = {"crop_left": 32, "crop_top": 48, "crop_side": 192}
BONES = ((0, 1), (1, 2))


def test_heatmap_targets_are_gaussians_at_the_joints_of_the_image():
    joints = torch.tensor([[[101.5, 61.5], [10.0, 20.0], [300.0, 128.0]]])
    visible = torch.tensor([[Visibility.VISIBLE, Visibility.OUT_OF_VIEW, Visibility.OCCLUDED]], dtype=torch.uint8)
    maps = heatmap_losses.heatmap_targets(joints, visible, 256, 64)
    # Cell 25 holds the pixels 100..103, whose middle is 101.5.
    assert float(maps[0, 0, 15, 25]) == pytest.approx(1.0)
    assert float(maps[0, 0, 17, 24]) == pytest.approx(math.exp(-(2**2 + 1**2) / (2 * 2**2)))
    assert not bool(maps[0, 1].any())
    assert float(maps[0, 2].amax()) < 1e-3  # beyond the image, its tail alone


def test_heatmap_losses_in_closed_form():
    logits, target = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[0.25, 1.0]]])
    plain = (math.log(2.0) + math.log(1.0 + math.exp(-2.0))) / 2
    assert float(heatmap_losses.heatmap_cross_entropy(logits, target)) == pytest.approx(plain)
    weighted = ((12 * 0.25 + 0.75) * math.log(2.0) + 12 * math.log(1.0 + math.exp(-2.0))) / 2
    assert float(heatmap_losses.heatmap_cross_entropy(logits, target, 12.0)) == pytest.approx(weighted, rel=1e-5)
    assert float(heatmap_losses.heatmap_squared_error(logits, target)) == pytest.approx((0.25**2 + 1.0) / 2)


def test_pose_losses_in_closed_form():
    truth = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    joints = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 2.0, 2.0]])
    assert float(ag_losses.position_error(joints, truth)) == pytest.approx(2 / 3, abs=1e-5)
    assert float(ag_losses.bone_length_error(joints, truth, BONES)) == pytest.approx((1.0 + 0.0) / 2, abs=1e-5)
    assert float(ag_losses.bone_direction_error(joints, truth, BONES)) == pytest.approx(-1.0)
    turned = joints[:, [1, 2, 0]]
    cosines = F.cosine_similarity(turned.diff(dim=0), truth.diff(dim=0), dim=-1)
    assert float(ag_losses.bone_direction_error(turned, truth, BONES)) == pytest.approx(-float(cosines.mean()))
    same = truth.clone().requires_grad_(True)
    sum(f(same, truth, *rest) for f, *rest in (
        (ag_losses.position_error,), (ag_losses.bone_length_error, BONES), (ag_losses.bone_direction_error, BONES)
    )).backward()  # fmt: skip
    assert bool(torch.isfinite(same.grad).all())


def test_actions_that_are_unknown_do_not_count():
    logits = torch.randn(2, 3, 5)
    actions = torch.tensor([[1, -1, 4], [-1, -1, 0]])
    expected = F.cross_entropy(logits[[0, 0, 1], [0, 2, 2]], torch.tensor([1, 4, 0]))
    torch.testing.assert_close(ag_losses.action_error(logits, actions), expected)
    assert float(ag_losses.action_error(logits, torch.full((2, 3), -1))) == 0.0


def with_actions(clip, number):
    return dataclasses.replace(clip, action=np.array([ACTIONS[number]] * clip.frames))


@pytest.fixture(scope="module")
def clips():
    return [with_actions(draw_clip(seed), seed % 2) for seed in range(6)]


def settings(**overrides):
    base = {
        "heatmaps.steps": 2, "heatmaps.batch": 4, "actions.steps": 2, "actions.batch": 2, "actions.frames": 4,
        "singles.steps": 2, "singles.batch": 4, "poses.steps": 2, "poses.batch": 2, "poses.frames": 4,
        "loader_workers": 0, "validate_every": 1000, "threads": 1, "checkpoint_every": 1000, "autocast": False,
        **{f"{stage}.{name}": value for stage in AgRecipe.stages for name, value in (("side", 64), ("warmup", 1))},
    }  # fmt: skip
    return replace(AgTrainConfig(), {**base, **overrides})


def test_cached_actions_come_back_and_may_be_missing(tmp_path, clips):
    cache.write(tmp_path / "with.npz", clips[1])
    cache.write(tmp_path / "without.npz", dataclasses.replace(clips[1], action=None))
    known, unknown = (data.decode(cache.read(tmp_path / f"{name}.npz"), 1, 3) for name in ("with", "without"))
    assert known.actions.tolist() == [1, 1, 1] and unknown.actions.tolist() == [-1, -1, -1]


def test_a_batch_of_another_skeleton_has_the_same_joints_under_their_names(clips):
    batch = data.collate([data.decode(clips[0], 0, 3)])
    mapped = batch.of("mpi15")
    for row, name in enumerate(MPI15.joints):
        column = SMPL22.index(name)
        for part in ("joints", "joints_px"):
            assert torch.equal(getattr(mapped, part)[..., row, :], getattr(batch, part)[..., column, :])
        assert torch.equal(mapped.visible[..., row], batch.visible[..., column])
    assert mapped.rotations is None and batch.of("smpl22") is batch


PARTS = {
    "heatmaps": ("encoder.spatial.",),
    "actions": ("encoder.temporal.", "projection.", "temporal."),
    "singles": ("embedding.", "decoder.", "head.", "uncertainty."),
    "poses": ("encoder.temporal.backbone.blocks.3.", "encoder.temporal.backbone.blocks.4.", "projection.", "embedding.",
              "decoder.", "head.", "uncertainty."),
}  # fmt: skip
"""what the paper trains, and what the stage of actions stands in for"""


@pytest.mark.parametrize("stage", AgRecipe.stages)
def test_a_stage_moves_what_it_trains_and_nothing_else(stage, tmp_path, clips):
    alone = {f"{other}.steps": 0 for other in AgRecipe.stages if other != stage}
    trainer = Trainer(settings(**alone), MODEL, tmp_path, clips, clips[:2])
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    while trainer._name() != stage:
        trainer._finish_stage()
    for batch, _ in trainer._progress(trainer._settings(), None, 0):
        trainer._train_step(batch, None, trainer._settings())
    after = trainer.network.state_dict()
    # A bias of keys shifts all scores alike.
    still = {"uncertainty.spread", *(name for name in before if name.endswith("attn.key.bias"))}
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved - still == {name for name in before if name.startswith(PARTS[stage])} - still


def test_training_learns_heatmaps_actions_and_poses(tmp_path, clips):
    changes = ("mirror", "roll_deg", "mono", "noise", "blur", "cutout", "lens_circle")
    plain = {f"augment.{name}": 0.0 for name in changes}
    stages = {
        "heatmaps.steps": 60, "heatmaps.batch": 8, "actions.steps": 40, "actions.batch": 8, "poses.steps": 60,
        "loss.positive_weight": 12.0, "poses.train": ("projection", "encoder", "decoder"), "poses.learning_rate": 3e-3,
        "actions.learning_rate": 3e-3, "poses.final_rate": 0.02,
    }  # fmt: skip
    chosen = clips[:2]
    trainer = Trainer(settings(**plain, **stages), MODEL, tmp_path, chosen, chosen)
    start = {"heatmaps": trainer.validate()}
    for trainer.stage in (1, 3):
        start[trainer._name()] = trainer.validate()
    trainer.stage = 0
    path = trainer.run()
    network, card = checkpoint.load(path, expected="ag_egopose")
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    end = {entry["stage"]: entry for entry in entries if entry["kind"] == "validation"}
    assert end["heatmaps"]["peak_px"] < 0.5 * start["heatmaps"]["peak_px"]
    assert end["actions"]["action_accuracy"] == 1.0
    assert card.training["validation"]["mpjpe_mm"] < 0.5 * start["poses"]["mpjpe_mm"]
    assert abs(card.training["validation"]["in_90_percent"] - 0.9) < 0.1  # calibrated on the same frames
    assert card.skeleton == "mpi15"


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path, clips):
    whole = Trainer(settings(), MODEL, tmp_path / "whole", clips, clips[:2])
    whole.run()
    parts = Trainer(settings(), MODEL, tmp_path / "parts", clips, clips[:2])
    parts.run(stop_after=3)
    parts = Trainer(settings(), MODEL, tmp_path / "parts", clips, clips[:2])
    parts.resume()
    parts.run()
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_a_network_that_looks_ahead_is_measured_on_the_frames_it_answers_for(tmp_path, clips):
    model = {**MODEL, "lookahead": 2, "attention": "causal"}
    trainer = Trainer(settings(**{f"{stage}.steps": 0 for stage in AgRecipe.stages}), model, tmp_path, clips, clips[:2])
    trainer.stage = AgRecipe.stages.index("poses")
    batches = trainer._validation_batches()
    with torch.no_grad():
        window = trainer.average.window_of(trainer.average.look(batches[0].input.images)).joints
    error = (window - batches[0].joints).norm(dim=-1)[:, :-2].mean() * 1000.0
    assert trainer.validate()["mpjpe_mm"] == pytest.approx(float(error), rel=1e-4)

    # Frames on their own are shorter than the lookahead: the first is answered for.
    trainer.stage = AgRecipe.stages.index("singles")
    batches = trainer._validation_batches()
    with torch.no_grad():
        alone = [trainer.average.window_of(trainer.average.look(batch.input.images)).joints for batch in batches]
    error = torch.cat([(a - b.joints).norm(dim=-1) for a, b in zip(alone, batches)]).mean() * 1000.0
    assert trainer.validate()["mpjpe_mm"] == pytest.approx(float(error), rel=1e-4)


def test_ablations_are_trained_without_the_parts_they_lack(tmp_path, clips):
    ablations = (
        ({"motion": False}, {"actions.steps": 0}),
        ({"spatial": False}, {"heatmaps.steps": 0}),
        ({"temporal_backbone": "shared"}, {}),
        ({"heatmap_loss": "mse"}, {}),
    )
    for number, (model, steps) in enumerate(ablations):
        trainer = Trainer(settings(**steps), {**MODEL, **model}, tmp_path / str(number), clips, clips[:2])
        assert trainer.run() is not None
    with pytest.raises(ValueError, match="heatmaps.steps: expected 0 for a network without heatmaps, got 2"):
        Trainer(settings(), {**MODEL, "spatial": False}, tmp_path / "none", clips, clips[:2])


@pytest.mark.parametrize(
    ("run", "model", "complaint"),
    [
        ({"poses.frames": 7}, {}, "poses.frames: expected at most the window's 6 frames, got 7"),
        ({"actions.frames": 7}, {}, "actions.frames: expected at most the window's 6 frames, got 7"),
        ({"data.clip_frames": 5, "poses.frames": 6}, {}, "poses.frames: expected at most the 5 frames of data"),
        ({}, {"motion": False}, "actions.steps: expected 0 for a network without encoder"),
        ({"heatmaps.train": ("projection",)}, {}, "heatmaps.train: expected some of heatmaps of this network, got proj"),
        ({"actions.train": ("decoder", "heatmaps")}, {}, "actions.train: expected some of backbone, .*, got decoder"),
        ({"poses.train": ("last_block",)}, {"temporal_backbone": "shared"}, "poses.train: expected some of heatmaps, pro"),
        ({"heatmap_run": "run"}, {"heatmap_loss": "mse"}, "heatmap_run: expected a network with heatmap_loss bce"),
    ],
)  # fmt: skip
def test_a_run_that_could_not_end_is_refused_before_it_begins(run, model, complaint):
    config, model = settings(**run), {**MODEL, **model}
    with pytest.raises(ConfigError, match=complaint):
        recipes.check(config, model)
    off = {name: 0 for name in (f"{stage}.steps" for stage in AgRecipe.stages)}
    recipes.check(replace(config, {**off, "heatmap_run": ""}), model)


def test_an_ablation_with_half_the_window_sees_as_many_frames_a_step():
    fitted = ablations.fitted(settings(**{"poses.batch": 4, "poses.frames": 24, "actions.batch": 3, "actions.frames": 16}), 12)
    assert (fitted.poses.batch, fitted.poses.frames) == (8, 12)
    assert (fitted.actions.batch, fitted.actions.frames) == (4, 12)
    assert ablations.fitted(settings(), 24) == settings()


def test_without_motion_a_clip_is_frames_on_their_own_of_any_number():
    recipes.check(settings(**{"actions.steps": 0, "poses.frames": 7}), {**MODEL, "motion": False})


@pytest.mark.parametrize("changes", [{}, {"spatial": False}, {"motion": False}, {"temporal_backbone": "shared"}])
def test_parts_are_known_by_the_settings_alone(changes):
    network = build("ag_egopose", {**MODEL, **changes})
    for part in ag_recipe.PARTS:
        assert ag_recipe.has(network.config, part) == bool(ag_recipe._modules(network, part)), part


def test_a_run_is_resumed_without_the_files_that_it_started_from(tmp_path, clips):
    source = build("ag_egopose", MODEL)
    torch.save(source.encoder.spatial.backbone.state_dict(), tmp_path / "spatial.pth")
    start = settings(spatial_weights=str(tmp_path / "spatial.pth"))
    Trainer(start, MODEL, tmp_path / "run", clips, clips[:2]).run(stop_after=1)
    (tmp_path / "spatial.pth").unlink()
    again = Trainer(start, MODEL, tmp_path / "run", clips, clips[:2], fresh=False)
    again.resume()
    assert again.run(stop_after=1) is None
    with pytest.raises(ConfigError, match="spatial_weights, heatmap_run: expected one of them, got a.pth and run"):
        settings(spatial_weights="a.pth", heatmap_run="run")


def test_what_frozen_parts_make_of_a_batch_changes_no_loss(clips):
    network, recipe = build("ag_egopose", {**MODEL, **SQUARE}).eval(), AgRecipe()
    head, batch = recipe.heads(network), data.collate([data.decode(clip, 0, 4) for clip in clips[:2]]).of("mpi15")
    config = settings(**{"poses.train": ("projection", "encoder", "decoder"), "poses.passes": 2})
    for stage in ("singles", "actions", "poses"):
        fresh = recipe.losses(network, head, batch, None, stage, 0.5, config).total
        with torch.no_grad():
            kept = recipe.keep(network, batch, stage, config)
        torch.testing.assert_close(recipe.losses(network, head, batch, kept, stage, 0.5, config).total, fresh)
    with pytest.raises(ConfigError, match="passes: expected 1 where last_block is trained, got 2"):
        settings(**{"poses.train": ("last_block", "decoder"), "poses.passes": 2})


def test_heatmaps_learn_where_joints_are_in_the_square(clips):
    """The target of a joint is its own place in what is seen, whatever was cut away."""
    network, batch = build("ag_egopose", {**MODEL, **SQUARE}), data.collate([data.decode(clips[0], 0, 2)]).of("mpi15")
    recipe, config = AgRecipe(), settings()
    side, corner = SQUARE["crop_side"], torch.tensor([SQUARE["crop_left"], SQUARE["crop_top"]])
    at = (batch.joints_px - corner).flatten(0, 2)
    target = heatmap_losses.heatmap_targets(at, batch.visible.flatten(0, 2), side, side // 4)
    inside = ((at > -0.5) & (at < side - 0.5)).all(-1)
    target = torch.where(inside[..., None, None], target, 0.0)
    assert bool(inside.any())
    logits = (target.clamp(1e-6, 1 - 1e-6)).logit()
    entropy = -(target * target.clamp(min=1e-6).log() + (1 - target) * (1 - target).clamp(min=1e-6).log()).mean()
    assert float(recipe._heatmap_loss(network, logits, batch, config)) == pytest.approx(float(entropy), rel=1e-3)


def test_heatmaps_start_from_those_that_taught_the_other_network(tmp_path, clips):
    source = build("egoposeformer_v2", {"backbone": "mobilenetv4_s"})
    head = recipes.RECIPES["egoposeformer_v2"][0].heads(source)
    checkpoint.save(tmp_path / "egoposeformer_v2.safetensors", source, {})
    save_file(head.state_dict(), tmp_path / HEADS)
    started = build("ag_egopose", MODEL)
    (tmp_path / "before").mkdir()
    checkpoint.save(tmp_path / "before" / "started.safetensors", started, {})
    start = settings(heatmap_run=str(tmp_path), weights=str(tmp_path / "before" / "started.safetensors"))
    network = Trainer(start, MODEL, tmp_path / "run", clips, clips[:2]).network
    for name, value in started.decoder.state_dict().items():  # the rest is the checkpoint's
        torch.testing.assert_close(network.decoder.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    images = torch.randint(0, 256, (1, 3, 256, 256), dtype=torch.uint8)
    with torch.no_grad():
        pyramid = source.eval().encoder.backbone.pyramid(source.encoder.normalise(images))
        taught, heatmaps = head(pyramid), network.eval().encoder.spatial(images)[0]
    for row, joint in enumerate(MPI15.joints):  # fp16 in between
        torch.testing.assert_close(heatmaps[:, row], taught[:, SMPL22.index(joint)], atol=2e-2, rtol=2e-2)
    # And back again: joints that AG-EgoPose lacks start with empty maps.
    checkpoint.save(tmp_path / "ag.safetensors", network, {})
    other = replace(TrainConfig(), {"heatmap_weights": str(tmp_path / "ag.safetensors")})
    back = Trainer(other, {"backbone": "mobilenetv4_s"}, tmp_path / "back", clips, clips[:2])
    with torch.no_grad():
        again = back.head(back.network.eval().encoder.backbone.pyramid(source.encoder.normalise(images)))
    known = [SMPL22.index(joint) for joint in MPI15.joints]
    torch.testing.assert_close(again[:, known], heatmaps, atol=2e-2, rtol=2e-2)
    rest = again[:, [row for row in range(SMPL22.size) if row not in known]]
    assert torch.equal(rest, rest[:, :1, :1, :1].expand_as(rest)) and bool(rest.isfinite().all())
    with pytest.raises(ValueError, match="heatmap_weights .*: expected the same backbone"):
        Trainer(other, {"backbone": "resnet18"}, tmp_path / "other", clips, clips[:2])
    (tmp_path / HEADS).unlink()
    with pytest.raises(ValueError, match="heatmap_run .*: expected a run with the same backbone"):
        Trainer(settings(heatmap_run=str(tmp_path)), MODEL, tmp_path / "none", clips, clips[:2])


def test_published_weights_start_both_streams(tmp_path, clips):
    source = build("ag_egopose", MODEL)
    torch.save(source.encoder.spatial.backbone.state_dict(), tmp_path / "spatial.pth")
    torch.save(source.encoder.temporal.backbone.state_dict(), tmp_path / "temporal.pth")
    branch = {f"module.backbone.{name}": value for name, value in source.temporal.state_dict().items()}
    torch.save({"state_dict": branch}, tmp_path / "encoder.pth")
    files = {f"{name}_weights": str(tmp_path / f"{name}.pth") for name in ("spatial", "temporal", "encoder")}
    network = Trainer(settings(**files), MODEL, tmp_path / "run", clips, clips[:2]).network
    for part in ("encoder.spatial.backbone", "encoder.temporal.backbone", "temporal"):
        for name, value in source.get_submodule(part).state_dict().items():
            assert torch.equal(network.get_submodule(part).state_dict()[name], value), name
    with pytest.raises(ValueError, match="temporal_weights: expected a network with that part of its own, got none"):
        Trainer(settings(**files), {**MODEL, "temporal_backbone": "shared"}, tmp_path / "shared", clips, clips[:2])
