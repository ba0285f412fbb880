"""What trunk, head and hands do: activities that go with any stance, each a function of a scene.

Hands are placed in chest axes, from the middle between the shoulders (x forwards, y left, z up; an arm is 0.535 m), or,
where they rest on furniture, in root axes (below the pelvis on the floor, turned with the heading). Right hands lead;
mirroring a motion makes them left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from egopose_ros.synth.motion.clip import Support
from egopose_ros.synth.motion.curves import moves, noise

HANG = np.array([[0.03, 0.215, -0.495], [0.03, -0.215, -0.495]])
"""Wrists of arms that hang"""
_FLIP = np.array([1.0, -1.0, 1.0])
_EYES = np.array([0.10, 0.0, 0.21])


@dataclass(frozen=True)
class Scene:
    """What an activity can know of the body below it."""

    rng: np.random.Generator
    times: np.ndarray
    """(T,) [s]"""
    swing: np.ndarray
    """(T,) arm swing of the gait"""
    table: float | None
    """[m] top of the table in front, in root axes"""
    seated: bool
    chest_height: float
    """[m] usual height of the middle between the shoulders above the ground"""


@dataclass(frozen=True)
class Upper:
    """What an activity asks for over T frames; pairs are left, right."""

    action: str
    wrist: np.ndarray
    """(T, 2, 3) [m]"""
    hand: np.ndarray
    """(T, 2, 3) pronation, flexion, deviation [rad]"""
    swivel: np.ndarray
    """(T, 2)"""
    spine: np.ndarray
    """(T, 3) twist, flexion, side bend, added to the stance's"""
    head: np.ndarray
    """(T, 3) yaw, pitch, roll: against the chest where `looking`, against the heading where not"""
    looking: bool
    """the head follows the hands"""
    rooted: bool = False
    """hands in root axes"""
    held: tuple[Support, ...] = ()


def _schedule(scene: Scene, hold: tuple[float, float], move: tuple[float, float]) -> tuple[list[float], list[float]]:
    """Return starts and ends of moves with random rests between them."""
    starts, ends, t = [], [], scene.times[0] + scene.rng.uniform(0.0, hold[1])
    while t < scene.times[-1]:
        starts.append(t)
        ends.append(t + scene.rng.uniform(*move))
        t = ends[-1] + scene.rng.uniform(*hold)
    return starts, ends


def _wander(
    scene: Scene, sample: Callable[[], np.ndarray], hold: tuple[float, float], move: tuple[float, float]
) -> np.ndarray:
    """Move between random samples, resting at each."""
    starts, ends = _schedule(scene, hold, move)
    return moves(scene.times, starts, ends, np.array([sample() for _ in range(len(starts) + 1)], float))


def _constant(scene: Scene, values: np.ndarray, jitter: float = 0.0, period_s: float = 1.2) -> np.ndarray:
    values = np.asarray(values, float)
    return values + jitter * noise(scene.rng, scene.times, values.shape, period_s)


def _pair(left: tuple[float, ...], right: tuple[float, ...] | None = None) -> np.ndarray:
    """Return left and right values; right mirrors left where it is not given."""
    left_values = np.array(left, float)
    if right is None:
        return np.stack([left_values, left_values * _FLIP])
    return np.stack([left_values, np.array(right, float)])


def look_at(points: np.ndarray, share: float = 0.8) -> np.ndarray:
    """Return head angles (T, 3) that turn the face towards points (T, 3) in chest axes; the eyes do the rest."""
    direction = points - _EYES
    yaw = np.arctan2(direction[:, 1], np.maximum(direction[:, 0], 0.05))
    pitch = np.arctan2(-direction[:, 2], np.maximum(np.hypot(direction[:, 0], direction[:, 1]), 0.05))
    yaw, pitch = 1.1 * np.tanh(share * yaw / 1.1), 0.85 * np.tanh(share * pitch / 0.85)
    return np.stack([yaw, pitch, 0.1 * yaw], -1)


def _glances(scene: Scene, spread: float = 0.35, down: float = 0.05) -> np.ndarray:
    """Return head angles (T, 3) of somebody who looks here and there."""
    rng = scene.rng
    usual = rng.normal(down, 0.12)
    draw = lambda: np.array([rng.normal(0, spread), usual + rng.normal(0, 0.5 * spread), rng.normal(0, 0.05)])  # noqa: E731
    return np.clip(_wander(scene, draw, (0.3, 2.5), (0.25, 0.7)), [-1.1, -0.6, -0.25], [1.1, 0.9, 0.25])


def _spine(scene: Scene, twist: float = 0.04, flexion: float = 0.03, side: float = 0.03) -> np.ndarray:
    return [twist, flexion, side] * noise(scene.rng, scene.times, (3,), 1.8)


def _look_or_glance(scene: Scene, wrists: np.ndarray, probability: float) -> tuple[np.ndarray, bool]:
    if scene.rng.random() < probability:
        target = wrists.mean(1) if scene.rng.random() < 0.6 else wrists[:, 1]
        return look_at(target, scene.rng.uniform(0.6, 1.0)) + 0.05 * noise(scene.rng, scene.times, (3,), 0.9), True
    return _glances(scene), False


