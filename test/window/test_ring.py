"""Rings against a sorted list and scipy's interpolation; the matcher over loops and lost images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from egopose_ros.geometry import rigid
from egopose_ros.window.ring import Lookup, Matcher, PoseRing, Push, Ring, VectorRing

EVER = 10**18


@settings(max_examples=200, deadline=None)
@given(stamps=st.lists(st.integers(1, 60), max_size=80), capacity=st.integers(1, 9))
def test_ring_is_a_bounded_sorted_set(stamps: list[int], capacity: int) -> None:
    ring, model = Ring(capacity, 1), {}
    for stamp in stamps:
        outcome = ring.push(stamp, [2.0 * stamp])
        assert outcome is (Push.REPEATED if stamp in model else Push.KEPT)
        model[stamp] = 2.0 * stamp
        # A row older than all that are kept falls out of a full ring at once.
        model = dict(sorted(model.items())[-capacity:])
        assert len(ring) == len(model) and ring.newest_ns == max(model)
    for stamp in range(62):
        lookup, rows, fraction = ring.bracket(stamp, EVER)
        if stamp in model:
            assert lookup is Lookup.FOUND and rows[0, 0] == model[stamp]
        elif not model:
            assert lookup is Lookup.EMPTY
        elif stamp > max(model):
            assert lookup is Lookup.NOT_YET
        elif stamp < min(model):
            assert lookup is Lookup.TOO_OLD
        else:
            assert rows[0, 0] + fraction * (rows[1, 0] - rows[0, 0]) == pytest.approx(2.0 * stamp)


def test_a_rewind_forgets_and_a_gap_is_not_bridged() -> None:
    ring = VectorRing(8, 1, rewind_ns=100)
    for stamp in (1000, 1010, 1050):
        ring.push(stamp, [float(stamp)])
    assert ring.at(1005, 20) == (pytest.approx([1005.0]), Lookup.FOUND)
    assert ring.at(1020, 20)[1] is Lookup.GAP
    assert ring.push(950, [950.0]) is Push.KEPT and len(ring) == 4
    assert ring.push(949, [949.0]) is Push.REWOUND
    assert len(ring) == 1 and ring.at(1005, EVER)[1] is Lookup.NOT_YET


def test_poses_follow_slerp_from_another_library() -> None:
    random = np.random.default_rng(4)
    stamps = np.sort(random.choice(10_000, 20, replace=False))
    rotations = Rotation.random(20, random_state=4)
    positions = random.normal(size=(20, 3))
    ring = PoseRing(20)
    for i in random.permutation(20):
        # A quaternion and its negative are one rotation: the ring must take the shorter arc either way.
        ring.push_pose(int(stamps[i]), positions[i], rotations[i].as_quat() * random.choice([-1, 1]))
    expected = Slerp(stamps, rotations)
    for stamp in random.integers(stamps[0], stamps[-1], 50):
        T, lookup = ring.at(int(stamp), EVER)
        assert lookup is Lookup.FOUND
        np.testing.assert_allclose(T[:3, :3], expected(stamp).as_matrix(), atol=1e-9)
        np.testing.assert_allclose(T[:3, 3], [np.interp(stamp, stamps, column) for column in positions.T], atol=1e-9)
        np.testing.assert_allclose(rigid.invert(T) @ T, np.eye(4), atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    lost=st.lists(st.booleans(), min_size=90, max_size=90),
    jitter=st.lists(st.integers(-2, 2), min_size=90, max_size=90),
    loops=st.integers(1, 3),
)
def test_matcher_pairs_every_complete_set_over_loops(lost: list[bool], jitter: list[int], loops: int) -> None:
    views, frames, period = 3, 30, 33
    matcher = Matcher(views, tolerance_ns=5)
    for _ in range(loops):
        matched = []
        for frame in range(frames):
            for view in range(views):
                if not lost[frame * views + view]:
                    stamp = 100 + frame * period + jitter[frame * views + view]
                    match = matcher.push(view, stamp, (frame, view))
                    matched += [match] if match else []
        complete = [f for f in range(frames) if not any(lost[f * views : f * views + views])]
        assert [items for _, items in matched] == [tuple((f, v) for v in range(views)) for f in complete]
        newest = [max(100 + f * period + j for j in jitter[f * views : f * views + views]) for f in complete]
        assert [stamp for stamp, _ in matched] == newest


def test_matcher_keeps_the_new_beginning_when_cameras_loop_one_after_the_other() -> None:
    matcher = Matcher(2, tolerance_ns=5)
    assert matcher.push(0, 1000, "a") is None
    assert matcher.push(0, 10, "b") is None  # camera 0 has looped, camera 1 not yet
    assert matcher.push(1, 1001, "c") is None
    assert matcher.push(1, 12, "d") == (12, ("b", "d"))
