"""Calibration files: every format reads to the camera it describes, and what is wrong is refused with the reason."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
import yaml

from egopose_ros import cli
from egopose_ros.camera import calibration, ocam_files
from egopose_ros.camera.calibration import CalibrationError
from egopose_ros.camera.interface import CameraModel
from egopose_ros.camera.models import EUCM, DoubleSphere, Fisheye62, Fisheye624, KannalaBrandt, OCam, Pinhole
from egopose_ros.camera.rig import Rig, RigCamera, mounted_rotation, nominal_T_head_camera
from egopose_ros.camera.validation import round_trip_error_px
from egopose_ros.geometry.rigid import invert, transform

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "cameras").glob("*.yaml"))
OCAM_EXAMPLES = [path for path in EXAMPLES if "ocam" in path.read_text(encoding="utf-8")]


def write(path: Path, document: Any) -> Path:
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return path


def rays_to(angle_deg: float) -> torch.Tensor:
    """Return rays (n, 3) on rings up to an angle from the axis."""
    angle = torch.linspace(0.01, math.radians(angle_deg), 20, dtype=torch.float64)[:, None]
    azimuth = torch.linspace(0.0, 6.2, 23, dtype=torch.float64)
    x, y = angle.sin() * azimuth.cos(), angle.sin() * azimuth.sin()
    return torch.stack([x, y, angle.cos().expand_as(x)], -1).reshape(-1, 3)


def assert_same_lens(got: CameraModel, expected: CameraModel, angle_deg: float, tolerance_px: float = 1e-6) -> None:
    rays = rays_to(angle_deg)
    difference = (got.project(rays)[0] - expected.project(rays)[0]).norm(dim=-1).max()
    assert difference < tolerance_px
    assert got.size == expected.size


def scene_ego() -> OCam:
    path = next(path for path in EXAMPLES if path.stem == "scene_ego")
    return calibration.load(path).cameras[0].model


def ocam_json(model: OCam, **changes: Any) -> dict[str, Any]:
    document = {
        "size": list(model.size),
        "image_center": list(model.centre),
        "polynomialC2W": list(model.c2w),
        "polynomialW2C": list(model.w2c),
    }
    return {key: value for key, value in {**document, **changes}.items() if value is not None}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load_and_survive_saving(path: Path, tmp_path: Path) -> None:
    rig = calibration.load(path)
    calibration.save(rig, tmp_path / "saved.yaml")
    again = calibration.load(tmp_path / "saved.yaml")
    assert again.head_known == rig.head_known
    for one, other in zip(rig.cameras, again.cameras, strict=True):
        assert one.name == other.name and type(one.model) is type(other.model)
        assert math.isclose(one.model.max_angle, other.model.max_angle, rel_tol=1e-12)
        assert dataclasses.replace(one.model, max_angle=1.0) == dataclasses.replace(other.model, max_angle=1.0)
        np.testing.assert_array_equal(one.T_head_camera, other.T_head_camera)
        np.testing.assert_array_equal(one.R_camera_canonical, other.R_camera_canonical)


def test_every_model_survives_saving(cameras: dict[str, CameraModel], tmp_path: Path) -> None:
    R = mounted_rotation(33.0)
    rig = Rig(
        tuple(RigCamera(name, model, nominal_T_head_camera(R), R) for name, model in cameras.items()), head_known=False
    )
    calibration.save(rig, tmp_path / "rig.yaml")
    again = calibration.load(tmp_path / "rig.yaml")
    assert not again.head_known and len(again.cameras) == len(cameras)
    for camera, other in zip(rig.cameras, again.cameras):
        assert_same_lens(other.model, camera.model, 50.0, 1e-9)
        np.testing.assert_array_equal(other.R_camera_canonical, R)


@pytest.mark.parametrize("path", OCAM_EXAMPLES, ids=lambda path: path.stem)
def test_published_polynomials_round_trip(path: Path) -> None:
    model = calibration.load(path).cameras[0].model
    assert math.degrees(model.max_angle) >= 100.0
    assert round_trip_error_px(model) < 0.02


@pytest.mark.parametrize("path", OCAM_EXAMPLES, ids=lambda path: path.stem)
def test_missing_inverse_polynomial_is_fitted(path: Path) -> None:
    given = calibration.load(path).cameras[0].model
    fitted = ocam_files.make(given.size, given.centre, given.c2w, None, given.affine, None)
    assert_same_lens(fitted, given, 100.0, 0.05)
    assert round_trip_error_px(dataclasses.replace(fitted, max_angle=math.radians(100.0))) < 0.02


def test_scene_ego_radius_at_90_degrees() -> None:
    pixel = scene_ego().project(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))[0]
    assert abs(pixel[0] - 614.93216999 - 478.589) < 0.01


def flip(w2c: tuple[float, ...]) -> list[float]:
    return [b * (-1) ** i for i, b in enumerate(w2c)]


def from_axis_highest_first(w2c: tuple[float, ...]) -> list[float]:
    against_alpha = np.polynomial.Polynomial(w2c)(np.polynomial.Polynomial([-math.pi / 2, 1.0]))
    return against_alpha.coef[::-1].tolist()


OCAM_VARIANTS: dict[str, Callable[[OCam], dict[str, Any]]] = {
    "image_center": lambda m: ocam_json(m),
    "intrinsic": lambda m: ocam_json(
        m, image_center=None, intrinsic=[[1, 0, m.centre[0], 0], [0, 1, m.centre[1], 0], [0, 0, 1, 0]]
    ),
    "no inverse": lambda m: ocam_json(m, polynomialW2C=None),
    "other sign of z": lambda m: ocam_json(m, polynomialC2W=[-a for a in m.c2w], polynomialW2C=flip(m.w2c)),
    "sign of z in one only": lambda m: ocam_json(m, polynomialC2W=[-a for a in m.c2w]),
    "py-OCamCalib": lambda m: {
        "size": list(m.size),
        "distortion_center": list(m.centre),
        "taylor_coefficient": [-a for a in m.c2w],
        "inverse_poly": from_axis_highest_first(m.w2c),
        "stretch_matrix": [[1.0, 0.0], [0.0, 1.0]],
    },
}


@pytest.mark.parametrize("variant", OCAM_VARIANTS.values(), ids=OCAM_VARIANTS.keys())
def test_every_way_to_write_ocam_is_the_same_lens(variant: Callable[[OCam], dict[str, Any]], tmp_path: Path) -> None:
    expected = scene_ego()
    rig = calibration.load(write(tmp_path / "down.json", variant(expected)))
    assert rig.cameras[0].name == "down" and not rig.head_known
    assert_same_lens(rig.cameras[0].model, expected, 100.0, 0.05)


def test_ocam_text_is_written_row_first(tmp_path: Path) -> None:
    expected = dataclasses.replace(scene_ego(), affine=(1.0, 0.003, 0.002, 1.01))
    c, d, e = 1.01, 0.002, 0.003
    lines = [
        "#polynomial coefficients for the DIRECT mapping function", "",
        f"{len(expected.c2w)} {' '.join(map(repr, expected.c2w))}", "",
        "#polynomial coefficients for the inverse mapping function", "",
        f"{len(expected.w2c)} {' '.join(map(repr, expected.w2c))}", "",
        '#center: "row" and "column", starting from 0 (C convention)', "",
        f"{expected.centre[1]} {expected.centre[0]}", "",
        '#affine parameters "c", "d", "e"', "", f"{c} {d} {e}", "",
        '#image size: "height" and "width"', "", f"{expected.size[1]} {expected.size[0]}", "",
    ]  # fmt: skip
    model = calibration.load(write(tmp_path / "calib_results.txt", "\n".join(lines))).cameras[0].model
    assert model.affine == pytest.approx(expected.affine)
    assert_same_lens(model, expected, 100.0)


def test_lens_circle_bounds_the_field_of_view(tmp_path: Path) -> None:
    document = ocam_json(scene_ego(), imageCircleRadius=480.0)
    model = calibration.load(write(tmp_path / "circle.json", document)).cameras[0].model
    assert abs(math.degrees(model.max_angle) - 90.2) < 0.3
    pixels = torch.tensor([[614.9 + 478.0, 527.5], [614.9 + 484.0, 527.5]], dtype=torch.float64)
    assert model.unproject(pixels)[1].tolist() == [True, False]


STEREO = transform(mounted_rotation(5.0), np.array([-0.11, 0.002, 0.001]))
"""T_cam1_cam0"""

VGA = [640, 480]


def kalibr_document(cam0: dict[str, Any]) -> str:
    cam1 = {**cam0, "T_cn_cnm1": STEREO.tolist()}
    return yaml.safe_dump({name: {"resolution": VGA, **cam} for name, cam in (("cam0", cam0), ("cam1", cam1))})


_BASE = dict(size=(640, 480), centre=(320.5, 241.0), focal=(190.0, 191.0))
_F = [190.0, 191.0, 320.5, 241.0]
_EQUI = dict(distortion_model="equi", distortion_coeffs=[0.02, -0.01, 2e-3, -3e-4])
_RADTAN = dict(distortion_model="radtan", distortion_coeffs=[-0.1, 0.01, 1e-3, 2e-3])
KALIBR: dict[str, tuple[dict[str, Any], CameraModel]] = {
    "pinhole-equi": (
        dict(camera_model="pinhole", intrinsics=_F, **_EQUI),
        KannalaBrandt(**_BASE, k=(0.02, -0.01, 2e-3, -3e-4), max_angle=1.6),
    ),
    "pinhole-radtan": (
        dict(camera_model="pinhole", intrinsics=_F, **_RADTAN),
        Pinhole(**_BASE, distortion=(-0.1, 0.01, 1e-3, 2e-3, 0, 0, 0, 0), max_angle=0.8),
    ),
    "eucm-none": (
        dict(camera_model="eucm", intrinsics=[0.6, 1.1, *_F], distortion_model="none", distortion_coeffs=[]),
        EUCM(**_BASE, alpha=0.6, beta=1.1, max_angle=1.6),
    ),
    "ds-none": (
        dict(camera_model="ds", intrinsics=[-0.2, 0.6, *_F], distortion_model="none", distortion_coeffs=[]),
        DoubleSphere(**_BASE, xi=-0.2, alpha=0.6, max_angle=1.6),
    ),
}


@pytest.mark.parametrize("entry, expected", KALIBR.values(), ids=KALIBR.keys())
def test_kalibr(entry: dict[str, Any], expected: CameraModel, tmp_path: Path) -> None:
    rig = calibration.load(write(tmp_path / "camchain.yaml", kalibr_document(entry)))
    assert [camera.name for camera in rig.cameras] == ["cam0", "cam1"] and not rig.head_known
    assert_same_lens(rig.cameras[0].model, expected, math.degrees(expected.max_angle))
    T_cam1_cam0 = invert(rig.cameras[1].T_head_camera) @ rig.cameras[0].T_head_camera
    np.testing.assert_allclose(T_cam1_cam0, STEREO, atol=1e-12)


def test_kalibr_omni_follows_meis_formula(tmp_path: Path) -> None:
    xi, (k1, k2, p1, p2) = 1.3, (-0.2, 0.05, 0.002, -0.001)
    fx, fy, cx, cy = 420.0, 421.0, 320.5, 241.0
    entry = dict(camera_model="omni", intrinsics=[xi, fx, fy, cx, cy])
    entry |= dict(distortion_model="radtan", distortion_coeffs=[k1, k2, p1, p2])
    model = calibration.load(write(tmp_path / "camchain.yaml", kalibr_document(entry))).cameras[0].model
    x, y, z = rays_to(80.0).unbind(-1)
    u, v = x / (z + xi), y / (z + xi)
    square = u * u + v * v
    radial = 1 + k1 * square + k2 * square**2
    expected_x = fx * (u * radial + 2 * p1 * u * v + p2 * (square + 2 * u * u)) + cx
    expected_y = fy * (v * radial + p1 * (square + 2 * v * v) + 2 * p2 * u * v) + cy
    torch.testing.assert_close(model.project(rays_to(80.0))[0], torch.stack([expected_x, expected_y], -1))


BASALT: dict[str, tuple[dict[str, float], CameraModel]] = {
    "ds": (dict(xi=-0.2, alpha=0.6), DoubleSphere(**_BASE, xi=-0.2, alpha=0.6, max_angle=1.6)),
    "eucm": (dict(alpha=0.6, beta=1.1), EUCM(**_BASE, alpha=0.6, beta=1.1, max_angle=1.6)),
    "kb4": (
        dict(k1=0.02, k2=-0.01, k3=2e-3, k4=-3e-4),
        KannalaBrandt(**_BASE, k=(0.02, -0.01, 2e-3, -3e-4), max_angle=1.6),
    ),
    "pinhole": ({}, Pinhole(**_BASE, max_angle=0.9)),
    "pinhole-radtan8": (
        dict(k1=0.2, k2=0.03, p1=1e-3, p2=-2e-3, k3=4e-3, k4=0.45, k5=0.06, k6=5e-3, rpmax=2.0),
        Pinhole(**_BASE, distortion=(0.2, 0.03, 1e-3, -2e-3, 4e-3, 0.45, 0.06, 5e-3), max_angle=0.9),
    ),
}


@pytest.mark.parametrize("kind", BASALT)
def test_basalt(kind: str, tmp_path: Path) -> None:
    own, expected = BASALT[kind]
    intrinsics = {"fx": 190.0, "fy": 191.0, "cx": 320.5, "cy": 241.0, **own}
    pose = dict(px=0.1, py=0.2, pz=0.3, qx=0.0, qy=0.0, qz=0.0, qw=1.0)
    half = math.sqrt(0.5)
    turned = dict(px=0.2, py=0.2, pz=0.3, qx=0.0, qy=0.0, qz=half, qw=half)
    document = {
        "value0": {
            "T_imu_cam": [pose, turned],
            "intrinsics": [{"camera_type": kind, "intrinsics": intrinsics}] * 2,
            "resolution": [VGA, VGA],
        }
    }
    rig = calibration.load(write(tmp_path / "calibration.json", document))
    assert_same_lens(rig.cameras[1].model, expected, math.degrees(expected.max_angle))
    T_cam0_cam1 = invert(rig.cameras[0].T_head_camera) @ rig.cameras[1].T_head_camera
    np.testing.assert_allclose(T_cam0_cam1, transform(mounted_rotation(90.0), np.array([0.1, 0.0, 0.0])), atol=1e-12)


def aria_document(name: str, params: list[float]) -> dict[str, Any]:
    def entry(label: str, x: float) -> dict[str, Any]:
        pose = {"Translation": [x, 0.0, 0.0], "UnitQuaternion": [1.0, [0.0, 0.0, 0.0]]}
        return {"Label": label, "Projection": {"Name": name, "Params": params}, "T_Device_Camera": pose}

    eye = {"Label": "camera-et-left", "Projection": {"Name": "Unknown", "Params": []}, "T_Device_Camera": {}}
    return {"CameraCalibrations": [entry("camera-slam-left", 0.0), entry("camera-slam-right", 0.1), eye]}


_K6 = [-0.025, 0.09, -0.065, 0.014, 0.003, -0.0011]
_ARIA_BASE = dict(size=(640, 480), centre=(320.5, 241.0), max_angle=1.3)
ARIA: dict[str, tuple[list[float], CameraModel]] = {
    "FisheyeRadTanThinPrism": (
        [242.0, 320.5, 241.0, *_K6, 2e-3, -1e-3, 1e-3, -4e-4, 6e-4, 2e-4],
        Fisheye624(**_ARIA_BASE, focal=(242.0,) * 2, k=tuple(_K6), p=(2e-3, -1e-3), s=(1e-3, -4e-4, 6e-4, 2e-4)),
    ),
    "Fisheye62": (
        [242.0, 320.5, 241.0, *_K6, 2e-3, -1e-3],
        Fisheye62(**_ARIA_BASE, focal=(242.0,) * 2, k=tuple(_K6), p=(2e-3, -1e-3)),
    ),
    "KannalaBrandtK3": (
        [242.0, 243.0, 320.5, 241.0, *_K6[:4]],
        KannalaBrandt(**_ARIA_BASE, focal=(242.0, 243.0), k=tuple(_K6[:4])),
    ),
}


@pytest.mark.parametrize("name", ARIA)
def test_aria(name: str, tmp_path: Path) -> None:
    params, expected = ARIA[name]
    rig = calibration.load(write(tmp_path / "aria.json", aria_document(name, params)))
    assert [camera.name for camera in rig.cameras] == ["camera-slam-left", "camera-slam-right"]
    assert_same_lens(rig.cameras[0].model, expected, 60.0)
    assert math.degrees(rig.cameras[0].model.max_angle) < 83.0  # the lens circle of 330 px
    T_left_right = invert(rig.cameras[0].T_head_camera) @ rig.cameras[1].T_head_camera
    np.testing.assert_allclose(T_left_right[:3, 3], [0.1, 0.0, 0.0], atol=1e-12)


K = [190.0, 0.0, 320.5, 0.0, 191.0, 241.0, 0.0, 0.0, 1.0]
CAMERA_INFO: dict[str, tuple[str, list[float], CameraModel]] = {
    "equidistant": ("equidistant", [0.02, -0.01, 2e-3, -3e-4], KALIBR["pinhole-equi"][1]),
    "plumb_bob": ("plumb_bob", [-0.1, 0.01, 1e-3, 2e-3, 0.0], KALIBR["pinhole-radtan"][1]),
    "rational": (
        "rational_polynomial",
        [0.2, 0.03, 1e-3, -2e-3, 4e-3, 0.45, 0.06, 5e-3],
        BASALT["pinhole-radtan8"][1],
    ),
    "no distortion": ("plumb_bob", [], BASALT["pinhole"][1]),
}


@pytest.mark.parametrize("distortion_model, d, expected", CAMERA_INFO.values(), ids=CAMERA_INFO.keys())
def test_camera_info(distortion_model: str, d: list[float], expected: CameraModel, tmp_path: Path) -> None:
    angle = min(60.0, math.degrees(expected.max_angle))
    camera = calibration.from_camera_info(640, 480, distortion_model, d, K, name="cap")
    assert camera.name == "cap"
    assert_same_lens(camera.model, expected, angle)
    calibrator = {
        "image_width": 640,
        "image_height": 480,
        "camera_name": "cap",
        "camera_matrix": {"rows": 3, "cols": 3, "data": K},
        "distortion_model": distortion_model,
        "distortion_coefficients": {"rows": 1, "cols": len(d), "data": d},
    }
    echoed = {"header": {"frame_id": "cam"}, "height": 480, "width": 640, "distortion_model": distortion_model}
    echoed |= {"d": d, "k": K, "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0}}
    for text in (yaml.safe_dump(calibrator), yaml.safe_dump(echoed) + "---\n" + yaml.safe_dump(echoed)):
        rig = calibration.load(write(tmp_path / "camera_info.yaml", text))
        assert_same_lens(rig.cameras[0].model, expected, angle)


def test_camera_info_region_and_binning() -> None:
    whole = calibration.from_camera_info(640, 480, "equidistant", [0.0] * 4, K).model
    part = calibration.from_camera_info(
        640, 480, "equidistant", [0.0] * 4, K, binning=(2, 2), roi=(100, 40, 480, 400)
    ).model
    assert_same_lens(part, whole.crop(100, 40, 480, 400).resize(240, 200), 60.0)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(k=[math.nan, *K[1:]]), "k: expected finite numbers"),
        (dict(k=[0.0] * 9), "expected focal lengths above zero.*uncalibrated"),
        (dict(k=K[:8]), "k: expected 9 numbers"),
        (dict(d=[0.1, math.inf, 0.0, 0.0]), "d: expected finite"),
        (dict(d=[0.1] * 3), "d: expected 4 coefficients of 'equidistant', got 3"),
        (dict(distortion_model="kalibr"), "expected plumb_bob, rational_polynomial or equidistant.*got 'kalibr'"),
        (dict(width=0), "expected positive width and height"),
        (dict(width=480, height=640), r"seems to be \(row, column\)"),
        (dict(k=[1.0, 0, 320.5, 0, 1.0, 241.0, 0, 0, 1.0]), "at least 25% of the largest circle"),
        (dict(k=[90000.0, 0, 320.5, 0, 90000.0, 241.0, 0, 0, 1.0]), "expected a field of view of 20 deg or more"),
        (dict(k=[190.0, 0, 900.0, 0, 191.0, 241.0, 0, 0, 1.0]), r"expected a point in the 640x480 image, got \(900.0"),
    ],
)
def test_camera_info_that_is_refused(changes: dict[str, Any], message: str) -> None:
    values = dict(width=640, height=480, distortion_model="equidistant", d=[0.0] * 4, k=K) | changes
    with pytest.raises(CalibrationError, match=f"^camera_info of 'camera': .*{message}"):
        calibration.from_camera_info(**values)


def own(**changes: Any) -> dict[str, Any]:
    camera = dict(
        name="down",
        model="kannala_brandt",
        size=[1280, 1024],
        centre=[639.5, 511.5],
        focal=[290.0, 290.0],
        k=[0.0] * 4,
        field_of_view_deg=200.0,
        T_head_camera=nominal_T_head_camera().tolist(),
    )
    return {"egopose_rig": 1, "cameras": [{k: v for k, v in {**camera, **changes}.items() if v is not None}]}


MIRROR = np.diag([1.0, 1.0, -1.0, 1.0]).tolist()
SKEWED = (np.eye(4) + 0.01 * np.eye(4, k=1) * np.array([1, 1, 0, 0])).tolist()


@pytest.mark.parametrize(
    "document, message",
    [
        ("{", "does not parse"),
        ("a: [", "does not parse"),
        ("- 1", "expected a mapping, got list"),
        ("", "expected a mapping, got NoneType"),
        ("a: [1,\nb: {\n", r"got what does not parse: .* in line \d$"),
        ({"foo": 1}, "expected a calibration of a known format .* got foo"),
        ({"egopose_rig": 2, "cameras": []}, "expected version 1, got 2"),
        ({"egopose_rig": 1, "cameras": []}, "expected one camera or more"),
        ({"egopose_rig": 1}, "cameras: expected a list of mappings, got only egopose_rig"),
        ({"egopose_rig": 1, "cameras": own()["cameras"] * 2}, "expected different camera names"),
        (own(model="fisheye"), "camera 'down': model: expected one of ocam, .* got 'fisheye'"),
        (own(size=[1280]), "size: expected 2 numbers, got"),
        (own(size=[1280, 1024.5]), "expected 2 whole numbers"),
        (own(size=[1024, 1280]), r"size 1024x1280 and centre \(639.5, 511.5\) do not belong together"),
        (own(centre=[639.5, 1511.5]), "expected a point in the 1280x1024 image"),
        (own(focal=None), "focal: expected 2 numbers, got only"),
        (own(focal=[290.0, "wide"]), "focal: expected 2 numbers"),
        (own(focus=[1, 2]), "expected only name, .* got focus"),
        (own(k=[0.0, math.nan, 0.0, 0.0]), "k: expected finite numbers"),
        (own(k=[0.0, 0.0]), "k: expected 4 numbers, got 2"),
        (own(k=[-0.3, 0.0, 0.0, 0.0]), "to grow up to 100.0 deg .* stops growing at 60.4 deg"),
        (own(field_of_view_deg=5.0), "expected a field of view of 20 deg or more, got 5.0"),
        (own(field_of_view_deg=400.0), "max_angle: expected above 0 and at most 180"),
        (own(mounted="sideways"), "mounted: expected up, right, down, left or degrees"),
        (own(T_head_camera=MIRROR), "expected a right-handed rotation"),
        (own(T_head_camera=SKEWED), "expected an orthonormal rotation, got rows that miss it by 0.01"),
        (own(T_head_camera=np.eye(3).tolist()), "T_head_camera: expected a 4x4 matrix"),
        (own(T_head_camera=np.ones((4, 4)).tolist()), "last row 0 0 0 1"),
        (own(R_camera_canonical=[[1, 0, 0], [0, 1, 0], [0, 0, -1]]), "R_camera_canonical: expected a right-handed"),
        (ocam_json(scene_ego(), size=[1024, 1280]), r"one of them seems to be \(row, column\)"),
        (ocam_json(scene_ego(), image_center=[527.53, 614.93]), r"one of them seems to be \(row, column\)"),
        (ocam_json(scene_ego(), image_center=None), "the centre, as 'image_center' or 'intrinsic'"),
        (ocam_json(scene_ego(), imageCircleRadius=40.0), "image circle: expected a radius of 256 to 1639 px"),
        (ocam_json(scene_ego(), polynomialC2W=[0.0, 0.0]), "expected C2W coefficients with a non-zero first"),
        (ocam_json(scene_ego(), polynomialW2C=[0.0] * 8), "project and unproject agree, over 0.0 deg only"),
        (
            ocam_json(scene_ego(), polynomialW2C=[b + 1.0 for b in scene_ego().w2c]),
            "project and unproject agree, over 0.0 deg only",
        ),
        ("#polynomial\n3 1 2\n", "expected two polynomials with their lengths"),
        ("#polynomial\n3 1 2 3\n2 1 2\n5 5\n1 0 0\n", "expected two polynomials with their lengths"),
        (aria_document("FisheyeRadTanThinPrism", [1.0] * 3), "Params: expected 15 numbers"),
        (aria_document("Spherical", [1.0] * 3), "Projection: expected one of .* got 'Spherical'"),
        (
            kalibr_document(dict(camera_model="omni", intrinsics=[1.0, *_F], distortion_model="fov")),
            "cam0: distortion_model: expected radtan or none with 'omni', got 'fov'",
        ),
        (kalibr_document(dict(camera_model="ds", intrinsics=_F)), "cam0: intrinsics: expected 6 numbers"),
    ],
)
def test_what_is_refused_names_file_and_reason(document: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rig.yaml", document)
    with pytest.raises(CalibrationError, match=message) as refused:
        calibration.load(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


JUNK = (None, "x", -1, 0, 1e300, math.nan, True, [], {}, [1, 2], [[1.0, 2.0]], "1e-3")


def documents() -> dict[str, Any]:
    pose = dict(px=0.1, py=0.2, pz=0.3, qx=0.0, qy=0.0, qz=0.0, qw=1.0)
    ds = {"camera_type": "ds", "intrinsics": dict(fx=190.0, fy=191.0, cx=320.5, cy=241.0, xi=-0.2, alpha=0.6)}
    info = dict(width=640, height=480, distortion_model="equidistant", d=[0.0] * 4, k=K, binning_x=0)
    return {
        "own": own(mounted="up"),
        "ocam": ocam_json(scene_ego(), imageCircleRadius=500.0, affine=[1.0, 0.0, 0.0]),
        "ocam intrinsic": OCAM_VARIANTS["intrinsic"](scene_ego()),
        "py-OCamCalib": OCAM_VARIANTS["py-OCamCalib"](scene_ego()),
        "kalibr": yaml.safe_load(kalibr_document(KALIBR["pinhole-equi"][0])),
        "basalt": {"value0": {"T_imu_cam": [pose] * 2, "intrinsics": [ds] * 2, "resolution": [VGA, VGA]}},
        "aria": aria_document("Fisheye62", ARIA["Fisheye62"][0]),
        "camera_info": {**info, "roi": dict(x_offset=0, y_offset=0, width=0, height=0)},
    }


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a nested document."""
    if not isinstance(document, (dict, list)):
        return []
    items = document.items() if isinstance(document, dict) else enumerate(document)
    return [place for key, value in items for place in [(*path, key), *places(value, (*path, key))]]


