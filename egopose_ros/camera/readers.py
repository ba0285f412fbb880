"""Readers of other tools' calibration files; each gives cameras that are not validated yet.

Only relative extrinsics are in these files: the first camera is put where `nominal_T_head_camera` says.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Sequence

import numpy as np

from egopose_ros.camera.fields import integer, integers, mappings, matrix, number, numbers, require
from egopose_ros.camera.models import EUCM, CameraModel, DoubleSphere, Fisheye62, Fisheye624, KannalaBrandt, Pinhole
from egopose_ros.camera.planar import NO_DISTORTION
from egopose_ros.camera.rig import RigCamera, check_rotation, nominal_T_head_camera
from egopose_ros.camera.validation import MINIMUM_ANGLE, with_trusted_angle
from egopose_ros.geometry.rigid import invert, matrix_from_quaternion, transform

ARIA_SIZES = {"camera-rgb": (2880, 2880, 1415.0), "camera-slam-left": (640, 480, 330.0)}
ARIA_SIZES["camera-slam-right"] = ARIA_SIZES["camera-slam-left"]
"""width, height and lens circle [px] by label: the file does not say. Eye trackers look the wrong way."""


def camera_model(kind: type[CameraModel], circle_radius_px: float | None = None, **fields: Any) -> CameraModel:
    """Build a model whose field of view is not declared: as far as it can be trusted."""
    model = kind(max_angle=MINIMUM_ANGLE, **fields)
    return with_trusted_angle(dataclasses.replace(model, max_angle=model.angle_limit), circle_radius_px)


def from_camera_info(
    width: int,
    height: int,
    distortion_model: str,
    d: Sequence[float],
    k: Sequence[float],
    binning: tuple[int, int] = (0, 0),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> CameraModel:
    """Read the values of a sensor_msgs/CameraInfo; `roi` is x_offset, y_offset, width, height, zeros for all of it."""
    k, d = numbers({"k": list(k)}, "k", 9), numbers({"d": list(d)}, "d")
    if not (k[0] > 0 and k[4] > 0):
        raise ValueError(f"k: expected focal lengths above zero, got {k[0]:g} and {k[4]:g}: an uncalibrated camera")
    if k[1] != 0:
        raise ValueError(f"k: expected no skew, got {k[1]:g}")
    base = dict(size=(int(width), int(height)), focal=(k[0], k[4]), centre=(k[2], k[5]))
    if distortion_model in ("equidistant", "fisheye"):
        if len(d) != 4:
            raise ValueError(f"d: expected 4 coefficients of '{distortion_model}', got {len(d)}")
        model = camera_model(KannalaBrandt, k=d, **base)
    elif distortion_model in ("plumb_bob", "rational_polynomial", ""):
        most = {"plumb_bob": 5, "rational_polynomial": 8, "": 0}[distortion_model]
        if len(d) not in (0, 4, 5, 8, 12, 14) or any(d[most:]):
            raise ValueError(f"d: expected up to {most} coefficients of '{distortion_model}', got {list(d)}")
        model = camera_model(Pinhole, distortion=(*d[:8], *NO_DISTORTION[len(d) :]), **base)
    else:
        raise ValueError(
            "distortion_model: expected plumb_bob, rational_polynomial or equidistant (other models come from a "
            f"calibration file), got '{distortion_model}'"
        )
    x, y, roi_width, roi_height = roi
    if roi_width and roi_height:
        model = model.crop(x, y, roi_width, roi_height)
    across, down = max(1, binning[0]), max(1, binning[1])
    return model.resize(model.size[0] // across, model.size[1] // down) if across * down > 1 else model


def camera_info_file(data: dict[str, Any]) -> list[RigCamera]:
    """Read a CameraInfo written by ROS's calibrator, or as `ros2 topic echo` prints it."""
    name = str(data.get("camera_name") or "camera")
    distortion_model = str(require(data, "distortion_model", "a distortion model"))
    if "camera_matrix" in data:
        width, height = integer(data, "image_width"), integer(data, "image_height")
        k = numbers(require(data, "camera_matrix"), "data", 9)
        d = numbers(require(data, "distortion_coefficients"), "data")
        return [RigCamera(name, from_camera_info(width, height, distortion_model, d, k))]
    binning = tuple(integer(data, key) if key in data else 0 for key in ("binning_x", "binning_y"))
    region = ("x_offset", "y_offset", "width", "height")
    roi = tuple(integer(data["roi"], key) for key in region) if "roi" in data else (0, 0, 0, 0)
    width, height = integer(data, "width"), integer(data, "height")
    d, k = numbers(data, "d"), numbers(data, "k", 9)
    return [RigCamera(name, from_camera_info(width, height, distortion_model, d, k, binning, roi))]


