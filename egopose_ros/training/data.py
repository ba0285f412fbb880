"""Cached clips to batches. Every sample is a function of the seed and its number, so a run resumes exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.networks import student_t
from egopose_ros.networks.interface import NetworkInput
from egopose_ros.skeleton import SMPL22, skeleton
from egopose_ros.synth.motion.clip import ACTIONS
from egopose_ros.training.augment import LabelledSample, Sample, augment
from egopose_ros.training.cache import AnyClip, CachedClip
from egopose_ros.training.config import AugmentConfig
from egopose_ros.window.gravity import DOWN_WORLD


@dataclass(frozen=True)
class Teacher:
    """What a teacher says of those clips of a batch that it labelled, N of B."""

    taught: Tensor
    """(B,) bool: their joints and rotations are the teacher's"""
    trusted: Tensor
    """(N, T, J) bool: joints whose pose is taught"""
    cholesky: Tensor
    """(N, T, J, 3, 3) float32 [m], of the Student-t's scale matrix; the identity where unknown"""
    doubted: Tensor
    """(N, T, J) bool: where it is known"""

    def of(self, joints: list[int]) -> Teacher:
        """Return what it says of some joints."""
        parts = {"trusted": self.trusted, "cholesky": self.cholesky, "doubted": self.doubted}
        return Teacher(self.taught, **{name: value[:, :, joints] for name, value in parts.items()})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Teacher:
        """Return it on a device."""
        return Teacher(**{name: value.to(device, non_blocking=non_blocking) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Batch:
    """Input and truth of B clips of T frames; some clips may have a teacher's labels in place of truth."""

    input: NetworkInput
    joints: Tensor
    """(B, T, J, 3) float32 [m], reference frame"""
    rotations: Tensor | None
    """(B, T, J, 3, 3) float32; None for a skeleton without them"""
    joints_px: Tensor
    """(B, T, V, J, 2) float32"""
    visible: Tensor
    """(B, T, V, J) uint8"""
    teacher: Teacher | None = None
    actions: Tensor | None = None
    """(B, T) int64, numbers in `synth.motion.clip.ACTIONS`, -1 where unknown"""

    def of(self, name: str) -> Batch:
        """Return the batch with the joints of another skeleton, all of which it has; without rotations then."""
        if name == SMPL22.name:
            return self
        chosen = [SMPL22.index(joint) for joint in skeleton(name).joints]
        parts = {part: getattr(self, part)[..., chosen, :] for part in ("joints", "joints_px")}
        teacher = self.teacher and self.teacher.of(chosen)
        return dataclasses.replace(self, **parts, rotations=None, visible=self.visible[..., chosen], teacher=teacher)

    @property
    def trusted(self) -> Tensor | None:
        """Joints (B, T, J) whose pose is known, bool; None where all are."""
        if self.teacher is None:
            return None
        known = torch.ones(self.joints.shape[:-1], dtype=torch.bool, device=self.joints.device)
        known[self.teacher.taught] = self.teacher.trusted
        return known

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU reads on its own; what the loader calls."""
        own = {name: value.pin_memory() for name, value in vars(self.input).items()}
        rest = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        rest = {name: value.pin_memory() for name, value in rest.items()}
        return dataclasses.replace(self, input=NetworkInput(**own), **rest)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self.input).items()}
        rest = {name: value for name, value in vars(self).items() if name != "input" and value is not None}
        rest = {name: value.to(device, non_blocking=True) for name, value in rest.items()}
        return dataclasses.replace(self, input=NetworkInput(**moved), **rest)


class ClipDataset(Dataset):
    """Windows of `frames` frames out of cached clips; with `augmentation` they are changed, too."""

    def __init__(
        self,
        clips: list[AnyClip],
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
        sample = self.decode(int(clip), int(start))
        if self.augmentation is None:
            return sample
        return augment(sample, self.augmentation, np.random.default_rng((self.seed, number)))

    def decode(self, clip: int, start: int) -> Sample:
        """Return a window of a clip as it is."""
        return decode(self.clips[clip].get(), start, self.frames, self.side)


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
        gravity_reference=np.swapaxes(T_world_reference[:, :3, :3], -1, -2) @ DOWN_WORLD,
        actions=_numbers(None if clip.action is None else clip.action[window], frames),
    )


def _numbers(action: np.ndarray | None, frames: int) -> np.ndarray:
    """Return the numbers (T,) of labels."""
    if action is None:
        return np.full(frames, -1, np.int64)
    return np.array([ACTIONS.index(label) if label in ACTIONS else -1 for label in action], np.int64)


def collate(samples: list[Sample]) -> Batch:
    """Stack samples."""

    def stack(name: str, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])).to(dtype)

    # Footage has no head pose, and gravity only by an IMU: what is unknown is NaN.
    poses, down = stack("T_world_reference", torch.float64), stack("gravity_reference", torch.float32)
    known, down_known = torch.isfinite(poses).all(-1).all(-1), torch.isfinite(down).all(-1)
    return Batch(
        input=NetworkInput(
            images=stack("images", torch.uint8).movedim(-1, -3),
            T_reference_camera=stack("T_reference_camera", torch.float32),
            stamps_ns=stack("stamps_ns", torch.int64),
            T_world_reference=torch.where(known[..., None, None], poses, torch.eye(4, dtype=torch.float64)),
            head_pose_valid=known,
            gravity_reference=torch.where(down_known[..., None], down, 0.0),
            gravity_valid=down_known,
        ),
        joints=stack("joints", torch.float32),
        rotations=stack("rotations", torch.float32),
        joints_px=stack("joints_px", torch.float32),
        visible=stack("visible", torch.uint8),
        actions=stack("actions", torch.int64),
        teacher=_teacher(samples),
    )


def _teacher(samples: list[Sample]) -> Teacher | None:
    """Return what a teacher says of some samples, None where it labelled none."""
    labelled = [sample for sample in samples if isinstance(sample, LabelledSample)]
    if not labelled:
        return None
    covariance = np.stack([sample.covariance for sample in labelled]).astype(np.float64)
    known = np.isfinite(covariance).all((-1, -2))
    scale = np.where(known[..., None, None], covariance * ((student_t.NU - 2.0) / student_t.NU), np.eye(3))
    return Teacher(
        torch.tensor([isinstance(sample, LabelledSample) for sample in samples]),
        torch.from_numpy(np.stack([sample.trusted for sample in labelled])),
        torch.from_numpy(np.linalg.cholesky(scale)).float(),
        torch.from_numpy(known),
    )


def in_batches(dataset: ClipDataset, size: int) -> list[Batch]:
    """Return each window of a dataset once, in batches of up to so many."""
    numbers = range(len(dataset.windows))
    return [collate([dataset[n] for n in numbers[at : at + size]]) for at in numbers[::size]]


def loader(
    dataset: ClipDataset, batch: int, batches: Sequence[int], workers: int, *, pinned: bool = False
) -> DataLoader:
    """Return the batches of these numbers, in order; pinned ones go to a GPU while it computes."""
    numbers = [range(number * batch, (number + 1) * batch) for number in batches]
    return DataLoader(
        dataset,
        batch_sampler=numbers,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        pin_memory=pinned,
        generator=torch.Generator(),  # or the loader would draw from the run's own generator
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
