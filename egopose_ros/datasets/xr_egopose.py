"""xR-EgoPose: synthetic, one downward fisheye, `Set/char/env/cam_down/{rgba,json,...}`, centimetres, Mixamo joints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from egopose_ros.datasets.images import FileImages
from egopose_ros.datasets.interface import DatasetError, Reading, existing, numbered_files, stamps_from_numbers
from egopose_ros.datasets.joint_names import mixamo_names
from egopose_ros.skeleton import UNREALEGO2_16
from egopose_ros.structs import Clip

_NAMES = tuple(mixamo_names(joint)[0] for joint in UNREALEGO2_16.joints)


def read_xr_egopose(root: Path, fps: float = 30.0) -> Reading:
    """Read every cam_down below root; joints come back in metres in the camera frame, by name."""
    folders = sorted(existing(root, "cam_down folders").rglob("cam_down"))
    folders += [root] if root.name == "cam_down" else []
    if not folders:
        raise DatasetError(f"{root}: expected cam_down folders in it or below, found none")
    return Reading(tuple(_clip(folder, root, fps) for folder in folders))


def _clip(folder: Path, root: Path, fps: float) -> Clip:
    labels = numbered_files(folder / "json", ".json")
    files = numbered_files(folder / "rgba", ".png", ".jpg")
    absent = [number for number in labels if number not in files]
    if absent:
        raise DatasetError(f"{folder / 'rgba'}: frame {absent[0]} has a label but no image")
    frames = [_frame(path) for path in labels.values()]
    return Clip(
        folder.name if folder == root else str(folder.relative_to(root)),
        stamps_from_numbers(list(labels), fps),
        FileImages([(files[number],) for number in labels]),
        "unrealego2_16",
        np.stack([joints for joints, _, _ in frames]),
        "camera",
        joints_px=np.stack([pixels for _, pixels, _ in frames])[:, None],
        action=tuple(action for _, _, action in frames),
    )


def _frame(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Return joints (16, 3) [m], pixels (16, 2) and the action of one label file."""
    try:
        content = json.loads(path.read_text())
        names = [joint["name"].removeprefix("mixamorig:") for joint in content["joints"]]
        points, pixels = np.asarray(content["pts3d_fisheye"]), np.asarray(content["pts2d_fisheye"])
        rows = [names.index(name) for name in _NAMES]
    except KeyError as error:
        raise DatasetError(f"{path}: expected {error}") from error
    except ValueError as error:
        raise DatasetError(f"{path}: {error}; expected the joints {', '.join(_NAMES)}") from error
    if points.shape != (3, len(names)) or pixels.shape != (2, len(names)):
        raise DatasetError(f"{path}: expected 3x{len(names)} and 2x{len(names)}, got {points.shape} and {pixels.shape}")
    action = str(content.get("action", ""))
    return points.T[rows].astype(np.float32) / 100.0, pixels.T[rows].astype(np.float32), action