def kalibr(data: dict[str, Any]) -> list[RigCamera]:
    """Read a Kalibr camchain: pinhole, omni, eucm or ds, with equi, radtan or none."""
    names = sorted((key for key in data if key.startswith("cam") and key[3:].isdigit()), key=lambda key: int(key[3:]))
    T_head_previous, T_imu_previous = None, None
    cameras = []
    for name in names:
        entry = data[name]
        try:
            model = _kalibr_model(entry)
            T_cam_imu = matrix(entry, "T_cam_imu", 4, 4) if "T_cam_imu" in entry else None
            if T_head_previous is None:
                T_head_camera = nominal_T_head_camera()
            elif "T_cn_cnm1" in entry:
                T_head_camera = T_head_previous @ _inverse(matrix(entry, "T_cn_cnm1", 4, 4), "T_cn_cnm1")
            elif T_cam_imu is not None and T_imu_previous is not None:
                T_head_camera = T_head_previous @ T_imu_previous @ _inverse(T_cam_imu, "T_cam_imu")
            else:
                raise ValueError("T_cn_cnm1: expected the transform from the camera before, or T_cam_imu of both")
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        cameras.append(RigCamera(name, model, T_head_camera))
        T_head_previous, T_imu_previous = T_head_camera, T_cam_imu
    return cameras


def _kalibr_model(entry: dict[str, Any]) -> CameraModel:
    kind, distortion_model = str(require(entry, "camera_model")), str(entry.get("distortion_model", "none"))
    lengths = {"pinhole": 4, "omni": 5, "eucm": 6, "ds": 6}
    if kind not in lengths:
        raise ValueError(f"camera_model: expected one of {', '.join(lengths)}, got '{kind}'")
    *own, fx, fy, cx, cy = numbers(entry, "intrinsics", lengths[kind])
    base = dict(size=integers(entry, "resolution", 2), focal=(fx, fy), centre=(cx, cy))
    if distortion_model in ("equi", "equidistant") and kind == "pinhole":
        return camera_model(KannalaBrandt, k=numbers(entry, "distortion_coeffs", 4), **base)
    if distortion_model not in ("radtan", "none"):
        raise ValueError(f"distortion_model: expected radtan or none with '{kind}', got '{distortion_model}'")
    radtan = numbers(entry, "distortion_coeffs", 4) if distortion_model == "radtan" else (0.0,) * 4
    distortion = (*radtan, *NO_DISTORTION[4:])
    if kind == "pinhole":
        return camera_model(Pinhole, distortion=distortion, **base)
    if kind == "eucm":
        return camera_model(EUCM, alpha=own[0], beta=own[1], distortion=distortion, **base)
    if kind == "ds":
        return camera_model(DoubleSphere, xi=own[0], alpha=own[1], distortion=distortion, **base)
    return _from_mei(own[0], radtan, base)


def _from_mei(xi: float, radtan: Sequence[float], base: dict[str, Any]) -> CameraModel:
    """Rewrite Mei's unified model, x / (z + xi d), as EUCM: the plane grows by 1 + xi, and its distortion with it."""
    if not xi >= 0:
        raise ValueError(f"intrinsics: expected xi of 0 or more with 'omni', got {xi}")
    grow = 1.0 + xi
    k1, k2, p1, p2 = radtan
    distortion = (k1 / grow**2, k2 / grow**4, p1 / grow, p2 / grow, 0.0, 0.0, 0.0, 0.0)
    focal = tuple(f / grow for f in base["focal"])
    return camera_model(EUCM, **{**base, "focal": focal}, alpha=xi / grow, beta=1.0, distortion=distortion)


