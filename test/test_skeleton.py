"""Skeleton tables: topology that every consumer relies on."""

import numpy as np
import pytest

from egopose_ros.skeleton import SKELETONS, skeleton, skeleton_map

ALL = pytest.mark.parametrize("body", SKELETONS.values(), ids=lambda body: body.name)


@ALL
def test_parents_form_one_tree(body):
    assert sum(parent < 0 for parent in body.parents) == 1
    for joint in range(body.size):
        seen = set()
        while joint >= 0:
            assert joint not in seen
            seen.add(joint)
            joint = body.parents[joint]


@ALL
def test_mirror_is_an_involution_that_keeps_the_tree(body):
    mirror = body.mirror
    assert [mirror[m] for m in mirror] == list(range(body.size))
    for joint, parent in enumerate(body.parents):
        # MPI-15 and its relatives hang each leg below the shoulder of its own side, so mirroring keeps every edge.
        assert parent < 0 or body.parents[mirror[joint]] == mirror[parent]


def test_published_parent_tables():
    assert skeleton("mpi15").parents == (-1, 0, 1, 2, 0, 4, 5, 1, 7, 8, 9, 4, 11, 12, 13)
    assert skeleton("unrealego16").parents == (-1, 0, 1, 1, 2, 3, 4, 5, 2, 3, 8, 9, 10, 11, 12, 13)
    assert skeleton("egocap18").parents == (-1, 0, 1, 2, 3, 4, 1, 6, 7, 8, 2, 10, 11, 12, 6, 14, 15, 16)


def test_unknown_names_list_what_there_is():
    with pytest.raises(ValueError, match="mpi15"):
        skeleton("coco17")
    with pytest.raises(ValueError, match="left_wrist"):
        skeleton("smpl22").index("left_finger")


@pytest.mark.parametrize("target", SKELETONS)
@pytest.mark.parametrize("source", SKELETONS)
def test_maps_keep_equal_names_and_commute_with_rigid_motion_and_mirroring(source, target):
    body, goal, mapping = skeleton(source), skeleton(target), skeleton_map(source, target)
    random = np.random.default_rng(1)
    joints = random.normal(size=(4, body.size, 3))
    mapped = mapping(joints)
    for row, joint in enumerate(goal.joints):
        if joint in body.joints:
            assert np.array_equal(mapped[:, row], joints[:, body.index(joint)])
        assert np.isnan(mapped[:, row]).all() == (joint in mapping.missing)
    shift = np.array([1.0, -2.0, 3.0])
    assert np.allclose(mapping(joints + shift), mapped + shift, equal_nan=True)
    assert np.allclose(mapping(joints[:, list(body.mirror)]), mapped[:, list(goal.mirror)], equal_nan=True)


def test_maps_to_the_protocols_of_the_field_need_nothing_but_what_the_networks_predict():
    for target in ("mpi15", "unrealego16", "unrealego2_16", "egobody3m26"):
        assert skeleton_map("smpl22", target).missing == ()
    assert set(skeleton_map("smpl22", "egocap18").missing) == {"camera", "left_finger", "right_finger"}


def test_an_unknown_joint_taints_only_what_depends_on_it():
    joints = np.ones((1, 22, 3))
    joints[0, skeleton("smpl22").index("left_ankle")] = np.nan
    unknown = np.isnan(skeleton_map("smpl22", "egobody3m26")(joints)[0]).all(-1)
    names = [name for name, bad in zip(skeleton("egobody3m26").joints, unknown) if bad]
    assert names == ["left_foot_twist", "left_talocrural", "left_subtalar"]
