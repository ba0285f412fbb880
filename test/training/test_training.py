"""Training on drawn stick figures: learns, resumes exactly, and its data changes are exact."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from egopose_ros import checkpoint, cli
from egopose_ros.commands import train
from egopose_ros.config import ConfigError, replace
from egopose_ros.networks.table import NETWORKS, build
from egopose_ros.training import cache, data, losses, memory, publish, recipes
from egopose_ros.training.config import HEADS, DataConfig, TrainConfig
from egopose_ros.training.loop import Trainer
from egopose_ros.training.processes import join
from egopose_ros.training.recipe import token_error
from stick_figures import draw_clip

TOGETHER = Path(__file__).with_name("train_together.py")
MODEL = {"width": 64, "heads": 4, "layers": 1, "window": 4}
SQUARE = {"crop_left": 32, "crop_top": 48, "crop_side": 192}


@pytest.fixture(scope="module")
def clips():
    return [draw_clip(seed) for seed in range(10)]


def settings(**overrides):
    base = {
        "small.steps": 2, "small.batch": 4, "frames.steps": 6, "frames.batch": 4, "frames.warmup": 2, "sequences.steps": 4, "sequences.batch": 2,
        "sequences.frames": 4, "sequences.warmup": 1, "loader_workers": 0, "validate_every": 1000, "threads": 1,
        "checkpoint_every": 1000, "autocast": False, "small.side": 64, "frames.side": 64, "sequences.side": 64,
    }  # fmt: skip
    return replace(TrainConfig(), {**base, **overrides})


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path, clips):
    stages = settings(**{
        "frames.passes": 2, "frames.group": 2, "decoders.steps": 6, "decoders.batch": 4, "decoders.passes": 2,
        "decoders.group": 2, "freeze_early": True,
    })  # fmt: skip
    whole = Trainer(stages, MODEL, tmp_path / "whole", clips, clips[:2])
    whole.run()
    # Once in each stage, in that of remembered tokens amid a second pass.
    parts = Trainer(stages, MODEL, tmp_path / "parts", clips, clips[:2])
    assert parts.run(stop_after=3) is None
    for stop_after in (8, 5, None):
        parts = Trainer(replace(stages, {"seed": 0}), MODEL, tmp_path / "parts", clips, clips[:2])
        parts.resume()
        parts.run(stop_after)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], value, rtol=0, atol=0, msg=name)
    for name, value in whole.average.state_dict().items():
        torch.testing.assert_close(parts.average.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_fixed_norms_keep_their_statistics_through_stages_and_validations(tmp_path, clips):
    trainer = Trainer(settings(fixed_norms=True, validate_every=2), MODEL, tmp_path, clips, clips[:2])
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    after = trainer.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in changed if "running" in name or "num_batches" in name} == set()
    assert "encoder.backbone.conv_stem.weight" in changed


def test_a_run_is_not_resumed_with_other_settings(tmp_path, clips):
    Trainer(settings(), MODEL, tmp_path, clips, clips[:2]).run(stop_after=1)
    other = Trainer(settings(**{"frames.learning_rate": 0.25}), MODEL, tmp_path, clips, clips[:2])
    with pytest.raises(ValueError, match="frames.learning_rate 0.0005 -> 0.25"):
        other.resume()


def test_a_stage_that_is_off_asks_nothing_of_the_clips(tmp_path, clips):
    """Clips of six frames; the run is stopped before the stages that are off, and resumed."""
    config = settings(**{"sequences.steps": 0, "sequences.frames": 16, "decoders.frames": 16})
    Trainer(config, MODEL, tmp_path, clips, clips[:2]).run(stop_after=7)
    again = Trainer(config, MODEL, tmp_path, clips, clips[:2])
    again.resume()
    assert again.run() is not None and again.stage == 4


def test_stages_that_clips_are_too_short_for_are_refused_unless_they_are_off():
    for name in ("data", "distill"):
        config = settings(**{f"{name}.clip_frames": 8, "sequences.frames": 9, "distill.labels": ("labels",)})
        complaint = f"sequences.frames: expected at most the 8 frames of {name}.clip_frames, got 9"
        with pytest.raises(ConfigError, match=complaint):
            recipes.check(config, MODEL)
        recipes.check(replace(config, {"sequences.steps": 0}), MODEL)
    with pytest.raises(ConfigError, match="views: expected 1 <= value"):
        recipes.check(settings(**{"data.views": 2, "stills.views": 2, "network": "ag_egopose"}), {})


@pytest.mark.parametrize("path", sorted(Path("config/training").glob("*.yaml")), ids=lambda path: path.stem)
def test_what_ships_can_be_trained_whole_and_tiny(path, tmp_path, monkeypatch):
    config, model = recipes.load(path)
    recipes.check(config, model)
    network = NETWORKS[config.network][1]
    if config.network == "egoposeformer_v2":  # else no frame of a clip is beyond the memory's reach
        assert config.sequences.frames > replace(network(), model).window
    monkeypatch.chdir(tmp_path)  # where none of the weights are that it may start from
    tiny = train._tiny(config)
    recipes.check(tiny, model)
    train._require_files(tiny, resumed=False)


def test_a_tiny_run_starts_from_the_weights_that_are_there_alone(tmp_path, capsys):
    there = tmp_path / "there.safetensors"
    there.touch()
    kept = settings(weights=str(there), mimic="egoposeformer_v2_mono")  # the name of one that ships
    assert train._tiny(kept).weights == str(there) and train._tiny(kept).mimic == kept.mimic
    assert not capsys.readouterr().out
    absent = train._tiny(settings(heatmap_weights=str(there), weights="runs/no.safetensors", mimic="no"))
    assert (absent.heatmap_weights, absent.weights, absent.mimic) == (str(there), "", "")
    assert capsys.readouterr().out.splitlines() == [
        "not there, so random weights in their place: weights runs/no.safetensors, mimic no"
    ]


def test_a_run_is_resumed_without_the_files_that_it_started_from(tmp_path, clips, monkeypatch, capsys):
    monkeypatch.setattr(cache, "render_run", lambda *_: None)
    monkeypatch.setattr(cache, "load_run", lambda *_: (clips, clips[:2], []))
    source, mimic, run = (tmp_path / name for name in ("source.safetensors", "mimic.safetensors", "run"))
    checkpoint.save(source, build("egoposeformer_v2", MODEL), {})
    checkpoint.save(mimic, build("egoposeformer_v2", MODEL), {})
    stages = {"small": {"steps": 2, "batch": 2, "side": 64}, "frames": {"steps": 0}, "sequences": {"steps": 0}}
    common = {"autocast": False, "loader_workers": 0, "threads": 1, "weights": str(source), "mimic": str(mimic)}
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({**stages, **common, "model": MODEL}))
    Trainer(*recipes.load(config), run, clips, clips[:2]).run(stop_after=1)
    source.unlink()
    command = ["train", str(config), "--output", str(run), "--cache", str(tmp_path / "cache"), "--resume"]
    assert cli.main(command) == 0, capsys.readouterr().err
    mimic.unlink()  # which every step asks
    assert cli.main(command) == 1
    assert "mimic.safetensors" in capsys.readouterr().err


def test_each_process_wants_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="device: expected cuda or cpu for 2 processes, .* got 'cuda:1'"):
        join("cuda:1")


def test_one_process_takes_the_gpu_that_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device: expected a CUDA device for cuda, torch sees none"):
        join("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="device: expected a number below the 2 CUDA devices, got cuda:2"):
        join("cuda:2")
    assert join("cuda").device("cuda") == "cuda" and join("cuda:1").device("cuda:1") == "cuda:1"


def test_training_learns_and_publishes_what_it_learnt(tmp_path, clips, monkeypatch):
    plain = {f"augment.{name}": 0.0 for name in ("mirror", "roll_deg", "lens", "mono", "shade", "noise", "blur", "cutout", "lens_circle")}
    stages = {"small.steps": 80, "small.batch": 12, "small.mse_end": 1.0, "frames.steps": 2, "sequences.steps": 20}
    trainer = Trainer(settings(**plain, **stages), MODEL, tmp_path, clips[:2], clips[:2])
    before = trainer.validate()["mpjpe_mm"]
    path = trainer.run()
    network, card = checkpoint.load(path, expected="egoposeformer_v2")
    assert card.training["validation"]["mpjpe_mm"] < 0.5 * before
    assert abs(card.training["validation"]["in_90_percent"] - 0.9) < 0.1  # calibrated on the same 12 frames
    share = tmp_path / "share"
    (share / "weights").mkdir(parents=True)
    (share / "weights" / "MANIFEST.json").write_text('{"checkpoints": []}')
    monkeypatch.setattr(publish, "share_directory", lambda: share)
    for _ in range(2):  # a second one replaces the first
        published = publish.publish(path, "shipped", "egopose train x.yaml", "two cores", [])
    publish.publish(path, "smaller", "egopose train y.yaml", "two cores", [])
    publish.publish(path, "shipped", "egopose train x.yaml", "two cores", [])
    shipped, smaller = checkpoint.manifest(share / "weights")  # the first stays the default
    assert smaller.file == "smaller.safetensors"
    assert (shipped.file, shipped.bytes) == ("shipped.safetensors", published.stat().st_size)
    text = published.with_suffix(".md").read_text()
    assert "random weights" in text and "`egopose train x.yaml`" in text and "| small | 80 |" in text
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {entry["kind"] for entry in entries} == {"train", "validation"}
    batch = data.collate([data.decode(clips[0], 0, 6)])
    with torch.no_grad():
        torch.testing.assert_close(
            network(batch.input).joints, trainer.average(batch.input).joints, atol=3e-3, rtol=0  # fp16 weights
        )


def test_a_finished_run_writes_its_checkpoint_again(tmp_path, clips):
    path = Trainer(settings(), MODEL, tmp_path, clips, clips[:2]).run()
    first, card = checkpoint.load(path)
    path.unlink()
    again = Trainer(settings(), MODEL, tmp_path, clips, clips[:2])
    again.resume()
    second, same = checkpoint.load(again.run())
    assert same == card
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_training_continues_from_weights_of_the_same_size_alone(tmp_path, clips):
    source = build("egoposeformer_v2", MODEL)
    checkpoint.save(tmp_path / "source.safetensors", source, {})
    taught = recipes.RECIPES["egoposeformer_v2"][0].heads(source).state_dict()
    save_file(taught, tmp_path / HEADS)
    start = settings(weights=str(tmp_path / "source.safetensors"))
    trainer = Trainer(start, MODEL, tmp_path / "run", clips, clips[:2])
    for name, value in source.state_dict().items():
        torch.testing.assert_close(trainer.network.state_dict()[name], value, atol=1e-3, rtol=1e-3)  # fp16 in between
    for name, value in taught.items():
        torch.testing.assert_close(trainer.head.state_dict()[name], value, atol=0, rtol=0)
    with pytest.raises(ValueError, match="source.safetensors: expected those of a network of these settings"):
        Trainer(start, {**MODEL, "width": 32}, tmp_path / "other", clips, clips[:2])
    with pytest.raises(ValueError, match="source.safetensors: expected one whose crop_left is 32, got 0"):
        Trainer(start, {**MODEL, **SQUARE}, tmp_path / "other", clips, clips[:2])


def test_an_encoder_learns_the_tokens_of_another_network_and_takes_its_decoders(tmp_path, clips):
    teacher = build("egoposeformer_v2", {**MODEL, "backbone": "resnet18"}).eval()
    path = tmp_path / "teacher.safetensors"
    checkpoint.save(path, teacher, {})
    config = settings(**{
        "mimic": str(path), "small.steps": 0, "frames.steps": 24, "frames.learning_rate": 3e-3, "sequences.steps": 0,
        "loss.heatmap": 0.0,
    })  # fmt: skip
    trainer = Trainer(config, MODEL, tmp_path / "run", clips, clips[:2])
    for name, value in teacher.state_dict().items():
        if not name.startswith("encoder."):
            torch.testing.assert_close(trainer.network.state_dict()[name], value, atol=1e-3, rtol=1e-3)  # fp16 in between
    trainer.run()
    errors = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    learnt = [entry["mimic"] for entry in errors if entry["kind"] == "train"]
    images = data.collate([data.decode(clips[0], 0, 6, 64)]).input.images
    with torch.no_grad():
        wanted = teacher.encoder(teacher.seen(images))
        before = token_error(build("egoposeformer_v2", MODEL).eval().encoder(teacher.seen(images)), wanted)
        after = token_error(trainer.average.encoder(teacher.seen(images)), wanted)
    assert learnt and before > 1.5 and after < 0.5 * before
    two_views = Trainer(config, {**MODEL, "views": 2}, tmp_path / "two", [draw_clip(0, views=2)], [draw_clip(1, views=2)])
    assert two_views.network.camera.shape == (2, 64)
    for changed, complaint in (({"crop_side": 192}, "crop_side is 192, got 256"), ({"fk": False}, "the same decoders")):
        with pytest.raises(ValueError, match=complaint):
            Trainer(config, {**MODEL, **changed}, tmp_path / "other", clips, clips[:2])
    with pytest.raises(ConfigError, match="frames.passes: expected 1 with mimic"):
        replace(config, {"freeze_early": True, "frames.passes": 2})


def test_gradients_that_stay_infinite_end_training_with_the_reason(tmp_path, clips):
    trainer = Trainer(settings(**{"small.steps": 30, "small.batch": 1}), MODEL, tmp_path, clips, clips[:2])
    before = trainer.average.start.clone()
    with torch.no_grad():
        trainer.network.start[0] = float("nan")
    with pytest.raises(ValueError, match="not finite for 10 steps in a row, at small 9"):
        trainer.run()
    torch.testing.assert_close(trainer.average.start, before)


def test_a_setting_that_a_run_did_not_know_had_its_default(tmp_path, clips):
    """Not the value that the network has now: that would let anything pass."""
    Trainer(settings(), MODEL, tmp_path, clips, clips[:2]).save_state()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    known = json.loads(state["settings"])
    known.pop("model.head_pose_dropout")
    torch.save({**state, "settings": json.dumps(known)}, tmp_path / "state.pt")
    Trainer(settings(), MODEL, tmp_path, clips, clips[:2]).resume()
    with pytest.raises(ValueError, match="model.head_pose_dropout 0.5 -> 0.9"):
        Trainer(settings(), {**MODEL, "head_pose_dropout": 0.9}, tmp_path, clips, clips[:2]).resume()


def test_tokens_are_used_in_every_pass_and_made_once(clips):
    dataset, encoded = data.ClipDataset(clips, 1, 0, None, 64), []

    def encode(batch):
        encoded.append(batch.joints)
        return batch.joints[..., :1]

    wanted = [memory.batch_number(step, 3, 4, 0) for step in range(3, 24)]
    steps = list(memory.remembered(dataset, 2, wanted, 0, encode))
    assert len(encoded) == 8 and len(steps) == 21
    for batch, tokens in steps:  # a batch's tokens stay its own
        torch.testing.assert_close(tokens, batch.joints[..., :1])
    numbers = [memory.batch_number(step, 3, 4, 0) for step in range(24)]
    assert sorted(numbers[:12]) == sorted([0, 1, 2, 3] * 3) and sorted(set(numbers[12:])) == [4, 5, 6, 7]
    assert numbers[:4] == [0, 1, 2, 3] and numbers[4:12] != [0, 1, 2, 3] * 2


def test_two_processes_take_the_steps_of_one_with_twice_the_batch(tmp_path, clips):
    """By torchrun, as a user starts it; gradients are averaged over gloo, on a GPU it is NCCL."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, TOGETHER, tmp_path / "two", "2"], check=True, env=environment, timeout=200)
    subprocess.run([sys.executable, TOGETHER, tmp_path / "one", "4"], check=True, env=environment, timeout=200)
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("one", "two"))
    start = Trainer(settings(), {**MODEL, "head_pose_dropout": 0.0}, tmp_path / "start", clips, clips[:2]).network
    for name, value in start.state_dict().items():
        if value.is_floating_point() and not torch.equal(value, one["network"][name]):
            moved = (one["network"][name] - value).norm()
            assert (two["network"][name] - one["network"][name]).norm() < 0.02 * moved, name
    assert len(two["random"]) == 2 and two["position"] == one["position"]
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert len(logs[0]) == len(logs[1])  # the second process writes nothing
    with pytest.raises(ValueError, match="processes 2 -> 1"):
        Trainer(settings(), MODEL, tmp_path / "two", clips, clips[:2]).resume()


