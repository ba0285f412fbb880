"""What training does to frames: geometry is exact, the rest changes images alone and leaves enough of them."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.networks.body import BodyHead
from egopose_ros.skeleton import SMPL22
from egopose_ros.training import appearance, augment, data
from egopose_ros.training.config import AugmentConfig
from stick_figures import draw_clip

PLAIN = AugmentConfig(
    mirror=0, roll_deg=0, lens=0, mono=0, colour=0, shade=0, noise=0, blur=0, cutout=0, lens_circle=0, gravity_deg=0
)


@pytest.mark.parametrize("views", [1, 2])
def test_geometric_changes_keep_truth_and_images_together(views):
    sample = data.decode(draw_clip(3, views=views), 0, 2)
    sample = dataclasses.replace(sample, T_world_reference=_poses(2))
    rolled = augment.roll(sample, np.array([0.4, -0.9])[:views])
    for changed in (rolled, augment.mirror(sample), augment.mirror(rolled)):
        T = torch.from_numpy(changed.T_reference_camera)
        joints = torch.from_numpy(changed.joints)[:, None].double() - T[:, None, :3, 3]
        pixels, _ = CANONICAL.project(torch.einsum("vba,tvjb->tvja", T[:, :3, :3], joints))
        np.testing.assert_allclose(changed.joints_px, pixels, atol=2e-3)
        np.testing.assert_allclose(np.linalg.det(changed.rotations), 1.0, atol=1e-4)
        np.testing.assert_allclose(np.linalg.det(changed.T_world_reference), 1.0, atol=1e-6)
    # Kinematics hold before and after, so rotations, joints and sides changed alike.
    for changed in (sample, rolled, augment.mirror(sample)):
        rest = BodyHead(32).rest.numpy()
        for parent, child in SMPL22.bones:
            bone = changed.rotations[:, parent] @ rest[child]
            np.testing.assert_allclose(changed.joints[:, child] - changed.joints[:, parent], bone, atol=1e-4)
    twice = augment.mirror(augment.mirror(sample))
    for field in dataclasses.fields(sample):
        np.testing.assert_allclose(getattr(twice, field.name), getattr(sample, field.name), atol=1e-4)
    np.testing.assert_array_equal(augment.roll(sample, np.full(views, np.pi / 2)).images, np.rot90(sample.images, -1, (2, 3)))


def test_mirroring_turns_what_the_head_does_around():
    sample = dataclasses.replace(data.decode(draw_clip(3), 0, 2), T_world_reference=_poses(2))
    changed = augment.mirror(sample)
    motion, other = (
        np.linalg.inv(s.T_world_reference[0]) @ s.T_world_reference[1] for s in (sample, changed)
    )
    np.testing.assert_allclose(other[:3, 3], motion[:3, 3] * [-1, 1, 1], atol=1e-6)
    down = np.array([0, 0, -1.0]) @ changed.T_world_reference[0, :3, :3]
    np.testing.assert_allclose(down, np.array([0, 0, -1.0]) @ sample.T_world_reference[0, :3, :3] * [-1, 1, 1], atol=1e-6)


def test_a_wrong_calibration_moves_pixels_and_not_the_truth():
    sample = data.decode(draw_clip(3), 0, 1)
    image = np.zeros_like(sample.images)
    column, row = np.rint(sample.joints_px[0, 0, SMPL22.index("left_wrist")]).astype(int)
    image[0, 0, row - 3 : row + 4, column - 3 : column + 4] = 255
    sample = dataclasses.replace(sample, images=image)
    for stretch in (0.9, 1.2):
        changed = augment.roll(sample, np.array([0.3]), np.array([stretch]))
        turned = augment.roll(sample, np.array([0.3]))
        np.testing.assert_array_equal(changed.joints, turned.joints)
        centre = CANONICAL.centre
        np.testing.assert_allclose(changed.joints_px - centre, stretch * (turned.joints_px - centre), atol=1e-9)
        spot = np.argwhere(changed.images[0, 0, ..., 0] > 127).mean(0)[::-1]
        np.testing.assert_allclose(spot, changed.joints_px[0, 0, SMPL22.index("left_wrist")], atol=1.5)


def test_a_part_of_a_pattern_is_that_part_of_the_whole():
    for seed in range(20):
        whole = appearance._look((0, 0, 256, 256), np.random.default_rng(seed)).astype(int)
        part = appearance._look((31, 77, 60, 90), np.random.default_rng(seed)).astype(int)
        assert part.shape == (90, 60, 3) and np.abs(part - whole[77:167, 31:91]).max() <= 8
        assert np.abs(part - whole[77:167, 31:91]).mean() < 0.5


def test_appearance_changes_images_only_and_by_the_seed():
    sample = data.decode(draw_clip(1), 0, 2)
    strong = AugmentConfig(mirror=0, roll_deg=0, lens=0, gravity_deg=0, cutout=1, blur=1, mono=0, lens_circle=1)
    one, two, other = (augment.augment(sample, strong, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.images, two.images)
    assert (one.images != other.images).any() and (one.images != sample.images).mean() > 0.5
    np.testing.assert_allclose(one.joints, sample.joints, atol=1e-6)
    np.testing.assert_array_equal(sample.images, data.decode(draw_clip(1), 0, 2).images)
    np.testing.assert_array_equal(augment.augment(sample, PLAIN, np.random.default_rng(0)).images, sample.images)


def test_what_covers_a_clip_stays_and_leaves_most_of_it():
    sample = data.decode(draw_clip(1), 0, 2)
    covers = dataclasses.replace(PLAIN, cutout=1)
    shares, looks = [], []
    for seed in range(60):
        changed = augment.augment(sample, covers, np.random.default_rng(seed)).images[:, 0]
        other = (changed != sample.images[:, 0]).any(-1)
        covered = other.all(0)
        shares.append(other[0].mean())
        assert other[0].any() and not other[0].all()
        assert (covered == other.any(0)).mean() > 0.95  # the same place in all frames, but where colours are alike
        looks.append(len(np.unique(changed[0][covered], axis=0)))
    assert 0.03 < np.mean(shares) < 0.2 and np.max(shares) > 0.2
    assert min(looks) <= 3 and max(looks) > 100  # plain colours, and patterns


def test_light_from_one_side_is_even_along_the_other():
    sample = dataclasses.replace(data.decode(draw_clip(1), 0, 1), images=np.full((1, 1, 256, 256, 3), 100, np.uint8))
    image = augment.augment(sample, dataclasses.replace(PLAIN, shade=0.4), np.random.default_rng(2)).images[0, 0]
    slope = np.log(image[..., 0] / 100.0)
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    fit = np.linalg.lstsq(np.stack([x.ravel(), y.ravel()], 1), slope.ravel(), rcond=None)[0]
    assert np.hypot(*fit) > 0.05
    np.testing.assert_allclose(slope, fit[0] * x + fit[1] * y, atol=0.02)


def _poses(count: int) -> np.ndarray:
    poses = np.stack([np.eye(4)] * count)
    poses[:, :3, :3] = Rotation.random(count, random_state=0).as_matrix()
    poses[:, :3, 3] = np.random.default_rng(0).normal(size=(count, 3))
    return poses
