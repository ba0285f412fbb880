"""`egopose label`: a teacher's poses of unlabelled recordings, as bags to look at, to edit and to train on."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from egopose_ros import checkpoint
from egopose_ros.commands import DAMAGED
from egopose_ros.config import DEFAULT_NETWORK, Config, Leaf, replace
from egopose_ros.datasets.footage import FPS
from egopose_ros.files import make_folder
from egopose_ros.flags import settings
from egopose_ros.labelling import engines
from egopose_ros.labelling.engines import Progress
from egopose_ros.labelling.manifest import FAILED, FILE, Entry, Manifest
from egopose_ros.labelling.recordings import Reading, find
from egopose_ros.labelling.teacher import PARTIAL, Task, size_of
from egopose_ros.networks.table import NETWORKS
from egopose_ros.resources import cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = (
        "Exit status: 0 done, 1 some recordings failed, 2 wrong usage, 3 done with what is whole of a damaged "
        "recording."
    )
    parser.add_argument(
        "input", nargs="+", type=Path, help="bags, videos, folders of images, or folders that hold some of these"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the labels; run again to go on"
    )
    parser.add_argument("--network", default="", choices=tuple(NETWORKS), help=f"default that of the checkpoint, or {DEFAULT_NETWORK}")
    parser.add_argument(
        "--checkpoint", default="", help="the teacher's checkpoint, a file or the name of one that ships (default: its own)"
    )
    parser.add_argument(
        "--calibration", default="", help="calibration file of all recordings (default: each one's own)"
    )
    parser.add_argument("--topics", nargs="+", default=(), help="image topics of the rig, where bags have several")
    parser.add_argument("--fps", type=float, default=FPS, help="rate of folders of images (default 30)")
    parser.add_argument(
        "--no-images", action="store_true", help="leave the images of videos and folders out of the labels' bags"
    )
    parser.add_argument("--engine", default="local", choices=("local", "ray"), help="default %(default)s")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes of this machine (default: one for each core, on a GPU one)"
    )
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="share of a GPU that Ray reserves for a recording (default 0)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of the estimator; repeatable"
    )


def run(arguments: argparse.Namespace) -> int:
    """Label every recording that has no labels yet; exit status 1 when some failed."""
    if not arguments.fps > 0:
        raise ValueError(f"--fps: expected a rate above 0, got {arguments.fps:g}")
    if arguments.workers < 0:
        raise ValueError(f"--workers: expected a number above 0, got {arguments.workers}")
    reading = Reading(tuple(arguments.topics), arguments.fps, _overrides(arguments))
    config = replace(Config(), reading.overrides)
    out = arguments.out.resolve()
    sources = find(arguments.input, out)
    header = {"teacher": _teacher(config), "reading": reading.as_json(), "images": not arguments.no_images}
    make_folder(out, "--out", parents=True)
    if not (out / FILE).is_file() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        # A bag of labels takes the place of what has its name.
        raise ValueError(f"--out {out}: expected a new folder, an empty one or one of labels, got one of something else")
    with Manifest(out, header) as manifest:
        shutil.rmtree(out / PARTIAL, ignore_errors=True)  # of a run that was killed
        try:
            entries = _label(manifest, sources, reading, config, arguments)
        finally:
            shutil.rmtree(out / PARTIAL, ignore_errors=True)
    return _report(out, entries)


def _overrides(arguments: argparse.Namespace) -> dict[str, Leaf]:
    """Return the settings that are not a recording's own; files by absolute paths, for workers elsewhere."""
    flags = {"network.name": arguments.network}
    if arguments.checkpoint:
        flags["network.checkpoint"] = str(checkpoint.locate(arguments.checkpoint).resolve())
    if arguments.calibration:
        flags["camera.calibration"] = str(Path(arguments.calibration).resolve())
    return settings(arguments.set, flags)


def _teacher(config: Config) -> dict[str, Any]:
    """Return what tells one teacher's labels from another's.

    ValueError for a checkpoint that cannot be loaded, or whose network does not say how sure it is.
    """
    name, named = checkpoint.chosen_network(config.network), config.network.checkpoint
    if not named:  # one for each number of cameras
        digests = {str(views): entry.sha256 for views, entry in sorted(checkpoint.defaults(name).items())}
        return {"network": name, "file": "", "sha256": digests}
    path = checkpoint.locate(named)
    teacher, _ = checkpoint.load(path, expected=name)
    if not teacher.config.uncertainty:
        raise ValueError(
            f"checkpoint {path}: expected a teacher with uncertainty, got one without: nothing would tell its good labels "
            "from its bad ones"
        )
    return {"network": name, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _label(
    manifest: Manifest, sources: list[Path], reading: Reading, config: Config, arguments: argparse.Namespace
) -> list[Entry]:
    """Label what is not done, and return how every recording went, in this run or before."""
    missing = [source for source in sources if not manifest.is_done(source)]
    workers = min(_workers(arguments.workers, config), max(len(missing), 1))
    on_ray = arguments.engine == "ray"
    threads = config.runtime.threads or (1 if on_ray else max(_cores() // workers, 1))
    overrides: dict[str, Leaf] = {**reading.overrides, "runtime.threads": threads}
    free = config.runtime.device == "auto" and not config.runtime.require_gpu
    if free and not on_ray and not torch.cuda.is_available():
        overrides["runtime.device"] = "cpu"  # or every worker would say of every recording that there is no GPU
    placed = Reading(reading.topics, reading.fps, overrides)
    names = manifest.names(missing)
    tasks = [Task(source, names[source], manifest.folder, placed, not arguments.no_images) for source in missing]
    events = engines.on_ray(tasks, threads, arguments.gpus) if on_ray else engines.on_this_machine(tasks, workers)
    failed = frames = 0
    with tqdm(
        total=len(sources), initial=len(sources) - len(tasks), desc="label", unit="recording", disable=None
    ) as bar:
        for event in events:
            if isinstance(event, Progress):
                frames += event.frames
            else:
                manifest.add(event)
                failed += event.status == FAILED
                bar.update()
            elapsed = max(bar.format_dict["elapsed"], 1e-3)
            bar.set_postfix(frames=frames, fps=f"{frames / elapsed:.0f}", failed=failed)
    return [_checked(manifest.entries[str(source)], source) for source in sources]


def _checked(entry: Entry, source: Path) -> Entry:
    """Return the entry, as a failure where the recording is no longer the one that was labelled."""
    if entry.status == FAILED or not source.exists() or size_of(source) == entry.bytes:
        return entry
    change = f"{entry.bytes} bytes then, {size_of(source)} now"
    reason = f"changed since it was labelled: {change}; remove its labels to label it anew"
    return dataclasses.replace(entry, status=FAILED, reason=reason)


def _workers(asked: int, config: Config) -> int:
    if asked:
        return asked
    return 1 if config.runtime.device != "cpu" and torch.cuda.is_available() else _cores()


def _cores() -> int:
    return cores()


def _report(out: Path, entries: list[Entry]) -> int:
    """Print what there is and what failed, and return the exit status."""
    failed = [entry for entry in entries if entry.status == FAILED]
    frames = sum(entry.frames for entry in entries if entry not in failed)
    print(f"{out}: labels of {len(entries) - len(failed)} of {len(entries)} recordings, {frames} frames")
    for entry in entries:
        if entry.loss and entry not in failed:
            print(f"damaged: {entry.source}: {entry.loss}", file=sys.stderr)
    for entry in failed:
        print(f"failed: {entry.source}: {entry.reason}", file=sys.stderr)
    return 1 if failed else DAMAGED if any(entry.loss for entry in entries) else 0