BASALT: dict[str, tuple[type[CameraModel], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "ds": (DoubleSphere, lambda v: dict(xi=number(v, "xi"), alpha=number(v, "alpha"))),
    "eucm": (EUCM, lambda v: dict(alpha=number(v, "alpha"), beta=number(v, "beta"))),
    "kb4": (KannalaBrandt, lambda v: dict(k=tuple(number(v, f"k{i}") for i in range(1, 5)))),
    "pinhole": (Pinhole, lambda v: {}),
    "pinhole-radtan8": (
        Pinhole,
        lambda v: dict(distortion=tuple(number(v, key) for key in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"))),
    ),
}


def basalt(data: dict[str, Any]) -> list[RigCamera]:
    """Read Basalt's JSON."""
    data = require(data, "value0", "Basalt's calibration")
    poses, models = mappings(data, "T_imu_cam"), mappings(data, "intrinsics")
    sizes = require(data, "resolution", "a list of sizes")
    if not isinstance(sizes, list):
        raise ValueError(f"resolution: expected a list of sizes, got {sizes!r}")
    if not len(poses) == len(models) == len(sizes):
        raise ValueError(f"expected one pose, model and size a camera, got {len(poses)}, {len(models)}, {len(sizes)}")
    T_imu_cam = [
        _pose([number(pose, f"p{axis}") for axis in "xyz"], [number(pose, f"q{axis}") for axis in "xyzw"])
        for pose in poses
    ]
    cameras = []
    for index, (entry, size) in enumerate(zip(models, sizes)):
        kind, values = str(require(entry, "camera_type")), require(entry, "intrinsics")
        if kind not in BASALT:
            raise ValueError(f"cam{index}: camera_type: expected one of {', '.join(BASALT)}, got '{kind}'")
        model_class, read = BASALT[kind]
        model = camera_model(
            model_class,
            size=integers({"resolution": size}, "resolution", 2),
            focal=(number(values, "fx"), number(values, "fy")),
            centre=(number(values, "cx"), number(values, "cy")),
            **read(values),
        )
        cameras.append(RigCamera(f"cam{index}", model, _from_first(T_imu_cam[0], T_imu_cam[index])))
    return cameras


def aria(data: dict[str, Any]) -> list[RigCamera]:
    """Read the factory or online calibration of Project Aria; its eye trackers are left out."""
    entries = [entry for entry in mappings(data, "CameraCalibrations") if str(entry.get("Label")) in ARIA_SIZES]
    if not entries:
        raise ValueError(f"CameraCalibrations: expected one of {', '.join(ARIA_SIZES)}, got none of them")
    cameras, T_device_first = [], None
    for entry in entries:
        projection, pose = require(entry, "Projection"), require(entry, "T_Device_Camera")
        width, height, circle = ARIA_SIZES[entry["Label"]]
        model = _aria_model(str(require(projection, "Name")), numbers(projection, "Params"), (width, height), circle)
        quaternion = require(pose, "UnitQuaternion", "[w, [x, y, z]]")
        if not isinstance(quaternion, list) or len(quaternion) != 2:
            raise ValueError(f"UnitQuaternion: expected [w, [x, y, z]], got {quaternion!r}")
        w = numbers({"UnitQuaternion": quaternion[:1]}, "UnitQuaternion", 1)
        xyz = numbers({"UnitQuaternion": quaternion[1]}, "UnitQuaternion", 3)
        T_device_camera = _pose(numbers(pose, "Translation", 3), (*xyz, *w))
        T_device_first = T_device_camera if T_device_first is None else T_device_first
        cameras.append(RigCamera(entry["Label"], model, _from_first(T_device_first, T_device_camera)))
    return cameras


def _aria_model(name: str, params: Sequence[float], size: tuple[int, int], circle: float) -> CameraModel:
    lengths = {"FisheyeRadTanThinPrism": 15, "Fisheye62": 11, "KannalaBrandtK3": 8}
    if name not in lengths:
        raise ValueError(f"Projection: expected one of {', '.join(lengths)}, got '{name}'")
    if len(params) != lengths[name]:
        raise ValueError(f"Params: expected {lengths[name]} numbers of {name}, got {len(params)}")
    if name == "KannalaBrandtK3":
        return camera_model(
            KannalaBrandt, circle, size=size, focal=params[:2], centre=params[2:4], k=params[4:8]
        )
    base = dict(size=size, focal=(params[0], params[0]), centre=params[1:3], k=params[3:9], p=params[9:11])
    if name == "Fisheye62":
        return camera_model(Fisheye62, circle, **base)
    return camera_model(Fisheye624, circle, **base, s=params[11:15])


def _pose(translation: Sequence[float], xyzw: Sequence[float]) -> np.ndarray:
    rotation, valid = matrix_from_quaternion(np.array(xyzw))
    if not valid:
        raise ValueError(f"rotation: expected a unit quaternion, got {list(xyzw)}")
    return transform(rotation, np.array(translation))


def _from_first(T_base_first: np.ndarray, T_base_camera: np.ndarray) -> np.ndarray:
    return nominal_T_head_camera() @ invert(T_base_first) @ T_base_camera


def _inverse(T: np.ndarray, name: str) -> np.ndarray:
    check_rotation(T[:3, :3], name)
    return invert(T)
