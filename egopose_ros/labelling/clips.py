"""Labels as training clips: images of the recording in the canonical camera, poses as the bag of labels has them now.

Clips are cached by what they depend on; the folder of an edited bag of labels has another name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from egopose_ros.files import CALIBRATION
from egopose_ros.labelling import manifest
from egopose_ros.labelling.manifest import LABELLED, LabelError
from egopose_ros.labelling.recordings import Reading, calibration_of, opened
from egopose_ros.ros.bag_poses import POSE, pose_topic, read_poses
from egopose_ros.ros.bag_reader import BagReader
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import BodyPose
from egopose_ros.training import cache
from egopose_ros.training.labelled import LabelledClip
from egopose_ros.training.recorded import ClipMaker

log = logging.getLogger(__name__)

VERSION = 3
"""of the clips"""


@dataclass(frozen=True)
class _Task:
    """A labelled recording to cut into clips."""

    labels: Path
    recording: Path
    """which has the images: the bag of labels itself where they are in it"""
    reading: Reading
    folder: Path
    frames: int
    views: int


def build(labels: Path, root: Path, frames: int, views: int, workers: int) -> list[Path]:
    """Cut the labelled recordings of a folder into cached clips of up to so many frames; return the clips' files.

    A bag of labels that somebody has deleted, or taken every pose out of, is left out with a warning. ValueError or
    OSError names a recording whose images or labels cannot be had.
    """
    header, entries = manifest.read(labels)
    entries = [entry for entry in entries if entry.status == LABELLED]
    gone = [entry.name for entry in entries if not (labels / entry.name).is_dir()]
    if gone:
        log.warning("%s: nothing is learnt from %s, which the manifest names and nobody finds", labels, ", ".join(gone))
    entries = [entry for entry in entries if entry.name not in gone]
    if not entries:
        raise LabelError(f"{labels}: expected labelled recordings, got none")
    for entry in entries:
        if entry.confidence is None:  # or all of its joints would pass the gate, as those that somebody has set
            raise LabelError(f"{labels / entry.name}: expected labels of a teacher with uncertainty, got none of it")
    reading = Reading.from_json(header["reading"])
    tasks = [_task(labels / entry.name, Path(entry.source), reading, root, frames, views) for entry in entries]
    missing = [task for task in tasks if not task.folder.is_dir()]
    if missing:
        root.mkdir(parents=True, exist_ok=True)
        with tqdm(total=len(missing), desc=f"clips of {labels.name}", unit="recording", disable=None) as bar:
            for _ in _build_all(missing, min(workers, len(missing))):
                bar.update()
    files = [sorted(task.folder.glob("*.npz")) for task in tasks]
    empty = [task.labels.name for task, found in zip(tasks, files) if not found]
    if len(empty) == len(tasks):
        raise LabelError(f"{labels}: expected a label of some frame, got none in {', '.join(empty)}")
    if empty:
        log.warning("%s: nothing is learnt from %s, where no frame has a label", labels, ", ".join(empty))
    return [path for found in files for path in found]


def _task(labels: Path, source: Path, reading: Reading, root: Path, frames: int, views: int) -> _Task:
    recording = source
    if (labels / CALIBRATION).is_file():
        recording, reading = labels, Reading()
    parts = [VERSION, _files(labels), str(recording), state(recording, reading), reading.as_json(), frames, views]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return _Task(labels, recording, reading, root / f"labelled{VERSION}_{labels.name}_{digest}", frames, views)


def state(recording: Path, reading: Reading) -> list[Any]:
    """Return what tells a recording and its calibration from what they were, as JSON; LabelError where it is gone."""
    if not recording.exists():
        raise LabelError(f"{recording}: expected the recording that was labelled, got nothing there")
    file = calibration_of(recording, reading)
    return [_files(recording), "" if file is None else file.read_text()]


def _files(path: Path) -> list[Any]:
    # As a build tool does: by size and time, since hashing fleets would cost more than cutting them.
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _build_all(tasks: list[_Task], workers: int) -> Iterator[None]:
    """Build in some processes; yield at the end of each task."""
    if workers == 1:
        yield from map(_build, tasks)
        return
    # spawn: a forked child inherits locks of torch's thread pool.
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        yield from pool.imap_unordered(_build, tasks)


def _build(task: _Task) -> None:
    cache.write_all(task.folder, read_clips(task.labels, task.recording, task.reading, task.frames, task.views))


def read_clips(labels: Path, recording: Path, reading: Reading, frames: int, views: int) -> Iterator[LabelledClip]:
    """Yield the clips of a labelled recording: up to `frames` frames without a gap, of which at least one has a label.

    LabelError for labels of another skeleton, or of which none is at the stamp of a frame.
    """
    poses = _poses(labels)
    if not poses:
        return
    unused = set(poses)
    with opened(recording, reading) as source:
        if len(source.rig.cameras) < views:
            raise LabelError(f"{recording}: expected a rig of {views} cameras or more, got {len(source.rig.cameras)}")
        maker, epoch = ClipMaker(source.rig, views, source.config.window.max_gap_s), 0
        for item in source.frames:
            if maker.length == frames or item.epoch != epoch:
                yield from maker.clip()
            epoch = item.epoch
            maker.add(item.frame, poses.get(item.frame.stamp_ns))
            unused.discard(item.frame.stamp_ns)
        yield from maker.clip()
    if len(unused) == len(poses):
        raise LabelError(f"{labels}: expected labels at the stamps of {recording}, got none of {len(poses)} there")


def _poses(labels: Path) -> dict[int, BodyPose]:
    with BagReader(labels) as bag:
        if POSE in bag.kinds and not bag.counts[POSE]:  # somebody has taken them all out
            return {}
        poses = {pose.stamp_ns: pose for pose, _ in read_poses(bag, pose_topic(bag))}
    other = sorted({pose.skeleton for pose in poses.values()} - {SMPL22.name})
    if other:
        raise LabelError(f"{labels}: expected labels of the skeleton {SMPL22.name}, got {', '.join(other)}")
    return poses