def test_an_open_gate_changes_no_loss_and_a_shut_one_leaves_nothing():
    joints, truth = torch.randn(2, 2, 6, 22, 3, generator=torch.Generator().manual_seed(0))
    turns = torch.randn(2, 2, 6, 22, 3, 3, generator=torch.Generator().manual_seed(1))
    everywhere = torch.ones(2, 6, 22, dtype=torch.bool)
    cases = ((losses.squared_error, (joints, truth)), (losses.jerk, (joints, truth)), (losses.rotation_error, turns))
    for loss, pair in cases:
        torch.testing.assert_close(loss(*pair, everywhere), loss(*pair))
        assert float(loss(*pair, ~everywhere)) == 0.0 == float(loss(pair[0], pair[0]))
        first = everywhere.clone()
        first[1] = False
        torch.testing.assert_close(loss(*pair, first), loss(*(part[:1] for part in pair)))


def test_clips_of_other_motion_are_other_clips(tmp_path, monkeypatch):
    """Else a run with a folder of captured motion would get the clips of one without, and say nothing."""

    def folder() -> Path:
        return cache.directory(tmp_path, "test", DataConfig())

    monkeypatch.delenv("EGOPOSE_MOTION_DIR", raising=False)
    known = [folder()]
    motion = tmp_path / "motion"
    (motion / "more").mkdir(parents=True)
    monkeypatch.setenv("EGOPOSE_MOTION_DIR", str(motion))
    for name, content in (("walk.bvh", "1"), ("walk.bvh", "12"), ("more/run.glb", "1")):
        (motion / name).write_text(content)
        known.append(folder())
    assert len(set(known)) == 4 and folder() == known[-1]


