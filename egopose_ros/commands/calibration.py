"""`egopose calibration`: check, print, draw and convert the calibration of a rig."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import torch

from egopose_ros.camera import calibration, chart
from egopose_ros.camera.models import CameraModel
from egopose_ros.camera.remap import Remapper
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.camera.validation import round_trip_error_px


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `show` and `convert`."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    show = actions.add_parser("show", help="validate a calibration, print it and draw it")
    show.add_argument("file", help="own YAML, OCam JSON or text, Kalibr, Basalt, Aria or CameraInfo")
    show.add_argument("--out", metavar="PNG", help="draw the field of view and the distortion of every camera")
    show.add_argument("--json", metavar="FILE", help="write the numbers as JSON")
    convert = actions.add_parser("convert", help="write a calibration as our own YAML, to be completed there")
    convert.add_argument("file", help="calibration of any known format")
    convert.add_argument("output", help="YAML to write")
    convert.add_argument("--camera", action="append", metavar="NAME", help="keep this camera; may be repeated")
    convert.add_argument(
        "--crop", type=int, nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"), help="the images are cropped first"
    )
    convert.add_argument("--resize", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="then resized")
    convert.add_argument("--rotate", type=int, default=0, metavar="N", help="then turned N quarters counter-clockwise")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked; a calibration that is refused raises CalibrationError."""
    rig = calibration.load(arguments.file)
    if arguments.action == "convert":
        return _convert(rig, arguments)
    summaries = [summarise(camera) for camera in rig.cameras]
    for camera, summary in zip(rig.cameras, summaries):
        _print(camera, summary, rig.head_known)
    if arguments.json:
        document = {"head_known": rig.head_known, "cameras": [dataclasses.asdict(s) for s in summaries]}
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if arguments.out:
        encoded, png = cv2.imencode(".png", chart.draw(rig)[..., ::-1])
        if not encoded:
            raise ValueError("the picture could not be encoded as PNG")
        Path(arguments.out).write_bytes(png.tobytes())
        print(f"drawn to {arguments.out}")
    return 0


@dataclasses.dataclass(frozen=True)
class Summary:
    """The numbers by which a calibration is judged."""

    name: str
    model: str
    size: tuple[int, int]
    field_of_view_deg: float
    """full, as declared or as far as the model can be trusted"""
    horizontal_deg: float
    vertical_deg: float
    """seen along the row and column through the centre"""
    pixels_per_degree_centre: float
    pixels_per_degree_rim: float
    round_trip_px: float
    canonical_coverage: float
    """part of the canonical camera's circle that the camera sees"""
    block: int
    """side of the blocks of pixels averaged before remapping"""


def summarise(camera: RigCamera) -> Summary:
    """Measure a camera."""
    model = camera.model
    remapper = Remapper(model, camera.R_camera_canonical)
    circle = Remapper(remapper.canonical).valid
    degree, rim = math.radians(1.0), model.max_angle
    radius = chart.radius_at_angles(model, np.array([0.0, degree, rim - degree, rim]))
    return Summary(
        name=camera.name,
        model=type(model).__name__,
        size=model.size,
        field_of_view_deg=2 * math.degrees(model.max_angle),
        horizontal_deg=_extent_deg(model, 0),
        vertical_deg=_extent_deg(model, 1),
        pixels_per_degree_centre=float(radius[1] - radius[0]),
        pixels_per_degree_rim=float(radius[3] - radius[2]),
        round_trip_px=round_trip_error_px(model),
        canonical_coverage=float(remapper.valid.sum() / circle.sum()),
        block=remapper.block,
    )


def _extent_deg(model: CameraModel, axis: int) -> float:
    """Return the angle between the two ends of the imaged row (axis 0) or column (axis 1) through the centre."""
    count = model.size[axis]
    pixels = torch.tensor(model.centre, dtype=torch.float64).repeat(count, 1)
    pixels[:, axis] = torch.arange(count, dtype=torch.float64)
    angles, valid = chart.angle_at_pixels(model, pixels)
    below = pixels[:, axis].numpy() < model.centre[axis]
    return sum(math.degrees(angles[valid & side].max(initial=0.0)) for side in (below, ~below))


def _print(camera: RigCamera, summary: Summary, head_known: bool) -> None:
    model = camera.model
    width, height = summary.size
    print(f"{summary.name}: {summary.model}, {width}x{height}, centre ({model.centre[0]:.2f}, {model.centre[1]:.2f})")
    for field in dataclasses.fields(model):
        if field.name not in ("size", "centre", "max_angle"):
            print(f"  {field.name}: {getattr(model, field.name)}")
    print(
        f"  field of view: {summary.field_of_view_deg:.1f} deg, on the sensor {summary.horizontal_deg:.1f} deg across "
        f"and {summary.vertical_deg:.1f} deg down"
    )
    print(
        f"  resolution: {summary.pixels_per_degree_centre:.2f} px/deg at the centre, "
        f"{summary.pixels_per_degree_rim:.2f} px/deg at the rim"
    )
    print(f"  project(unproject(pixel)): within {summary.round_trip_px:.2g} px")
    print(
        f"  to the networks: fills {summary.canonical_coverage:.1%} of the canonical image, "
        f"averaging blocks of {summary.block}x{summary.block} px"
    )
    x, y, z = camera.T_head_camera[:3, 3]
    looks = camera.T_head_camera[:3, 2]
    source = "" if head_known else "  (nominal: the file does not say where the head is)"
    print(f"  in the head frame: at x {x:.3f} y {y:.3f} z {z:.3f} m, looking along {np.round(looks, 3)}{source}")
    front = camera.R_camera_canonical @ np.array([0.0, -1.0, 0.0])
    print(f"  wearer's front in the image: x {front[0]:.2f} y {front[1]:.2f} (x right, y down)")


def _convert(rig: Rig, arguments: argparse.Namespace) -> int:
    if arguments.camera:
        rig = rig.select(tuple(arguments.camera))
    cameras = []
    for camera in rig.cameras:
        model = camera.model.crop(*arguments.crop) if arguments.crop else camera.model
        model = model.resize(*arguments.resize) if arguments.resize else model
        cameras.append(dataclasses.replace(camera, model=model).rotate(arguments.rotate))
    rig = Rig(tuple(cameras), rig.head_known)
    calibration.check(rig)
    calibration.save(rig, arguments.output)
    note = "" if rig.head_known else "; T_head_camera in it is nominal: measure yours, then set head_known: true"
    print(f"written to {arguments.output}: {', '.join(camera.name for camera in rig.cameras)}{note}")
    return 0
