"""Every model: project and unproject are inverse, differentiable, batched, and follow the edits of an image."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.interface import CameraModel, pixel_grid, quarter_turn_matrix
from egopose_ros.camera.models import MODELS, EUCM, DoubleSphere, KannalaBrandt, Pinhole

# OCam's two polynomials are fitted to each other; everything else is an inverse to the last digits.
ROUND_TRIP_PX = {"OCam": 0.02}


def rays_within(model: CameraModel, count: int = 2000, seed: int = 0) -> torch.Tensor:
    """Return unit rays (count, 3) spread over the lens, near its axis and near its rim too."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(count, generator=generator, dtype=torch.float64)
    angle = model.max_angle * (1 - 1e-6) * torch.where(torch.arange(count) % 4 == 0, u**8, u)
    azimuth = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.stack([angle.sin() * azimuth.cos(), angle.sin() * azimuth.sin(), angle.cos()], -1)


def angle_sweep(limit: float) -> torch.Tensor:
    """Return rays (n, 3) in the x-z plane from the axis to an angle."""
    angle = torch.linspace(0.0, limit, 500, dtype=torch.float64)
    return torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], -1)


def test_every_model_has_a_case(cameras: dict[str, CameraModel]) -> None:
    assert {type(model) for model in cameras.values()} == set(MODELS.values())


def test_project_inverts_unproject(model: CameraModel) -> None:
    pixels = pixel_grid(model.size, torch.float64)
    rays, valid = model.unproject(pixels)
    again, valid_again = model.project(rays)
    assert 0.5 < valid.double().mean() <= 1.0
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones_like(rays[..., 0]))
    # On the rim itself rounding may decide either way.
    inner = valid & (rays[..., 2] > math.cos(model.max_angle - 1e-4))
    assert valid_again[inner].all()
    error = (again - pixels)[valid].norm(dim=-1).max()
    assert error < ROUND_TRIP_PX.get(type(model).__name__, 1e-9)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(distance=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
def test_unproject_inverts_project_at_any_distance(model: CameraModel, distance: float, seed: int) -> None:
    rays = rays_within(model, 64, seed)
    pixels, valid = model.project(rays * distance)
    again, valid_again = model.unproject(pixels)
    tolerance = 1e-4 if type(model).__name__ == "OCam" else 1e-9
    assert (again - rays).norm(dim=-1).max() < tolerance
    assert torch.equal(valid, model.contains(pixels))
    inner = rays[..., 2] > math.cos(model.max_angle - 1e-3)
    assert torch.equal(valid[inner], valid_again[inner])


def test_valid_ends_at_the_declared_angle_and_at_the_border(model: CameraModel) -> None:
    wide = model.pad(2000, 2000, 2000, 2000)
    rays = rays_within(model)
    assert wide.project(rays)[1].all()
    azimuth = torch.linspace(0, 6.28, 50, dtype=torch.float64)
    for angle in torch.linspace(model.max_angle + 1e-3, math.pi, 20, dtype=torch.float64):
        beyond = torch.stack([angle.sin() * azimuth.cos(), angle.sin() * azimuth.sin(), angle.cos().expand(50)], -1)
        pixels, valid = wide.project(beyond)
        assert not valid.any()
        assert torch.isfinite(pixels).all()
    width, height = model.size
    border = torch.tensor([[-0.51, 10.0], [width - 0.49, 10.0], [10.0, -0.51], [10.0, height - 0.49]])
    assert not model.unproject(border)[1].any()
    assert not model.project(torch.zeros(3))[1]
    assert not model.project(torch.full((3,), torch.nan))[1]


def test_gradients_equal_finite_differences(model: CameraModel) -> None:
    points = (rays_within(model, 16) * 0.7).requires_grad_()
    # Near the axis OCam's formula has a step as large as its fit's error there.
    if type(model).__name__ == "OCam":
        points = points[points[:, :2].norm(dim=-1) > 5e-3 * points[:, 2].abs()].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: model.project(p)[0], points, eps=1e-7, atol=1e-2, rtol=1e-4)
    inner = model.project(points.detach() * 1.0)[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda p: model.unproject(p)[0], inner, eps=1e-3, atol=1e-6, rtol=1e-3)


