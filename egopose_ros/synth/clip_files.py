"""Recordings as folders that any program reads: JPEG images, a calibration, and `truth.npz`.

NAME/images/VIEW/000000.jpg ...   NAME/calibration.yaml   NAME/truth.npz
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from egopose_ros.camera import calibration
from egopose_ros.files import CALIBRATION
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import Clip
from egopose_ros.synth.bags import jpeg, truth_arrays
from egopose_ros.synth.world import Recording


def write_clip(recording: Recording, folder: Path) -> None:
    """Write a recording as a folder, which must not exist."""
    folder.mkdir(parents=True)
    for view, camera in enumerate(recording.rig.cameras):
        images = folder / "images" / camera.name
        images.mkdir(parents=True)
        for frame, image in enumerate(recording.images[:, view].cpu().numpy()):
            (images / f"{frame:06d}.jpg").write_bytes(jpeg(image).tobytes())
    calibration.save(recording.rig, folder / CALIBRATION)
    np.savez_compressed(folder / "truth.npz", **truth_arrays(recording))


class _Images(Sequence):
    """Frames of a clip's folder, read when they are indexed."""

    def __init__(self, folder: Path, views: tuple[str, ...], length: int) -> None:
        self._folder, self._views, self._length = folder, views, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, frame: int) -> tuple[np.ndarray, ...]:
        if not -self._length <= frame < self._length:
            raise IndexError(f"frame {frame} of {self._length}")
        paths = (self._folder / view / f"{frame % self._length:06d}.jpg" for view in self._views)
        return tuple(_read(path) for path in paths)


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: expected a JPEG image, got {'a damaged one' if path.exists() else 'nothing there'}")
    return np.ascontiguousarray(image[..., ::-1])


def read_clip(folder: Path) -> Clip:
    """Read a folder that `write_clip` made; joints are in the first camera's frame."""
    folder = Path(folder)
    rig = calibration.load(folder / CALIBRATION)
    with np.load(folder / "truth.npz", allow_pickle=False) as truth:
        stamps_ns = truth["stamps_ns"]
        return Clip(
            name=folder.name,
            stamps_ns=stamps_ns,
            images=_Images(folder / "images", tuple(camera.name for camera in rig.cameras), len(stamps_ns)),
            skeleton=SMPL22.name,
            joints=truth["joints_camera"][:, 0],
            frame="camera",
            rig=rig,
            joints_px=truth["joints_px"],
            visible=truth["visible"],
            T_world_head=truth["T_world_head"],
            action=tuple(truth["action"].tolist()),
        )
