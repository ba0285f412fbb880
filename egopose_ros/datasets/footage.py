"""Videos and folders of images as the frames of one camera."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from egopose_ros.datasets.interface import DatasetError
from egopose_ros.structs import Frame

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv")
FPS = 30.0
"""of a folder of images, or of a video that does not say it"""
_WHOLE = 0.95
"""share of the frames that a video promises: containers round"""


@dataclass(frozen=True)
class NamedFrame:
    """A frame and what to call it: a file's name, a number or a stamp."""

    frame: Frame
    name: str


def images(folder: Path) -> list[Path]:
    """Return the images of a folder in the order of their names, numbers in them taken as such: 2 before 10."""
    found = (file for file in folder.iterdir() if file.suffix.lower() in IMAGES)
    return sorted(found, key=lambda file: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)])


class Footage:
    """A video, or a folder of images taken at `fps`, opened. A context manager; its frames can be had once.

    The first stamp is 1 ns, since 0 means that there is none.
    """

    def __init__(self, path: Path, fps: float = FPS) -> None:
        """DatasetError for a path without images, or whose video cannot be decoded."""
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: expected a video, a folder of images, a bag or a camera's number, got nothing there"
            )
        self.path = path
        self.loss = ""
        """what is missing of a video that breaks off, known at its end"""
        self._fps = fps
        self._files = images(path) if path.is_dir() else []
        self._capture = None if path.is_dir() else cv2.VideoCapture(str(path))
        if path.is_dir() and not self._files:
            raise DatasetError(f"{path}: expected images ({', '.join(IMAGES)}), got none")
        if self._capture is not None and not self._capture.isOpened():
            raise DatasetError(f"{path}: expected a video that can be decoded, got none")

    def __enter__(self) -> Footage:
        return self

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.release()

    def __iter__(self) -> Iterator[NamedFrame]:
        """Yield every frame; DatasetError names an image that cannot be decoded."""
        return self._of_folder() if self._capture is None else self._of_video(self._capture)

    def _of_folder(self) -> Iterator[NamedFrame]:
        for index, file in enumerate(self._files):
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if image is None:
                raise DatasetError(f"{file}: expected an image, got one that cannot be decoded")
            yield NamedFrame(Frame(1 + round(index * 1e9 / self._fps), (image[..., ::-1],)), file.name)

    def _of_video(self, capture: cv2.VideoCapture) -> Iterator[NamedFrame]:
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if fps > 0 else FPS
        index = 0
        while True:
            found, image = capture.read()
            if not found:
                break
            yield NamedFrame(Frame(1 + round(index * 1e9 / fps), (image[..., ::-1],)), f"frame {index}")
            index += 1
        promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if index < _WHOLE * promised:
            self.loss = f"breaks off after {index} of {promised:.0f} frames"
