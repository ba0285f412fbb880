"""EgoBody3M: a headset with four cameras (0 and 1 look ahead, 2 and 3 to the sides), 26 joints, centimetres.

A sequence is a folder of `frameNNNN.json` and `frameNNNN_camK.jpg`, or the two archives it is released as,
unpacked into one place. The calibration is not part of a frame: joints stay in the tracked world, moved to metres,
and each image carries the projected joints.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from egopose_ros.datasets.images import FileImages
from egopose_ros.datasets.interface import (
    DatasetError,
    Reading,
    checked_pose,
    existing,
    numbered_files,
    stamps_from_numbers,
)
from egopose_ros.structs import Clip

_JOINTS = 26
_CAMERAS = 4


def read_egobody3m(root: Path, cameras: tuple[int, ...] = (0, 1, 2, 3), fps: float = 30.0) -> Reading:
    """Read every folder with frameNNNN.json below root, with the images of the cameras that are asked for."""
    existing(root, "EgoBody3M sequences")
    folders = sorted({path.parent for path in root.rglob("frame*.json")})
    if not folders:
        raise DatasetError(f"{root}: expected frameNNNN.json in it or below, found none")
    if not cameras or not set(cameras) <= set(range(_CAMERAS)):
        raise DatasetError(f"expected cameras among 0 to {_CAMERAS - 1}, got {cameras}")
    return Reading(tuple(_clip(folder, root, cameras, fps) for folder in folders))


def _clip(folder: Path, root: Path, cameras: tuple[int, ...], fps: float) -> Clip:
    labels = numbered_files(folder, ".json", begin="frame")
    paths = [tuple(folder / f"{label.stem}_cam{camera}.jpg" for camera in cameras) for label in labels.values()]
    for path in (path for views in paths for path in views):
        existing(path, "an image")
    frames = [_frame(path, cameras) for path in labels.values()]
    return Clip(
        folder.name if folder == root else str(folder.relative_to(root)),
        stamps_from_numbers(list(labels), fps),
        FileImages(paths),
        "egobody3m26",
        np.stack([frame[0] for frame in frames]),
        "world",
        joints_px=np.stack([frame[2] for frame in frames]),
        T_world_head=np.stack([frame[1] for frame in frames]),
    )


def _frame(path: Path, cameras: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return joints (26, 3) [m], T_world_headset (4, 4) [m] and projections (V, 26, 2) [px]."""
    try:
        content = json.loads(path.read_text())
        joints = checked_pose(content["joint_positions_world_cm"], _JOINTS, str(path)) / 100.0
        T_world_headset = np.asarray(content["world_from_headset_xf_cm"], np.float64)
        projected = [content[f"projected_joint_positions_cam{camera}_px"] for camera in cameras]
    except KeyError as error:
        raise DatasetError(f"{path}: expected {error}") from error
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: not JSON: {error}") from error
    if T_world_headset.shape != (4, 4):
        raise DatasetError(f"{path}: expected a 4x4 head pose, got {T_world_headset.shape}")
    T_world_headset[:3, 3] /= 100.0
    pixels = np.stack([checked_pose(values, _JOINTS, str(path)) for values in projected])
    return joints, T_world_headset, pixels[..., :2]

