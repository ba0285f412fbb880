"""OCam calibrations as they are met: JSON of the data sets, OCamCalib's text, py-OCamCalib's JSON.

All are brought to one convention (see `OCam`). Which sign of z, order and angle a file's inverse polynomial uses is
found by what agrees with its forward polynomial.
"""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

from egopose_ros.camera.angular import AXIS, OCam
from egopose_ros.camera.fields import integers, matrix, number, numbers, require
from egopose_ros.camera.validation import check_circle, with_trusted_angle

FIT_TOLERANCE_PX = 0.01
MAXIMUM_DEGREE = 16


def from_json(data: dict[str, Any]) -> OCam:
    """Read the JSON of SceneEgo, EgoPW, UnrealEgo, Ego4View and EventEgo3D++."""
    size = tuple(integers(data, "size", 2))
    if "image_center" in data:
        centre = tuple(numbers(data, "image_center", 2))
        c, d, e = numbers(data, "affine", 3) if "affine" in data else (1.0, 0.0, 0.0)
    else:
        rows = _rows(data, "intrinsic", "the centre, as 'image_center' or 'intrinsic'")
        if min(len(row) for row in rows) < 3:
            raise ValueError(f"intrinsic: expected rows of 3 numbers or more, got {rows}")
        centre = (rows[0][2], rows[1][2])
        # The code that made these data sets ignores the affine part, so their pixels are without it.
        c, d, e = 1.0, 0.0, 0.0
    w2c = numbers(data, "polynomialW2C") if "polynomialW2C" in data else None
    circle = number(data, "imageCircleRadius") if "imageCircleRadius" in data else None
    return make(size, centre, numbers(data, "polynomialC2W"), w2c, (c, d, e, 1.0), circle)


def from_py_ocamcalib(data: dict[str, Any]) -> OCam:
    """Read py-OCamCalib's JSON, to which the image size must have been added as 'size': it does not write one."""
    require(data, "size", "'size': [width, height], which py-OCamCalib does not write; add it")
    affine = tuple(matrix(data, "stretch_matrix", 2, 2).ravel().tolist())
    w2c = numbers(data, "inverse_poly") if "inverse_poly" in data else None
    centre = tuple(numbers(data, "distortion_center", 2))
    return make(tuple(integers(data, "size", 2)), centre, numbers(data, "taylor_coefficient"), w2c, affine, None)


def from_text(text: str) -> OCam:
    """Read the calib_results.txt of Scaramuzza's toolbox, whose axes are (row, column)."""
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    try:
        rows = [[float(word) for word in line] for line in lines if line]
    except ValueError as error:
        raise ValueError(f"OCamCalib text: expected numbers and # comments, got {error}") from None
    expected = "two polynomials with their lengths, centre, affine parameters and size"
    if len(rows) < 5 or [len(row) for row in rows[2:5]] != [2, 3, 2]:
        raise ValueError(f"OCamCalib text: expected {expected}, got rows of {[len(row) for row in rows]} numbers")
    for row in rows[:2]:
        if len(row) != row[0] + 1:
            raise ValueError(f"OCamCalib text: expected {row[0]:g} coefficients, got {len(row) - 1}")
    c2w, w2c, (row_centre, column_centre), (c, d, e), (height, width) = (rows[0][1:], rows[1][1:], *rows[2:5])
    size = tuple(integers({"size": [width, height]}, "size", 2))
    return make(size, (column_centre, row_centre), c2w, w2c, (1.0, e, d, c), None)


def make(
    size: tuple[int, int],
    centre: tuple[float, float],
    c2w: Sequence[float],
    w2c: Sequence[float] | None,
    affine: tuple[float, ...],
    circle_radius_px: float | None,
    max_angle: float | None = None,
) -> OCam:
    """Build a model from polynomials of any convention; without `w2c` it is fitted."""
    if not c2w or not c2w[0]:
        raise ValueError(f"OCam: expected C2W coefficients with a non-zero first one, got {list(c2w)}")
    sign = -1.0 if c2w[0] > 0 else 1.0
    c2w = tuple(sign * a for a in c2w)
    corners = [math.hypot(x - centre[0], y - centre[1]) for x in (0, size[0] - 1) for y in (0, size[1] - 1)]
    radius = max(corners)
    if circle_radius_px is not None:
        check_circle(size, circle_radius_px)
        radius = min(radius, circle_radius_px)
    w2c = fit_w2c(c2w, radius) if w2c is None else _to_convention(c2w, w2c, radius)
    model = OCam(size=size, centre=centre, c2w=c2w, w2c=w2c, affine=affine, max_angle=max_angle or math.pi)
    return model if max_angle else with_trusted_angle(model, circle_radius_px)


def fit_w2c(c2w: Sequence[float], radius_px: float) -> tuple[float, ...]:
    """Fit the inverse polynomial, lowest order first, up to a radius, or to less if that takes too high a degree.

    ValueError if not even half of the radius can be fitted within 0.01 px.
    """
    theta, rho = _samples(c2w, radius_px)
    for part in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        inner = rho <= part * radius_px
        for degree in range(4, MAXIMUM_DEGREE + 1):
            fit = np.polynomial.Polynomial.fit(theta[inner], rho[inner], degree)
            error = float(np.abs(fit(theta[inner]) - rho[inner]).max())
            if error < FIT_TOLERANCE_PX:
                return tuple(float(b) for b in fit.convert().coef)
    raise ValueError(
        f"OCam: expected C2W to have an inverse polynomial within {FIT_TOLERANCE_PX} px, the best misses by {error:.3g}"
    )


def _rows(data: dict[str, Any], key: str, expected: str) -> list[tuple[float, ...]]:
    """Return the first two rows of a matrix of any size."""
    value = require(data, key, expected)
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError(f"{key}: expected {expected}, got {value!r}")
    return [numbers({key: row}, key) for row in value[:2]]


def _samples(c2w: Sequence[float], radius_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (theta, rho) of the forward polynomial, as far as the angle grows."""
    rho = np.linspace(0.0, radius_px, 2001)
    with np.errstate(over="ignore", invalid="ignore"):
        theta = np.arctan2(np.polynomial.polynomial.polyval(rho, c2w), rho)
    grows = np.concatenate([[True], np.diff(theta) > 0]).cumprod().astype(bool)
    if grows.sum() < 100:
        raise ValueError("OCam: expected C2W whose angle grows with the radius, got one that falls from the centre on")
    return theta[grows], rho[grows]


def _to_convention(c2w: Sequence[float], w2c: Sequence[float], radius_px: float) -> tuple[float, ...]:
    """Return the reading of an inverse polynomial that agrees best with the forward one, lowest order first."""
    theta, rho = _samples(c2w, radius_px)
    readings = [reading for order in (w2c, w2c[::-1]) for reading in _readings(np.array(order, np.float64))]
    polyval = np.polynomial.polynomial.polyval
    errors = [float(np.median(np.abs(polyval(theta, reading) - rho))) for reading in readings]
    return tuple(float(b) for b in readings[int(np.argmin(errors))])


def _readings(w2c: np.ndarray) -> list[np.ndarray]:
    """Return coefficients against theta of one that is against theta, -theta, or the angle from the axis."""
    from_axis = np.polynomial.Polynomial(w2c)(np.polynomial.Polynomial([-AXIS, 1.0])).coef
    return [w2c, w2c * (-1.0) ** np.arange(len(w2c)), from_axis]
