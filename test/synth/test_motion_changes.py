"""Changes of motions, their placement on other bodies, and the library that splits and draws them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose_ros.skeleton import SMPL22
from egopose_ros.synth.motion import library
from egopose_ros.synth.motion.augment import mirror, resample, restyle, retime, turn
from egopose_ros.synth.motion.body import INDEX, REFERENCE, SOLE, forward_kinematics, leg_length, rotation_about
from egopose_ros.synth.motion.families import FAMILIES
from egopose_ros.synth.motion.placement import place, soles
from egopose_ros.synth.motion.procedural import procedural


@pytest.fixture(scope="module")
def walk():
    return procedural(3, "walk", 6.0)


@pytest.fixture(scope="module")
def reading():
    return procedural(4, "read_seated", 6.0)


def joints(motion):
    return forward_kinematics(motion.rotations_world.astype(float), motion.pelvis_world, REFERENCE)


def test_mirror_twice_is_the_motion(reading):
    twice = mirror(mirror(reading))
    np.testing.assert_array_equal(twice.rotations_world, reading.rotations_world)
    np.testing.assert_array_equal(twice.pelvis_world, reading.pelvis_world)
    np.testing.assert_array_equal(twice.foot_contact, reading.foot_contact)
    for a, b in zip(twice.supports, reading.supports):
        assert (a.kind, a.holder, a.yaw) == (b.kind, b.holder, b.yaw)
        np.testing.assert_array_equal(a.centre, b.centre)


def test_mirror_reflects_every_joint(reading):
    mirrored, swap = joints(mirror(reading)), list(SMPL22.mirror)
    np.testing.assert_allclose(mirrored, joints(reading)[:, swap] * [1, -1, 1], atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.7, 1.4))
def test_retime_keeps_the_path_and_changes_the_pace(walk, speed):
    fast = retime(walk, speed)
    assert abs(fast.frames - (walk.frames - 1) / speed) <= 1.5
    rows = np.arange(fast.frames) * speed
    nearest = np.minimum(np.rint(rows).astype(int), walk.frames - 1)
    assert np.linalg.norm(joints(fast) - joints(walk)[nearest], axis=-1).max() < 0.15
    R = fast.rotations_world.astype(float)
    np.testing.assert_allclose(R @ np.swapaxes(R, -1, -2), np.broadcast_to(np.eye(3), R.shape), atol=1e-4)
    with pytest.raises(ValueError, match="positive"):
        retime(walk, 0.0)


def test_supports_follow_time_and_place(reading):
    held = [support for support in reading.supports if support.holder]
    slow = retime(reading, 0.5)
    for before, after in zip(held, [support for support in slow.supports if support.holder]):
        assert abs(after.first - 2 * before.first) <= 2
    tail = reading.cut(60, 120)
    assert tail.frames == 60 and len(tail.action) == 60
    assert all(0 <= support.first <= support.last < 60 for support in tail.supports)
    turned = turn(reading, 0.7, np.array([1.0, 2.0, 0.0]))
    R = rotation_about("z", 0.7)
    seat, moved = (next(s for s in m.supports if s.kind == "seat") for m in (reading, turned))
    np.testing.assert_allclose(moved.centre, R @ (seat.centre - [1, 2, 0]), atol=1e-6)
    np.testing.assert_allclose(joints(turned), (joints(reading) - [1, 2, 0]) @ R.T, atol=1e-5)


def test_restyle_changes_what_it_says(walk):
    lean = restyle(walk, trunk_lean=0.3)
    forward = walk.rotations_world[:, 0, :, 0]
    moved = np.sum((joints(lean) - joints(walk))[:, INDEX["neck"]] * forward, -1)
    assert (moved > 0.05).all()
    np.testing.assert_allclose(joints(lean)[:, INDEX["left_ankle"]], joints(walk)[:, INDEX["left_ankle"]], atol=1e-6)
    crouched = restyle(walk, crouch=0.1, stance=0.05)
    np.testing.assert_allclose(crouched.pelvis_world[:, 2], walk.pelvis_world[:, 2] - 0.1, atol=1e-5)
    apart = lambda m: np.linalg.norm(
        joints(m)[:, INDEX["left_ankle"]] - joints(m)[:, INDEX["right_ankle"]], axis=-1
    )  # noqa: E731
    assert np.median(apart(crouched) - apart(walk)) > 0.03
    calm = restyle(walk, arm_swing=0.3)
    relative = lambda m: np.einsum(
        "tji,tj->ti",
        m.rotations_world[:, INDEX["spine3"]],
        (joints(m)[:, INDEX["left_wrist"]] - joints(m)[:, INDEX["left_shoulder"]]),
    )  # noqa: E731
    assert np.std(relative(calm), 0).max() < 0.7 * np.std(relative(walk), 0).max()
    same = restyle(walk)
    np.testing.assert_array_equal(same.rotations_world, walk.rotations_world)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.75, 1.2), st.floats(0.9, 1.15), st.floats(0.06, 0.11))
def test_place_fits_any_body(walk, size, legs, sole):
    rest = REFERENCE * size
    below = [INDEX[f"{s}_{n}"] for s in ("left", "right") for n in ("knee", "ankle", "foot")]
    hip = INDEX["left_hip"]
    rest[below, 2] = rest[hip, 2] + (rest[below, 2] - rest[hip, 2]) * legs
    placed = place(walk, rest, sole)
    lengths = np.linalg.norm(
        np.diff(placed.joints_world[:, [hip, INDEX["left_knee"], INDEX["left_ankle"]]], axis=1), axis=-1
    )
    np.testing.assert_allclose(lengths.sum(-1), leg_length(rest), rtol=1e-4)
    points = soles(placed.rotations_world, placed.joints_world, rest, sole)
    assert points[..., 2].min() > -0.01
    stride = np.linalg.norm(placed.pelvis_world[-1, :2] - placed.pelvis_world[0, :2])
    expected = np.linalg.norm(walk.pelvis_world[-1, :2] - walk.pelvis_world[0, :2]) * leg_length(rest) / walk.leg_length
    assert stride == pytest.approx(expected, abs=0.1)


def test_place_stops_feet_that_slide(walk):
    """A drift of the whole motion, as poor captures have, does not move planted feet."""
    drift = np.linspace(0, 0.5, walk.frames)[:, None] * [0.0, 1.0, 0.0]
    placed = place(replace(walk, pelvis_world=(walk.pelvis_world + drift).astype(np.float32)), REFERENCE, SOLE)
    for side in range(2):
        both = walk.foot_contact[1:, side] & walk.foot_contact[:-1, side]
        low = soles(placed.rotations_world, placed.joints_world, REFERENCE, SOLE)[:, side]
        heel_or_ball = low[:, :2, 2].argmin(-1)
        step = np.linalg.norm(np.diff(low, axis=0), axis=-1)[np.arange(len(low) - 1), heel_or_ball[1:]]
        assert np.quantile(step[both] * 30, 0.95) < 0.05


def test_place_refuses_other_skeletons(walk):
    with pytest.raises(ValueError, match=r"expected \(22, 3\)"):
        place(walk, REFERENCE[:21], SOLE)


def test_splits_share_no_family():
    shares = {split: set(library.families_of(split)) for split in ("train", "validation", "test")}
    assert set().union(*shares.values()) == set(FAMILIES)
    assert sum(len(share) for share in shares.values()) == len(FAMILIES)
    assert all(shares.values())
    for held_out in ("validation", "test"):
        used = {name for family in shares["train"] for name in FAMILIES[family].activities}
        own = {name for family in shares[held_out] for name in FAMILIES[family].activities}
        assert own - used, f"{held_out} has no activity of its own"
    assert library.split_of("cmu", "08") == "test" and library.split_of("cmu", "02") == "train"
    with pytest.raises(ValueError, match="unknown split"):
        library.families_of("tests")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_draws_are_exact_and_stay_in_their_split(split):
    for seed in range(8):
        motion = library.draw_motion(seed, split, 40, 25.0)
        assert motion.frames == 40 and motion.fps == 25.0 and motion.family in library.families_of(split)
        again = library.draw_motion(seed, split, 40, 25.0)
        np.testing.assert_array_equal(motion.rotations_world, again.rotations_world)


def test_short_clips_repeat_without_a_jump():
    motion = procedural(1, "walk", 1.0)
    long = library._repeat(motion, 4)
    step = np.linalg.norm(np.diff(long.pelvis_world, axis=0), axis=-1)
    assert step.max() < 2.5 * np.linalg.norm(np.diff(motion.pelvis_world, axis=0), axis=-1).max() + 1e-3
    back = resample(long, np.arange(10) / 30, 30.0)
    np.testing.assert_allclose(back.pelvis_world, long.pelvis_world[:10], atol=1e-5)


def test_missing_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("EGOPOSE_MOTION_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        library.clip_folder()
    monkeypatch.delenv("EGOPOSE_MOTION_DIR")
    assert library.clip_folder() is None