@pytest.mark.parametrize(
    "name", ["own", "ocam", "ocam intrinsic", "py-OCamCalib", "kalibr", "basalt", "aria", "camera_info"]
)
def test_junk_anywhere_is_refused_or_read_but_never_crashes(name: str, tmp_path: Path) -> None:
    document = documents()[name]
    calibration.load(write(tmp_path / "sound.json", document))
    cases = [(place, junk) for place in places(document) for junk in JUNK]
    for place, junk in random.Random(0).sample(cases, 25):
        broken = json.loads(json.dumps(document))
        inner = broken
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = junk
        try:
            calibration.load(write(tmp_path / "broken.json", broken))
        except CalibrationError:
            pass


def test_declared_field_of_view_that_the_polynomials_do_not_reach_is_refused(tmp_path: Path) -> None:
    model = scene_ego()
    camera = dict(name="down", model="ocam", size=model.size, centre=model.centre, c2w=model.c2w, w2c=model.w2c)
    document = {"egopose_rig": 1, "cameras": [{**camera, "field_of_view_deg": 270.0}]}
    with pytest.raises(CalibrationError, match="misses by up to .* px: the two directions"):
        calibration.load(write(tmp_path / "rig.yaml", document))


def test_several_cameras_need_extrinsics(tmp_path: Path) -> None:
    document = own(T_head_camera=None)
    assert not calibration.load(write(tmp_path / "one.yaml", document)).head_known
    document["cameras"].append({**document["cameras"][0], "name": "other"})
    with pytest.raises(CalibrationError, match="expected one for each of several cameras, none for down, other"):
        calibration.load(write(tmp_path / "two.yaml", document))