def swing(scene: Scene) -> Upper:
    """Arms swing with the gait, or hang."""
    rng = scene.rng
    amplitude, bend = rng.uniform(0.15, 0.6), abs(rng.normal(0.12, 0.12))
    angle = scene.swing[:, None] * np.array([1.0, -1.0]) * amplitude + rng.normal(0.05, 0.08) + 0.03 * noise(rng, scene.times, (2,), 1.0)
    bent = bend + 0.35 * np.maximum(angle, 0.0) * rng.uniform(0.5, 1.5)
    length = 0.52 - 0.12 * bent
    spread = abs(rng.normal(0.05, 0.05))
    wrist = np.empty((len(scene.times), 2, 3))
    forward = angle + 0.3 * bent
    wrist[..., 0] = length * np.sin(forward)
    wrist[..., 1] = np.array([1, -1]) * (0.19 + length * spread) - np.array([1, -1]) * 0.08 * np.maximum(angle, 0)
    wrist[..., 2] = -length * np.cos(forward)
    hand = _constant(scene, np.tile([rng.normal(0.4, 0.3), rng.normal(0.15, 0.15), 0.0], (2, 1)), 0.06)
    return Upper("", wrist, hand, _constant(scene, np.full(2, rng.normal(0, 0.15)), 0.03), _spine(scene), _glances(scene), False)


def rest(scene: Scene) -> Upper:
    """Arms at rest: crossed, on the hips, on the thighs, clasped in front or behind, in pockets, hanging."""
    rng = scene.rng
    options = [
        (_pair((0.20, -0.07, -0.22), (0.17, 0.10, -0.25)), (0.3, 0.1, 0.0), 0.5),  # crossed
        (_pair((0.02, 0.23, -0.38)), (-0.2, -0.5, 0.0), 0.9),  # on the hips
        (_pair((0.18, 0.04, -0.42), (0.17, -0.03, -0.43)), (0.5, 0.1, 0.0), 0.2),  # clasped in front
        (_pair((-0.17, 0.05, -0.43), (-0.18, -0.04, -0.42)), (0.2, 0.2, 0.0), 0.2),  # behind
        (_pair((0.08, 0.22, -0.42)), (0.3, 0.2, 0.0), 0.3),  # pockets
        (HANG, (0.4, 0.15, 0.0), 0.0),
        (_pair((0.07, 0.16, -0.02), (0.16, -0.10, -0.30)), (0.6, 0.2, 0.0), 0.0),  # a hand at the chin
        (_pair((-0.03, 0.14, 0.25)), (0.6, 0.0, 0.0), 1.0),  # behind the head
    ]
    if scene.seated:
        thighs = _pair((rng.uniform(0.22, 0.4), rng.uniform(0.06, 0.2), -0.42))
        lap = _pair((0.22, 0.05, -0.40), (0.2, -0.06, -0.40))
        armrests = _pair((0.24, 0.27, -0.30))
        options = [(thighs, (1.1, -0.7, 0.0), 0.2), (lap, (0.6, -0.3, 0.0), 0.1), (armrests, (1.1, 0.0, 0.0), 0.3), options[0], options[7]]
    picks = rng.permutation(len(options))[:3]
    index = iter(np.resize(picks, 64))

    def draw() -> np.ndarray:
        wrist, hand, swivel = options[next(index)]
        wrist = wrist + rng.normal(0, 0.02, (2, 3))
        return np.concatenate([wrist, np.tile(hand, (2, 1)) + rng.normal(0, 0.1, (2, 3)), np.full((2, 1), swivel)], -1)

    values = _wander(scene, draw, (2.0, 6.0), (0.7, 1.3))
    values[..., :3] += 0.006 * noise(rng, scene.times, (2, 3), 1.5)
    return Upper("", values[..., :3], values[..., 3:6], values[..., 6], _spine(scene), _glances(scene), False)


def reach(scene: Scene) -> Upper:
    """Reach for things in front, high and low, with one hand or both, and bring them back."""
    rng = scene.rng

    def far() -> np.ndarray:
        azimuth, height = rng.normal(-0.35, 0.5), rng.uniform(-0.9, 1.0)
        radius = rng.uniform(0.38, 0.56)
        return np.array([radius * np.cos(azimuth) * np.cos(height), -0.12 + radius * np.sin(azimuth) * np.cos(height), radius * np.sin(height)])

    def near() -> np.ndarray:
        return np.array([rng.uniform(0.2, 0.35), rng.uniform(-0.2, 0.02), rng.uniform(-0.4, -0.1)])

    def draw() -> np.ndarray:
        right = far() if rng.random() < 0.65 else near()
        if rng.random() < 0.45:
            left = right * _FLIP + [0, rng.uniform(-0.02, 0.12), 0]
            left[1] = max(left[1], right[1] + 0.12)
        else:
            left = HANG[0] if rng.random() < 0.5 else near() * _FLIP
        hands = np.stack([[rng.normal(0.4, 0.6), rng.normal(0.0, 0.3), rng.normal(0, 0.15)] for _ in range(2)])
        return np.concatenate([np.stack([left, right]), hands, rng.normal(0.1, 0.25, (2, 1))], -1)

    values = _wander(scene, draw, (0.2, 1.2), (0.5, 1.0))
    wrist = values[..., :3]
    extent = np.linalg.norm(wrist[:, 1] - [0, -0.175, 0], axis=-1)
    spine = _spine(scene)
    spine[:, 0] += 0.5 * np.maximum(extent - 0.42, 0) / 0.12 * np.clip(0.4 + wrist[:, 1, 0], 0, 1)
    spine[:, 1] += np.clip(-(wrist[:, 1, 2] + 0.1), 0, 0.5) * np.clip((extent - 0.35) / 0.15, 0, 1) * rng.uniform(0.2, 1.2)
    head, looking = _look_or_glance(scene, np.stack([wrist[:, 1], wrist[:, 1]], 1), 0.85)
    return Upper("reach", wrist, values[..., 3:6], values[..., 6], spine, head, looking)


