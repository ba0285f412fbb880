"""Pose errors against values that can be written down."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egopose_ros.evaluation.metrics import joint_errors, mpjpe, pa_mpjpe

RNG = np.random.default_rng(0)


def test_a_shift_is_its_length_and_aligns_away():
    truth = RNG.normal(size=(5, 22, 3))
    predicted = truth + np.array([0.03, 0.0, -0.04])
    np.testing.assert_allclose(mpjpe(predicted, truth), 0.05)
    np.testing.assert_allclose(pa_mpjpe(predicted, truth), 0.0, atol=1e-9)


def test_scale_aligns_away_only_where_it_is_asked_for():
    truth = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    predicted = 1.1 * truth @ Rotation.random(random_state=1).as_matrix().T + 0.3
    np.testing.assert_allclose(pa_mpjpe(predicted, truth), 0.0, atol=1e-9)
    np.testing.assert_allclose(pa_mpjpe(predicted, truth, scale=False), 0.1, atol=1e-9)


def test_two_points_pulled_apart_have_a_closed_form():
    # Collinear points at ±1 and ±2 against ±1 and ±1: the best scale is 6/10, the distances 0.4 and 0.2.
    predicted = np.array([[1, 0, 0], [-1, 0, 0], [2, 0, 0], [-2, 0, 0]], float)
    truth = np.array([[1, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]], float)
    assert pa_mpjpe(predicted, truth) == pytest.approx(0.3)
    assert mpjpe(predicted, truth) == pytest.approx(0.5)


def test_joints_without_truth_do_not_count_and_a_prediction_that_is_not_finite_does():
    truth = RNG.normal(size=(3, 4, 3))
    predicted = truth + [0.1, 0.0, 0.0]
    truth[0, 1] = np.nan
    truth[1] = np.nan
    np.testing.assert_allclose(mpjpe(predicted, truth), [0.1, np.nan, 0.1])
    np.testing.assert_allclose(pa_mpjpe(predicted, truth), [0.0, np.nan, 0.0], atol=1e-9)
    predicted[2, 0] = np.nan
    assert np.isnan(mpjpe(predicted, truth)[2]) and np.isnan(pa_mpjpe(predicted, truth)[2])


def test_different_skeletons_are_refused():
    with pytest.raises(ValueError, match=r"\(22, 3\) and \(15, 3\)"):
        joint_errors(np.zeros((22, 3)), np.zeros((15, 3)))
