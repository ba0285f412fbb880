"""EgoCap: a helmet with two fisheye cameras, 18 joints of which the first is the camera itself.

Training is HDF5 (2D normalised by 1280x1024, 3D in millimetres with z flipped). Validation is `dataset3D.mddd` (a header
line, then rows of a frame number and 18 points in millimetres) with images `<seq>-cam0/frame-N.jpg` and
`<seq>-cam1/frame-(N - offset).jpg`; camera 1 is stored mirrored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from egopose_ros.datasets.images import FileImages
from egopose_ros.datasets.interface import (
    DatasetError,
    Reading,
    existing,
    numbered_files,
    stamps_from_numbers,
)
from egopose_ros.structs import Clip

_JOINTS = 18
_SIZE = (640, 512)
_NORMALISED_BY = np.array([1280.0, 1024.0], np.float32)
_CAMERA1_OFFSET = 85
"""frames that camera 1 lags behind camera 0 in the released validation sequence"""


def read_egocap(labels: Path, images: Path, fps: float = 30.0) -> Reading:
    """Read training labels (HDF5 with pose_2d and pose_3d) beside their folder of images, in the order of its names.

    Pixels come back in the stored 640x512 images.
    """
    import h5py

    try:
        content = h5py.File(existing(labels, "an HDF5 file"), "r")
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DatasetError(f"{labels}: not a whole HDF5 file: {error}") from error
    for name in ("pose_2d", "pose_3d"):
        if name not in content:
            raise DatasetError(f"{labels}: expected a data set {name}, got {', '.join(content)}")
    joints = np.asarray(content["pose_3d"], np.float32)
    pixels = np.asarray(content["pose_2d"], np.float32)
    if joints.shape[1:] != (_JOINTS, 3) or pixels.shape != (*joints.shape[:2], 2):
        raise DatasetError(f"{labels}: expected (T, 18, 3) and (T, 18, 2), got {joints.shape} and {pixels.shape}")
    files = numbered_files(images, ".jpg", ".png")
    if len(files) != len(joints):
        raise DatasetError(f"{images}: expected {len(joints)} images, one a pose, found {len(files)}")
    joints = joints * np.array([1.0, 1.0, -1.0], np.float32) / 1000.0
    pixels = pixels * _NORMALISED_BY * (np.array(_SIZE, np.float32) / _NORMALISED_BY)
    return Reading(
        (
            Clip(
                labels.stem,
                stamps_from_numbers(list(files), fps),
                FileImages([(path,) for path in files.values()], _SIZE),
                "egocap18",
                joints,
                "camera",
                joints_px=pixels[:, None],
            ),
        )
    )


def read_egocap_validation(root: Path, fps: float = 30.0) -> Reading:
    """Read `dataset3D.mddd` and both cameras' images; a row whose image is missing in either camera is skipped."""
    labels = existing(root / "dataset3D.mddd", "the 3D labels")
    cameras = [_camera_folder(root / "images", view) for view in (0, 1)]
    files = [numbered_files(folder, ".jpg", ".png") for folder in cameras]
    numbers, joints, paths, skipped = [], [], [], []
    for number, pose in _rows(labels):
        pair = (files[0].get(number), files[1].get(number - _CAMERA1_OFFSET))
        if None in pair:
            skipped.append(f"{labels}, frame {number}: no image in camera {pair.index(None)}")
            continue
        numbers.append(number)
        joints.append(pose)
        paths.append(pair)
    if not numbers:
        raise DatasetError(f"{labels}: no frame has images in both cameras")
    images = FileImages(paths, _SIZE, mirrored=(1,))
    stamps = stamps_from_numbers(numbers, fps)
    return Reading((Clip(root.name, stamps, images, "egocap18", np.stack(joints), "camera"),), tuple(skipped))


def _camera_folder(images: Path, view: int) -> Path:
    found = sorted(existing(images, "a folder of both cameras' images").glob(f"*-cam{view}"))
    if len(found) != 1:
        raise DatasetError(f"{images}: expected one folder *-cam{view}, found {len(found)}")
    return found[0]


def _rows(labels: Path) -> list[tuple[int, np.ndarray]]:
    """Parse (frame, (18, 3) metres); lines of the header carry no 55 numbers and begin with a word."""
    rows = []
    for line_number, line in enumerate(labels.read_text().splitlines(), 1):
        words = line.split()
        if not words or not words[0].lstrip("-").replace(".", "", 1).isdigit() or len(words) == 1:
            continue
        if len(words) != 1 + 3 * _JOINTS:
            raise DatasetError(f"{labels}, line {line_number}: expected {1 + 3 * _JOINTS} numbers, got {len(words)}")
        values = np.array(words, np.float64)
        rows.append((int(values[0]), values[1:].reshape(_JOINTS, 3).astype(np.float32) / 1000.0))
    if not rows:
        raise DatasetError(f"{labels}: expected rows of a frame number and 18 points, found none")
    return rows