def handle(scene: Scene) -> Upper:
    """Work with both hands in front of the body: turn a thing over, cook, assemble, wash, write."""
    rng = scene.rng
    centre = np.array([rng.uniform(0.24, 0.38), rng.normal(0, 0.04), rng.uniform(-0.42, -0.16)])
    gap, activity = rng.uniform(0.06, 0.16), rng.uniform(0.3, 1.5)

    def draw() -> np.ndarray:
        middle = centre + rng.normal(0, [0.04, 0.06, 0.04]) * activity
        apart = gap * rng.uniform(0.5, 1.6)
        wrist = np.stack([middle + [0, apart, 0], middle - [0, apart, 0]]) + rng.normal(0, 0.02, (2, 3))
        hands = np.stack([[rng.normal(0.2, 0.6), rng.normal(0.0, 0.3), rng.normal(0, 0.2)] for _ in range(2)])
        return np.concatenate([wrist, hands, rng.normal(0.15, 0.2, (2, 1))], -1)

    values = _wander(scene, draw, (0.05, 0.6), (0.25, 0.7))
    circle = rng.choice([0.0, 0.03]) * rng.uniform(0.5, 1.5)
    angle = 2 * np.pi * rng.uniform(0.7, 1.6) * scene.times
    values[:, 1, :3] += circle * np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
    head, looking = _look_or_glance(scene, values[..., :3], 0.9)
    spine = _spine(scene) + [0.0, rng.uniform(0.0, 0.2), 0.0]
    return Upper("handle", values[..., :3], values[..., 3:6], values[..., 6], spine, head, looking)


def type_(scene: Scene) -> Upper:
    """Type on a keyboard or a laptop, with a hand on the mouse now and then."""
    rng = scene.rng
    top = scene.table if scene.table is not None else scene.chest_height - 0.38
    ahead = rng.uniform(0.30, 0.40)
    keys = _pair((ahead, 0.10, top + 0.06))
    mouse = np.array([ahead + 0.03, -0.30, top + 0.05])

    def draw() -> np.ndarray:
        wrist = keys + rng.normal(0, 0.012, (2, 3)) * [1, 1, 0.3]
        if rng.random() < 0.3:
            wrist[1] = mouse + rng.normal(0, 0.03, 3) * [1, 1, 0]
        return wrist

    wrist = _wander(scene, draw, (0.6, 3.0), (0.3, 0.6)) + 0.006 * noise(rng, scene.times, (2, 3), 0.12) * [1, 1, 0.6]
    hand = _constant(scene, np.tile([1.25, rng.normal(-0.2, 0.15), rng.normal(-0.05, 0.1)], (2, 1)), 0.06, 0.25)
    down = rng.uniform(0.1, 0.5)
    head = _glances(scene, 0.12, down)
    return Upper("type", wrist, hand, _constant(scene, np.full(2, 0.25), 0.03), _spine(scene, 0.02, 0.03, 0.02) + [0, rng.uniform(-0.05, 0.2), 0], head, False, rooted=True)


def phone(scene: Scene) -> Upper:
    """Hold a phone before the face with one hand or two, or at the ear."""
    rng = scene.rng
    device = Support("phone", np.array([0.02, -0.10, -0.025]), 0.0, np.array([0.07, 0.15, 0.009]), "right_wrist")
    style = rng.choice(["one", "two", "ear"], p=[0.45, 0.35, 0.2])
    if style == "ear":
        right = np.array([0.09, -0.15, 0.12])
        wrist = _constant(scene, np.stack([HANG[0] if not scene.seated else [0.25, 0.13, -0.4], right]), 0.008)
        hand = _constant(scene, np.array([[0.4, 0.1, 0.0], [-0.4, 0.0, 0.2]]), 0.08)
        head = _glances(scene) + [-0.05, 0.0, 0.12]
        return Upper("phone", wrist, hand, _constant(scene, [0.0, rng.uniform(0.2, 0.8)], 0.04), _spine(scene), head, False, held=(device,))
    right = np.array([rng.uniform(0.22, 0.36), rng.uniform(-0.12, -0.03), rng.uniform(-0.32, -0.06)])
    if style == "two":
        left = right * _FLIP + [rng.normal(0, 0.01), 0.0, 0.0]
        left[1] = max(left[1], 0.06)
        tap = noise(rng, scene.times, (3,), 0.15)
    else:
        left = np.array([0.24, 0.1, -0.4]) if scene.seated else HANG[0]
        if rng.random() < 0.4:
            left = right + [0.02, 0.13, 0.05]
        tap = noise(rng, scene.times, (3,), 0.5)
    wrist = _constant(scene, np.stack([left, right]), 0.010)
    wrist[:, 0] += 0.005 * tap
    pronation = rng.uniform(-0.9, -0.3)
    hand = _constant(scene, np.array([[pronation if style == "two" else 0.3, 0.2, 0.1], [pronation, 0.25, 0.1]]), 0.06)
    head = look_at(wrist[:, 1] + [0.05, 0.04, 0.05], rng.uniform(0.7, 1.0)) + 0.04 * noise(rng, scene.times, (3,), 1.0)
    return Upper("phone", wrist, hand, _constant(scene, [0.05, 0.05], 0.05), _spine(scene) + [0, rng.uniform(0, 0.15), 0], head, True, held=(device,))


