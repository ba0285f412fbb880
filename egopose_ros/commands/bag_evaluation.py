"""Networks over bags against ground truth: what `egopose evaluate BAG` does between its arguments and its outputs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
from tqdm import tqdm

from egopose_ros import pipeline as pipelines
from egopose_ros.commands.evaluation_outcome import Evaluation, concluded, picture, recording_json
from egopose_ros.config import Config, Leaf
from egopose_ros.evaluation import results, scores
from egopose_ros.evaluation import truth as truths
from egopose_ros.evaluation.contenders import Contender, told_apart
from egopose_ros.evaluation.motion import columns
from egopose_ros.evaluation.report_data import Picture, chosen_frames
from egopose_ros.evaluation.runs import Run, RunBuilder
from egopose_ros.evaluation.scores import Comparison
from egopose_ros.evaluation.truth import Truth, TruthError
from egopose_ros.ros import bag_runs, bag_truth
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_poses import PoseBag
from egopose_ros.ros.bag_reader import BagError, BagReader, said_loss
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import DEGREES_OF_FREEDOM
from egopose_ros.viewer.overlay import View


@dataclass(frozen=True)
class Subject:
    """What is to be evaluated on what."""

    bags: tuple[Path, ...]
    contenders: tuple[Contender, ...]
    topics: tuple[str, ...]
    overrides: dict[str, Leaf]
    """of the settings that a bag gives"""
    truth: str
    """topic or file, '' for the bag's own"""
    truth_offset: str
    """seconds, or 'auto'"""
    truth_frame: str
    truth_skeleton: str
    protocol: str
    predictions: tuple[Path, ...]
    """bags of poses recorded live: any number of one bag, or one for each of several"""
    predictions_topic: str
    output: Path | None
    """folder for the poses"""
    together: int
    """frames that go through the network at once"""


@dataclass
class _Bag:
    """An open bag with its truth."""

    reader: BagReader
    config: Config
    frames: BagFrames
    truth: Truth
    offset_s: float | None
    """None: to be estimated"""
    correlation: float | None = None
    rig: Any = None
    count: int = 0


def evaluate(subject: Subject, poses: contextlib.ExitStack) -> Evaluation:
    """Run every contender over every bag and score the poses; ValueError or OSError for what does not fit.

    The bags of poses take their names when `poses` is closed, and leave nothing where that is by an error.
    """
    count, predictions = len(subject.bags), len(subject.predictions)
    if count > 1 and predictions not in (0, count):
        raise ValueError(f"--predictions: expected one for each of {count} bags, got {predictions}")
    offset_s = _offset(subject.truth_offset)
    with contextlib.ExitStack() as stack:
        bags = [_open(stack, path, subject, offset_s) for path in subject.bags]
        checkpoints, comparisons = zip(*(_run(subject, bags, index, poses) for index in range(len(subject.contenders))))
        live = _live(subject, bags, comparisons)
        return concluded(
            subject.protocol,
            [_bag_json(bag) for bag in bags],
            [*comparisons, *_live_runs(live, bags)],
            _pictures(bags, comparisons[0]),
            checkpoints=checkpoints,
            live=[results.agreement_json(one.path, one.part.run, one.offline, one.loss) for one in live],
            losses=[
                *(line for bag in bags for line in said_loss(bag.reader)),
                *(f"bag {one.path}: {one.loss}; frames without a pose may be lost with it" for one in live if one.loss),
            ],
        )


def _offset(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"--truth-offset: expected seconds or auto, got '{text}'")
    return value


def _open(stack: contextlib.ExitStack, path: Path, subject: Subject, offset_s: float | None) -> _Bag:
    reader = stack.enter_context(BagReader(path))
    config = bag_runs.settings(reader, subject.topics, subject.overrides)
    frames = BagFrames(reader, config)
    hint = bag_runs.unused_head_poses(reader, config)
    if hint:
        frames.notes[hint] = hint
    truth = _truth(reader, config, frames, subject)
    bag_runs.require_truth_in_time(frames, truth, offset_s or 0.0)
    return _Bag(reader, config, frames, truth, offset_s)


def _truth(reader: BagReader, config: Config, frames: BagFrames, subject: Subject) -> Truth:
    name = subject.truth or bag_truth.find_topic(reader)
    if not name:
        raise BagError(
            f"bag {reader.path}: expected ground truth on {bag_truth.TRUTH_TOPIC} or named by --truth (a topic or a "
            f"file; poses alone come from `egopose infer`), got none; the bag has {reader.contents()}"
        )
    return bag_runs.open_truth(frames, config, name, subject.truth_frame, subject.truth_skeleton)


def _run(subject: Subject, bags: list[_Bag], index: int, poses: contextlib.ExitStack) -> tuple[str, list[Comparison]]:
    """Return the weights of a contender and its comparison on each bag."""
    contender, parts, checkpoint = subject.contenders[index], [], ""
    for number, bag in enumerate(bags):
        pipeline = bag_runs.load(bag.frames, contender.configured(bag.config))
        for warning in pipeline.warnings:
            bag.frames.notes[warning] = warning
        bag.rig, checkpoint = pipeline.rig, pipeline.checkpoint
        builder = RunBuilder()
        written = None
        if subject.output is not None:
            suffix = f"_{index}" if len(subject.contenders) > 1 else ""
            name = f"poses_{bag.reader.path.stem}{f'_{number}' if len(bags) > 1 else ''}{suffix}"
            written = poses.enter_context(PoseBag(subject.output / name))
        with tqdm(desc=contender.label, unit="frame", disable=None) as progress:
            bag_runs.run(pipeline, bag.frames, builder, written, on_frame=progress.update, together=subject.together)
        run = builder.build(contender.label, pipeline.network_name, pipeline.weights_trained, 0, DEGREES_OF_FREEDOM)
        bag.count = run.size
        _synchronise(bag, run)
        parts.append(_compare(run, bag, subject.protocol))
    return checkpoint, parts