@pytest.mark.parametrize("mounted, degrees", [("up", 0), ("right", 90), ("down", 180), ("left", 270), (12.5, 12.5)])
def test_mounted_is_where_the_front_lies_in_the_image(mounted: Any, degrees: float, tmp_path: Path) -> None:
    document = own(mounted=mounted, T_head_camera=None)
    camera = calibration.load(write(tmp_path / "rig.yaml", document)).cameras[0]
    front = camera.R_camera_canonical @ np.array([0.0, -1.0, 0.0])
    expected = [math.sin(math.radians(degrees)), -math.cos(math.radians(degrees)), 0.0]
    np.testing.assert_allclose(front, expected, atol=1e-12)
    # However the camera is turned, the canonical one looks down with the wearer's front at its top.
    np.testing.assert_allclose(camera.T_head_canonical, nominal_T_head_camera(), atol=1e-12)


def test_rotating_a_camera_leaves_its_canonical_view_alone(cameras: dict[str, CameraModel]) -> None:
    camera = RigCamera("c", cameras["kannala_brandt"], nominal_T_head_camera(), mounted_rotation(20.0))
    for quarter_turns in range(4):
        turned = camera.rotate(quarter_turns)
        np.testing.assert_allclose(turned.T_head_canonical, camera.T_head_canonical, atol=1e-12)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.yaml"):
        calibration.load(tmp_path / "nothing.yaml")


