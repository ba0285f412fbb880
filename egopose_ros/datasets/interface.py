"""What every reader of a public data set gives, and how it fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egopose_ros.structs import Clip

_LOG = logging.getLogger(__name__)


class DatasetError(ValueError):
    """A file of a data set that is missing or not as documented; names the file and the frame."""


@dataclass(frozen=True)
class Reading:
    """The clips of a data set, and what was skipped as the data set's own code does."""

    clips: tuple[Clip, ...]
    skipped: tuple[str, ...] = ()
    """one line a skipped frame: which, and why"""

    def __post_init__(self) -> None:
        if self.skipped:
            _LOG.warning("skipped %d frames, the first: %s", len(self.skipped), self.skipped[0])


def existing(path: Path, what: str) -> Path:
    """Return the path; DatasetError says what was expected there."""
    if not path.exists():
        raise DatasetError(f"{path}: expected {what}, found nothing")
    return path


def frame_number(path: str | Path) -> int:
    """Return the last run of digits in a file's stem."""
    digits = re.findall(r"\d+", Path(path).stem)
    if not digits:
        raise DatasetError(f"{path}: expected a frame number in the name")
    return int(digits[-1])


def numbered_files(folder: Path, *suffixes: str, begin: str = "") -> dict[int, Path]:
    """Return frame number -> file in increasing order; DatasetError where there are none or a number repeats.

    `begin` is how names of frames begin; other files are passed over.
    """
    existing(folder, f"a folder with {'/'.join(suffixes)} files")
    files: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and path.name.startswith(begin):
            number = frame_number(path)
            if number in files:
                raise DatasetError(f"{path}: frame {number} is also {files[number].name}")
            files[number] = path
    if not files:
        raise DatasetError(f"{folder}: expected {'/'.join(suffixes)} files, found none")
    return dict(sorted(files.items()))


def stamps_from_numbers(numbers: Sequence[int], fps: float) -> np.ndarray:
    """Return (T,) int64 nanoseconds, so that a missing frame stays a gap."""
    return np.round(np.asarray(numbers, np.float64) * 1e9 / fps).astype(np.int64)


def checked_pose(values: object, joints: int, where: str) -> np.ndarray:
    """Return (joints, 3) float32; DatasetError says which frame of which file has another shape."""
    pose = np.asarray(values, np.float32)
    if pose.shape != (joints, 3):
        raise DatasetError(f"{where}: expected a pose of shape ({joints}, 3), got {pose.shape}")
    return pose
