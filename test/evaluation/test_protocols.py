"""The protocols of the data sets: what each one sees and what it forgives."""

import numpy as np
import pytest

from egopose_ros.evaluation.protocols import PROTOCOLS, score
from egopose_ros.skeleton import skeleton

RANDOM = np.random.default_rng(0)
FPS = 30.0
ALL = pytest.mark.parametrize("name", PROTOCOLS)


def pose_of(name, frames=6):
    return RANDOM.normal(size=(frames, skeleton(PROTOCOLS[name].skeleton).size, 3))


@ALL
def test_the_truth_scores_zero_and_similarity_never_changes_pa(name):
    truth = pose_of(name)
    perfect = score(name, truth, truth, FPS)
    errors = (perfect.pa_mpjpe, perfect.mpjpe, perfect.ba_mpjpe, perfect.mpjve, *(v for _, v in perfect.regions))
    assert all(value is None or value == pytest.approx(0.0, abs=1e-9) for value in errors)

    predicted = truth + RANDOM.normal(size=truth.shape) * 0.1
    turn = np.linalg.qr(RANDOM.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    moved = score(name, 1.7 * predicted @ turn.T + 0.4, truth, FPS)
    assert moved.pa_mpjpe == pytest.approx(score(name, predicted, truth, FPS).pa_mpjpe)


@ALL
def test_what_was_not_predicted_does_not_make_a_number_better(name):
    truth, predicted = pose_of(name), pose_of(name)
    joint = next(j for j in range(truth.shape[1]) if skeleton(PROTOCOLS[name].skeleton).joints[j] not in PROTOCOLS[name].ignored)
    predicted[3, joint, 1] = np.nan
    with pytest.raises(ValueError, match=f"{name}: expected finite predictions"):
        score(name, predicted, truth, FPS)
    truth[3] = np.nan
    assert np.isfinite(score(name, predicted, truth, FPS).pa_mpjpe)


@ALL
def test_only_root_relative_protocols_forgive_a_shift(name):
    truth = pose_of(name)
    shifted = score(name, truth + [0.3, 0.0, 0.4], truth, FPS)
    if PROTOCOLS[name].absolute:
        assert shifted.mpjpe == pytest.approx(0.0 if PROTOCOLS[name].root else 0.5, abs=1e-9)
    else:
        assert shifted.mpjpe is None and shifted.per_joint == ()


def test_ignored_joints_do_not_count_and_others_do():
    truth = pose_of("egocap")
    predicted = truth.copy()
    predicted[:, 0] += 5.0
    assert score("egocap", predicted, truth).mpjpe == 0.0
    predicted[:, 1] += 1.7 / np.sqrt(3)
    assert score("egocap", predicted, truth).mpjpe == pytest.approx(0.1)


def test_regions_hold_their_joints_on_both_sides():
    truth = pose_of("emhi")
    predicted = truth.copy()
    body = skeleton("smpl22")
    for joint in ("left_wrist", "right_wrist"):
        predicted[:, body.index(joint), 1] += 0.2
    regions = dict(score("emhi", predicted, truth, FPS).regions)
    assert regions["hand"] == pytest.approx(0.2) and regions["foot"] == 0.0 and 0 < regions["upper"] < 0.2


def test_frames_without_truth_are_left_out_of_every_mean():
    truth = pose_of("sceneego")
    predicted = truth + [0.1, 0.0, 0.0]
    truth[2] = np.nan
    result = score("sceneego", predicted, truth)
    assert result.mpjpe == pytest.approx(0.1) and result.pa_mpjpe == pytest.approx(0.0, abs=1e-9)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"expected \(T, 15, 3\) twice"):
        score("sceneego", pose_of("unrealego"), pose_of("unrealego"))
    with pytest.raises(ValueError, match="expected one of"):
        score("h36m", pose_of("egopw"), pose_of("egopw"))
    with pytest.raises(ValueError, match="fps"):
        score("emhi", pose_of("emhi"), pose_of("emhi"))