def test_show_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(path for path in EXAMPLES if path.stem == "glasses_stereo")
    png, numbers = tmp_path / "lens.png", tmp_path / "lens.json"
    assert cli.main(["calibration", "show", str(path), "--out", str(png), "--json", str(numbers)]) == 0
    printed = capsys.readouterr().out
    assert "left: DoubleSphere, 640x480" in printed and "right: DoubleSphere" in printed
    assert png.read_bytes().startswith(b"\x89PNG")
    left = json.loads(numbers.read_text())["cameras"][0]
    assert left["field_of_view_deg"] == pytest.approx(190.0) and 130 < left["vertical_deg"] < 140


def test_show_refuses_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rig.yaml", own(k=[-0.3, 0.0, 0.0, 0.0]))
    assert cli.main(["calibration", "show", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "stops growing" in error and "rig.yaml" in error


def test_convert_follows_the_images(tmp_path: Path) -> None:
    document = kalibr_document(KALIBR["ds-none"][0])
    source, output = write(tmp_path / "camchain.yaml", document), tmp_path / "rig.yaml"
    edits = ["--camera", "cam1", "--crop", "40", "0", "560", "480", "--resize", "280", "240", "--rotate", "1"]
    assert cli.main(["calibration", "convert", str(source), str(output), *edits]) == 0
    rig = calibration.load(output)
    expected = calibration.load(source).cameras[1].model.crop(40, 0, 560, 480).resize(280, 240).rotate(1)
    assert [camera.name for camera in rig.cameras] == ["cam1"] and not rig.head_known
    assert_same_lens(rig.cameras[0].model, expected, 80.0)
