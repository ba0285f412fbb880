"""Calibration files: our own YAML, and those of the tools that people calibrate with, each validated on loading."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
import yaml

from egopose_ros.camera import ocam_files, readers
from egopose_ros.camera.fields import integers, mappings, matrix, number, numbers, require
from egopose_ros.camera.models import MODELS, CameraModel, OCam
from egopose_ros.camera.planar import NO_DISTORTION
from egopose_ros.camera.rig import MOUNTED_DEG, Rig, RigCamera, mounted_rotation, nominal_T_head_camera
from egopose_ros.camera.validation import check_model

VERSION = 1
"""of our own YAML"""


class CalibrationError(ValueError):
    """A calibration that is refused: names the file and the reason."""


def load(path: str | Path) -> Rig:
    """Read and validate a calibration file of any known format; CalibrationError says what is wrong with it.

    FileNotFoundError or IsADirectoryError where there is no file.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a calibration file, got a folder")
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a calibration file, got nothing there")
    try:
        rig = _parse(path.read_text(encoding="utf-8-sig"), path.stem)
        check(rig)
    except ValueError as error:
        raise CalibrationError(f"{path}: {error}") from None
    return rig


def check(rig: Rig) -> None:
    """Validate every camera; CalibrationError names the camera and the reason."""
    for camera in rig.cameras:
        try:
            check_model(camera.model)
        except ValueError as error:
            raise CalibrationError(f"camera '{camera.name}': {error}") from None


def from_camera_info(
    width: int,
    height: int,
    distortion_model: str,
    d: Sequence[float],
    k: Sequence[float],
    *,
    binning: tuple[int, int] = (0, 0),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
    name: str = "camera",
    T_head_camera: np.ndarray | None = None,
    R_camera_canonical: np.ndarray | None = None,
) -> RigCamera:
    """Make a validated camera from the values of a sensor_msgs/CameraInfo, which holds no extrinsics."""
    R = np.eye(3) if R_camera_canonical is None else R_camera_canonical
    T = nominal_T_head_camera(R) if T_head_camera is None else T_head_camera
    try:
        model = readers.from_camera_info(width, height, distortion_model, d, k, binning, roi)
        check_model(model)
        return RigCamera(name, model, T, R)
    except ValueError as error:
        raise CalibrationError(f"camera_info of '{name}': {error}") from None


def save(rig: Rig, path: str | Path) -> None:
    """Write a rig as our own YAML; `load` returns the same."""
    document = {"egopose_rig": VERSION, "head_known": rig.head_known, "cameras": [_entry(c) for c in rig.cameras]}
    text = yaml.safe_dump(document, sort_keys=False, width=120, default_flow_style=None)
    Path(path).write_text(text, encoding="utf-8")


FORMATS: dict[str, tuple[str, Callable[[dict[str, Any]], list[RigCamera]]]] = {
    "value0": ("Basalt", readers.basalt),
    "CameraCalibrations": ("Project Aria", readers.aria),
    "cam0": ("Kalibr camchain", readers.kalibr),
    "camera_matrix": ("CameraInfo", readers.camera_info_file),
    "distortion_model": ("CameraInfo", readers.camera_info_file),
}
"""a key that only this format has -> its name and reader"""

OCAM_FORMATS: dict[str, Callable[[dict[str, Any]], OCam]] = {
    "polynomialC2W": ocam_files.from_json,
    "taylor_coefficient": ocam_files.from_py_ocamcalib,
}


def _parse(text: str, name: str) -> Rig:
    if text.lstrip().startswith("#polynomial"):
        return Rig((RigCamera(name, ocam_files.from_text(text)),), head_known=False)
    data = _document(text)
    if "egopose_rig" in data:
        return _own(data)
    for key, ocam_reader in OCAM_FORMATS.items():
        if key in data:
            return Rig((RigCamera(name, ocam_reader(data)),), head_known=False)
    for key, (_, reader) in FORMATS.items():
        if key in data:
            return Rig(tuple(reader(data)), head_known=False)
    known = "egopose_rig (our own YAML), OCam JSON or text, Kalibr, Basalt, Aria or CameraInfo"
    got = ", ".join(map(str, data)) or "nothing"
    raise ValueError(f"expected a calibration of a known format ({known}), got {got}")


def _document(text: str) -> dict[str, Any]:
    """Return the mapping that a JSON or YAML text holds, its first document if there are several."""
    try:
        data = json.loads(text) if text.lstrip().startswith("{") else next(iter(yaml.safe_load_all(text)), None)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"expected JSON, YAML or OCamCalib text, got what does not parse: {_line(error)}") from None
    if not isinstance(data, dict):
        raise ValueError(f"expected a mapping, got {type(data).__name__}")
    return data