def read(scene: Scene) -> Upper:
    """Hold a newspaper, a book or a tablet with both hands and read; turn a page now and then."""
    rng = scene.rng
    kind = str(rng.choice(["newspaper", "book", "tablet"]))
    half = {"newspaper": rng.uniform(0.18, 0.30), "book": rng.uniform(0.09, 0.14), "tablet": 0.12}[kind]
    height = {"newspaper": rng.uniform(0.35, 0.5), "book": 0.24, "tablet": 0.18}[kind]
    middle = np.array([rng.uniform(0.28, 0.42), rng.normal(0, 0.03), rng.uniform(-0.32, -0.02)])
    drift = 0.02 * noise(rng, scene.times, (3,), 2.0)[:, None]
    wrist = middle + _pair((0.0, half, 0.0)) + drift + 0.004 * noise(rng, scene.times, (2, 3), 0.8)
    starts, ends = _schedule(scene, (3.0, 7.0), (0.35, 0.5))
    for start in starts[: 0 if kind == "tablet" else None]:  # the right hand carries a page over and comes back
        there = moves(scene.times, [start, start + 0.6], [start + 0.5, start + 1.2], np.array([0.0, 1.0, 0.0]))
        wrist[:, 1] += there[:, None] * np.array([-0.05, 1.2 * half, 0.08])
    hand = _constant(scene, np.tile([rng.normal(-0.1, 0.2), rng.normal(0.0, 0.1), rng.normal(0.1, 0.1)], (2, 1)), 0.04)
    sheet = Support(kind, np.array([0.02 + 0.1 * height, 0.09, -half]), 0.0, np.array([height, 0.012, 2 * half]), "left_wrist")
    lines = 0.06 * np.sin(2 * np.pi * scene.times / rng.uniform(2.0, 5.0))
    head = look_at(wrist.mean(1) + [0.0, 0.0, 0.3 * height], rng.uniform(0.6, 1.0)) + 0.03 * noise(rng, scene.times, (3,), 1.2)
    head[:, 0] += lines
    return Upper("read", wrist, hand, _constant(scene, np.full(2, rng.uniform(0, 0.5)), 0.03), _spine(scene, 0.02), head, True, held=(sheet,))


def drink(scene: Scene) -> Upper:
    """Lift a cup to the mouth, or eat with one hand, again and again."""
    rng = scene.rng
    low = np.array([rng.uniform(0.25, 0.38), rng.uniform(-0.2, -0.05), rng.uniform(-0.36, -0.2)])
    mouth = np.array([0.19, rng.uniform(-0.11, -0.07), rng.uniform(0.02, 0.07)])
    starts, ends, values, t = [], [], [0.0], scene.times[0] + rng.uniform(0.2, 1.2)
    while t < scene.times[-1]:
        for target, hold in ((1.0, rng.uniform(0.4, 1.5)), (0.0, rng.uniform(0.6, 3.0))):
            starts.append(t)
            ends.append(t + rng.uniform(0.7, 1.1))
            values.append(target)
            t = ends[-1] + hold
    up = moves(scene.times, starts, ends, np.array(values))[:, None]
    right = low + up * (mouth - low) + 0.08 * (up * (1 - up)) * [1.0, -0.6, 0.0] + 0.005 * noise(rng, scene.times, (3,), 0.8)
    other = np.array([0.22, 0.12, -0.4]) if scene.seated else HANG[0]
    if rng.random() < 0.3:
        other = low * _FLIP
    wrist = np.stack([_constant(scene, other, 0.006), right], 1)
    hand = np.stack([_constant(scene, [0.5, 0.1, 0.0], 0.05), np.concatenate([0.1 + 0.45 * up, 0.1 * up, 0.3 - 0.35 * up], -1)], 1)
    swivel = np.stack([np.zeros(len(up)), 0.15 + rng.uniform(0.1, 0.6) * up[:, 0]], 1)
    cup = Support("cup", np.array([0.02, -0.09, -0.045]), 0.0, np.array([0.11, 0.075, 0.075]), "right_wrist")
    away = _glances(scene)
    head = away * (1 - 0.7 * up) + up * [0.0, -0.18, 0.0]
    return Upper("drink", wrist, hand, swivel, _spine(scene), head, False, held=(cup,))