def _synchronise(bag: _Bag, run: Run) -> None:
    """Estimate the offset of the truth's clock where it is asked for, by the first run."""
    if bag.offset_s is None:
        joints = run.joints if bag.truth.frame == "camera" else run.joints_world()
        of_run, of_truth = _shared_joints(run, bag.truth)
        bag.offset_s, bag.correlation = truths.estimate_offset(
            bag.truth.stamps_ns, columns(bag.truth.joints, of_truth), run.stamps_ns, columns(joints, of_run)
        )
    truths.require_overlap(bag.truth, run.stamps_ns, bag.offset_s)


def _shared_joints(run: Run, truth: Truth) -> tuple[list[int], list[int]]:
    mine, theirs = (skeleton(name).joints for name in (run.skeleton, truth.skeleton))
    shared = [joint for joint in mine if joint in theirs]
    if not shared:
        raise TruthError(f"{truth.source}: expected joints of {run.skeleton}, got none of {truth.skeleton}")
    return [mine.index(joint) for joint in shared], [theirs.index(joint) for joint in shared]


def _compare(run: Run, bag: _Bag, protocol: str) -> Comparison:
    project = pipelines.projection(bag.rig.cameras[0])
    width, height = bag.rig.cameras[0].model.size

    def in_view(points: np.ndarray) -> np.ndarray:
        pixels, valid = project(points)
        return valid & ((pixels >= -0.5) & (pixels <= (width - 0.5, height - 0.5))).all(-1)

    return scores.compare(run, bag.truth, protocol, bag.offset_s or 0.0, in_view)


@dataclass(frozen=True)
class _Live:
    """Poses of a bag that were recorded live."""

    path: Path
    part: Comparison
    offline: Run | None
    """the first made here by the same network"""
    loss: str
    """what is missing of a damaged bag of them"""


def _live(subject: Subject, bags: list[_Bag], offline: Sequence[list[Comparison]]) -> list[_Live]:
    """Score poses that were recorded live, and find those made here to hold them against, of each contender a bag."""
    result = []
    paths = subject.predictions
    several = len(paths) if len(bags) == 1 else 1
    files = [(str(path), "") for path in paths]
    labels = told_apart(files) if len(bags) == 1 else told_apart(files[:1]) * len(files)  # of several bags: one run
    for path, label, bag, mine in zip(paths, labels, bags * several, list(zip(*offline)) * several):
        builder = RunBuilder()
        with BagReader(path) as reader:
            network, trained, dropped = bag_runs.recorded(
                reader, subject.predictions_topic, builder, bag.config.window.max_gap_s
            )
            loss = reader.loss
        run = builder.build(f"live: {label}", network, trained, dropped, DEGREES_OF_FREEDOM)
        kind = run.network, run.skeleton
        same = next((part.run for part in mine if (part.run.network, part.run.skeleton) == kind), None)
        result.append(_Live(path, _compare(run, bag, subject.protocol), same, loss))
    return result


def _live_runs(live: list[_Live], bags: list[_Bag]) -> list[list[Comparison]]:
    """Return the comparisons of each run: every recording of the one bag is a run, or those of several bags are one."""
    parts = [one.part for one in live]
    return [[part] for part in parts] if len(bags) == 1 else [parts] if parts else []


def _pictures(bags: list[_Bag], parts: list[Comparison]) -> list[Picture]:
    """Fetch the images of the worst and the typical frames, and draw on them."""
    chosen = chosen_frames(parts)
    result = []
    for number, (bag, part) in enumerate(zip(bags, parts)):
        rows = [(kind, row) for kind, owner, row in chosen if owner == number]
        stamps = {int(part.run.stamps_ns[row]) for _, row in rows}
        found = bag_runs.images_at(bag.frames, stamps, bag.config.camera.sync_tolerance_s) if stamps else {}
        camera = bag.rig.cameras[0]
        view = View(camera.name, camera.T_head_camera, pipelines.projection(camera))
        for kind, row in rows:
            image = found.get(int(part.run.stamps_ns[row]))
            if image is not None:
                result.append(picture(kind, part, row, image, view, bag.reader.path.name))
    return result


def _bag_json(bag: _Bag) -> dict[str, Any]:
    truth = {
        "source": bag.truth.source,
        "skeleton": bag.truth.skeleton,
        "frame": bag.truth.frame,
        "stamps": len(bag.truth.stamps_ns),
        "offset_s": round(bag.offset_s or 0.0, 4),
        "offset_estimated": bag.correlation is not None,
        "correlation": None if bag.correlation is None else round(bag.correlation, 4),
    }
    return recording_json(
        str(bag.reader.path),
        bag.frames.topics,
        bag.count,
        truth,
        rejected={reason: count for reason, count in sorted(bag.frames.rejected.items()) if count},
        notes=list(bag.frames.notes.values()),
        loss=bag.reader.loss,
    )
