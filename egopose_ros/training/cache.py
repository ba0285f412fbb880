"""Rendered training clips on disk, one file a clip, so that many epochs reuse a rendered frame.

Images are JPEG in the canonical camera, truth is plain arrays, and nothing is pickled. A clip is named by its seed, so
rendering resumes where it ended.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from tqdm import tqdm

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.geometry import rigid
from egopose_ros.synth.motion.library import clip_folder, mark_of
from egopose_ros.synth.splits import VERSION
from egopose_ros.training.config import DataConfig, RunConfig

JPEG_QUALITY = 95


@dataclass(frozen=True)
class CachedClip:
    """T frames of V canonical views with truth. The reference frame is that of the first view."""

    jpeg: np.ndarray
    """(bytes,) uint8, T * V images behind each other, views within frames"""
    ends: np.ndarray
    """(T * V,) int64, where each image ends"""
    stamps_ns: np.ndarray
    """(T,) int64"""
    joints: np.ndarray
    """(T, 22, 3) float32 [m], smpl22, reference frame as it really was"""
    rotations: np.ndarray
    """(T, 22, 3, 3) float32, from T-pose axes to that frame"""
    joints_px: np.ndarray
    """(T, V, 22, 2) float32, canonical image"""
    visible: np.ndarray
    """(T, V, 22) uint8, values of `structs.Visibility`"""
    T_reference_camera: np.ndarray
    """(V, 4, 4) float64, as the calibration has it: what a network is told"""
    T_world_reference: np.ndarray
    """(T, 4, 4) float64, by the head pose and that calibration"""
    action: np.ndarray | None = field(default=None, kw_only=True)
    """(T,) str, labels of `synth.motion.clip.ACTIONS`; None in files from before there were any"""

    @property
    def frames(self) -> int:
        return len(self.stamps_ns)

    @property
    def views(self) -> int:
        return self.visible.shape[1]

    def get(self) -> CachedClip:
        """Return the clip, as `PromisedClip` does."""
        return self

    def image(self, frame: int, view: int, side: int = 256) -> np.ndarray:
        """Return (side, side, 3) uint8 RGB."""
        number = frame * self.views + view
        start = self.ends[number - 1] if number else 0
        # A JPEG can be decoded at half its size for a third of the time.
        flag = cv2.IMREAD_REDUCED_COLOR_2 if side <= CANONICAL.size[0] // 2 else cv2.IMREAD_COLOR
        image = cv2.cvtColor(cv2.imdecode(self.jpeg[start : self.ends[number]], flag), cv2.COLOR_BGR2RGB)
        return image if len(image) == side else cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


T = TypeVar("T", bound=CachedClip)


def compress(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `jpeg` and `ends` of images (T, V, H, W, 3) uint8 RGB."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    flat = images.reshape(-1, *images.shape[2:])
    files = [cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1] for image in flat]
    return np.concatenate(files), np.cumsum([len(file) for file in files])


def write(path: Path, clip: CachedClip) -> None:
    """Write a clip; the file appears when it is complete."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **{name: value for name, value in vars(clip).items() if value is not None})
    part.rename(path)


