"""Procedural motion: what a body can do, feet that stand, furniture underneath, and numbers that a seed repeats."""

import numpy as np
import pytest

from egopose_ros.skeleton import SMPL22
from egopose_ros.synth.motion.body import INDEX, REFERENCE, SOLE
from egopose_ros.synth.motion.clip import ACTIONS, SUPPORTS
from egopose_ros.synth.motion.families import FAMILIES
from egopose_ros.synth.motion.placement import ground_below, place, soles
from egopose_ros.synth.motion.procedural import procedural

TALL = REFERENCE * 1.13 + 0.01 * np.sign(REFERENCE) * (np.abs(REFERENCE) > 0.15)
SIDES = ("left", "right")


def joint(placed, name):
    return placed.joints_world[:, INDEX[name]].astype(float)


def local(placed, parent, child):
    R = placed.rotations_world.astype(float)
    return np.swapaxes(R[:, INDEX[parent]], -1, -2) @ R[:, INDEX[child]]


def angle(a, b):
    cosine = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.arccos(np.clip(cosine, -1, 1))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def clips(request):
    rest = (REFERENCE, TALL)
    motions = [procedural(seed, request.param, 6.0, 30.0) for seed in (1, 2)]
    return request.param, [(motion, body, place(motion, body, SOLE)) for motion, body in zip(motions, rest)]


def test_numbers_are_a_motion(clips):
    family, items = clips
    for motion, _, placed in items:
        R = placed.rotations_world.astype(float)
        assert motion.frames == 180 and motion.fps == 30 and motion.family == family
        np.testing.assert_allclose(R @ np.swapaxes(R, -1, -2), np.broadcast_to(np.eye(3), R.shape), atol=1e-4)
        assert (np.linalg.det(R) > 0.99).all()
        assert set(motion.action) <= set(ACTIONS) and {s.kind for s in motion.supports} <= set(SUPPORTS)


def test_motion_is_smooth(clips):
    family, items = clips
    for _, _, placed in items:
        joints = placed.joints_world.astype(float)
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 30
        acceleration = np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1) * 900
        assert speed.max() < 14.0 and acceleration.max() < 250.0, family
        assert speed[:, INDEX["head"]].max() < 5.0 and acceleration[:, INDEX["head"]].max() < 40.0
        turn = np.swapaxes(placed.rotations_world[:-1], -1, -2) @ placed.rotations_world[1:]
        step = np.arccos(np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1)) * 30
        assert step[:, INDEX["head"]].max() < 8.0 and step.max() < 45.0


def test_joints_stay_within_limits(clips):
    """Hinges bend one way only and not too far; the trunk and the neck turn no more than people do."""
    _, items = clips
    for _, _, placed in items:
        for side in SIDES:
            hip, knee, ankle = (joint(placed, f"{side}_{name}") for name in ("hip", "knee", "ankle"))
            assert angle(knee - hip, ankle - knee).max() < 2.8
            forward = placed.rotations_world[:, INDEX[f"{side}_hip"], :, 0].astype(float)
            assert (np.sum((ankle - knee) * forward, -1) < 0.03).all()  # the shank goes back, never forwards
            shoulder, elbow, wrist = (joint(placed, f"{side}_{name}") for name in ("shoulder", "elbow", "wrist"))
            assert angle(elbow - shoulder, wrist - elbow).max() < 2.75
            front = placed.rotations_world[:, INDEX[f"{side}_shoulder"], :, 0].astype(float)
            assert (np.sum((wrist - elbow) * front, -1) > -0.03).all()
        spine = local(placed, "pelvis", "spine3")
        head = local(placed, "spine3", "head")
        for R, limit in ((spine, 1.5), (head, 1.75)):
            assert np.arccos(np.clip((np.trace(R, axis1=-2, axis2=-1) - 1) / 2, -1, 1)).max() < limit


def test_soles_stand_on_the_ground(clips):
    family, items = clips
    for motion, rest, placed in items:
        points = soles(placed.rotations_world, placed.joints_world, rest, SOLE)
        ground = ground_below(points[:, :, 1:2], placed.supports)
        assert (points[..., 2] - ground).min() > -0.01, family
        for side in range(2):
            planted = motion.foot_contact[:, side]
            assert (points[planted, side, :, 2] - ground[planted, side]).min(-1, initial=0.0).max(initial=0.0) < 0.02
            moved = np.linalg.norm(np.diff(points[:, side, :2], axis=0), axis=-1).min(-1)  # it rolls over heel or ball
            still = planted[1:] & planted[:-1]
            assert not still.any() or np.quantile(moved[still] * 30, 0.99) < (0.15 if family == "run" else 0.05), family


def test_body_stays_out_of_itself(clips):
    """Bones as capsules of half a body's flesh: shanks against shanks, forearms against the spine."""
    family, items = clips
    for _, _, placed in items:
        shanks = [(joint(placed, f"{side}_knee"), joint(placed, f"{side}_ankle")) for side in SIDES]
        assert segment_distance(*shanks[0], *shanks[1]).min() > 0.03, family
        for side in SIDES:
            forearm = joint(placed, f"{side}_elbow"), joint(placed, f"{side}_wrist")
            assert segment_distance(*forearm, joint(placed, "spine1"), joint(placed, "neck")).min() > 0.04, family