def test_clips_that_are_rendered_on_the_fly_train_as_those_that_were_before(tmp_path, monkeypatch):
    drawn = []

    def draw(seed, config, split, device):
        drawn.append((seed, split))
        with torch.random.fork_rng():  # as the world, which has generators of its own
            return draw_clip(seed + 100 * (split == "validation"))

    monkeypatch.setattr(cache, "render", draw)
    sizes = {"data.clips": 4, "data.validation_clips": 1, "data.clip_frames": 6, "stills.clips": 2, "stills.clip_frames": 6}
    before, after = (settings(**sizes, on_the_fly=on_the_fly, **{"small.steps": 0}) for on_the_fly in (False, True))
    held_out, train, stills = (cache._parts(before)[part] for part in (1, 0, 2))
    for root, parts in ((tmp_path / "before", (train, held_out, stills)), (tmp_path / "after", (held_out,))):
        for part in parts:  # in this process: those of a pool know nothing of the drawn ones
            for clip in cache.promise(root, *part):
                clip.get()
    drawn.clear()
    runs = []
    for root, config in ((tmp_path / "before", before), (tmp_path / "after", after)):
        runs.append(Trainer(config, MODEL, root / "run", *cache.load_run(root, config)))
        assert not drawn
        runs[-1].run()
    every = {(clip.seed, "train") for part in (train, stills) for clip in cache.promise(tmp_path / "after", *part)}
    assert drawn and set(drawn) <= every and len(drawn) == len(set(drawn)), "each once"
    for name, value in runs[0].network.state_dict().items():
        torch.testing.assert_close(runs[1].network.state_dict()[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(("side", "fits"), [(256, True), (128, True), (64, False), (100, False), (85, False)])
def test_images_of_a_size_that_a_square_is_no_part_of_are_refused(side, fits):
    config = settings(**{"small.side": 256, "frames.side": side, "sequences.side": 256})
    if fits:
        return recipes.check(config, {**MODEL, **SQUARE})
    with pytest.raises(ConfigError, match=f"frames.side: expected one of 128, 256 for this network's square, got {side}"):
        recipes.check(config, {**MODEL, **SQUARE})


def test_a_card_names_all_that_training_started_from():
    start = {"weights": "", "heatmap_weights": "ag.safetensors", "encoder_weights": "af/ckpt.pth", "mimic": "t.safetensors"}
    (text,) = publish._start(start)
    assert "random" not in text and all(name in text for name in ("`ag.safetensors`", "`ckpt.pth`", "`t.safetensors`"))


def test_a_damaged_cached_clip_is_named(tmp_path, clips):
    path = tmp_path / "000000.npz"
    cache.write(path, clips[0])
    again = cache.read(path)
    for field in dataclasses.fields(again):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(clips[0], field.name))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ValueError, match="000000.npz: expected a complete file"):
        cache.read(path)