def gesture(scene: Scene) -> Upper:
    """Talk with the hands, point, clap, touch face and hair and the device on the head."""
    rng = scene.rng
    lively = rng.uniform(0.5, 1.6)

    def draw() -> np.ndarray:
        wrist = np.array([[0.26, 0.16, -0.24], [0.26, -0.16, -0.24]]) + rng.normal(0, [0.06, 0.08, 0.09], (2, 3)) * lively
        hands = np.stack([[rng.normal(-0.1, 0.7), rng.normal(0, 0.35), rng.normal(0, 0.2)] for _ in range(2)])
        kind = rng.random()
        if kind < 0.10:  # point
            wrist[1] = [rng.uniform(0.35, 0.5), rng.uniform(-0.45, 0.05), rng.uniform(-0.1, 0.25)]
        elif kind < 0.20:  # face, hair, headset
            wrist[1] = [rng.uniform(0.10, 0.18), rng.uniform(-0.18, -0.08), rng.uniform(0.05, 0.28)]
            hands[1] = [rng.normal(-0.2, 0.4), rng.normal(0.2, 0.2), 0.0]
        elif kind < 0.27:  # both to the head
            wrist = _pair((rng.uniform(0.06, 0.15), 0.17, rng.uniform(0.12, 0.3)))
        elif kind < 0.35:  # clap, clasp
            wrist = _pair((0.3, 0.045, rng.uniform(-0.3, 0.0)))
            hands[:, 0] = 0.0
        elif kind < 0.55:  # one hand rests
            wrist[0] = HANG[0] if not scene.seated else [0.25, 0.12, -0.4]
        return np.concatenate([wrist, hands, rng.normal(0.1, 0.3, (2, 1))], -1)

    values = _wander(scene, draw, (0.1, 1.2), (0.35, 0.8))
    beat = noise(rng, scene.times, (2, 3), 0.35) * [0.012, 0.015, 0.02] * lively
    return Upper("gesture", values[..., :3] + beat, values[..., 3:6], values[..., 6], _spine(scene, 0.08, 0.05, 0.05), _glances(scene, 0.4), False)


def wave(scene: Scene) -> Upper:
    """Wave with a raised hand, or with both."""
    rng = scene.rng
    raise_ = moves(scene.times, *_schedule_pairs(scene, 0.7, (1.5, 4.0), (0.5, 2.0)))[:, None]
    high = np.array([rng.uniform(0.12, 0.32), rng.uniform(-0.42, -0.22), rng.uniform(0.02, 0.35)])
    beat = np.sin(2 * np.pi * rng.uniform(1.2, 2.4) * scene.times)[:, None]
    right = HANG[1] + raise_ * (high - HANG[1]) + raise_ * (1 - raise_) * [0.5, 0.0, 0.0] + raise_ * beat * [0.0, 0.08, 0.02]
    both = rng.random() < 0.25
    left = right * _FLIP if both else _constant(scene, HANG[0], 0.008)
    hand_right = np.concatenate([0.4 + 0.4 * raise_, 0.1 * beat * raise_, 0.25 * beat * raise_], -1)
    hand = np.stack([hand_right if both else _constant(scene, [0.4, 0.1, 0.0], 0.04), hand_right], 1)
    swivel = np.stack([0.5 * raise_[:, 0] * both, 0.5 * raise_[:, 0]], 1)
    return Upper("wave", np.stack([left, right], 1), hand, swivel, _spine(scene), _glances(scene, 0.25), False)


def _schedule_pairs(
    scene: Scene, move: float, on: tuple[float, float], off: tuple[float, float]
) -> tuple[list[float], list[float], np.ndarray]:
    """Return moves between 0 and 1 that stay `on` and `off` for random times."""
    starts, ends, values, t = [], [], [0.0], scene.times[0] + scene.rng.uniform(0, off[1])
    while t < scene.times[-1]:
        for value, span in ((1.0, on), (0.0, off)):
            starts.append(t)
            ends.append(t + move * scene.rng.uniform(0.8, 1.3))
            values.append(value)
            t = ends[-1] + scene.rng.uniform(*span)
    return starts, ends, np.array(values)


def stretch(scene: Scene) -> Upper:
    """Stretch: arms overhead, sideways, behind; bend the trunk to all sides; roll the head."""
    rng = scene.rng

    def draw() -> np.ndarray:
        kind = rng.integers(6)
        wrist = HANG.copy()
        spine, swivel = rng.normal(0, [0.05, 0.05, 0.04]), 0.0
        if kind == 0:  # overhead
            wrist, spine = _pair((rng.uniform(-0.05, 0.2), rng.uniform(0.06, 0.25), rng.uniform(0.45, 0.55))), np.array([0, -0.15, rng.normal(0, 0.25)])
        elif kind == 1:  # wide
            wrist, swivel = _pair((rng.uniform(-0.15, 0.15), 0.68, rng.uniform(-0.1, 0.15))), 0.2
        elif kind == 2:  # across
            wrist = _pair((0.26, -0.02, -0.1), (0.34, 0.28, -0.06))
        elif kind == 3:  # towards the toes
            wrist, spine = _pair((0.28, 0.12, -0.45 + rng.uniform(0, 0.3))), np.array([0.0, rng.uniform(0.5, 0.95), 0.0])
        elif kind == 4:  # one arm over, side bend
            wrist[1] = [0.06, -0.02, 0.5]
            spine = np.array([0.0, 0.0, -rng.uniform(0.2, 0.45)])
        else:  # hands on the hips, back arched or twisted
            wrist, swivel = _pair((-0.02, 0.22, -0.38)), 0.8
            spine = np.array([rng.normal(0, 0.4), -rng.uniform(0.0, 0.25), rng.normal(0, 0.15)])
        hands = np.tile([rng.normal(0.4, 0.5), rng.normal(0, 0.25), 0.0], (2, 1))
        flat = np.concatenate([wrist + rng.normal(0, 0.02, (2, 3)), hands, np.full((2, 1), swivel)], -1)
        return np.concatenate([flat.ravel(), spine])

    values = _wander(scene, draw, (0.5, 2.0), (0.8, 1.5))
    arms = values[:, :14].reshape(-1, 2, 7)
    return Upper("stretch", arms[..., :3], arms[..., 3:6], arms[..., 6], values[:, 14:] + _spine(scene), _glances(scene, 0.35), False)


