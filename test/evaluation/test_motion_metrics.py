"""Motion metrics against closed forms and the invariances that each must have."""

import numpy as np
import pytest

from egopose_ros.evaluation import motion, results, scores
from egopose_ros.evaluation.runs import RunBuilder
from egopose_ros.evaluation.truth import Truth
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import BodyPose

RANDOM = np.random.default_rng(0)
FPS = 30.0
TIME = np.arange(60)[:, None, None] / FPS


def polynomial(*coefficients):
    """Return joints (60, 4, 3) that move along a polynomial of time with the given (3,) coefficients."""
    return sum(TIME**power * np.asarray(c) for power, c in enumerate(coefficients)) * np.ones((1, 4, 1))


def test_closed_forms_of_constant_velocity_acceleration_and_jerk():
    still = np.zeros((60, 4, 3))
    assert motion.mpjve(polynomial([1, 2, 3], [3, 4, 0]), still, FPS) == pytest.approx(5.0)
    assert motion.acceleration_error(polynomial([1, 0, 0], [3, 4, 0], [0, 0, 2]), still, FPS) == pytest.approx(4.0)
    assert motion.jitter(polynomial([0, 0, 0], [1, 1, 1], [5, 5, 5], [0, 2, 0]), FPS) == pytest.approx(12.0)


def test_constant_offsets_do_not_count_and_time_reversal_changes_nothing():
    predicted, truth = RANDOM.normal(size=(2, 20, 4, 3))
    for metric in (motion.mpjve, motion.acceleration_error):
        value = metric(predicted, truth, FPS)
        assert metric(predicted + [1.0, 2.0, 3.0], truth, FPS) == pytest.approx(value)
        assert metric(predicted[::-1], truth[::-1], FPS) == pytest.approx(value)
        assert metric(truth, truth, FPS) == 0.0


def test_unknown_truth_is_left_out():
    predicted, truth = polynomial([0, 0, 0], [1, 0, 0]), np.zeros((60, 4, 3))
    predicted[:, 1] *= 7
    truth[:, 1] = np.nan
    assert motion.mpjve(predicted, truth, FPS) == pytest.approx(1.0)


def test_foot_skate_sees_planted_feet_and_horizontal_motion_only():
    feet = np.zeros((60, 2, 3))
    feet[:, 0, 0] = np.arange(60) * 0.02  # slides at 0.6 m/s
    feet[:, 1, 2] = np.arange(60) * 0.5  # rises
    contact = np.ones((60, 2), bool)
    assert motion.foot_skate(feet, contact, FPS) == pytest.approx(0.3)
    contact[:, 0] = False
    assert motion.foot_skate(feet, contact, FPS) == 0.0
    assert np.isnan(motion.foot_skate(feet, np.zeros((60, 2), bool), FPS))


def test_ground_penetration_is_the_depth_of_the_lowest_joint():
    joints = np.full((4, 3, 3), 1.0)
    joints[0, 1, 2] = -0.2
    joints[1, 2, 2] = -0.1
    assert motion.ground_penetration(joints) == pytest.approx(0.3 / 4)
    assert motion.ground_penetration(joints + [0, 0, 0.2]) == 0.0


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="more than 3 frames, got 3"):
        motion.jitter(np.zeros((3, 4, 3)), FPS)


def glide(place: float, error: float, frames: range) -> scores.Comparison:
    """Return poses that glide along x from a place, off by an error, beside their truth."""
    joints = np.zeros((len(frames), SMPL22.size, 3), np.float32)
    joints[..., 0] = place + 0.1 * np.arange(len(frames))[:, None]
    joints[..., 2] = np.linspace(0.0, 1.7, SMPL22.size)
    builder, stamps = RunBuilder(), 1 + np.array(frames) * 33_333_333
    covariance = np.broadcast_to(np.eye(3), (SMPL22.size, 3, 3))
    for stamp, pose in zip(stamps.tolist(), joints + np.float32(error)):
        builder.add(BodyPose(stamp, "smpl22", pose, None, covariance, np.ones(SMPL22.size), np.eye(4), 1, True), 0)
    return scores.compare(builder.build("", "", True), Truth("x", stamps, joints, "smpl22", "camera"), "emhi")


def test_motion_as_published_does_not_run_from_one_recording_into_the_next():
    merged = scores.merge([glide(0.0, 0.0, range(20)), glide(50.0, 3.0, range(20))])
    found, own = results.published_json(merged), scores.score(merged, draws=2)
    assert found["mpjve_m_s"] == pytest.approx(0.0, abs=1e-3) and found["jitter_m_s3"] == pytest.approx(0.0, abs=2.0)
    assert own["mpjve_mm_s"].value == pytest.approx(1000.0 * found["mpjve_m_s"], abs=1e-1)
