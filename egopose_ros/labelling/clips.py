"""Labels as training clips: images of the recording in the canonical camera, poses as the bag of labels has them now.

Clips are cached by what they depend on; the folder of an edited bag of labels has another name.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.remap import Remapper
from egopose_ros.camera.rig import Rig
from egopose_ros.geometry import rigid
from egopose_ros.labelling import manifest
from egopose_ros.labelling.manifest import LABELLED, LabelError
from egopose_ros.labelling.recordings import Reading, opened
from egopose_ros.ros.bag_frames import BagFrame
from egopose_ros.ros.bag_poses import pose_topic, read_poses
from egopose_ros.ros.bag_reader import BagReader
from egopose_ros.ros.bag_settings import CALIBRATION
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import BodyPose, Visibility
from egopose_ros.training import cache
from egopose_ros.training.labelled import LabelledClip

VERSION = 1
"""of the clips"""
_SMALLEST = 1e-6
"""[m^2] variance that a label's covariance is given at least"""
_FLATTEST = 1e-5
"""of its variances the smallest to the largest: flatter ones are rounded away in float32"""


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

    ValueError or OSError names a recording whose images or labels cannot be had.
    """
    header, entries = manifest.read(labels)
    entries = [entry for entry in entries if entry.status == LABELLED]
    if not entries:
        raise LabelError(f"{labels}: expected labelled recordings, got none")
    reading = Reading.from_json(header["reading"])
    tasks = [_task(labels / entry.name, Path(entry.source), reading, root, frames, views) for entry in entries]
    missing = [task for task in tasks if not task.folder.is_dir()]
    if missing:
        root.mkdir(parents=True, exist_ok=True)
        with tqdm(total=len(missing), desc=f"clips of {labels.name}", unit="recording", disable=None) as bar:
            for _ in _build_all(missing, min(workers, len(missing))):
                bar.update()
    return [path for task in tasks for path in sorted(task.folder.glob("*.npz"))]


def _task(labels: Path, source: Path, reading: Reading, root: Path, frames: int, views: int) -> _Task:
    if not labels.is_dir():
        raise LabelError(f"{labels}: expected a bag of labels as the manifest says, got nothing there")
    recording = source
    if (labels / CALIBRATION).is_file():
        recording, reading = labels, Reading()
    # As a build tool does: by size and time, since hashing fleets would cost more than cutting them.
    files = sorted(labels.iterdir())
    state = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    parts = [VERSION, state, str(recording), reading.as_json(), frames, views]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return _Task(labels, recording, reading, root / f"labelled{VERSION}_{labels.name}_{digest}", frames, views)


def _build_all(tasks: list[_Task], workers: int) -> Iterator[None]:
    """Build in some processes; yield at the end of each task."""
    if workers == 1:
        yield from map(_build, tasks)
        return
    # spawn: a forked child inherits locks of torch's thread pool.
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        yield from pool.imap_unordered(_build, tasks)


def _build(task: _Task) -> None:
    """Write the clips of a recording; their folder has its name when it is whole."""
    staging = task.folder.with_name(f".{task.folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        for number, clip in enumerate(read_clips(task.labels, task.recording, task.reading, task.frames, task.views)):
            cache.write(staging / f"{number:06d}.npz", clip)
        staging.rename(task.folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_clips(labels: Path, recording: Path, reading: Reading, frames: int, views: int) -> Iterator[LabelledClip]:
    """Yield the clips of a labelled recording: up to `frames` frames without a gap, of which at least one has a label.

    LabelError for labels of another skeleton, or of which none is at the stamp of a frame.
    """
    poses = _poses(labels)
    unused = set(poses)
    with opened(recording, reading) as source:
        if len(source.rig.cameras) < views:
            raise LabelError(f"{recording}: expected a rig of {views} cameras or more, got {len(source.rig.cameras)}")
        maker = _ClipMaker(source.rig, views)
        for item in source.frames:
            if maker.length == frames or (maker.length and item.epoch != maker.epoch):
                yield from maker.clip()
            maker.add(item, poses.get(item.frame.stamp_ns))
            unused.discard(item.frame.stamp_ns)
        yield from maker.clip()
    if len(unused) == len(poses):
        raise LabelError(f"{labels}: expected labels at the stamps of {recording}, got none of {len(poses)} there")


def _poses(labels: Path) -> dict[int, BodyPose]:
    with BagReader(labels) as bag:
        poses = {pose.stamp_ns: pose for pose, _ in read_poses(bag, pose_topic(bag))}
    other = sorted({pose.skeleton for pose in poses.values()} - {SMPL22.name})
    if other:
        raise LabelError(f"{labels}: expected labels of the skeleton {SMPL22.name}, got {', '.join(other)}")
    return poses


class _ClipMaker:
    """Collects frames of a rig and makes clips of them, in the frame of its first canonical camera."""

    def __init__(self, rig: Rig, views: int) -> None:
        cameras = rig.cameras[:views]
        self.epoch = 0
        self._remappers = [Remapper(camera.model, camera.R_camera_canonical) for camera in cameras]
        self._R_camera_reference = cameras[0].R_camera_canonical
        self._head_known = rig.head_known
        self._T_head_reference = cameras[0].T_head_canonical
        T_head_canonical = np.stack([camera.T_head_canonical for camera in cameras])
        self._T_reference_camera = rigid.invert(self._T_head_reference) @ T_head_canonical
        self._start()

    def _start(self) -> None:
        self._images: list[list[np.ndarray]] = []
        self._stamps_ns: list[int] = []
        self._poses: list[BodyPose | None] = []
        self._T_world_reference: list[np.ndarray] = []

    @property
    def length(self) -> int:
        return len(self._stamps_ns)

    def add(self, item: BagFrame, pose: BodyPose | None) -> None:
        """Take a frame and its label, if it has one."""
        self.epoch = item.epoch
        self._images.append([r.numpy(image) for r, image in zip(self._remappers, item.frame.images)])
        self._stamps_ns.append(item.frame.stamp_ns)
        self._poses.append(pose)
        T = item.frame.T_world_head if self._head_known else None
        self._T_world_reference.append(np.full((4, 4), np.nan) if T is None else T @ self._T_head_reference)

    def clip(self) -> Iterator[LabelledClip]:
        """Yield the clip of the frames since the last one; nothing where none has a label."""
        if any(pose is not None for pose in self._poses):
            yield self._clip()
        self._start()

    def _clip(self) -> LabelledClip:
        size, R = SMPL22.size, self._R_camera_reference
        joints = self._rows("joints_camera", (size, 3)) @ R
        covariance = R.T @ self._rows("covariance_camera", (size, 3, 3)) @ R
        pixels, inside = self._project(joints)
        jpeg, ends = cache.compress(np.array(self._images))
        return LabelledClip(
            jpeg=jpeg,
            ends=ends,
            stamps_ns=np.array(self._stamps_ns, np.int64),
            joints=joints.astype(np.float32),
            rotations=(R.T @ self._rows("rotations_camera", (size, 3, 3))).astype(np.float32),
            joints_px=pixels.astype(np.float32),
            # Nobody knows what is seen of a joint: the smaller weight of a hidden one.
            visible=np.where(inside, Visibility.OCCLUDED, Visibility.OUT_OF_VIEW).astype(np.uint8),
            T_reference_camera=self._T_reference_camera,
            T_world_reference=np.stack(self._T_world_reference),
            covariance=_bounded(covariance, self._stamps_ns).astype(np.float32),
            confidence=self._rows("confidence", (size,)).astype(np.float32),
        )

    def _rows(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a field of every label (T, ...) float64, NaN where there is none."""
        values = [None if pose is None else getattr(pose, name) for pose in self._poses]
        return np.stack([np.full(shape, np.nan) if value is None else value.astype(np.float64) for value in values])

    def _project(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return joints (T, J, 3) in the canonical images (T, V, J, 2), and where they lie inside."""
        T_camera_reference = rigid.invert(self._T_reference_camera)
        points = np.einsum("vab,tjb->tvja", T_camera_reference[:, :3, :3], joints) + T_camera_reference[:, None, :3, 3]
        pixels, valid = (part.numpy() for part in CANONICAL.project(torch.from_numpy(points)))
        limit = np.array(CANONICAL.size) - 0.5
        return pixels, valid & ((pixels >= -0.5) & (pixels <= limit)).all(-1)


def _bounded(covariance: np.ndarray, stamps_ns: list[int]) -> np.ndarray:
    """Return covariances (T, J, 3, 3) that can be factored in float32; LabelError for one that is none."""
    known = np.isfinite(covariance).all((-1, -2))
    variances, axes = np.linalg.eigh(np.where(known[..., None, None], covariance, np.eye(3)))
    largest = variances[..., -1:]
    wrong = (variances[..., 0] < -_FLATTEST * np.abs(largest[..., 0])) | (largest[..., 0] <= 0)
    if wrong.any():
        frame, joint = np.argwhere(wrong)[0]
        raise LabelError(
            f"label at {stamps_ns[frame]} ns, {SMPL22.joints[joint]}: expected a covariance with variances above 0, "
            f"got {variances[frame, joint].tolist()} m^2"
        )
    variances = np.maximum(variances, np.maximum(_SMALLEST, _FLATTEST * largest))
    bounded = axes * variances[..., None, :] @ np.swapaxes(axes, -1, -2)
    return np.where(known[..., None, None], bounded, np.nan)