def punch(scene: Scene) -> Upper:
    """Box: a guard, jabs, crosses, hooks and uppercuts with the trunk behind them."""
    rng = scene.rng
    guard = _pair((rng.uniform(0.22, 0.3), 0.13, rng.uniform(-0.08, 0.08)), (rng.uniform(0.18, 0.26), -0.12, rng.uniform(-0.08, 0.06)))
    wrist = _constant(scene, guard, 0.012, 0.4)
    hand = _constant(scene, np.tile([0.1, 0.0, 0.0], (2, 1)), 0.06, 0.5)
    swivel = _constant(scene, np.full(2, 0.15), 0.04)
    spine = _spine(scene, 0.06) + [rng.normal(0, 0.1), 0.08, 0.0]
    t = scene.times[0] + rng.uniform(0.2, 0.8)
    while t < scene.times[-1] - 0.5:
        side, kind = int(rng.integers(2)), rng.random()
        sign = 1.0 if side == 0 else -1.0
        out, back = rng.uniform(0.18, 0.3), rng.uniform(0.25, 0.4)
        target = np.array([0.56, 0.04 * sign, rng.uniform(-0.1, 0.15)])
        turned, lift = 1.0, 0.1
        if kind > 0.75:  # hook
            target, lift = np.array([0.38, -0.05 * sign, 0.02]), 1.1
        elif kind > 0.6:  # uppercut
            target, turned = np.array([0.34, 0.05 * sign, 0.12]), -0.9
        there = moves(scene.times, [t, t + out + 0.03], [t + out, t + out + 0.03 + back], np.array([0.0, 1.0, 0.0]))
        wrist[:, side] += there[:, None] * (target - guard[side])
        hand[:, side, 0] += there * turned
        swivel[:, side] += there * lift
        spine[:, 0] += -sign * there * rng.uniform(0.2, 0.45)
        t += out + back + rng.choice([0.02, rng.uniform(0.2, 1.2)])
    return Upper("punch", wrist, hand, swivel, spine, _glances(scene, 0.12, 0.08), False)


def throw(scene: Scene) -> Upper:
    """Throw overarm or underarm: wind up, swing, follow through."""
    rng = scene.rng
    wrist = _constant(scene, np.stack([HANG[0], [0.25, -0.15, -0.3]]), 0.01)
    hand = _constant(scene, np.tile([0.3, 0.0, 0.0], (2, 1)), 0.05)
    spine, swivel = _spine(scene), _constant(scene, np.full(2, 0.1), 0.03)
    t = scene.times[0] + rng.uniform(0.2, 0.8)
    home = np.array([0.25, -0.15, -0.3])
    while t < scene.times[-1] - 1.0:
        over = rng.random() < 0.7
        back = np.array([-0.22, -0.36, 0.22]) if over else np.array([-0.30, -0.26, -0.36])
        front = np.array([0.45, -0.05, 0.12]) if over else np.array([0.46, -0.18, -0.05])
        follow = np.array([0.25, 0.18, -0.38]) if over else np.array([0.3, -0.1, 0.3])
        spans = np.cumsum([0.0, rng.uniform(0.5, 0.9), rng.uniform(0.22, 0.34), rng.uniform(0.2, 0.35), 0.2, 0.7])
        keys = np.array([home, back, front, follow, follow, home])
        wrist[:, 1] += moves(scene.times, list(t + spans[:-1]), list(t + spans[1:]), keys) - home
        twist = moves(scene.times, list(t + spans[:-1]), list(t + spans[1:]), np.array([0, -0.5, 0.3, 0.5, 0.4, 0.0]))
        spine[:, 0] += twist
        spine[:, 1] += 0.4 * np.maximum(twist, 0)
        cocked = np.maximum(-twist, 0) / 0.5
        swivel[:, 1] += 0.7 * cocked
        wrist[:, 0] += (np.array([0.35, 0.15, -0.05]) - HANG[0]) * cocked[:, None] * 0.9
        hand[:, 1, 1] -= 0.6 * cocked
        t += spans[-1] + rng.uniform(0.1, 1.0)
    return Upper("throw", wrist, hand, swivel, spine, _glances(scene, 0.15), False)


