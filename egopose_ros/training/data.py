"""Cached clips to batches. Every sample is a function of the seed and its number, so a run resumes exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.networks.interface import NetworkInput
from egopose_ros.training.augment import Sample, augment
from egopose_ros.training.cache import CachedClip
from egopose_ros.training.config import AugmentConfig

_DOWN_WORLD = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True)
class Batch:
    """Input and truth of B clips of T frames."""

    input: NetworkInput
    joints: Tensor
    """(B, T, J, 3) float32 [m], reference frame"""
    rotations: Tensor
    """(B, T, J, 3, 3) float32"""
    joints_px: Tensor
    """(B, T, V, J, 2) float32"""
    visible: Tensor
    """(B, T, V, J) uint8"""

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self.input).items()}
        rest = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if name != "input"}
        return Batch(NetworkInput(**moved), **rest)


class ClipDataset(Dataset):
    """Windows of `frames` frames out of cached clips; with `augmentation` they are changed, too."""

    def __init__(
        self,
        clips: list[CachedClip],
        frames: int,
        seed: int,
        augmentation: AugmentConfig | None,
        side: int = CANONICAL.size[0],
    ):
        if not clips or min(clip.frames for clip in clips) < frames:
            shortest = min((clip.frames for clip in clips), default=0)
            raise ValueError(f"expected cached clips of at least {frames} frames, got {len(clips)} of {shortest}")
        self.clips, self.frames, self.seed, self.augmentation, self.side = clips, frames, seed, augmentation, side
        starts = [(number, start) for number, clip in enumerate(clips) for start in range(clip.frames - frames + 1)]
        self.windows = np.array(starts)

    def __getitem__(self, number: int) -> Sample:
        """Return sample `number` of an endless series: every epoch is another permutation of all windows."""
        epoch, position = divmod(number, len(self.windows))
        clip, start = self.windows[_permutation(len(self.windows), self.seed + epoch)[position]]
        sample = decode(self.clips[clip], int(start), self.frames, self.side)
        if self.augmentation is None:
            return sample
        return augment(sample, self.augmentation, np.random.default_rng((self.seed, number)))


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


def decode(clip: CachedClip, start: int, frames: int, side: int = CANONICAL.size[0]) -> Sample:
    """Return a window of a clip as it was rendered."""
    window = slice(start, start + frames)
    pictures = [[clip.image(frame, view, side) for view in range(clip.views)] for frame in range(start, start + frames)]
    T_world_reference = clip.T_world_reference[window]
    return Sample(
        images=np.array(pictures),
        stamps_ns=clip.stamps_ns[window],
        joints=clip.joints[window],
        rotations=clip.rotations[window],
        joints_px=clip.joints_px[window],
        visible=clip.visible[window],
        T_reference_camera=clip.T_reference_camera,
        T_world_reference=T_world_reference,
        gravity_reference=np.swapaxes(T_world_reference[:, :3, :3], -1, -2) @ _DOWN_WORLD,
    )


def collate(samples: list[Sample]) -> Batch:
    """Stack samples."""

    def stack(name: str, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])).to(dtype)

    stamps = stack("stamps_ns", torch.int64)
    known = torch.ones_like(stamps, dtype=torch.bool)
    return Batch(
        input=NetworkInput(
            images=stack("images", torch.uint8).movedim(-1, -3),
            T_reference_camera=stack("T_reference_camera", torch.float32),
            stamps_ns=stamps,
            T_world_reference=stack("T_world_reference", torch.float64),
            head_pose_valid=known,
            gravity_reference=stack("gravity_reference", torch.float32),
            gravity_valid=known,
        ),
        joints=stack("joints", torch.float32),
        rotations=stack("rotations", torch.float32),
        joints_px=stack("joints_px", torch.float32),
        visible=stack("visible", torch.uint8),
    )


def loader(dataset: ClipDataset, batch: int, batches: Sequence[int], workers: int) -> DataLoader:
    """Return the batches of these numbers, in order."""
    numbers = [range(number * batch, (number + 1) * batch) for number in batches]
    return DataLoader(
        dataset,
        batch_sampler=numbers,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # or the loader would draw from the run's own generator
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
