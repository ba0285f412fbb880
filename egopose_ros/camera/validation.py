"""What a calibration must satisfy before anything is believed that comes from it."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

from egopose_ros.camera.interface import CameraModel, Model, pixel_grid

ROUND_TRIP_TOLERANCE_PX = 0.25
TRUST_TOLERANCE_PX = 0.1
"""where the field of view is not declared, it ends where the two directions part by more"""

MAXIMUM_UNDECLARED_ANGLE = math.radians(110.0)
"""no calibration target reaches further, so a polynomial says little there unless its file declares it"""

MINIMUM_ANGLE = math.radians(10.0)
MINIMUM_COVERAGE = 0.25
"""of the largest circle that fits on the sensor"""

ANGLE_STEP = math.radians(0.1)
AZIMUTHS = 64


def trust_angle(model: CameraModel) -> float:
    """Return how far from the axis [rad] a model can be trusted and is of use.

    That is where the image radius stops to grow, or the two directions of the formula part, or no azimuth is on the
    sensor any more: whichever comes first. The model's own `max_angle` bounds the search.
    """
    angles, rays = _fan(model.max_angle)
    pixels = model.project(rays)[0]
    grows = (_radius(model, pixels).diff(dim=1) > 0).all(0)
    used = model.contains(pixels).any(0)[:-1]
    last = int((grows & used).int().cumprod(0).sum()) - 1
    if last < 1:
        return 0.0
    # The inverse is only defined where the radius grows, so it is asked of the narrower model.
    model = dataclasses.replace(model, max_angle=float(angles[last]))
    pixels = pixels[:, : last + 1]
    agrees = (model.project(model.unproject(pixels)[0])[0] - pixels).norm(dim=-1) < TRUST_TOLERANCE_PX
    agrees = (agrees | ~model.contains(pixels)).all(0)
    return float(angles[max(0, int(agrees.int().cumprod(0).sum()) - 1)])


def angle_at_radius(model: CameraModel, radius_px: float) -> float:
    """Return the angle [rad] that a lens circle of so many pixels ends at, by its narrowest azimuth."""
    angles, rays = _fan(model.max_angle)
    inside = (_radius(model, model.project(rays)[0]) <= radius_px).all(0)
    return float(angles[inside.int().cumprod(0).bool()].max())


def with_trusted_angle(model: Model, circle_radius_px: float | None = None) -> Model:
    """Return a model made with its largest angle, narrowed to what can be trusted and to the lens circle."""
    check_centre(model)
    angle = min(trust_angle(model), MAXIMUM_UNDECLARED_ANGLE)
    if angle < MINIMUM_ANGLE:
        raise ValueError(
            f"expected a field of view of {2 * math.degrees(MINIMUM_ANGLE):.0f} deg or more, "
            f"but the radius grows, and project and unproject agree, over {2 * math.degrees(angle):.1f} deg only"
        )
    if circle_radius_px is not None:
        angle = min(angle, angle_at_radius(model, circle_radius_px))
    return dataclasses.replace(model, max_angle=angle)


def check_model(model: CameraModel) -> None:
    """Raise ValueError with the reason unless a camera is sound over the field of view that it declares."""
    check_centre(model)
    if model.max_angle < MINIMUM_ANGLE:
        raise ValueError(
            f"expected a field of view of {2 * math.degrees(MINIMUM_ANGLE):.0f} deg or more, "
            f"got {2 * math.degrees(model.max_angle):.1f} deg"
        )
    _check_monotone(model)
    _check_round_trip(model)
    coverage = inscribed_coverage(model)
    if coverage < MINIMUM_COVERAGE:
        raise ValueError(
            f"expected the lens to image at least {MINIMUM_COVERAGE:.0%} of the largest circle on the "
            f"{model.size[0]}x{model.size[1]} sensor, got {coverage:.1%}: a placeholder, or another image size"
        )


def check_centre(model: CameraModel) -> None:
    """Raise ValueError unless the centre is in the image, and not nearer to its middle with x and y swapped."""
    (width, height), (x, y) = model.size, model.centre
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
        raise ValueError(f"centre: expected a point in the {width}x{height} image, got ({x:.1f}, {y:.1f})")
    written = max(abs(x / width - 0.5), abs(y / height - 0.5))
    swapped = max(abs(x / height - 0.5), abs(y / width - 0.5))
    if written > 0.06 and swapped < written / 3:
        raise ValueError(
            f"size {width}x{height} and centre ({x:.1f}, {y:.1f}) do not belong together: expected both (x, y), "
            f"but one of them seems to be (row, column), as the centre is the middle of a {height}x{width} image"
        )


def check_circle(size: tuple[int, int], radius_px: float) -> None:
    """Raise ValueError unless a lens circle fits the size of its image."""
    low, high = 0.25 * min(size), math.hypot(*size)
    if not low <= radius_px <= high:
        raise ValueError(
            f"image circle: expected a radius of {low:.0f} to {high:.0f} px in a {size[0]}x{size[1]} image, "
            f"got {radius_px:g} px"
        )


def round_trip_error_px(model: CameraModel) -> float:
    """Return the largest |project(unproject(p)) - p| over a grid of valid pixels."""
    pixels = _grid(model)
    rays, valid = model.unproject(pixels)
    error = (model.project(rays)[0] - pixels).norm(dim=-1)[valid]
    return float(error.max()) if len(error) else 0.0


def inscribed_coverage(model: CameraModel) -> float:
    """Return the part of the largest centred circle on the sensor that the lens images."""
    pixels = _grid(model)
    middle = (torch.tensor(model.size, dtype=torch.float64) - 1.0) / 2.0
    inscribed = (pixels - middle).norm(dim=-1) <= min(model.size) / 2.0
    return float(model.unproject(pixels)[1][inscribed].double().mean())


def _check_monotone(model: CameraModel) -> None:
    angles, rays = _fan(model.max_angle)
    grows = (_radius(model, model.project(rays)[0]).diff(dim=1) > 0).all(0)
    if not grows.all():
        stop = math.degrees(angles[int((~grows).int().argmax())])
        raise ValueError(
            f"expected the image radius to grow up to {math.degrees(model.max_angle):.1f} deg from the axis "
            f"(half of the field of view), but it stops growing at {stop:.1f} deg"
        )


def _check_round_trip(model: CameraModel) -> None:
    error = round_trip_error_px(model)
    if not error <= ROUND_TRIP_TOLERANCE_PX:
        raise ValueError(
            f"expected project(unproject(pixel)) to return within {ROUND_TRIP_TOLERANCE_PX} px, it misses by up to "
            f"{error:.3g} px: the two directions of the calibration do not belong together"
        )


def _fan(max_angle: float) -> tuple[Float[Tensor, " angles"], Float[Tensor, "azimuths angles 3"]]:
    """Return angles from the axis and rays at each, in every azimuth."""
    count = max(2, math.ceil(max_angle / ANGLE_STEP) + 1)
    angles = torch.linspace(0.0, max_angle, count, dtype=torch.float64)
    azimuths = (torch.arange(AZIMUTHS, dtype=torch.float64) * (2 * math.pi / AZIMUTHS))[:, None]
    x, y = azimuths.cos() * angles.sin(), azimuths.sin() * angles.sin()
    return angles, torch.stack([x, y, angles.cos().expand_as(x)], -1)


def _radius(model: CameraModel, pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(model.centre, dtype=torch.float64)).norm(dim=-1)


def _grid(model: CameraModel) -> Float[Tensor, "n 2"]:
    """Return about 10,000 pixels spread over the sensor."""
    step = max(1, round(math.sqrt(model.size[0] * model.size[1]) / 100))
    return pixel_grid(model.size, torch.float64)[::step, ::step].reshape(-1, 2)
