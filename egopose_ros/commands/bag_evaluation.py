"""Networks over bags against ground truth: what `egopose evaluate BAG` does between its arguments and its outputs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from egopose_ros import pipeline as pipelines
from egopose_ros.config import Config, Leaf
from egopose_ros.evaluation import results, scores
from egopose_ros.evaluation import truth as truths
from egopose_ros.evaluation.report_data import Picture, Report, chosen_frames
from egopose_ros.evaluation.runs import Agreement, Run, RunBuilder, agreement
from egopose_ros.evaluation.scores import Comparison, Metric
from egopose_ros.evaluation.truth import Truth, TruthError
from egopose_ros.ros import bag_runs, bag_truth
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_poses import PoseBag
from egopose_ros.ros.bag_reader import BagError, BagReader
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import DEGREES_OF_FREEDOM, BodyPose
from egopose_ros.viewer.overlay import View, draw


@dataclass(frozen=True)
class Subject:
    """What is to be evaluated on what."""

    bags: tuple[Path, ...]
    checkpoints: tuple[str, ...]
    """files, '' for the one that ships"""
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
    """bags of poses recorded live, none or one for each bag"""
    predictions_topic: str
    output: Path | None
    """folder for the poses"""


@dataclass(frozen=True)
class Evaluation:
    """What came out."""

    numbers: dict[str, Any]
    """the JSON object"""
    metrics: list[dict[str, Metric]]
    """of each run"""
    report: Report
    losses: list[str]
    """one line for each damaged bag"""


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


def evaluate(subject: Subject) -> Evaluation:
    """Run every checkpoint over every bag and score the poses; ValueError or OSError for what does not fit."""
    if subject.predictions and len(subject.predictions) != len(subject.bags):
        raise ValueError(f"--predictions: expected one for each of {len(subject.bags)} bags, got {len(subject.predictions)}")
    offset_s = _offset(subject.truth_offset)
    with contextlib.ExitStack() as stack:
        bags = [_open(stack, path, subject, offset_s) for path in subject.bags]
        comparisons = [_run(subject, bags, index) for index in range(len(subject.checkpoints))]
        live, agreements = _live(stack, subject, bags, comparisons[0])
        parts = comparisons + ([live] if live else [])
        merged = [scores.merge(part) for part in parts]
        metrics = [scores.score(comparison) for comparison in merged]
        numbers = {
            "version": results.VERSION,
            "protocol": subject.protocol,
            "bags": [_bag_json(bag) for bag in bags],
            "runs": [results.run_json(c, m, merged[0]) for c, m in zip(merged, metrics)],
            "live": [results.agreement_json(path, a) for path, a in zip(subject.predictions, agreements)],
            "timing": [results.timing_json(c.run) for c in merged],
        }
        pictures = _pictures(bags, comparisons[0])
        losses = [f"bag {bag.reader.path}: {bag.reader.loss}" for bag in bags if bag.reader.loss]
    return Evaluation(numbers, metrics, Report(numbers, merged, metrics, pictures, agreements), losses)


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
        frames.notes[hint] = None
    return _Bag(reader, config, frames, _truth(reader, config, frames, subject), offset_s)


def _truth(reader: BagReader, config: Config, frames: BagFrames, subject: Subject) -> Truth:
    name = subject.truth or bag_truth.find_topic(reader)
    if not name:
        raise BagError(
            f"bag {reader.path}: expected ground truth on {bag_truth.TRUTH_TOPIC} or named by --truth (a topic or a "
            f"file; poses alone come from `egopose infer`), got none; the bag has {reader.contents()}"
        )
    return bag_runs.open_truth(frames, config, name, subject.truth_frame, subject.truth_skeleton)


def _run(subject: Subject, bags: list[_Bag], index: int) -> list[Comparison]:
    """Return the comparison of a checkpoint on each bag."""
    checkpoint, parts = subject.checkpoints[index], []
    for number, bag in enumerate(bags):
        pipeline = bag_runs.load(bag.frames, _with_checkpoint(bag.config, checkpoint))
        for warning in pipeline.warnings:
            bag.frames.notes[warning] = None
        bag.rig = pipeline.rig
        label = Path(pipeline.checkpoint).stem if len(subject.checkpoints) > 1 else pipeline.network_name
        builder = RunBuilder()
        with contextlib.ExitStack() as stack:
            poses = None
            if subject.output is not None:
                suffix = f"_{index}" if len(subject.checkpoints) > 1 else ""
                name = f"poses_{bag.reader.path.stem}{f'_{number}' if len(bags) > 1 else ''}{suffix}"
                poses = stack.enter_context(PoseBag(subject.output / name))
            progress = stack.enter_context(tqdm(desc=label, unit="frame", disable=None))
            bag_runs.run(pipeline, bag.frames, builder, poses, on_frame=progress.update)
        run = builder.build(label, pipeline.network_name, pipeline.weights_trained, 0, DEGREES_OF_FREEDOM)
        bag.count = run.size
        _synchronise(bag, run)
        parts.append(_compare(run, bag, subject.protocol))
    return parts


def _with_checkpoint(config: Config, checkpoint: str) -> Config:
    return replace(config, network=replace(config.network, checkpoint=checkpoint or config.network.checkpoint))


def _synchronise(bag: _Bag, run: Run) -> None:
    """Estimate the offset of the truth's clock where it is asked for, by the first run."""
    if bag.offset_s is None:
        joints = run.joints if bag.truth.frame == "camera" else run.joints_world()
        of_run, of_truth = _shared_joints(run, bag.truth)
        bag.offset_s, bag.correlation = truths.estimate_offset(
            bag.truth.stamps_ns, bag.truth.joints[:, of_truth], run.stamps_ns, joints[:, of_run]
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


def _live(
    stack: contextlib.ExitStack, subject: Subject, bags: list[_Bag], offline: list[Comparison]
) -> tuple[list[Comparison], list[Agreement]]:
    """Score poses that were recorded live, and hold them against those made here."""
    parts, agreements = [], []
    for path, bag, mine in zip(subject.predictions, bags, offline):
        reader = stack.enter_context(BagReader(path))
        builder = RunBuilder()
        network, trained, dropped = bag_runs.recorded(
            reader, subject.predictions_topic, builder, bag.config.window.max_gap_s
        )
        run = builder.build(f"live: {path.stem}", network, trained, dropped, DEGREES_OF_FREEDOM)
        parts.append(_compare(run, bag, subject.protocol))
        agreements.append(agreement(mine.run, run))
    return parts, agreements


def _pictures(bags: list[_Bag], parts: list[Comparison]) -> list[Picture]:
    """Fetch the images of the worst and the typical frames, and draw on them."""
    chosen = chosen_frames(parts)
    result = []
    for number, (bag, part) in enumerate(zip(bags, parts)):
        rows = [(kind, row) for kind, owner, row in chosen if owner == number]
        stamps = {int(part.run.stamps_ns[row]) for _, row in rows}
        found = bag_runs.images_at(bag.frames, stamps) if stamps else {}
        camera = bag.rig.cameras[0]
        view = View(camera.name, camera.T_head_camera, pipelines.projection(camera))
        for kind, row in rows:
            stamp_ns = int(part.run.stamps_ns[row])
            if stamp_ns in found:
                pose, truth = (_pose(part, row, joints) for joints in (part.predicted, part.truth))
                error_mm = part.frame_errors[row] * 1000.0
                seconds = (stamp_ns - int(part.run.stamps_ns[0])) / 1e9
                caption = f"{error_mm:.0f} mm at {seconds:.2f} s of {bag.reader.path.name}"
                result.append(Picture(kind, caption, draw([found[stamp_ns]], [view], pose, truth)))
    return result


def _pose(part: Comparison, row: int, joints: np.ndarray) -> BodyPose:
    stamp_ns = int(part.run.stamps_ns[row])
    return BodyPose(stamp_ns, part.skeleton, joints[row].astype(np.float32), None, None, None, None, 1, True)


def _bag_json(bag: _Bag) -> dict[str, Any]:
    return {
        "bag": str(bag.reader.path),
        "topics": list(bag.frames.topics),
        "frames": bag.count,
        "rejected": {reason: count for reason, count in sorted(bag.frames.rejected.items()) if count},
        "notes": list(bag.frames.notes),
        "loss": bag.reader.loss,
        "truth": {
            "source": bag.truth.source,
            "skeleton": bag.truth.skeleton,
            "frame": bag.truth.frame,
            "stamps": len(bag.truth.stamps_ns),
            "offset_s": round(bag.offset_s or 0.0, 4),
            "offset_estimated": bag.correlation is not None,
            "correlation": None if bag.correlation is None else round(bag.correlation, 4),
        },
    }
