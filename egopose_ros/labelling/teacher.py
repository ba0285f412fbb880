"""A teacher's labels for one recording: the poses that the pipeline gives, as a bag that is whole or not there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from egopose_ros import pipeline as pipelines
from egopose_ros.camera import calibration
from egopose_ros.files import CALIBRATION
from egopose_ros.labelling.manifest import FAILED, LABELLED, Entry
from egopose_ros.labelling.recordings import Reading, Recording, opened
from egopose_ros.ros import bag_runs
from egopose_ros.ros.bag_frames import BagFrame
from egopose_ros.ros.bag_poses import PoseBag
from egopose_ros.structs import BodyPose

PARTIAL = ".partial"
"""folder beside the labels for what is being written"""
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Task:
    """A recording to label."""

    source: Path
    name: str
    out: Path
    """folder of the labels"""
    reading: Reading
    copy_images: bool
    """of footage, into the labels' bag"""


class _Tally:
    """Counts poses and averages their confidence."""

    def __init__(self, on_frame: Callable[[], object]) -> None:
        self.frames = 0
        self._confidence = 0.0
        self._known = 0
        self._on_frame = on_frame

    def add(self, pose: BodyPose, segment: int, *, step_s: float) -> None:
        self.frames += 1
        if pose.confidence is not None:
            self._known += 1
            self._confidence += float(pose.confidence.mean())
        self._on_frame()

    @property
    def confidence(self) -> float | None:
        return round(self._confidence / self._known, 4) if self._known else None


class _InCamera:
    """Frames of a recording whose poses are written in the camera's frame alone: one place to edit.

    Those of footage leave their images in the bag of poses, too.
    """

    global_frame = ""

    def __init__(self, recording: Recording, poses: PoseBag, copy_images: bool) -> None:
        frames = recording.frames
        self.title, self.topics, self.rejected = frames.title, frames.topics, frames.rejected
        self._frames, self._poses, self._copy_images = frames, poses, copy_images

    def __iter__(self) -> Iterator[BagFrame]:
        for item in self._frames:
            if self._copy_images:
                self._poses.write_image(_jpeg(item.frame.images[0]), item.frame.stamp_ns, item.frame_id)
            yield item


def label(task: Task, on_frame: Callable[[], object] = lambda: None) -> Entry:
    """Label a recording and say how it went; whatever stands in the way is the reason of its failure."""
    staging = task.out / PARTIAL / task.name
    began = time.monotonic()
    try:
        size = size_of(task.source)
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        return _label(task, staging, size, on_frame, began)
    except Exception as error:  # the shell of a worker: one recording must not end those of the others
        known = isinstance(error, (ValueError, OSError))
        reason = " ".join(str(error).split()) if known else f"{type(error).__name__}: {error}"
        return Entry(task.name, str(task.source), FAILED, reason=reason)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _label(task: Task, staging: Path, size: int, on_frame: Callable[[], object], began: float) -> Entry:
    tally = _Tally(on_frame)
    with opened(task.source, task.reading) as recording:
        copy_images = task.copy_images and not recording.is_bag
        teacher = pipelines.load(recording.config, recording.rig)
        with PoseBag(staging / task.name) as poses:
            frames = _InCamera(recording, poses, copy_images)
            bag_runs.run(teacher, frames, tally, poses)
        if copy_images:
            calibration.save(recording.rig, staging / task.name / CALIBRATION)
        loss = recording.loss
    target = task.out / task.name
    if target.exists():  # labels that no manifest knows: their run ended before it was written
        shutil.rmtree(target)
    (staging / task.name).rename(target)
    return Entry(
        task.name,
        str(task.source),
        LABELLED,
        bytes=size,
        loss=loss,
        frames=tally.frames,
        confidence=tally.confidence,
        rejected={reason: count for reason, count in sorted(recording.frames.rejected.items()) if count},
        seconds=round(time.monotonic() - began, 2),
    )


def size_of(path: Path) -> int:
    """Return the bytes of a recording's files; FileNotFoundError where there is nothing."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a recording, got nothing there")
    files = path.iterdir() if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


def _jpeg(image: np.ndarray) -> np.ndarray:
    """Return the JPEG bytes (N,) of an RGB image."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    if not done:
        raise ValueError(f"expected an image that JPEG can hold, got shape {image.shape}")
    return data.ravel()