def segment_distance(a0, a1, b0, b1, samples=12):
    u = np.linspace(0, 1, samples)[:, None]
    a, b = a0[:, None] + u * (a1 - a0)[:, None], b0[:, None] + u * (b1 - b0)[:, None]
    return np.linalg.norm(a[:, :, None] - b[:, None], axis=-1).min((1, 2))


def test_left_is_left(clips):
    _, items = clips
    for _, _, placed in items:
        left = placed.rotations_world[:, 0, :, 1].astype(float)
        across = joint(placed, "left_hip") - joint(placed, "right_hip")
        assert (np.sum(left * across, -1) > 0.1).all()
        chest = placed.rotations_world[:, INDEX["spine3"], :, 1].astype(float)
        assert (np.sum(chest * (joint(placed, "left_shoulder") - joint(placed, "right_shoulder")), -1) > 0.15).all()


def test_the_same_seed_gives_the_same_motion():
    a, b, c = procedural(5, "mixed", 3.0), procedural(5, "mixed", 3.0), procedural(6, "mixed", 3.0)
    np.testing.assert_array_equal(a.rotations_world, b.rotations_world)
    np.testing.assert_array_equal(a.pelvis_world, b.pelvis_world)
    assert not np.allclose(a.rotations_world, c.rotations_world)
    assert {procedural(seed, seconds=0.5).family for seed in range(60)} > {"walk"}


def test_walkers_face_where_they_go():
    forward = 0
    for seed in range(12):
        motion = procedural(seed, "run", 5.0)
        velocity = np.gradient(motion.pelvis_world[:, :2], axis=0) * 30
        facing = motion.rotations_world[:, 0, :2, 0]
        fast = np.linalg.norm(velocity, axis=-1) > 1.0
        forward += fast.sum()
        assert (np.sum(velocity * facing, -1)[fast] > 0).all()
    assert forward > 300


def test_arms_swing_against_the_legs():
    agreement = []
    for seed in range(12):
        placed = place(procedural(seed, "run", 5.0), REFERENCE, SOLE)
        facing = placed.rotations_world[:, 0, :, 0].astype(float)
        ahead = lambda name: np.sum(
            (joint(placed, f"left_{name}") - joint(placed, f"right_{name}")) * facing, -1
        )  # noqa: E731
        agreement.append(np.corrcoef(ahead("wrist"), ahead("ankle"))[0, 1])
    assert np.median(agreement) < -0.4


@pytest.mark.parametrize(
    "family, kind",
    [("sit_desk", "table"), ("sit_desk", "seat"), ("sit_stand", "seat"), ("stairs", "step"), ("read", None),
     ("drink", "cup"), ("sweep", "stick"), ("lift", "box")],
)  # fmt: skip
def test_families_bring_their_supports(family, kind):
    held = {"newspaper", "book", "tablet"}
    for seed in range(4):
        motion = procedural(seed, family, 8.0)
        kinds = {support.kind for support in motion.supports}
        assert kind in kinds if kind else kinds & held
        for support in motion.supports:
            assert (support.size > 0).all() and 0 <= support.first < motion.frames
            assert bool(support.holder) == (support.kind in {"cup", "stick", "box", "phone"} | held)


def test_who_sits_sits_on_the_seat_and_reads_what_is_in_the_hands():
    for seed in range(6):
        placed = place(procedural(seed, "sit_desk", 5.0), TALL, SOLE)
        seat = next(support for support in placed.supports if support.kind == "seat")
        above = joint(placed, "pelvis") - seat.centre - [0, 0, seat.size[2] / 2]
        assert (np.hypot(above[:, 0], above[:, 1]) < 0.25).all()
        assert (above[:, 2] > 0.05).all() and (above[:, 2] < 0.25).all()
        table = next(support for support in placed.supports if support.kind == "table")
        for side in SIDES:
            offset = joint(placed, f"{side}_wrist") - table.centre
            inside = (np.abs(offset[:, 0]) < table.size[0] / 2 - 0.1) & (np.abs(offset[:, 1]) < table.size[1] / 2)
            assert (offset[inside, 2] > 0.0).all()


def test_stairs_lead_up_and_down():
    rises = [np.ptp(procedural(seed, "stairs", 9.0).pelvis_world[:, 2]) for seed in range(6)]
    assert min(rises) > 0.25 and max(rises) > 0.8


def test_motion_is_varied():
    """Wrists reach most of the space in view, and poses of different seeds are far apart."""
    wrists = []
    for seed in range(40):
        motion = procedural(seed, "explore", 3.0, 10.0)
        placed = place(motion, REFERENCE, SOLE)
        R = placed.rotations_world[:, INDEX["spine3"]].astype(float)
        wrists.append(np.einsum("tji,tj->ti", R, joint(placed, "right_wrist") - joint(placed, "neck")))
    cells = np.unique(np.floor(np.concatenate(wrists) / 0.2).astype(int), axis=0)
    assert len(cells) > 50


def test_bad_requests_say_what_was_expected():
    with pytest.raises(ValueError, match="expected one of idle, walk"):
        procedural(0, "flying")
    with pytest.raises(ValueError, match="positive"):
        procedural(0, "walk", seconds=-1)
    assert SMPL22.size == REFERENCE.shape[0]
