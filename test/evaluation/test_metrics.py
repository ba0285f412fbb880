"""Pose errors against values that can be written down."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egopose_ros.evaluation.metrics import auc, ba_mpjpe, joint_errors, mpjpe, pa_mpjpe, pck
from egopose_ros.skeleton import MPI15, MPI15_MEAN

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


@pytest.mark.parametrize("known, says", [(1, False), (2, False), (3, True)])
def test_joints_that_any_pose_can_be_laid_upon_are_no_aligned_error(known, says):
    truth, predicted = RNG.normal(size=(2, 5, 22, 3))
    truth[:, known:] = np.nan
    assert np.isfinite(pa_mpjpe(predicted, truth)).tolist() == [says] * 5
    assert np.isfinite(mpjpe(predicted, truth)).all()


def test_different_skeletons_are_refused():
    with pytest.raises(ValueError, match=r"\(22, 3\) and \(15, 3\)"):
        joint_errors(np.zeros((22, 3)), np.zeros((15, 3)))


def test_bone_alignment_forgives_lengths_and_not_directions():
    truth = MPI15_MEAN + RNG.normal(size=(4, 15, 3)) * 0.05
    longer = np.array(truth)
    for parent, child in MPI15.bones:
        longer[:, child] = longer[:, parent] + 1.3 * (truth[:, child] - truth[:, parent])
    np.testing.assert_allclose(ba_mpjpe(longer * 0.7 + 1.0, truth), 0.0, atol=1e-9)
    bent = np.array(truth)
    bent[:, 3] = bent[:, 2] + (truth[:, 3] - truth[:, 2])[:, [1, 2, 0]]
    assert (ba_mpjpe(bent, truth) > 1e-3).all()
    with pytest.raises(ValueError, match="15 joints of mpi15, got 16"):
        ba_mpjpe(np.zeros((2, 16, 3)), np.zeros((2, 16, 3)))


def test_pck_and_auc_of_errors_that_grow_evenly():
    truth = np.zeros((1, 300, 3))
    predicted = np.zeros((1, 300, 3))
    predicted[0, :, 0] = (np.arange(300) + 0.5) / 1000  # 0 to 0.3 m
    assert pck(predicted, truth) == pytest.approx(0.5)
    assert auc(predicted, truth, np.linspace(0.0, 0.15, 301)) == pytest.approx(0.25, abs=1e-3)
    truth[0, 150:] = np.nan
    assert pck(predicted, truth) == 1.0
    predicted[0, 0] = np.nan
    assert pck(predicted, truth) == pytest.approx(149 / 150)
