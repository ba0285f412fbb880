"""Where the page draws things: against the geometry that they stand for."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from walker import SIZE_PX, VIEW, drawn_image, project, walking_pose

from egopose_ros.geometry import rigid
from egopose_ros.skeleton import SMPL22
from egopose_ros.viewer.overlay import TILE_PX, View, draw
from egopose_ros.viewer.shapes import TRUTH, along, ellipsoids, side_colours

seeds = st.integers(0, 2**32 - 1)


def _matrix(wxyz):
    return Rotation.from_quat(np.roll(wxyz, -1, axis=-1)).as_matrix()


@given(seeds)
def test_bones_lead_from_joint_to_joint(seed):
    rng = np.random.default_rng(seed)
    start, end = rng.normal(size=(2, 6, 3))
    end[0], end[1], end[2] = start[0], start[1] + [0, 0, 0.7], start[2] - [0, 0, 0.7]
    wxyz, length = along(start, end)
    np.testing.assert_allclose(start + _matrix(wxyz)[:, :, 2] * length[:, None], end, atol=1e-6)


@given(seeds)
def test_ellipsoids_are_level_sets_of_their_covariance(seed):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(5, 3, 3))
    covariance = factor @ factor.transpose(0, 2, 1) + 1e-3 * np.eye(3)
    wxyz, half_axes = ellipsoids(covariance, sigma=2.0)
    surface = rng.normal(size=(5, 3))
    surface /= np.linalg.norm(surface, axis=-1, keepdims=True)
    points = (_matrix(wxyz) @ (half_axes * surface)[..., None])[..., 0]
    mahalanobis = np.einsum("nc,ncd,nd->n", points, np.linalg.inv(covariance), points)
    np.testing.assert_allclose(mahalanobis, 4.0, rtol=1e-4)


def test_a_covariance_that_is_not_finite_has_no_size():
    covariance = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    np.testing.assert_allclose(ellipsoids(covariance, 1.0)[1], [[1, 1, 1], [0, 0, 0]])


def test_joints_are_drawn_where_the_camera_sees_them_in_the_colour_of_their_side():
    pose = walking_pose(5, noise=0.0)
    drawn = draw([np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)], [VIEW], pose, None).astype(int)
    assert drawn.shape == (TILE_PX, TILE_PX, 3)
    pixels, valid = project(pose.joints_camera)
    for joint in ("left_wrist", "right_wrist"):  # nothing lies over them
        index = SMPL22.index(joint)
        assert valid[index]
        x, y = np.round((pixels[index] + 0.5) * TILE_PX / SIZE_PX - 0.5).astype(int)
        assert np.abs(drawn[y, x] - side_colours(SMPL22.joints)[index]).max() < 12, joint


def test_what_cannot_be_drawn_is_left_out():
    pose = walking_pose(0)
    joints = pose.joints_camera.copy()
    joints[3:] = np.nan
    joints[:3] = [0, 0, -1.0]  # behind the lens
    image = np.full((100, 130), 90, np.uint8)
    drawn = draw([image], [VIEW], dataclasses.replace(pose, joints_camera=joints), None)
    assert np.unique(drawn).tolist() == [90] and drawn.shape[1] == round(130 * TILE_PX / 100)


def test_the_second_camera_shows_the_body_from_its_own_place():
    pose = walking_pose(0, noise=0.0)
    moved = VIEW.T_head_camera @ rigid.transform(np.eye(3), np.array([0.15, 0.0, 0.0]))
    black = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    both = draw([black, black], [VIEW, View("right", moved, project)], pose, None)
    left, right = np.split(both, 2, axis=1)
    seen = dataclasses.replace(pose, joints_camera=pose.joints_camera - np.float32([0.15, 0, 0]))
    np.testing.assert_array_equal(right, draw([black], [VIEW], seen, None))
    assert (left != right).any()


def test_the_ground_truth_has_its_own_colour_and_an_unknown_camera_no_overlay():
    truth, image = walking_pose(0, noise=0.0), drawn_image(walking_pose(0))
    hidden = dataclasses.replace(truth, joints_camera=np.full_like(truth.joints_camera, np.nan))
    drawn = draw([image], [VIEW], hidden, truth).astype(int)
    assert (np.abs(drawn - TRUTH).max(-1) < 10).sum() > 100
    plain = draw([image], [View("camera", VIEW.T_head_camera)], truth, truth)
    assert (np.abs(plain.astype(int) - TRUTH).max(-1) < 10).sum() == 0
