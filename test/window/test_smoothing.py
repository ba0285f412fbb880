"""The One Euro filter: against its definition frame by frame, and what it is there for."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egopose_ros.config import SmoothingConfig
from egopose_ros.window.smoothing import MEMORY, Reading, remember, smooth

CONFIG = SmoothingConfig()
JOINTS = 5


def readings(count, seed=0, noise_m=0.02, speed_m_s=0.5):
    """Joints that move evenly and tremble, at uneven stamps."""
    rng = np.random.default_rng(seed)
    stamps = 10**18 + np.cumsum(rng.integers(15_000_000, 400_000_000, count))
    way = speed_m_s * rng.normal(size=(JOINTS, 3))
    elapsed = (stamps - stamps[0])[:, None, None] * 1e-9
    joints = rng.normal(size=(JOINTS, 3)) + elapsed * way + noise_m * rng.normal(size=(count, JOINTS, 3))
    turns = Rotation.from_rotvec(0.3 * rng.normal(size=(count * JOINTS, 3))).as_matrix().reshape(count, JOINTS, 3, 3)
    return [Reading(int(stamp), *pose) for stamp, *pose in zip(stamps, joints.astype(np.float32), turns.astype(np.float32))]


def by_definition(clip, values, config):
    """The filter of the paper, one reading after the other."""

    def share(cutoff, seconds):
        return 1.0 / (1.0 + 1.0 / (2.0 * np.pi * cutoff * seconds))

    calm, velocity = values[0].astype(np.float64), np.zeros_like(values[0], np.float64)
    for before, now, last, value in zip(clip, clip[1:], values, values[1:]):
        seconds = (now.stamp_ns - before.stamp_ns) * 1e-9
        velocity += share(1.0, seconds) * ((value - last) / seconds - velocity)
        speed = np.linalg.norm(velocity, axis=-1, keepdims=True)
        calm += share(config.cutoff_hz + config.cutoff_slope * speed, seconds) * (value - calm)
    return calm


@pytest.mark.parametrize("config", [CONFIG, SmoothingConfig(cutoff_hz=3.0, cutoff_slope=0.0)])
@pytest.mark.parametrize("count", [1, 2, MEMORY])
def test_it_is_the_filter_of_the_paper(config, count):
    clip = readings(count)
    joints, rotations = smooth(clip, config)
    np.testing.assert_allclose(joints, by_definition(clip, [r.joints for r in clip], config), atol=1e-5)
    scaled = [0.3 / np.sqrt(2.0) * r.rotations.reshape(JOINTS, 9) for r in clip]
    blended = by_definition(clip, scaled, config).reshape(JOINTS, 3, 3)
    closest = np.stack([Rotation.from_matrix(matrix / np.cbrt(np.linalg.det(matrix))).as_matrix() for matrix in blended])
    np.testing.assert_allclose(np.einsum("jab,jab->j", rotations, closest), 3.0, atol=0.02)
    np.testing.assert_allclose(rotations @ rotations.swapaxes(-1, -2), np.tile(np.eye(3), (JOINTS, 1, 1)), atol=1e-5)
    assert (np.linalg.det(rotations) > 0).all() and joints.dtype == rotations.dtype == np.float32


def test_it_depends_on_the_newest_readings_alone():
    clip, other = readings(3 * MEMORY), readings(3 * MEMORY, seed=1)
    kept = mixed = ()
    for index, reading in enumerate(clip):
        kept = remember(kept, reading)
        mixed = remember(mixed, reading if index >= 2 * MEMORY else other[index])
    assert len(kept) == MEMORY
    for one, two in zip(smooth(kept, CONFIG), smooth(mixed, CONFIG)):
        np.testing.assert_array_equal(one, two)
    # A later word on the same stamp is the only one that counts.
    corrected = remember(remember(kept[:-1], Reading(kept[-1].stamp_ns, other[0].joints, None)), kept[-1])
    assert all(one is two for one, two in zip(corrected, kept, strict=True))


def test_what_keeps_still_is_calm_and_what_moves_fast_does_not_lag():
    seconds = np.arange(200) / 30.0
    rng = np.random.default_rng(0)

    def stream(truth):
        kept, out = (), []
        for stamp, joints in zip(np.round(1e9 + seconds * 1e9).astype(int), truth + 0.01 * rng.normal(size=truth.shape)):
            kept = remember(kept, Reading(int(stamp), joints.astype(np.float32), None))
            out.append(smooth(kept, CONFIG)[0])
        return np.stack(out)[MEMORY:], truth[MEMORY:]

    still, truth = stream(np.zeros((200, JOINTS, 3)))
    assert np.diff(still, axis=0).std() < 0.35 * np.sqrt(2) * 0.01 and (still - truth).std() < 0.7 * 0.01
    fast, truth = stream(np.broadcast_to(2.0 * seconds[:, None, None], (200, JOINTS, 3)))
    assert np.abs((fast - truth).mean()) < 2.0 / 30.0 / 4  # a quarter of a frame behind, at 3.5 m/s
    unmoved, truth = stream(np.full((200, JOINTS, 3), 7.0))
    np.testing.assert_allclose(unmoved.mean(), 7.0, atol=1e-3)
