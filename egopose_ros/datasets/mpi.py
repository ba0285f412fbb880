"""EgoPW, SceneEgo and Mo2Cap2: monocular cap cameras of one family, 15 joints in the optical camera frame.

The layouts are those of the public releases. The recordings carry no time stamps: frame numbers over `fps` stand in.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from egopose_ros.datasets.images import ArrayImages, FileImages
from egopose_ros.datasets.interface import (
    DatasetError,
    Reading,
    checked_pose,
    existing,
    frame_number,
    numbered_files,
    stamps_from_numbers,
)
from egopose_ros.datasets.unpickle import load_pickle
from egopose_ros.structs import Clip

_SIZE = (1280, 1024)
_JOINTS = 15


def read_egopw(root: Path, fps: float = 25.0) -> Reading:
    """Read every `<person>/<seq>/pseudo_gt.pkl` below root; frames whose pose has a NaN are skipped, as EgoPW does."""
    clips, skipped = [], []
    for labels in _labels(root, "pseudo_gt.pkl"):
        poses: dict[Path, np.ndarray] = {}
        for number, record in enumerate(_records(labels)):
            where = f"{labels}, record {number}"
            name = record.get("image_name") or record.get("image_path")
            if name is None:
                raise DatasetError(f"{where}: expected image_name or image_path, got {', '.join(record)}")
            pose = checked_pose(_field(record, "optimized_local_pose", where), _JOINTS, where)
            if np.isnan(pose).any():
                skipped.append(f"{where}: NaN in optimized_local_pose")
            else:
                poses[labels.parent / "imgs" / Path(str(name)).name] = pose
        clips.append(_clip(labels.parent, root, poses, fps))
    return Reading(tuple(clips), tuple(skipped))


def read_sceneego(root: Path, fps: float = 25.0) -> Reading:
    """Read every sequence below root with an annotation.pkl or local_pose_gt.pkl; records without a pose are skipped."""
    clips, skipped = [], []
    for labels in _labels(root, "annotation.pkl", "local_pose_gt.pkl"):
        folder = labels.parent
        poses: dict[Path, np.ndarray] = {}
        for number, record in enumerate(_records(labels)):
            where = f"{labels}, record {number}"
            values = _field(record, "ego_pose_gt", where)
            if values is None or np.isnan(np.asarray(values, np.float32)).any():
                skipped.append(f"{where}: no pose")
                continue
            poses[_sceneego_image(folder, record, where)] = checked_pose(values, _JOINTS, where)
        clips.append(_clip(folder, root, poses, fps))
    return Reading(tuple(clips), tuple(skipped))


def _sceneego_image(folder: Path, record: dict, where: str) -> Path:
    """Name the image of a record: by image_name, else by the external camera's frame and syn.json's offset."""
    if record.get("image_name"):
        return folder / "imgs" / Path(str(record["image_name"])).name
    offsets = json.loads(existing(folder / "syn.json", "the offsets ego and ext").read_text())
    ego_id = int(_field(record, "ext_id", where)) - int(offsets["ext"]) + int(offsets["ego"])
    return folder / "imgs" / f"img_{ego_id:06d}.jpg"


def read_mo2cap2(path: Path, fps: float = 30.0) -> Reading:
    """Read training chunks: one .hdf5 or a folder of them, with Images and Annot3D [mm]."""
    import h5py

    files = [path] if path.is_file() else sorted(existing(path, "HDF5 files").glob("*.h*5"))
    if not files:
        raise DatasetError(f"{path}: expected .hdf5 files, found none")
    clips = []
    for file in files:
        try:
            content = h5py.File(file, "r")
        except OSError as error:
            raise DatasetError(f"{file}: not a whole HDF5 file: {error}") from error
        for name in ("Images", "Annot3D"):
            if name not in content:
                raise DatasetError(f"{file}: expected a data set {name}, got {', '.join(content)}")
        joints = _time_joint_axis(np.asarray(content["Annot3D"], np.float32), f"{file}: Annot3D") / 1000.0
        stamps = stamps_from_numbers(range(len(joints)), fps)
        images = ArrayImages((content["Images"],), str(file))
        clips.append(Clip(file.stem, stamps, images, "mpi15", joints, "camera"))
    return Reading(tuple(clips))


def read_mo2cap2_test(truth: Path, images: Path, first_frame: int, fps: float = 30.0) -> Reading:
    """Read a test sequence: a .mat with pose_gt [mm] whose first pose belongs to image `first_frame` of the folder.

    The released sequences begin at 386 and at 157.
    """
    from scipy.io import loadmat

    content = loadmat(existing(truth, "a .mat file"))
    if "pose_gt" not in content:
        keys = ", ".join(key for key in content if not key.startswith("__"))
        raise DatasetError(f"{truth}: expected pose_gt, got {keys}")
    joints = _time_joint_axis(np.asarray(content["pose_gt"], np.float32), f"{truth}: pose_gt") / 1000.0
    files = numbered_files(images, ".jpg", ".png")
    numbers = range(first_frame, first_frame + len(joints))
    absent = [number for number in numbers if number not in files]
    if absent:
        raise DatasetError(f"{images}: expected frames {numbers[0]} to {numbers[-1]}, frame {absent[0]} is missing")
    paths = FileImages([(files[number],) for number in numbers])
    return Reading((Clip(truth.stem, stamps_from_numbers(numbers, fps), paths, "mpi15", joints, "camera"),))


def _labels(root: Path, *names: str) -> list[Path]:
    """Find label files, the first name that a folder has."""
    existing(root, f"a folder with {' or '.join(names)}")
    folders = {path.parent: path for name in reversed(names) for path in root.rglob(name)}
    if not folders:
        raise DatasetError(f"{root}: expected {' or '.join(names)} in it or below, found none")
    return [folders[folder] for folder in sorted(folders)]


def _records(labels: Path) -> list[dict]:
    records = load_pickle(labels)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DatasetError(f"{labels}: expected a list of dictionaries, got {type(records).__name__}")
    return records


def _field(record: dict, name: str, where: str) -> object:
    if name not in record:
        raise DatasetError(f"{where}: expected {name}, got {', '.join(map(str, record))}")
    return record[name]


def _clip(folder: Path, root: Path, poses: dict[Path, np.ndarray], fps: float) -> Clip:
    if not poses:
        raise DatasetError(f"{folder}: no frame has a usable pose")
    for path in poses:
        existing(path, "an image")
    ordered = sorted(poses, key=frame_number)
    stamps = stamps_from_numbers([frame_number(path) for path in ordered], fps)
    name = str(folder.relative_to(root)) if folder != root else folder.name
    images = FileImages([(path,) for path in ordered], _SIZE)
    return Clip(name, stamps, images, "mpi15", np.stack([poses[path] for path in ordered]), "camera")


def _time_joint_axis(values: np.ndarray, where: str) -> np.ndarray:
    """Bring an array with axes of 15 joints and 3 coordinates in any order to (T, 15, 3)."""
    if values.ndim == 3:
        for order in ((0, 1, 2), (0, 2, 1), (2, 1, 0), (2, 0, 1)):
            turned = values.transpose(order)
            if turned.shape[1:] == (_JOINTS, 3):
                return turned
    raise DatasetError(f"{where}: expected (T, 15, 3), got {values.shape}")