def open_door(scene: Scene) -> Upper:
    """Reach for a door handle, turn it, pull or push."""
    rng = scene.rng
    height = rng.uniform(0.9, 1.05) - scene.chest_height
    grip, sign = np.array([0.45, -0.16, height]), rng.choice([-1.0, 1.0])
    wrist = _constant(scene, HANG, 0.008)
    hand = _constant(scene, np.tile([0.4, 0.1, 0.0], (2, 1)), 0.04)
    spine = _spine(scene)
    t = scene.times[0] + rng.uniform(0.2, 0.6)
    while t < scene.times[-1]:
        spans = np.cumsum([0.0, 0.7, 0.45, 0.9, 0.3, 0.7])
        moved = grip + (np.array([0.09, -0.10, 0.0]) if sign > 0 else np.array([-0.18, -0.14, 0.0]))
        keys = np.array([HANG[1], grip, grip - [0, 0, 0.03], moved, moved, HANG[1]])
        starts, ends = list(t + spans[:-1]), list(t + spans[1:])
        wrist[:, 1] += moves(scene.times, starts, ends, keys) - HANG[1]
        hand[:, 1, 0] += moves(scene.times, starts, ends, np.array([0.0, 0.8, 0.3, 0.4, 0.4, 0.0]))
        spine[:, 0] += moves(scene.times, starts, ends, np.array([0.0, 0.12, 0.1, 0.1 - 0.25 * (sign < 0), 0.0, 0.0]))
        spine[:, 1] += moves(scene.times, starts, ends, np.array([0.0, 0.05, 0.06, 0.12 * (sign > 0), 0.0, 0.0]))
        t += spans[-1] + rng.uniform(0.8, 2.5)
    head, looking = _look_or_glance(scene, wrist[:, [1, 1]], 0.6)
    return Upper("open_door", wrist, hand, _constant(scene, np.full(2, 0.2), 0.03), spine, head, looking)


def carry(scene: Scene) -> Upper:
    """Hold a box before the body with both hands."""
    rng = scene.rng
    half = rng.uniform(0.13, 0.22)
    middle = np.array([rng.uniform(0.28, 0.36), 0.0, rng.uniform(-0.42, -0.28)])
    drift = 0.012 * noise(rng, scene.times, (3,), 1.2)[:, None]
    wrist = middle + _pair((0.0, half, 0.0)) + drift
    hand = _constant(scene, np.tile([rng.uniform(-0.4, 0.1), 0.0, 0.0], (2, 1)), 0.02)
    depth, height = rng.uniform(0.2, 0.35), rng.uniform(0.15, 0.3)
    box = Support("box", np.array([0.0, 0.09, -half]), 0.0, np.array([height, depth, 2 * half - 0.03]), "left_wrist")
    return Upper("lift", wrist, hand, _constant(scene, np.full(2, 0.1), 0.02), _spine(scene) + [0, -0.06, 0], _glances(scene, 0.3, 0.2), False, held=(box,))


def lift(scene: Scene) -> Upper:
    """Bend down, take a box from the floor or a shelf, rise and put it back: for scenes whose stance bends."""
    rng = scene.rng
    down = moves(scene.times, *_schedule_pairs(scene, 1.1, (0.3, 0.8), (0.6, 2.0)))
    held = carry(scene)
    bend = rng.uniform(0.45, 0.85)
    low = np.array([0.10, 0.0, -0.02]) * down[:, None]
    spine = _spine(scene) + np.stack([0 * down, bend * down, 0 * down], -1)
    head = look_at(held.wrist.mean(1), 0.7) * down[:, None] + _glances(scene, 0.2, 0.15) * (1 - down[:, None])
    return Upper("lift", held.wrist + low[:, None], held.hand, held.swivel, spine, head, True, held=held.held)


def sweep(scene: Scene) -> Upper:
    """Sweep, mop or rake with a long stick in both hands."""
    rng = scene.rng
    rate, reach_ = rng.uniform(0.35, 0.8), rng.uniform(0.08, 0.2)
    angle = 2 * np.pi * rate * scene.times + 0.5 * noise(rng, scene.times, (), 1.5)
    stroke = np.sin(angle)[:, None]
    along = rng.choice([0.0, 1.0])
    shift = stroke * reach_ * np.array([along, 1.0 - along, 0.1])
    high = np.array([0.24, -0.10, rng.uniform(-0.2, -0.05)]) + 0.5 * shift
    low = np.array([0.34, 0.12, rng.uniform(-0.48, -0.38)]) + shift
    wrist = np.stack([low, high], 1) + 0.006 * noise(rng, scene.times, (2, 3), 0.8)
    hand = _constant(scene, np.array([[0.5, 0.1, 0.3], [-0.1, 0.1, 0.2]]), 0.05)
    slope = 0.9  # the lower hand's stick leaves it between thumb and fingers, down and away from the body
    middle = np.array([0.0, 0.08, -0.03]) + 0.3 * np.array([-np.cos(slope), np.sin(slope), 0.0])
    stick = Support("stick", middle, -slope, np.array([1.4, 0.028, 0.028]), "left_wrist")
    spine = _spine(scene) + np.concatenate([0.2 * stroke, 0.25 + 0 * stroke, 0 * stroke], -1) * rng.uniform(0.6, 1.4)
    head = look_at(low + [0.4, 0.0, -0.8], 0.7) + 0.06 * noise(rng, scene.times, (3,), 1.0)
    return Upper("sweep", wrist, hand, _constant(scene, np.full(2, 0.15), 0.04), spine, head, True, held=(stick,))


def look_around(scene: Scene) -> Upper:
    """Turn the head and the trunk far to all sides, up and down; the arms hang or rest."""
    rng = scene.rng
    arms = rest(scene) if rng.random() < 0.5 else swing(scene)
    draw = lambda: np.array([rng.uniform(-1.1, 1.1), rng.uniform(-0.6, 0.75), rng.normal(0, 0.1)])  # noqa: E731
    head = _wander(scene, draw, (0.2, 1.2), (0.4, 1.0))
    spine = _spine(scene)
    spine[:, 0] += 0.25 * head[:, 0]
    return Upper("look_around", arms.wrist, arms.hand, arms.swivel, spine, head, False)