def _line(error: Exception) -> str:
    """Return what a parser says, and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    text = f"{error.problem} in line {mark.line + 1}" if mark is not None else str(error)
    return " ".join(text.split())


def _own(data: dict[str, Any]) -> Rig:
    if data["egopose_rig"] != VERSION:
        raise ValueError(f"egopose_rig: expected version {VERSION}, got {data['egopose_rig']!r}")
    entries, head_known = mappings(data, "cameras"), data.get("head_known", True)
    if type(head_known) is not bool:
        raise ValueError(f"head_known: expected true or false, got {head_known!r}")
    without = [str(entry.get("name")) for entry in entries if "T_head_camera" not in entry]
    if without and len(entries) > 1:
        raise ValueError(f"T_head_camera: expected one for each of several cameras, none for {', '.join(without)}")
    return Rig(tuple(_own_camera(entry) for entry in entries), head_known and not without)


_RIG_KEYS = ("name", "model", "field_of_view_deg", "mounted", "R_camera_canonical", "T_head_camera")


def _own_camera(entry: dict[str, Any]) -> RigCamera:
    name = str(require(entry, "name", "the camera's name"))
    try:
        kind = str(require(entry, "model", f"one of {', '.join(MODELS)}"))
        if kind not in MODELS:
            raise ValueError(f"model: expected one of {', '.join(MODELS)}, got '{kind}'")
        R = mounted_rotation(_mounted_deg(entry.get("mounted", "up")))
        if "R_camera_canonical" in entry:
            R = R @ matrix(entry, "R_camera_canonical", 3, 3)
        T = matrix(entry, "T_head_camera", 4, 4) if "T_head_camera" in entry else nominal_T_head_camera(R)
        model = _own_model(MODELS[kind], {key: value for key, value in entry.items() if key not in _RIG_KEYS}, entry)
    except ValueError as error:
        raise ValueError(f"camera '{name}': {error}") from None
    return RigCamera(name, model, T, R)


def _own_model(kind: type[CameraModel], parameters: dict[str, Any], entry: dict[str, Any]) -> CameraModel:
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name != "max_angle"}
    unknown = [key for key in parameters if key not in fields]
    if unknown:
        raise ValueError(f"expected only {', '.join((*_RIG_KEYS, *fields))}, got {', '.join(map(str, unknown))}")
    values: dict[str, Any] = {}
    for key, field in fields.items():
        optional = field.default is not dataclasses.MISSING or key == "w2c"
        if key in parameters or not optional:
            values[key] = _value(parameters, key, str(field.type))
    max_angle = math.radians(number(entry, "field_of_view_deg")) / 2 if "field_of_view_deg" in entry else None
    if kind is OCam:
        values.setdefault("affine", (1.0, 0.0, 0.0, 1.0))
        values.setdefault("w2c", None)
        return ocam_files.make(**values, circle_radius_px=None, max_angle=max_angle)
    return kind(max_angle=max_angle, **values) if max_angle is not None else readers.camera_model(kind, **values)


def _value(parameters: dict[str, Any], key: str, annotation: str) -> Any:
    if annotation == "float":
        return number(parameters, key)
    if key == "size":
        return integers(parameters, key, 2)
    values = numbers(parameters, key, 2 if key in ("centre", "focal") else None)
    return (*values, *NO_DISTORTION[len(values) :]) if key == "distortion" else values


def _mounted_deg(value: Any) -> float:
    if isinstance(value, str) and value in MOUNTED_DEG:
        return MOUNTED_DEG[value]
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    raise ValueError(f"mounted: expected {', '.join(MOUNTED_DEG)} or degrees clockwise from up, got {value!r}")


def _entry(camera: RigCamera) -> dict[str, Any]:
    kind = next(name for name, model in MODELS.items() if type(camera.model) is model)
    entry: dict[str, Any] = {"name": camera.name, "model": kind}
    for field in dataclasses.fields(camera.model):
        value = getattr(camera.model, field.name)
        if field.name == "max_angle":
            entry["field_of_view_deg"] = 2 * math.degrees(value)
        elif value != field.default:
            entry[field.name] = list(value) if isinstance(value, tuple) else value
    if not np.array_equal(camera.R_camera_canonical, np.eye(3)):
        entry["R_camera_canonical"] = camera.R_camera_canonical.tolist()
    entry["T_head_camera"] = camera.T_head_camera.tolist()
    return entry
