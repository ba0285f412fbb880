"""Average two checkpoints of one network: the mean of two runs that share their start is often better than either.

    python -m egopose_ros.training.average FIRST SECOND --config CONFIG --output FILE [--share 0.5]

Weights between those of two runs from one start mostly lie in the same valley of the loss (Wortsman et al., Model
soups, arXiv 2203.05482), so one may have learnt more scenes and the other more disturbances, and their mean both. How
sure it is gets calibrated anew on the validation clips of CONFIG, and its error there is printed and kept in FILE.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from egopose_ros import checkpoint
from egopose_ros.networks.table import settings_of
from egopose_ros.resources import cache_directory
from egopose_ros.skeleton import skeleton
from egopose_ros.training import cache, validation
from egopose_ros.training.allocator import keep_freed_memory
from egopose_ros.training.data import ClipDataset, in_batches
from egopose_ros.training.recipes import load


def mean(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return weights `share` of the way from the first to the second; what is not a number to average is the second's."""
    floats = {name for name, value in first.items() if value.is_floating_point()}
    return {name: first[name].lerp(value, share) if name in floats else value for name, value in second.items()}


def average(first: Path, second: Path, share: float, clips: list[cache.CachedClip], output: Path) -> dict[str, float]:
    """Write the mean of two checkpoints, calibrated on clips; return its numbers there. ValueError for unlike networks."""
    (network, card), (other, _) = checkpoint.load(second), checkpoint.load(first)
    settings, others = settings_of(network), settings_of(other)
    unlike = sorted(name for name in settings.keys() | others.keys() if settings.get(name) != others.get(name))
    if type(network) is not type(other) or unlike:
        raise ValueError(f"{first}: expected the network and the settings of {second}, got other {', '.join(unlike)}")
    network.load_state_dict(mean(other.state_dict(), network.state_dict(), share))
    network.encoder.to(memory_format=torch.channels_last)
    dataset = ClipDataset(clips, min(clip.frames for clip in clips), 0, None)
    batches = [batch.of(network.skeleton) for batch in in_batches(dataset, 4)]
    validation.calibrate(network, batches)
    found = validation.numbers(batches, validation.predictions(network, batches), skeleton(network.skeleton))
    checkpoint.save(output, network, {**card.training, "mean_of": [first.name, second.name], "validation": found})
    return found


def main() -> None:
    """Average from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path, help="whose training the result's card tells")
    parser.add_argument("--share", type=float, default=0.5, help="of the second (default %(default)s)")
    parser.add_argument("--config", type=Path, required=True, help="training configuration: its validation clips")
    parser.add_argument("--clips", type=int, help="validation clips (default: the configuration's)")
    parser.add_argument("--cache", type=Path, default=cache_directory() / "clips", help="folder of rendered clips")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if not 0.0 <= arguments.share <= 1.0:
        parser.error(f"--share: expected 0..1, got {arguments.share:g}")
    keep_freed_memory()
    config, _ = load(arguments.config)
    data, count = replace(config.data, seed=config.data.validation_seed), arguments.clips or config.data.validation_clips
    cache.render_missing(arguments.cache, "validation", data, count, 2)
    clips = cache.load(arguments.cache, "validation", data, count)
    found = average(arguments.first, arguments.second, arguments.share, clips, arguments.output)
    print(", ".join(f"{name} {value:.3g}" for name, value in found.items()))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
