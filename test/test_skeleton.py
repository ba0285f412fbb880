"""Skeleton tables: topology that every consumer relies on."""

import pytest

from egopose_ros.skeleton import SKELETONS, skeleton

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
