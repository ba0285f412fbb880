"""The mean of two checkpoints: between both in every weight, calibrated, and of like networks alone."""

import pytest
import torch

from egopose_ros import checkpoint
from egopose_ros.networks.table import build
from egopose_ros.training.average import average
from stick_figures import draw_clip

MODEL = {"width": 64, "heads": 4, "layers": 1, "window": 4}


def saved(path, seed, **changes):
    torch.manual_seed(seed)
    network = build("egoposeformer_v2", {**MODEL, **changes})
    checkpoint.save(path, network, {"hours": seed})
    return path


def test_the_mean_is_between_both_and_says_how_sure_it_is(tmp_path):
    first, second = (saved(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    output = tmp_path / "mean.safetensors"
    numbers = average(first, second, 0.25, [draw_clip(0), draw_clip(1)], output)
    (one, _), (two, _), (mean, card) = (checkpoint.load(path) for path in (first, second, output))
    for name, value in mean.state_dict().items():
        if value.is_floating_point() and not name.endswith("spread"):
            between = 0.75 * one.state_dict()[name] + 0.25 * two.state_dict()[name]
            torch.testing.assert_close(value, between, atol=2e-3, rtol=2e-3)  # fp16 in between
    assert card.training["mean_of"] == ["1.safetensors", "2.safetensors"] and card.training["hours"] == 2
    assert card.training["validation"] == pytest.approx(numbers, nan_ok=True) and abs(numbers["in_90_percent"] - 0.9) < 0.1


def test_unlike_networks_have_no_mean(tmp_path):
    first, second = saved(tmp_path / "a.safetensors", 1), saved(tmp_path / "b.safetensors", 1, window=6)
    with pytest.raises(ValueError, match="expected the network and the settings of .*b.safetensors, got other window"):
        average(first, second, 0.5, [draw_clip(0)], tmp_path / "mean.safetensors")
