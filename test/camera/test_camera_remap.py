"""Any camera in, one camera to the networks: what is seen does not depend on the lens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.interface import CameraModel, pixel_grid
from egopose_ros.camera.models import KannalaBrandt
from egopose_ros.camera.remap import Remapper
from egopose_ros.camera.rig import mounted_rotation


def environment(rays: torch.Tensor) -> torch.Tensor:
    """Return the smooth colour (..., 3), 0 to 255, that lies in each direction: a scene at infinity."""
    x, y, z = rays.double().unbind(-1)
    red = torch.sin(5 * x + 2 * y) * torch.cos(4 * z)
    green = torch.sin(6 * y - z) * torch.cos(3 * x * z)
    blue = torch.sin(4 * z + 3 * x * y)
    return 127.5 + 100.0 * torch.stack([red, green, blue], -1)


def photograph(model: CameraModel, R_world_camera: np.ndarray | None = None) -> np.ndarray:
    """Return what a camera sees of the environment, (H, W, 3) uint8, black outside of the lens."""
    rays, valid = model.unproject(pixel_grid(model.size, torch.float64))
    R = torch.eye(3, dtype=torch.float64) if R_world_camera is None else torch.from_numpy(R_world_camera)
    return torch.where(valid[..., None], environment(rays @ R.T), 0.0).round().to(torch.uint8).numpy()


def away_from_edges(valid: np.ndarray, width: int = 2) -> np.ndarray:
    """Shrink a mask: next to the lens' rim a sample may contain the black beyond it."""
    for _ in range(width):
        padded = np.pad(valid, 1)
        valid = valid & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return valid


def test_the_same_scene_through_every_model_is_the_same_canonical_image(model: CameraModel) -> None:
    expected = photograph(CANONICAL).astype(int)
    remapper = Remapper(model)
    seen = remapper.numpy(photograph(model))
    mask = away_from_edges(remapper.valid)
    assert seen.shape == (256, 256, 3) and seen.dtype == np.uint8
    assert mask.mean() > 0.2
    difference = np.abs(seen.astype(int) - expected)[mask]
    assert difference.max() <= 4 and difference.mean() < 0.5
    assert not seen[~remapper.valid].any()


@pytest.mark.parametrize("name", ["ocam", "fisheye624", "pinhole"])
def test_opencv_and_torch_agree(cameras: dict[str, CameraModel], name: str) -> None:
    model = cameras[name]
    image = photograph(model)
    # A busy image, so that a shift of a fraction of a pixel would show.
    image[::7] = 255 - image[::7]
    remapper = Remapper(model)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None, None].repeat(2, 1, 1, 1, 1)
    sampled = remapper.torch(batch)
    assert sampled.shape == (2, 1, 3, 256, 256) and sampled.dtype == torch.uint8
    assert torch.equal(sampled[0], sampled[1])
    difference = np.abs(remapper.numpy(image).astype(int) - sampled[0, 0].permute(1, 2, 0).numpy())
    # OpenCV places samples to 1/32 px and rounds twice.
    assert difference.max() <= 8 and difference.mean() < 0.6


def test_mono_becomes_three_equal_channels(cameras: dict[str, CameraModel]) -> None:
    model = cameras["ocam"]
    mono = photograph(model)[..., 0].copy()
    remapper = Remapper(model)
    seen = remapper.numpy(mono)
    assert np.array_equal(seen, remapper.numpy(np.repeat(mono[..., None], 3, 2)))
    assert np.array_equal(seen, remapper.numpy(mono[..., None]))
    sampled = remapper.torch(torch.from_numpy(mono)[None])
    assert sampled.shape == (3, 256, 256)
    assert np.abs(sampled.permute(1, 2, 0).numpy().astype(int) - seen).max() <= 3


def test_canonical_input_passes_unchanged() -> None:
    image = photograph(CANONICAL)
    remapper = Remapper(CANONICAL)
    assert remapper.block == 1
    assert np.array_equal(remapper.numpy(image), image)


@pytest.mark.parametrize("mounted_deg", [0.0, 90.0, 180.0, 270.0, 33.0])
def test_a_camera_mounted_turned_gives_an_upright_image(cameras: dict[str, CameraModel], mounted_deg: float) -> None:
    R_camera_canonical = mounted_rotation(mounted_deg)
    model = cameras["ocam"]
    turned = photograph(model, R_world_camera=R_camera_canonical.T)
    remapper = Remapper(model, R_camera_canonical)
    mask = away_from_edges(remapper.valid)
    difference = np.abs(remapper.numpy(turned).astype(int) - photograph(CANONICAL))[mask]
    assert difference.max() <= 4


def test_fine_detail_does_not_alias(cameras: dict[str, CameraModel]) -> None:
    model = cameras["ocam"]
    checks = (np.indices((model.size[1], model.size[0])).sum(0) % 2 * 255).astype(np.uint8)
    mask = away_from_edges(Remapper(model).valid)
    assert Remapper(model).block == 4
    assert np.abs(Remapper(model).numpy(checks)[mask].astype(int) - 127.5).max() <= 1
    assert Remapper(model, block=1).numpy(checks)[mask].std() > 30


def test_block_sampling_stays_in_place(cameras: dict[str, CameraModel]) -> None:
    """A smooth scene is the same with and without averaging: the blocks' centres are where they should be."""
    model = cameras["ocam"].crop(3, 2, 1270, 1019)
    image = photograph(model)
    averaged, plain = Remapper(model), Remapper(model, block=1)
    mask = away_from_edges(averaged.valid)
    difference = averaged.numpy(image)[mask].astype(int) - plain.numpy(image)[mask]
    assert np.abs(difference).max() <= 4 and abs(difference.mean()) < 0.05


def test_torch_remap_is_differentiable() -> None:
    model = KannalaBrandt(size=(64, 48), centre=(31.5, 23.5), focal=(20.0, 20.0), k=(0.0,) * 4, max_angle=1.7)
    images = torch.rand(2, 3, 48, 64, requires_grad=True)
    Remapper(model).torch(images).sum().backward()
    assert torch.isfinite(images.grad).all() and (images.grad > 0).float().mean() > 0.9


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((480, 641), np.uint8), "expected 640x480 as in the calibration, got 641x480"),
        (np.zeros((640, 480, 3), np.uint8), "expected 640x480 as in the calibration, got 480x640"),
        (np.zeros((480, 640), np.uint16), r"expected .* uint8, got \(480, 640\) uint16"),
        (np.zeros((480, 640, 4), np.uint8), r"got \(480, 640, 4\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(cameras: dict[str, CameraModel], image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Remapper(cameras["eucm"]).numpy(image)


def test_torch_images_that_do_not_fit_are_refused(cameras: dict[str, CameraModel]) -> None:
    remapper = Remapper(cameras["eucm"])
    with pytest.raises(ValueError, match="1 or 3, height, width"):
        remapper.torch(torch.zeros(2, 480, 640))
    with pytest.raises(ValueError, match="expected 640x480"):
        remapper.torch(torch.zeros(3, 640, 480))


def test_mask_is_the_lens(cameras: dict[str, CameraModel]) -> None:
    narrow = KannalaBrandt(
        size=(800, 800), centre=(399.5, 399.5), focal=(250.0,) * 2, k=(0.0,) * 4, max_angle=math.radians(50.0)
    )
    valid = Remapper(narrow).valid
    expected = math.pi / 4 * 0.5**2  # half of the canonical angle, a quarter of its circle
    assert abs(valid.mean() - expected) < 2e-3
