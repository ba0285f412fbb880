"""Images of a clip that are read when they are indexed, checked against the size that the data set documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from egopose_ros.datasets.interface import DatasetError

Views = tuple[np.ndarray, ...]


def read_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB; DatasetError names a file that is missing, broken or not of size (width, height)."""
    if not path.exists():
        raise DatasetError(f"{path}: expected an image, found nothing")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DatasetError(f"{path}: expected an image, cannot decode it")
    if size is not None and image.shape[1::-1] != size:
        raise DatasetError(f"{path}: expected {size[0]}x{size[1]}, got {image.shape[1]}x{image.shape[0]}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class FileImages(Sequence[Views]):
    """One tuple of paths a frame, one path a view."""

    def __init__(
        self, paths: Sequence[tuple[Path, ...]], size: tuple[int, int] | None = None, mirrored: tuple[int, ...] = ()
    ) -> None:
        """Take paths by frame and view, the size (width, height) of every image, and views stored mirrored."""
        self._paths, self._size, self._mirrored = tuple(paths), size, mirrored

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Views:
        images = (read_image(path, self._size) for path in self._paths[index])
        return tuple(np.ascontiguousarray(i[:, ::-1]) if v in self._mirrored else i for v, i in enumerate(images))


class ArrayImages(Sequence[Views]):
    """One array of every view, (T, H, W, 3) or (T, 3, H, W), uint8 or float in 0..1; h5py data sets stay on disk."""

    def __init__(self, arrays: Sequence[np.ndarray], where: str) -> None:
        for array in arrays:
            if array.ndim != 4 or 3 not in (array.shape[1], array.shape[3]):
                raise DatasetError(f"{where}: expected images (T, 3, H, W) or (T, H, W, 3), got {array.shape}")
        self._arrays, self._where = tuple(arrays), where

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> Views:
        return tuple(self._image(array, index) for array in self._arrays)

    def _image(self, array: np.ndarray, index: int) -> np.ndarray:
        image = np.asarray(array[index])
        if image.shape[-1] != 3:
            image = image.transpose(1, 2, 0)
        if image.dtype == np.uint8:
            return np.ascontiguousarray(image)
        if image.min() < 0.0 or image.max() > 1.0:
            raise DatasetError(
                f"{self._where}: frame {index}: expected uint8 or float in 0..1, "
                f"got {image.dtype} in {image.min():g}..{image.max():g}"
            )
        return np.round(image * 255.0).astype(np.uint8)