def push(scene: Scene) -> Upper:
    """Push or pull something heavy at chest or waist height: a cart, a wall, a steering wheel when seated."""
    rng = scene.rng
    height, half = rng.uniform(-0.35, 0.0), rng.uniform(0.12, 0.28)
    stroke = np.clip(noise(rng, scene.times, (1,), 1.2), -1.5, 1.5)
    wrist = _pair((0.40, half, height)) + (0.07 * stroke[:, None]) * [1.0, 0.0, 0.0]
    if scene.seated:  # a wheel: the hands go round
        angle = 0.5 * noise(rng, scene.times, (), 1.5)
        wrist = np.stack([np.stack([0 * angle + 0.38, s * half * np.cos(angle), height + 0.05 + s * half * np.sin(angle)], -1) for s in (1, -1)], 1)
    hand = _constant(scene, np.tile([1.0, -0.5, 0.0], (2, 1)), 0.05)
    lean = 0.0 if scene.seated else rng.uniform(0.05, 0.3)
    return Upper("push", wrist, hand, _constant(scene, np.full(2, 0.3), 0.05), _spine(scene) + [0, lean, 0], _glances(scene, 0.3), False)


def dance(scene: Scene) -> Upper:
    """Move arms, trunk and head to a beat."""
    rng = scene.rng
    beat = 2 * np.pi * rng.uniform(0.8, 1.3) * scene.times
    base = _pair((rng.uniform(0.1, 0.35), rng.uniform(0.15, 0.4), rng.uniform(-0.3, 0.2)))
    pattern = rng.normal(0, [0.08, 0.09, 0.12], (2, 2, 3)) * rng.uniform(0.6, 1.3)
    if rng.random() < 0.5:
        pattern[:, 1] = pattern[:, 0] * _FLIP * rng.choice([-1.0, 1.0])
    phases = np.stack([np.sin(beat), np.sin(0.5 * beat + rng.uniform(0, 6))], -1)
    change = _wander(scene, lambda: rng.normal(0, [0.08, 0.1, 0.15], (2, 3)), (0.8, 2.0), (0.4, 0.8))
    wrist = base + np.einsum("tk,ksc->tsc", phases, pattern) + change
    hand = 0.4 * noise(rng, scene.times, (2, 3), 0.6) * [1.0, 0.6, 0.3] + [0.3, 0.0, 0.0]
    spine = _spine(scene, 0.12, 0.08, 0.08) + np.stack([0.2 * np.sin(0.5 * beat), 0.04 * np.sin(beat), 0.1 * np.sin(0.5 * beat + 1)], -1)
    head = _glances(scene, 0.35) + np.stack([0 * beat, 0.08 * np.sin(beat), 0.06 * np.sin(0.5 * beat)], -1)
    return Upper("dance", wrist, hand, 0.1 + 0.25 * noise(rng, scene.times, (2,), 1.0), spine, head, False)


def explore(scene: Scene) -> Upper:
    """Go smoothly through random poses of the whole upper body within the joints' limits."""
    rng = scene.rng

    def arm(sign: float) -> np.ndarray:
        direction = rng.standard_normal(3) + [0.5, 0.35, -0.25]
        direction /= np.linalg.norm(direction)
        point = direction * 0.53 * rng.uniform(0.35, 1.0) ** 0.6
        point[0] = max(point[0], -0.25 - 0.1 * (point[2] < 0))
        point[1] = max(point[1], -1.2 * point[0], -0.45)  # what is behind is not across
        return (point + [0.0, 0.175, 0.0]) * [1.0, sign, 1.0]

    def draw() -> np.ndarray:
        wrist = np.stack([arm(1.0), arm(-1.0)])
        hands = np.stack([[rng.uniform(-1.2, 1.2), rng.normal(0, 0.4), rng.normal(0, 0.2)] for _ in range(2)])
        arms = np.concatenate([wrist, hands, rng.normal(0.1, 0.4, (2, 1))], -1)
        spine, head = rng.normal(0, [0.3, 0.25, 0.2]) + [0, 0.1, 0], rng.normal(0, [0.5, 0.35, 0.15]) + [0, 0.1, 0]
        return np.concatenate([arms.ravel(), np.clip(spine, [-0.7, -0.3, -0.45], [0.7, 0.9, 0.45]), np.clip(head, [-1.1, -0.6, -0.3], [1.1, 0.8, 0.3])])

    values = _wander(scene, draw, (0.0, 0.8), (0.7, 1.8))
    arms = values[:, :14].reshape(-1, 2, 7)
    return Upper("explore", arms[..., :3], arms[..., 3:6], arms[..., 6], values[:, 14:17], values[:, 17:], False)


ACTIVITIES: dict[str, Callable[[Scene], Upper]] = {
    "swing": swing, "rest": rest, "reach": reach, "handle": handle, "type": type_, "phone": phone, "read": read,
    "drink": drink, "gesture": gesture, "wave": wave, "stretch": stretch, "punch": punch, "throw": throw,
    "open_door": open_door, "carry": carry, "lift": lift, "sweep": sweep, "look_around": look_around, "push": push,
    "dance": dance, "explore": explore,
}  # fmt: skip
