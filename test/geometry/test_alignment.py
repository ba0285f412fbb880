"""Alignment recovers a known similarity, ignores what has no weight, and is the minimum it claims to be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from egopose_ros.geometry.alignment import procrustes

seeds = st.integers(0, 2**32 - 1)


def _random_similarity(rng, batch=()):
    R = Rotation.random(int(np.prod(batch)), random_state=rng).as_matrix().reshape(*batch, 3, 3)
    return rng.uniform(0.3, 3.0, batch), R, rng.normal(size=(*batch, 3))


@given(seeds)
def test_recovers_an_exact_similarity_on_any_leading_axes(seed):
    rng = np.random.default_rng(seed)
    scale, R, t = _random_similarity(rng, (2, 3))
    source = rng.normal(size=(2, 3, 8, 3))
    target = scale[..., None, None] * source @ np.swapaxes(R, -1, -2) + t[..., None, :]
    found = procrustes(source, target)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-9)
    np.testing.assert_allclose(found.R_target_source, R, atol=1e-9)
    np.testing.assert_allclose(found.translation, t, atol=1e-9)
    np.testing.assert_allclose(found.apply(source), target, atol=1e-9)


@given(seeds)
def test_no_nearby_similarity_is_better(seed):
    rng = np.random.default_rng(seed)
    source, target, weights = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), rng.uniform(0.1, 1.0, 9)
    best = procrustes(source, target, weights)
    assert np.linalg.det(best.R_target_source) == pytest.approx(1.0)

    def cost(similarity):
        return np.sum(weights[:, None] * (similarity.apply(source) - target) ** 2)

    for _ in range(20):
        nudge = Rotation.from_rotvec(rng.normal(scale=1e-3, size=3)).as_matrix()
        other = best._replace(
            scale=best.scale * (1 + rng.normal(scale=1e-3)),
            R_target_source=nudge @ best.R_target_source,
            translation=best.translation + rng.normal(scale=1e-3, size=3),
        )
        assert cost(best) <= cost(other) + 1e-12


def test_a_mirrored_target_is_not_reached_by_a_mirror():
    source = np.random.default_rng(0).normal(size=(10, 3))
    found = procrustes(source, source * [-1, 1, 1])
    assert np.linalg.det(found.R_target_source) == pytest.approx(1.0)
    assert np.linalg.norm(found.apply(source) - source * [-1, 1, 1]) > 0.1


def test_points_without_weight_may_be_nan():
    rng = np.random.default_rng(1)
    scale, R, t = _random_similarity(rng)
    source = rng.normal(size=(6, 3))
    target = scale * source @ R.T + t
    spoiled = target.copy()
    spoiled[2] = np.nan
    found = procrustes(source, spoiled, np.arange(6) != 2)
    np.testing.assert_allclose(found.apply(source), target, atol=1e-9)


def test_a_source_without_extent_keeps_its_scale():
    found = procrustes(np.ones((4, 3)), np.random.default_rng(2).normal(size=(4, 3)))
    assert found.scale == 1.0 and np.isfinite(found.translation).all()
