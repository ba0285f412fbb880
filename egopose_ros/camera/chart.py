"""A picture of a camera: what each pixel sees, and how its lens distorts. Drawn with OpenCV, RGB uint8."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.interface import pixel_grid
from egopose_ros.camera.models import CameraModel
from egopose_ros.camera.rig import Rig, RigCamera

PANEL = 560
MARGIN = 56
WHITE, INK, FAINT = (255, 255, 255), (40, 44, 52), (205, 209, 214)
SEEN, UNSEEN, RING, LIMIT, FRONT = (226, 240, 250), (150, 156, 165), (70, 120, 180), (200, 60, 50), (40, 140, 70)
CURVE, REFERENCE = (200, 60, 50), (120, 125, 132)


def draw(rig: Rig) -> np.ndarray:
    """Return (H, W, 3): a row a camera, its image with rings of equal angle, and its radius over the angle."""
    rows = [np.concatenate([_field_of_view(camera), _distortion(camera.model)], 1) for camera in rig.cameras]
    return np.concatenate(rows, 0)


def angle_at_pixels(model: CameraModel, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the angle from the axis [rad] and whether the lens images it, for pixels (..., 2)."""
    rays, valid = model.unproject(pixels)
    return torch.atan2(rays[..., :2].norm(dim=-1), rays[..., 2]).numpy(), valid.numpy()


def radius_at_angles(model: CameraModel, angles: np.ndarray) -> np.ndarray:
    """Return the image radius [px] at angles from the axis, towards the right of the image."""
    angles = torch.from_numpy(angles)
    rays = torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()], -1)
    return (model.project(rays)[0] - torch.tensor(model.centre, dtype=torch.float64)).norm(dim=-1).numpy()


def _field_of_view(camera: RigCamera) -> np.ndarray:
    model = camera.model
    panel = _panel(f"{camera.name}: {type(model).__name__} {model.size[0]}x{model.size[1]}")
    scale = (PANEL - 2 * MARGIN) / max(model.size)
    small = model.resize(max(1, round(model.size[0] * scale)), max(1, round(model.size[1] * scale)))
    valid = angle_at_pixels(small, pixel_grid(small.size, torch.float64))[1]
    image = np.where(valid[..., None], np.array(SEEN, np.uint8), np.array(UNSEEN, np.uint8))
    for degrees in range(20, math.floor(math.degrees(small.max_angle)) + 1, 20):
        _ring(image, small, math.radians(degrees), RING, 1, f"{degrees}")
    _ring(image, small, min(small.max_angle, CANONICAL.max_angle), LIMIT, 2, "")
    for azimuth in range(0, 360, 45):
        _polyline(image, small, np.linspace(0.0, small.max_angle, 100), np.full(100, math.radians(azimuth)), FAINT, 1)
    cv2.drawMarker(image, _pixel(small.centre), INK, cv2.MARKER_CROSS, 10, 1, cv2.LINE_AA)
    _front_arrow(image, small, camera.R_camera_canonical)
    top, left = (PANEL - small.size[1]) // 2, (PANEL - small.size[0]) // 2
    panel[top : top + small.size[1], left : left + small.size[0]] = image
    note = f"up to {math.degrees(model.max_angle):.1f} deg off axis; red: what the networks see; green: wearer's front"
    cv2.putText(panel, note, (16, PANEL - 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return panel


def _ring(
    image: np.ndarray, model: CameraModel, angle: float, colour: tuple[int, int, int], width: int, label: str
) -> None:
    azimuths = np.linspace(0.0, 2 * math.pi, 181)
    points = _polyline(image, model, np.full(181, angle), azimuths, colour, width)
    x, y = points[22]
    if label and 0 <= x < image.shape[1] - 24 and 10 <= y < image.shape[0]:
        cv2.putText(image, label, (int(x) + 2, int(y)), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)


def _polyline(
    image: np.ndarray,
    model: CameraModel,
    angles: np.ndarray,
    azimuths: np.ndarray,
    colour: tuple[int, int, int],
    width: int,
) -> np.ndarray:
    rays = np.stack([np.sin(angles) * np.cos(azimuths), np.sin(angles) * np.sin(azimuths), np.cos(angles)], -1)
    points = model.project(torch.from_numpy(rays))[0].numpy()
    _line(image, points, colour, width)
    return points


def _line(image: np.ndarray, points: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
    """Draw a polyline to a sixteenth of a pixel, without which circles wobble."""
    fixed = np.rint(np.clip(points, -1e4, 1e4) * 16).astype(np.int32)
    cv2.polylines(image, [fixed], False, colour, width, cv2.LINE_AA, 4)


def _front_arrow(image: np.ndarray, model: CameraModel, R_camera_canonical: np.ndarray) -> None:
    """Point from the middle to where the canonical image has its top."""
    angle = math.radians(45.0)
    rays = np.array([[0.0, 0.0, 1.0], [0.0, -math.sin(angle), math.cos(angle)]]) @ R_camera_canonical.T
    start, end = model.project(torch.from_numpy(rays))[0].numpy()
    cv2.arrowedLine(image, _pixel(start), _pixel(end), FRONT, 2, cv2.LINE_AA, tipLength=0.08)


def _distortion(model: CameraModel) -> np.ndarray:
    """Plot the radius over the angle, with an equidistant lens of the same focal length in grey."""
    panel = _panel("image radius over angle from the axis")
    angles = np.linspace(0.0, model.max_angle, 200)
    radius = radius_at_angles(model, angles)
    focal = radius[1] / angles[1]
    top_angle = 20.0 * math.ceil(math.degrees(model.max_angle) / 20.0)
    step = _nice_step(max(radius[-1], focal * model.max_angle) / 5)
    top_radius = step * math.ceil(max(radius[-1], focal * model.max_angle) / step)
    low, high = MARGIN + 10, PANEL - MARGIN

    def place(degrees: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        x = low + (high - low) * degrees / top_angle
        y = high - (high - low) * pixels / top_radius
        return np.stack([x, y], -1)

    for tick in np.arange(0, top_angle + 1, 20):
        x = round(low + (high - low) * tick / top_angle)
        cv2.line(panel, (x, low), (x, high), FAINT, 1)
        cv2.putText(panel, f"{tick:.0f}", (x - 10, high + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    for tick in np.arange(0, top_radius + step / 2, step):
        y = round(high - (high - low) * tick / top_radius)
        cv2.line(panel, (low, y), (high, y), FAINT, 1)
        cv2.putText(panel, f"{tick:.0f}", (14, y + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    degrees = np.degrees(angles)
    _line(panel, place(degrees, focal * angles), REFERENCE, 1)
    _line(panel, place(degrees, radius), CURVE, 2)
    note = f"red: this lens [px over deg]; grey: equidistant, {focal * math.pi / 180:.2f} px/deg as on the axis"
    cv2.putText(panel, note, (16, PANEL - 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return panel


def _nice_step(value: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at or above the value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def _panel(title: str) -> np.ndarray:
    panel = np.full((PANEL, PANEL, 3), WHITE, np.uint8)
    cv2.putText(panel, title, (16, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.55, INK, 1, cv2.LINE_AA)
    return panel


def _pixel(point: np.ndarray | tuple[float, float]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