def test_what_frozen_layers_make_of_a_batch_changes_no_loss_and_no_gradient(clips):
    config = settings(**{"freeze_early": True, "frames.passes": 2})
    recipe, network = recipes.RECIPES["egoposeformer_v2"][0], build("egoposeformer_v2", {**MODEL, **SQUARE})
    head = recipe.heads(network)
    batch = data.collate([data.decode(clip, 0, 1) for clip in clips[:3]])
    for stage in ("frames", "sequences"):
        recipe.trained(network, head, stage, config)
        network.eval()
        with torch.no_grad():
            kept = recipe.keep(network, batch, stage, config)
        gradients = []
        for made in (None, kept):
            network.zero_grad()
            loss = recipe.losses(network, head, batch, made, stage, 0.5, config).total
            loss.backward()
            gradients.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None} | {"loss": loss})
        assert gradients[0].keys() == gradients[1].keys() >= {"token_norm.weight", "token_position.weight"}
        for name, value in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], value, atol=1e-5, rtol=1e-4, msg=name)
    with pytest.raises(ConfigError, match="frames.passes: expected 1 where nothing is frozen"):
        settings(**{"frames.passes": 2})


def test_a_square_of_the_image_is_all_that_is_seen_and_its_tokens_know_where_it_is(clips):
    whole, square = (build("egoposeformer_v2", {**MODEL, **part}).eval() for part in ({}, SQUARE))
    square.load_state_dict(whole.state_dict())
    batch = data.collate([data.decode(clip, 0, 1) for clip in clips[:2]])
    with torch.no_grad():
        tokens = square.encode(batch.input.images)
        assert tokens.shape[3] == 144
        assert not torch.equal(square.encode(batch.input.images - 1), tokens)
        outside = batch.input.images.clone()
        outside[..., :48, :] = 255
        outside[..., :32] = 255
        torch.testing.assert_close(square.encode(outside), tokens)
        # Cell by cell the encoding of place is that of the whole image where cells coincide.
        places = [n._cell_centres(torch.zeros(1, 1, side, side)) for n, side in ((whole, 16), (square, 12))]
    grid = places[0].unflatten(0, (16, 16))[3:15, 2:14].flatten(0, 1)
    torch.testing.assert_close(places[1], grid)