def write_all(folder: Path, clips: Iterable[CachedClip]) -> None:
    """Write clips into a folder, by their numbers; it has its name when it is whole."""
    staging = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        for number, clip in enumerate(clips):
            write(staging / f"{number:06d}.npz", clip)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read(path: Path, kind: type[T] = CachedClip) -> T:
    """Read a clip; ValueError names a file that is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return kind(**{name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cached clip {path}: expected a complete file, delete it to make it anew: {error}") from None


def render(seed: int, data: DataConfig, split: str, device: str = "cpu") -> CachedClip:
    """Render a clip of the synthetic world; its frame rate is drawn by the seed from `data.rates_hz`.

    Clips of a GPU differ from those of a CPU by rounding: what is measured is rendered on a CPU.
    """
    from egopose_ros.synth.world import record  # only rendering needs the body and the ray-caster

    rate = float(data.rates_hz[int(np.random.default_rng(seed).integers(len(data.rates_hz)))])
    recording = record(seed, split, frames=data.clip_frames, fps=rate, views=data.views, device=device)
    cameras = recording.rig.cameras
    turns = np.stack([rigid.transform(camera.R_camera_canonical, np.zeros(3)) for camera in cameras])
    T_head_canonical = recording.T_head_camera @ turns  # (T, V, 4, 4), with slip
    R, t = (part := rigid.invert(recording.T_world_head @ T_head_canonical[:, 0]))[:, :3, :3], part[:, :3, 3]
    joints = np.einsum("tab,tjb->tja", R, recording.joints_world) + t[:, None]
    T_head_nominal = np.stack([camera.T_head_canonical for camera in cameras])
    jpeg, ends = compress(recording.images.numpy())
    return CachedClip(
        jpeg=jpeg,
        ends=ends,
        stamps_ns=np.asarray(recording.stamps_ns, np.int64),
        joints=joints.astype(np.float32),
        rotations=np.einsum("tab,tjbc->tjac", R, recording.rotations_world).astype(np.float32),
        joints_px=np.asarray(recording.joints_px, np.float32),
        visible=np.asarray(recording.visible, np.uint8),
        T_reference_camera=rigid.invert(T_head_nominal[0]) @ T_head_nominal,
        T_world_reference=recording.T_world_head @ T_head_nominal[0],
        action=np.array(recording.action),
    )


@dataclass(frozen=True)
class PromisedClip:
    """A clip of the synthetic world that is rendered when it is first asked for."""

    path: Path
    seed: int
    data: DataConfig
    split: str
    device: str = "cpu"
    """to render on"""

    @property
    def frames(self) -> int:
        return self.data.clip_frames

    def get(self) -> CachedClip:
        """Return the clip out of the cache, where it is from now on."""
        if not self.path.is_file():
            write(self.path, render(self.seed, self.data, self.split, self.device))
        return read(self.path)


AnyClip = CachedClip | PromisedClip


def directory(root: Path, split: str, data: DataConfig) -> Path:
    """Return the folder of a split's clips; its name holds what the clips depend on."""
    rates, clips = "-".join(data.rates_hz), mark_of(clip_folder())
    return root / f"world{VERSION}_{split}_v{data.views}_t{data.clip_frames}_{rates}hz_s{data.seed}{clips}"


def promise(root: Path, split: str, data: DataConfig, clips: int) -> list[PromisedClip]:
    """Return a split's first clips, whether they have been rendered or not."""
    folder = directory(root, split, data)
    folder.mkdir(parents=True, exist_ok=True)
    return [PromisedClip(folder / f"{number:06d}.npz", data.seed + number, data, split) for number in range(clips)]


def build(
    root: Path, split: str, data: DataConfig, clips: int, workers: int, device: str = "cpu"
) -> Iterator[int]:
    """Render the clips that are missing, in processes of one thread each; yield how many are there, as they grow."""
    missing = [replace(clip, device=device) for clip in promise(root, split, data, clips) if not clip.path.is_file()]
    done = clips - len(missing)
    yield done
    if not missing:
        return
    # spawn: a forked child inherits locks of torch's thread pool.
    with multiprocessing.get_context("spawn").Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.imap_unordered(_keep, missing):
            done += 1
            yield done


def render_missing(
    root: Path, split: str, data: DataConfig, clips: int, workers: int, device: str = "cpu"
) -> None:
    """Render the clips that are missing below a progress bar."""
    progress = build(root, split, data, clips, workers, device)
    with tqdm(total=clips, initial=next(progress), desc=f"render {split}", unit="clip", smoothing=0.05) as bar:
        for done in progress:
            bar.update(done - bar.n)


def _keep(clip: PromisedClip) -> None:
    clip.get()


def render_run(root: Path, config: RunConfig, workers: int, device: str = "cpu") -> None:
    """Render what a run needs before it begins, and is missing; what it is measured on always on the CPU."""
    for split, data, clips in _parts(config):
        if split != "train":
            render_missing(root, split, data, clips, workers)
        elif not config.on_the_fly:
            render_missing(root, split, data, clips, workers, device)


def load_run(root: Path, config: RunConfig) -> tuple[list[AnyClip], list[CachedClip], list[AnyClip]]:
    """Return what a run needs: clips to train on, clips to validate on, stills."""
    take = promise if config.on_the_fly else load
    train, validation, stills = _parts(config)
    return take(root, *train), load(root, *validation), take(root, *stills)


def _parts(config: RunConfig) -> tuple[tuple[str, DataConfig, int], ...]:
    held_out = replace(config.data, seed=config.data.validation_seed)
    return (
        ("train", config.data, config.data.clips),
        ("validation", held_out, config.data.validation_clips),
        ("train", config.stills, config.stills.clips),
    )


def load(root: Path, split: str, data: DataConfig, clips: int) -> list[CachedClip]:
    """Read a split's first clips into memory."""
    return [read(clip.path) for clip in promise(root, split, data, clips)]
