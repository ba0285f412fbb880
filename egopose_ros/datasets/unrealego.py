"""UnrealEgo and its successors (UnrealEgo2, UnrealEgo-RW): stereo, 16 joints, centimetres on disk.

UnrealEgo's raw form gives joints in the left camera; its preprocessed form (`all_data_with_img-...npy`) only relative
to the pelvis. UnrealEgo2 and RW give them relative to the device. Axes are taken as written: the releases do not state
them; projecting `joints` and comparing with `joints_px` is the check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from egopose_ros.datasets.images import FileImages, Views, read_image
from egopose_ros.datasets.interface import (
    DatasetError,
    Reading,
    checked_pose,
    existing,
    numbered_files,
    stamps_from_numbers,
)
from egopose_ros.datasets.joint_names import mixamo_names, unreal_names
from egopose_ros.datasets.unpickle import load_npy
from egopose_ros.skeleton import UNREALEGO16, UNREALEGO2_16, Skeleton
from egopose_ros.structs import Clip

Naming = Callable[[str], tuple[str, ...]]
_CAMERAS = ("camera_left", "camera_right")
_SIZES = ((1024, 1024), (872, 872))
"""of the images of UnrealEgo2 and of UnrealEgo-RW"""
_IMAGENET_MEAN, _IMAGENET_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def read_unrealego(root: Path, fps: float = 25.0) -> Reading:
    """Read every sequence below root: raw (json and fisheye_final_image) where there is json, else preprocessed."""
    existing(root, "UnrealEgo sequences")
    clips = []
    for folder in _sequences(root, "json"):
        clips.append(_raw_clip(folder, root, fps))
    if not clips:
        clips = [_npy_clip(folder, root, fps) for folder in sorted(root.rglob("all_data_with_img-*_npy"))]
    if not clips:
        raise DatasetError(f"{root}: expected sequences with json or all_data_with_img-*_npy, found none")
    return Reading(tuple(clips))


def read_unrealego2(root: Path, fps: float = 25.0) -> Reading:
    """Read sequences of UnrealEgo2 or of UnrealEgo-RW, as the first image's size says; joints are relative to the device."""
    existing(root, "UnrealEgo2 sequences")
    clips = []
    size: tuple[int, int] | None = None
    for folder in _sequences(root, "json"):
        labels = numbered_files(folder / "json", ".json")
        joints = np.stack([_pose(_json(path), mixamo_names, UNREALEGO2_16, path) for path in labels.values()])
        paths = _stereo_paths(folder, labels)
        size = size or _size(paths[0][0])
        stamps = stamps_from_numbers(list(labels), fps)
        clips.append(Clip(_name(folder, root), stamps, FileImages(paths, size), "unrealego2_16", joints, "device"))
    if not clips:
        raise DatasetError(f"{root}: expected sequences with json, found none")
    return Reading(tuple(clips))


def _size(path: Path) -> tuple[int, int]:
    height, width = read_image(path).shape[:2]
    if (width, height) not in _SIZES:
        raise DatasetError(f"{path}: expected {' or '.join(f'{w}x{h}' for w, h in _SIZES)}, got {width}x{height}")
    return width, height


def _sequences(root: Path, marker: str) -> list[Path]:
    return sorted(path.parent for path in [root / marker, *root.rglob(f"*/{marker}")] if path.is_dir())


def _name(folder: Path, root: Path) -> str:
    return folder.name if folder == root else str(folder.relative_to(root))


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected an object, got {type(content).__name__}")
    return content


def _raw_clip(folder: Path, root: Path, fps: float) -> Clip:
    labels = numbered_files(folder / "json", ".json")
    joints, pixels = [], []
    for path in labels.values():
        content = _json(path).get("joints")
        if not isinstance(content, dict):
            raise DatasetError(f"{path}: expected joints by name")
        joints.append(_pose(content, unreal_names, UNREALEGO16, path, "camera_left_pts3d"))
        pixels.append([_pixels(content, path, f"{camera}_pts2d") for camera in _CAMERAS])
    images = FileImages(_stereo_paths(folder, labels), (1024, 1024))
    stamps = stamps_from_numbers(list(labels), fps)
    return Clip(
        _name(folder, root),
        stamps,
        images,
        "unrealego16",
        np.stack(joints),
        "camera",
        joints_px=np.asarray(pixels, np.float32),
    )


def _find(content: dict, names: Sequence[str], path: Path) -> object:
    for name in names:
        if name in content:
            return content[name]
    raise DatasetError(f"{path}: expected a joint {' or '.join(names)}, got {', '.join(content)}")


def _pose(content: dict, naming: Naming, body: Skeleton, path: Path, field: str | None = None) -> np.ndarray:
    """Collect a pose in metres, joint by joint by name; `field` selects one of several values of a joint."""
    values = []
    for joint in body.joints:
        value = _find(content, naming(joint), path)
        if field is not None:
            if not isinstance(value, dict) or field not in value:
                raise DatasetError(f"{path}: joint {joint}: expected {field}")
            value = value[field]
        values.append(value)
    return checked_pose(values, body.size, str(path)) / 100.0


def _pixels(content: dict, path: Path, field: str) -> np.ndarray:
    found = (_find(content, unreal_names(joint), path) for joint in UNREALEGO16.joints)
    return np.stack([np.asarray(value.get(field, (np.nan, np.nan)), np.float32)[:2] for value in found])


def _stereo_paths(folder: Path, labels: dict[int, Path]) -> list[tuple[Path, ...]]:
    views = [numbered_files(folder / "fisheye_final_image" / camera, ".png", ".jpg") for camera in _CAMERAS]
    for camera, files in zip(_CAMERAS, views):
        absent = [number for number in labels if number not in files]
        if absent:
            raise DatasetError(f"{folder}: {camera}: frame {absent[0]} has a label but no image")
    return [tuple(files[number] for files in views) for number in labels]


class _NpyImages(Sequence[Views]):
    """Both images of a preprocessed frame, with its ImageNet normalisation undone."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Views:
        path = self._paths[index]
        content = load_npy(path)
        return tuple(self._image(content, f"input_rgb_{side}", path) for side in ("left", "right"))

    @staticmethod
    def _image(content: dict, key: str, path: Path) -> np.ndarray:
        image = np.asarray(content.get(key, ()), np.float64)
        if image.ndim != 3 or image.shape[0] != 3:
            raise DatasetError(f"{path}: expected {key} of shape (3, H, W), got {image.shape}")
        rgb = image.transpose(1, 2, 0) * _IMAGENET_STD + _IMAGENET_MEAN
        return np.clip(np.round(rgb * 255.0), 0, 255).astype(np.uint8)


def _npy_clip(folder: Path, root: Path, fps: float) -> Clip:
    files = numbered_files(folder, ".npy")
    joints = []
    for path in files.values():
        content = load_npy(path)
        if not isinstance(content, dict) or "gt_local_pose" not in content:
            raise DatasetError(f"{path}: expected a dictionary with gt_local_pose")
        joints.append(checked_pose(content["gt_local_pose"], 16, str(path)) / 100.0)
    images = _NpyImages(list(files.values()))
    return Clip(
        _name(folder.parent, root),
        stamps_from_numbers(list(files), fps),
        images,
        "unrealego16",
        np.stack(joints),
        "pelvis",
    )
