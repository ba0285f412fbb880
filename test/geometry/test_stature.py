"""The size of a pose from the wearer's height: right for every body in any posture."""

import numpy as np
import pytest

from egopose_ros.geometry.stature import TRUST, Stature
from egopose_ros.skeleton import SKELETONS, SMPL22, skeleton_map
from egopose_ros.synth.motion.library import draw_motion
from egopose_ros.synth.motion.placement import place
from egopose_ros.synth.world import wearer


@pytest.mark.parametrize("name", ["smpl22", "mpi15"])
def test_bodies_of_the_world_have_the_size_of_their_height_in_any_posture(name):
    scales = []
    for seed in range(12):
        body = wearer(seed, "validation")
        motion = draw_motion(seed, "validation", 2, 30.0, None)
        joints = place(motion, body.joints_tpose.numpy(), body.sole_height).joints_world[0]
        joints = skeleton_map("smpl22", name)(joints[None])[0]
        scales.append(Stature(SKELETONS[name], body.stature).scale(joints))
    assert np.abs(np.array(scales) - 1.0).max() < 0.025


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_pose_that_is_too_small_grows_by_what_the_exponent_says(factor):
    joints = np.random.default_rng(0).normal(size=(SMPL22.size, 3))
    stature = Stature(SMPL22, 1.7)
    assert stature.scale(joints * factor) == pytest.approx(stature.scale(joints) * factor**-TRUST)
    assert stature.scale(np.zeros_like(joints)) == 1.0
