"""Calibration of uncertainty on errors drawn from the very distribution, and from wrong ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from egopose_ros.evaluation import scores
from egopose_ros.evaluation.runs import RunBuilder
from egopose_ros.evaluation.truth import Truth
from egopose_ros.evaluation.uncertainty import calibration
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import BodyPose, Visibility

RANDOM = np.random.default_rng(0)
COUNT = 20000


def covariances():
    factor = RANDOM.normal(size=(COUNT, 3, 3)) * 0.1
    return factor @ factor.transpose(0, 2, 1) + 1e-4 * np.eye(3)


def draw(covariance, degrees_of_freedom=None):
    error = np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), RANDOM.normal(size=(COUNT, 3)))
    if degrees_of_freedom is None:
        return error
    nu = degrees_of_freedom
    heavy = np.sqrt((nu - 2) / stats.chi2.rvs(nu, size=(COUNT, 1), random_state=RANDOM))
    return error * heavy


@pytest.mark.parametrize("nu", [None, 5.0])
def test_errors_of_the_predicted_distribution_are_calibrated(nu):
    covariance = covariances()
    result = calibration(draw(covariance, nu), covariance, nu)
    assert result.error < 0.01 and result.count == COUNT


def test_overconfidence_and_underconfidence_show_on_their_side():
    covariance = covariances()
    error = draw(covariance)
    over, under = calibration(error, covariance / 4), calibration(error, covariance * 4)
    assert all(o < level < u for o, level, u in zip(over.observed, over.levels, under.observed))
    assert over.sharpness < under.sharpness


def test_rotating_error_and_covariance_together_changes_nothing():
    covariance = covariances()[:500]
    error = RANDOM.normal(size=(500, 3)) * 0.1
    turn = np.linalg.qr(RANDOM.normal(size=(3, 3)))[0]
    one, other = calibration(error, covariance), calibration(error @ turn.T, turn @ covariance @ turn.T)
    assert one.observed == other.observed and one.sharpness == pytest.approx(other.sharpness)


def test_joints_without_truth_are_left_out_and_none_at_all_is_refused():
    covariance, error = np.broadcast_to(np.eye(3), (4, 3, 3)), np.zeros((4, 3))
    error[1] = np.nan
    assert calibration(error, covariance).count == 3
    with pytest.raises(ValueError, match="at least one joint"):
        calibration(np.full((4, 3), np.nan), covariance)


def test_covariances_go_with_their_joints_to_the_skeleton_of_a_protocol():
    """Errors of joints of another skeleton, drawn from what is said of each; those that stand in for others do not count."""
    own, goal = skeleton("mpi15"), skeleton("smpl22")
    shared = [joint for joint in own.joints if joint in goal.joints]
    frames = COUNT // own.size
    covariance = covariances()[: frames * own.size]
    error = np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), RANDOM.normal(size=(len(covariance), 3)))
    covariance, error = (value.reshape(frames, own.size, *value.shape[1:]).astype(np.float32) for value in (covariance, error))
    stamps = np.arange(1, frames + 1)
    builder = RunBuilder()
    for stamp, joints, each in zip(stamps.tolist(), error, covariance):
        builder.add(BodyPose(stamp, "mpi15", joints, None, each, None, None, 1, True), 0)
    seen = RANDOM.choice([Visibility.VISIBLE, Visibility.OCCLUDED, Visibility.OUT_OF_VIEW], (frames, goal.size)).astype(np.uint8)
    truth = Truth("x", stamps, np.zeros((frames, goal.size, 3), np.float32), "smpl22", "camera", seen)
    comparison = scores.compare(builder.build("", "", True), truth, "egopose")
    told = np.isfinite(comparison.covariance).all((0, 2, 3))
    assert {joint for joint, known in zip(goal.joints, told) if known} == set(shared) and len(shared) >= 12
    for joint in shared:
        np.testing.assert_array_equal(comparison.covariance[:, goal.index(joint)], covariance[:, own.index(joint)])
    found = scores.score(comparison, draws=2)
    for group in ("", "visible_", "unseen_"):
        assert found[f"{group}in_90_percent_region"].value == pytest.approx(90.0, abs=1.5)
    # Where those that are seen alone are off by much, it shows in their number.
    shown = seen == Visibility.VISIBLE
    off = replace(comparison, predicted=np.where(shown[..., None], 10.0 * comparison.predicted, comparison.predicted))
    found = scores.score(off, draws=2)
    assert found["visible_in_90_percent_region"].value < 60.0 < 88.0 < found["unseen_in_90_percent_region"].value

    # Truth of a joint that only stands between others: nothing can be said of the uncertainty.
    pelvis = np.full((frames, goal.size, 3), np.nan, np.float32)
    pelvis[:, goal.index("pelvis")] = 0.0
    rest = scores.compare(comparison.run, Truth("x", stamps, pelvis, "smpl22", "camera"), "egopose")
    assert np.isfinite(rest.errors[:, goal.index("pelvis")]).all()
    assert "in_90_percent_region" not in scores.score(rest, draws=2)