def test_gradients_on_the_axis_are_those_beside_it(model: CameraModel) -> None:
    def jacobian(point: list[float]) -> torch.Tensor:
        point = torch.tensor(point, dtype=torch.float64)
        return torch.autograd.functional.jacobian(lambda p: model.project(p)[0], point)

    on_axis = jacobian([0.0, 0.0, 0.8])
    torch.testing.assert_close(on_axis, jacobian([0.005, 0.004, 0.8]), rtol=2e-2, atol=4.0)
    assert torch.linalg.det(on_axis[:, :2]) > 0
    centre = torch.tensor(model.centre, dtype=torch.float64)
    ray_jacobian = torch.autograd.functional.jacobian(lambda p: model.unproject(p)[0], centre)
    torch.testing.assert_close(on_axis[:, :2] @ ray_jacobian[:2] * 0.8, torch.eye(2).double(), rtol=0, atol=1e-3)


def test_gradients_are_finite_everywhere(model: CameraModel) -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(500, 3, generator=generator)
    special = torch.tensor([[0, 0, 1], [0, 0, -1], [1, 0, 0], [0, 1, 0], [0, 0, 0], [1e-12, 0, 1], [0, 1e-12, -1.0]])
    points = torch.cat([points, special]).requires_grad_()
    pixels, _ = model.project(points)
    pixels.sum().backward()
    assert torch.isfinite(pixels).all() and torch.isfinite(points.grad).all()
    far = (torch.rand(500, 2, generator=generator) * 6000 - 2500).requires_grad_()
    rays, _ = model.unproject(far)
    rays.sum().backward()
    assert torch.isfinite(rays).all() and torch.isfinite(far.grad).all()


def test_any_batch_shape_and_precision(model: CameraModel) -> None:
    rays = rays_within(model, 24)
    flat, valid = model.project(rays)
    for shape in [(24,), (2, 12), (1, 4, 3, 2), (24, 1)]:
        pixels, mask = model.project(rays.reshape(*shape, 3))
        assert pixels.shape == (*shape, 2) and mask.shape == shape and mask.dtype == torch.bool
        assert torch.equal(pixels.reshape(-1, 2), flat) and torch.equal(mask.reshape(-1), valid)
        again, mask = model.unproject(pixels)
        assert again.shape == (*shape, 3) and mask.shape == shape
    assert model.project(rays[:0])[0].shape == (0, 2)
    single, _ = model.project(rays.float())
    assert single.dtype == torch.float32
    assert (single.double() - flat).abs().max() < 2e-3


def test_works_on_any_device(model: CameraModel) -> None:
    """The meta device refuses to mix with others and to read values: no hidden transfer, no synchronisation."""
    pixels, valid = model.project(torch.empty(4, 5, 3, device="meta"))
    assert pixels.device.type == valid.device.type == "meta" and pixels.shape == (4, 5, 2)
    rays, valid = model.unproject(pixels)
    assert rays.device.type == valid.device.type == "meta" and rays.shape == (4, 5, 3)


