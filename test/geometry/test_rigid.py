"""Rigid transforms and quaternions: group axioms, SciPy as an independent reference, and the singular points."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egopose_ros.geometry import rigid

RANDOM = np.random.default_rng(0)
HALF_TURNS = np.stack([np.diag(d) for d in ([1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1])])


def random_transforms(*batch: int) -> np.ndarray:
    rotations = Rotation.random(int(np.prod(batch)), random_state=1).as_matrix().reshape(*batch, 3, 3)
    return rigid.transform(rotations, RANDOM.normal(size=(*batch, 3)))


@pytest.mark.parametrize("batch", [(1,), (7,), (2, 3)])
def test_group_axioms(batch):
    T_a_b, T_b_c = random_transforms(*batch), random_transforms(*batch)
    points_c = RANDOM.normal(size=(*batch, 5, 3))
    assert np.allclose(rigid.invert(T_a_b) @ T_a_b, np.eye(4), atol=1e-12)
    one_by_one = rigid.apply(T_a_b, rigid.apply(T_b_c, points_c))
    assert np.allclose(rigid.apply(T_a_b @ T_b_c, points_c), one_by_one, atol=1e-12)


def test_quaternions_agree_with_scipy_at_random_and_at_half_turns():
    R = np.concatenate([Rotation.random(200, random_state=2).as_matrix(), HALF_TURNS])
    q = rigid.quaternion_from_matrix(R)
    back, valid = rigid.matrix_from_quaternion(q)
    assert valid.all() and (q[:, 3] >= 0).all()
    assert np.allclose(back, R, atol=1e-12)
    assert np.allclose(Rotation.from_quat(q).as_matrix(), R, atol=1e-12)


def test_unusable_quaternions_are_masked_and_stay_finite_rotations_or_not_counted():
    q = np.array([[0, 0, 0, 0], [0, 0, 0, 2.0], [np.nan, 0, 0, 1], [0, 0, 0, 1]])
    assert rigid.matrix_from_quaternion(q)[1].tolist() == [False, False, False, True]


def test_slerp_moves_at_constant_rate_on_the_shorter_arc():
    R0 = Rotation.random(50, random_state=3)
    step = Rotation.from_rotvec(RANDOM.normal(size=(50, 3)) * 0.8)
    q0, q1 = R0.as_quat(), (R0 * step).as_quat()
    for fraction in (0.0, 0.3, 1.0):
        expected = (R0 * Rotation.from_rotvec(fraction * step.as_rotvec())).as_matrix()
        for sign in (1, -1):  # q and -q are the same rotation
            got = rigid.slerp(q0, sign * q1, np.full(50, fraction))
            assert np.allclose(rigid.matrix_from_quaternion(got)[0], expected, atol=1e-9)
    assert np.allclose(rigid.slerp(q0, q0, np.full(50, 0.5)), q0)
