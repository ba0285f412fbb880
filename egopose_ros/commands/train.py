"""`egopose train CONFIG`: render what is missing, train, and write a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from egopose_ros.config import replace
from egopose_ros.resources import cache_directory
from egopose_ros.training import cache
from egopose_ros.training.config import TrainConfig, load
from egopose_ros.training.loop import STAGES, Trainer

TINY = {
    "data.clips": 4, "data.validation_clips": 1, "data.clip_frames": 8, "data.rates_hz": ("15",),
    **{f"{stage}.{name}": value for stage in STAGES for name, value in (("warmup", 1), ("steps", 4))},
    "small.batch": 16, "frames.batch": 4, "sequences.batch": 1, "sequences.frames": 8, "compile": False,
    "loader_workers": 0, "validate_every": 1000, "checkpoint_every": 1000,
}  # fmt: skip
"""what makes a run of every stage fit two minutes of two cores"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, help="YAML file of overrides, as in config/training/")
    parser.add_argument("--output", type=Path, help="folder of the run (default: runs/<name of the config>)")
    parser.add_argument("--cache", type=Path, help="folder of rendered clips (default: in the user's cache)")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further overrides")
    parser.add_argument("--render-workers", type=int, default=2, help="processes that render (default 2)")
    parser.add_argument("--render-only", action="store_true", help="fill the cache and stop")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    parser.add_argument("--tiny", action="store_true", help="every stage in two minutes, to see that it works")


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    config, model = load(arguments.config)
    config = replace(config, _overrides(arguments.set))
    if arguments.tiny:
        config = replace(config, TINY)
    output = arguments.output or Path("runs") / (arguments.config.stem + ("_tiny" if arguments.tiny else ""))
    if not arguments.resume and (output / "state.pt").exists():
        raise ValueError(f"{output}: expected a new folder, got one with a run in it; give --resume or another --output")
    root = arguments.cache or cache_directory() / "clips"
    counts = {"train": config.data.clips, "validation": config.data.validation_clips}
    for split, clips in counts.items():
        cache.render_missing(root, split, config.data, clips, arguments.render_workers)
    if arguments.render_only:
        return 0
    training, validation = (cache.load(root, split, config.data, clips) for split, clips in counts.items())
    trainer = Trainer(config, model, output, training, validation)
    if arguments.resume:
        trainer.resume()
    print(f"weights: {trainer.run()}")
    return 0


def _overrides(pairs: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs , read as YAML; the configuration checks them."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--set: expected NAME=VALUE, got '{pair}'")
        values[name] = yaml.safe_load(text)
    return values