def test_edits_commute_with_projection(model: CameraModel) -> None:
    rays = rays_within(model, 500)
    pixels, _ = model.project(rays)
    width, height = model.size
    (x, y), whole = pixels.unbind(-1), model.contains(pixels)

    cropped, valid = model.crop(20, 30, width - 60, height - 70).project(rays)
    torch.testing.assert_close(cropped, torch.stack([x - 20, y - 30], -1))
    inside = (x >= 19.5) & (x <= width - 40.5) & (y >= 29.5) & (y <= height - 40.5)
    assert torch.equal(valid, inside)

    padded = model.pad(7, 8, 9, 10)
    assert padded.size == (width + 16, height + 18)
    torch.testing.assert_close(padded.project(rays)[0], torch.stack([x + 7, y + 8], -1))

    resized, valid = model.resize(width // 2, height * 3).project(rays)
    torch.testing.assert_close(resized, torch.stack([(x + 0.5) / 2 - 0.5, (y + 0.5) * 3 - 0.5], -1))
    assert torch.equal(valid, whole)

    for quarter_turns in range(-1, 5):
        turned = model.rotate(quarter_turns)
        R_new_old = torch.tensor(quarter_turn_matrix(quarter_turns), dtype=torch.float64)
        expected = [(x, y), (y, width - 1 - x), (width - 1 - x, height - 1 - y), (height - 1 - y, x)]
        turned_pixels, valid = turned.project(rays @ R_new_old.T)
        torch.testing.assert_close(turned_pixels, torch.stack(expected[quarter_turns % 4], -1))
        assert torch.equal(valid, whole)
        again, _ = turned.unproject(turned_pixels)
        torch.testing.assert_close(again, rays @ R_new_old.T, rtol=0, atol=1e-4)


def test_rotate_is_what_rot90_does_to_the_pixels(cameras: dict[str, CameraModel]) -> None:
    model = cameras["ocam"].resize(128, 102)
    rays, _ = model.unproject(pixel_grid(model.size, torch.float64))
    for quarter_turns in (1, 2, 3):
        turned = model.rotate(quarter_turns)
        turned_rays, _ = turned.unproject(pixel_grid(turned.size, torch.float64))
        R_new_old = np.array(quarter_turn_matrix(quarter_turns))
        np.testing.assert_allclose(turned_rays, np.rot90(rays.numpy(), quarter_turns) @ R_new_old.T, atol=1e-9)


def test_kannala_brandt_equals_opencv(cameras: dict[str, CameraModel]) -> None:
    model = cameras["kannala_brandt"]
    rays = rays_within(model)
    rays = rays[rays[:, 2] > 0.05]  # OpenCV divides by z
    K = np.array([[model.focal[0], 0, model.centre[0]], [0, model.focal[1], model.centre[1]], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(rays.numpy()[None], np.zeros(3), np.zeros(3), K, np.array(model.k))
    np.testing.assert_allclose(model.project(rays)[0], expected[0], atol=1e-8)


@pytest.mark.parametrize("used", [4, 5, 8])
def test_pinhole_equals_opencv(used: int) -> None:
    coefficients = (-0.15, 0.03, 0.001, -0.002, 0.004, 0.05, 0.06, 0.005)[:used]
    model = Pinhole(
        size=(640, 480),
        centre=(322.3, 236.1),
        focal=(260.0, 262.0),
        distortion=(*coefficients, *(0.0,) * (8 - used)),
        max_angle=math.radians(40.0),
    )
    rays = rays_within(model)
    K = np.array([[260.0, 0, 322.3], [0, 262.0, 236.1], [0, 0, 1]])
    expected, _ = cv2.projectPoints(rays.numpy(), np.zeros(3), np.zeros(3), K, np.array(coefficients))
    np.testing.assert_allclose(model.project(rays)[0], expected[:, 0], atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(xi=st.floats(-0.3, 0.3), alpha=st.floats(0.05, 0.8), seed=st.integers(0, 2**31))
def test_double_sphere_and_eucm_meet_in_the_unified_model(xi: float, alpha: float, seed: int) -> None:
    base = dict(size=(640, 480), centre=(320.0, 240.0), focal=(150.0, 150.0), max_angle=0.5)
    limit = DoubleSphere(**base, xi=xi, alpha=alpha).angle_limit
    base["max_angle"] = min(limit, EUCM(**base, alpha=alpha, beta=1.0).angle_limit) - 0.02
    rays = rays_within(EUCM(**base, alpha=alpha, beta=1.0), 50, seed)
    one_sphere = DoubleSphere(**base, xi=0.0, alpha=alpha).project(rays)[0]
    torch.testing.assert_close(EUCM(**base, alpha=alpha, beta=1.0).project(rays)[0], one_sphere)
    # The literal formula of Usenko et al. 2018, for any xi.
    x, y, z = rays.unbind(-1)
    d1 = rays.norm(dim=-1)
    d2 = (x * x + y * y + (xi * d1 + z) ** 2).sqrt()
    expected = 150.0 * x / (alpha * d2 + (1 - alpha) * (xi * d1 + z)) + 320.0
    model = DoubleSphere(**base | {"max_angle": limit}, xi=xi, alpha=alpha)
    torch.testing.assert_close(model.project(rays)[0][:, 0], expected)
    rays = rays_within(model, 50, seed)
    torch.testing.assert_close(model.unproject(model.project(rays)[0])[0], rays, rtol=0, atol=1e-6)
    radius = (model.project(angle_sweep(limit))[0] - 320.0)[:, 0]
    assert (radius.diff() > 0).all()


def test_fisheye624_equals_its_published_formula(cameras: dict[str, CameraModel]) -> None:
    model = cameras["fisheye624"]
    rays = rays_within(model, 300)
    x, y, z = rays.unbind(-1)
    theta, phi = torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x)
    radius = theta + sum(k * theta ** (2 * i + 3) for i, k in enumerate(model.k))
    u, v = radius * phi.cos(), radius * phi.sin()
    (p0, p1), (s0, s1, s2, s3), square = model.p, model.s, radius * radius
    du = (2 * u * u + square) * p0 + 2 * u * v * p1 + s0 * square + s1 * square**2
    dv = (2 * v * v + square) * p1 + 2 * u * v * p0 + s2 * square + s3 * square**2
    expected = torch.stack([u + du, v + dv], -1) * 200.0 + torch.tensor(model.centre, dtype=torch.float64)
    torch.testing.assert_close(model.project(rays)[0], expected)


def test_canonical_camera_is_equidistant() -> None:
    angles = torch.tensor([0.0, 30.0, 90.0, 100.0], dtype=torch.float64).deg2rad()
    rays = torch.stack([angles.sin(), torch.zeros(4), angles.cos()], -1)
    pixels, valid = CANONICAL.project(rays)
    expected = torch.tensor([127.5, 165.9, 242.7, 255.5], dtype=torch.float64)
    torch.testing.assert_close(pixels[:, 0], expected)
    assert valid[:3].all()
    assert abs(CANONICAL.unproject(pixel_grid(CANONICAL.size))[1].double().mean() - math.pi / 4) < 1e-3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: KannalaBrandt(size=(0, 5), centre=(0, 0), focal=(1, 1), k=(0,) * 4, max_angle=1), "positive width"),
        (lambda: KannalaBrandt(size=(5, 5), centre=(0, 0), focal=(1, 1), k=(0,) * 3, max_angle=1), "expected 4"),
        (lambda: KannalaBrandt(size=(5, 5), centre=(0, 0), focal=(1, -1), k=(0,) * 4, max_angle=1), "above zero"),
        (lambda: KannalaBrandt(size=(5, 5), centre=(0, math.nan), focal=(1, 1), k=(0,) * 4, max_angle=1), "finite"),
        (lambda: Pinhole(size=(5, 5), centre=(2, 2), focal=(3, 3), max_angle=1.6), "at most 89.94 deg.*got 91.67"),
        (lambda: EUCM(size=(5, 5), centre=(2, 2), focal=(3, 3), alpha=1.2, beta=1, max_angle=1), "alpha: expected 0"),
        (lambda: CANONICAL.crop(0, 0, 257, 10), "expected a part of the 256x256 image, got 257x10"),
    ],
)
def test_impossible_parameters_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
