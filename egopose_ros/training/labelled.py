"""Clips whose poses are a teacher's: the gate that keeps wrong poses out, and batches that mix them with true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.structs import Visibility
from egopose_ros.training.augment import LabelledSample, Sample
from egopose_ros.training.cache import CachedClip
from egopose_ros.training.config import DistillConfig
from egopose_ros.training.data import ClipDataset, decode


@dataclass(frozen=True)
class LabelledClip(CachedClip):
    """A clip with labels in place of truth: joints and rotations are NaN where there are none."""

    covariance: np.ndarray
    """(T, 22, 3, 3) float32 [m^2], reference frame; NaN where unknown"""
    confidence: np.ndarray
    """(T, 22) float32, probability that a joint lies within 0.1 m; NaN where unknown"""
    gravity_reference: np.ndarray
    """(T, 3) float64, unit vector downwards by head pose or IMU, as the teacher had it; NaN where unknown"""


def trusted(clip: LabelledClip, min_confidence: float) -> np.ndarray:
    """Return which joints (T, 22) are taught: those that have a label, and one that the teacher is sure enough of.

    A label without confidence is not a network's word: somebody has put it there, and it is taken as true.
    """
    sure = np.isnan(clip.confidence) | (clip.confidence >= min_confidence)
    return np.isfinite(clip.joints).all(-1) & sure


class LabelledDataset(ClipDataset):
    """Windows of labelled clips that pass the gate, strongly augmented."""

    def __init__(
        self, clips: list[LabelledClip], frames: int, seed: int, config: DistillConfig, side: int = CANONICAL.size[0]
    ):
        """ValueError where no window passes."""
        long_enough = [clip for clip in clips if clip.frames >= frames]
        if not long_enough:
            raise ValueError(
                f"distill.labels: expected labelled clips of at least {frames} frames, got none of {len(clips)}"
            )
        super().__init__(long_enough, frames, seed, config.augment, side)
        self._trusted = [trusted(clip, config.min_confidence) for clip in long_enough]
        shares = [self._trusted[clip][start : start + frames].mean() for clip, start in self.windows]
        passed = np.array(shares) >= max(config.min_trusted, 1e-9)  # a window without a label teaches nothing
        if not passed.any():
            raise ValueError(
                f"distill.min_confidence, distill.min_trusted: expected some of {len(shares)} labelled windows to pass, "
                f"got none; at a confidence of {config.min_confidence:g} the best has {max(shares):.0%} of its joints "
                f"trusted, {config.min_trusted:.0%} are asked for"
            )
        self.windows = self.windows[passed]

    def decode(self, clip: int, start: int) -> LabelledSample:
        """Return a window with finite numbers everywhere; what is not trusted is out of view for every loss."""
        labels, window = self.clips[clip], slice(start, start + self.frames)
        sample, gate = decode(labels, start, self.frames, self.side), self._trusted[clip][window]
        finite = {name: np.nan_to_num(getattr(sample, name)) for name in ("joints", "rotations", "joints_px")}
        visible = np.where(gate[:, None], sample.visible, np.uint8(Visibility.OUT_OF_VIEW))
        values = {**vars(sample), **finite, "visible": visible, "gravity_reference": labels.gravity_reference[window]}
        return LabelledSample(**values, trusted=gate, covariance=labels.covariance[window])


class MixedDataset(Dataset):
    """Batches whose first part is labelled by a teacher and whose rest is true, as one endless series of samples."""

    def __init__(self, true: ClipDataset, labelled: LabelledDataset, batch: int, share: float):
        self.true, self.labelled, self.batch, self.seed = true, labelled, batch, true.seed
        self.taught = min(max(round(share * batch), 1), batch - 1)
        """of the batch's clips; ValueError for a batch of one"""
        if batch < 2:
            raise ValueError(f"distill.labels: expected batches of 2 clips or more, got {batch}")

    def __getitem__(self, number: int) -> Sample:
        step, place = divmod(number, self.batch)
        if place < self.taught:
            return self.labelled[step * self.taught + place]
        return self.true[step * (self.batch - self.taught) + place - self.taught]
