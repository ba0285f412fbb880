"""What the sensor does to light, and what inertial sensors and heatmaps state."""

import cv2
import numpy as np
import pytest
import torch

from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import Visibility
from egopose_ros.synth import truth
from egopose_ros.synth.sensor import jpeg, motion_blur


def test_jpeg_loses_what_jpeg_loses():
    generator = np.random.default_rng(0)
    small = generator.integers(60, 190, (24, 24, 1)) + generator.integers(-25, 25, (24, 24, 3))
    image = cv2.resize(small.astype(np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
    for quality in (40, 75, 95):
        packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        coded = cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1].astype(float)
        ours = jpeg(tensor, quality)[0].permute(1, 2, 0).numpy() * 255.0
        theirs = np.abs(coded - image).mean()
        assert np.abs(ours - coded).mean() < 0.35 * theirs + 0.7
        assert 0.6 * theirs < np.abs(ours - image).mean() < 1.4 * theirs


def test_motion_blur_keeps_light_and_spreads_along_the_streak():
    image = torch.zeros(1, 32 * 32, 3)
    image[0, 16 * 32 + 16] = 1.0
    streak = torch.zeros(1, 32 * 32, 2)
    streak[..., 0] = 8.0
    blurred = motion_blur(image, streak, (32, 32)).view(32, 32, 3)
    assert blurred.sum().item() == pytest.approx(3.0, abs=1e-4)
    assert blurred[16].sum() == pytest.approx(3.0, abs=1e-4) and blurred[16, 16, 0] < 0.5
    assert torch.equal(motion_blur(image, 0 * streak, (32, 32)), image)


def test_a_turning_sensor_reads_its_rate_and_gravity():
    fps, frames, rate = 100.0, 200, 0.7
    angle = rate * np.arange(frames) / fps
    c, s, o, one = np.cos(angle), np.sin(angle), np.zeros(frames), np.ones(frames)
    R = np.stack([one, o, o, o, c, -s, o, s, c], -1).reshape(frames, 1, 3, 3).repeat(5, axis=1)  # about x
    track = truth.inertial_sensors(R, np.zeros((frames, 5, 3)), fps, np.random.default_rng(0))
    inner = slice(5, -5)
    np.testing.assert_allclose(track.angular_velocity[inner].mean(0), np.tile([rate, 0, 0], (5, 1)), atol=0.03)
    expected = np.einsum("tsji,j->tsi", R, [0, 0, truth.GRAVITY])
    np.testing.assert_allclose(track.specific_force[inner], expected[inner], atol=0.6)
    assert np.abs(track.specific_force - expected).std() > 0.01  # it is noisy all the same


def test_an_accelerating_sensor_feels_it():
    fps, frames = 100.0, 100
    places = np.zeros((frames, 5, 3))
    places[:, :, 1] = (0.5 * 3.0 * (np.arange(frames) / fps) ** 2)[:, None]
    track = truth.inertial_sensors(np.tile(np.eye(3), (frames, 5, 1, 1)), places, fps, np.random.default_rng(1))
    np.testing.assert_allclose(track.specific_force[5:-5].mean(0), np.tile([0, 3.0, 9.81], (5, 1)), atol=0.2)


def test_visibility_follows_the_picture():
    size = (20, 10)
    joints = torch.zeros(1, 22, 3)
    joints[..., 2] = 2.0
    pixels = torch.tensor([5.0, 5.0]).expand(1, 22, 2).clone()
    pixels[0, SMPL22.index("head")] = torch.tensor([40.0, 5.0])
    seen = torch.ones(200, dtype=torch.bool)
    part = torch.full((1, 200), SMPL22.index("left_elbow"), dtype=torch.int16)
    value = truth.joint_visibility(joints, pixels, seen, size, part, torch.full((1, 200), 1.95))[0]
    visible = {SMPL22.joints[i] for i in (value == Visibility.VISIBLE).nonzero()[:, 0].tolist()}
    assert visible == {"left_shoulder", "left_elbow", "left_wrist"}
    assert value[SMPL22.index("head")] == Visibility.OUT_OF_VIEW
    far = truth.joint_visibility(joints, pixels, seen, size, part, torch.full((1, 200), 1.0))[0]
    assert far[SMPL22.index("left_wrist")] == Visibility.OCCLUDED
    blind = truth.joint_visibility(joints, pixels, ~seen, size, part, torch.full((1, 200), 1.95))[0]
    assert (blind == Visibility.OUT_OF_VIEW).all()


def test_heatmaps_peak_where_joints_are_and_limbs_carry_their_slant():
    generator = torch.Generator().manual_seed(0)
    pixels = 40 + 170 * torch.rand(2, 22, 2, generator=generator)
    maps = truth.joint_heatmaps(pixels, (256, 256))
    peak = maps.flatten(2).argmax(-1)
    found = torch.stack([peak % 64, peak // 64], -1)
    assert ((pixels + 0.5) / 4 - 0.5 - found).abs().max() <= 0.51
    joints = torch.randn(2, 22, 3, generator=generator)
    limbs = truth.limb_heatmaps(pixels, joints, SMPL22, (256, 256))
    assert limbs.shape == (2, 21, 2, 64, 64)
    parent, child = SMPL22.bones[7]
    limb = joints[:, child] - joints[:, parent]
    slant = torch.atan2(limb[:, 2], limb[:, :2].norm(dim=-1))
    peak = limbs[:, 7].flatten(2)
    strongest = peak.norm(dim=1).amax(-1)
    torch.testing.assert_close(strongest, torch.ones(2), atol=1e-4, rtol=0)
    where = peak.norm(dim=1).argmax(-1)
    value = peak[torch.arange(2), :, where]
    torch.testing.assert_close(torch.atan2(value[:, 1], value[:, 0]), slant, atol=1e-4, rtol=0)
