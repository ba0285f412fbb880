"""Data sets of the field as training clips: true poses of the joints that a data set has.

A calibration.yaml lies in a data set's folder: no release brings its cameras in one form. Head poses are left out, for the
releases do not say which way is up in their worlds. Joints that only interpolation would give are not taught.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from egopose_ros.camera import calibration
from egopose_ros.camera.rig import Rig
from egopose_ros.config import WindowConfig
from egopose_ros.datasets.interface import DatasetError, existing
from egopose_ros.datasets.readers import READERS
from egopose_ros.files import CALIBRATION
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import SMPL22, skeleton_map
from egopose_ros.structs import BodyPose, Clip, Frame
from egopose_ros.training import cache
from egopose_ros.training.labelled import LabelledClip
from egopose_ros.training.recorded import ClipMaker

VERSION = 2
"""of the clips"""
TEST_FOLDERS = {"egopw": ("ayush_new", "kripa_new", "lingjie_new", "soshi_new")}
"""reader -> folders of its test split, where folders say which that is: never learnt from"""


def parse(source: str) -> tuple[str, Path]:
    """Return the reader and the folder of READER:FOLDER; ValueError for a reader that there is not."""
    name, separator, folder = source.partition(":")
    known = [key for key, read in READERS.items() if _takes_a_folder(read)]
    if not separator or name not in known:
        raise ValueError(f"data set '{source}': expected READER:FOLDER with a reader among {', '.join(known)}")
    return name, Path(folder)


def find(source: str, views: int) -> tuple[str, Path, Rig]:
    """Return the reader, the folder and the cameras of READER:FOLDER, without a look at its recordings.

    ValueError or OSError for a reader, folder or calibration that there is not, and for fewer cameras than views.
    """
    name, folder = parse(source)
    file = existing(folder, f"the data set {name}") / CALIBRATION
    rig = calibration.load(existing(file, f"the calibration of {name}'s cameras"))
    if len(rig.cameras) < views:
        raise DatasetError(f"{file}: expected calibrations of {views} camera(s), got {len(rig.cameras)}")
    return name, folder, rig


def build(source: str, root: Path, frames: int, views: int) -> list[Path]:
    """Cut the recordings of a data set into cached clips of up to so many frames; return the clips' files.

    Every recording is cut once; those of a known test split are left out. ValueError or OSError says what of the data set, or of its calibration, does not fit.
    """
    name, folder, rig = find(source, views)
    text = (folder / CALIBRATION).read_text()
    files: list[Path] = []
    root.mkdir(parents=True, exist_ok=True)
    recordings = [clip for clip in READERS[name](folder).clips if not _is_for_tests(name, folder, clip)]
    if not recordings:
        raise DatasetError(f"{folder}: expected recordings to learn from, got those of the test split alone")
    for recording in tqdm(recordings, desc=f"clips of {name}", unit="recording", disable=None):
        parts = [VERSION, str(folder.resolve()), recording.name, recording.stamps_ns.tolist(), text, frames, views]
        poses = np.ascontiguousarray(recording.joints).tobytes()  # a release may come with better ones
        digest = hashlib.sha256(json.dumps(parts).encode() + poses).hexdigest()[:16]
        target = root / f"recorded{VERSION}_{name}_{digest}"
        if not target.is_dir():
            cache.write_all(target, cut(recording, rig, frames, views))
        files += sorted(target.glob("*.npz"))
    return files


def _is_for_tests(name: str, folder: Path, recording: Clip) -> bool:
    return not {*folder.absolute().parts[-2:], *Path(recording.name).parts}.isdisjoint(TEST_FOLDERS.get(name, ()))


def cut(recording: Clip, rig: Rig, frames: int, views: int) -> Iterator[LabelledClip]:
    """Yield clips of up to so many frames without a gap; DatasetError for cameras or joints that do not fit."""
    seen = len(recording.images[0])
    if min(seen, len(rig.cameras)) < views:
        raise DatasetError(
            f"{recording.name}: expected images and calibrations of {views} camera(s), got {seen} and {len(rig.cameras)}"
        )
    poses = _poses(recording, rig)
    longest_s = WindowConfig().max_gap_s  # a longer gap empties a network's window
    maker, before = ClipMaker(rig, views, longest_s), int(recording.stamps_ns[0])
    for number, (stamp_ns, pose) in enumerate(zip(recording.stamps_ns.tolist(), poses)):
        if maker.length == frames or stamp_ns - before > longest_s * 1e9:
            yield from maker.clip()
        before = stamp_ns
        maker.add(Frame(stamp_ns, recording.images[number]), pose)
    yield from maker.clip()


def _takes_a_folder(read: object) -> bool:
    parameters = list(inspect.signature(read).parameters.values())  # type: ignore[arg-type]
    return all(parameter.default is not parameter.empty for parameter in parameters[1:])


def _poses(recording: Clip, rig: Rig) -> list[BodyPose]:
    """Return the poses in the first camera's frame, of the joints that have the same name in smpl22."""
    mapping = skeleton_map(recording.skeleton, SMPL22.name)
    joints = mapping(_in_camera(recording, rig))
    joints[:, [SMPL22.index(joint) for joint in mapping.interpolated]] = np.nan
    nothing = dict(rotations_camera=None, covariance_camera=None, confidence=None, T_world_camera=None)
    return [
        BodyPose(stamp_ns, SMPL22.name, pose, **nothing, window_length=1, window_full=False)
        for stamp_ns, pose in zip(recording.stamps_ns.tolist(), joints)
    ]


def _in_camera(recording: Clip, rig: Rig) -> np.ndarray:
    """Return joints (T, J, 3) in the first camera's optical frame. A device is taken for the head of the calibration."""
    if recording.frame == "camera":
        return recording.joints
    T_frame_head = {"device": np.eye(4), "world": recording.T_world_head}.get(recording.frame)
    if T_frame_head is None or not rig.head_known:
        raise DatasetError(
            f"{recording.name}: joints are in the frame '{recording.frame}'; expected them in the camera's, or in the "
            "device's or the world's with a calibration that has T_head_camera"
        )
    T = rigid.invert(T_frame_head @ rig.cameras[0].T_head_camera)
    turned = np.einsum("...ab,...jb->...ja", T[..., :3, :3], recording.joints.astype(np.float64))
    return (turned + T[..., None, :3, 3]).astype(np.float32)
