"""What hands do with things: reading, typing, drinking, carrying, sweeping."""

from __future__ import annotations

import numpy as np

from egopose_ros.synth.motion.clip import Support
from egopose_ros.synth.motion.curves import moves, noise
from egopose_ros.synth.motion.upper import (
    FLIP,
    HANG,
    Scene,
    Upper,
    constant,
    glances,
    look_at,
    look_or_glance,
    on_and_off,
    pair,
    restless_spine,
    schedule,
    wander,
)


def reach(scene: Scene) -> Upper:
    """Reach for things in front, high and low, with one hand or both, and bring them back."""
    rng = scene.rng

    def far() -> np.ndarray:
        azimuth, height = rng.normal(-0.35, 0.5), rng.uniform(-0.9, 1.0)
        radius = rng.uniform(0.38, 0.56)
        return np.array(
            [
                radius * np.cos(azimuth) * np.cos(height),
                -0.12 + radius * np.sin(azimuth) * np.cos(height),
                radius * np.sin(height),
            ]
        )

    def near() -> np.ndarray:
        return np.array([rng.uniform(0.2, 0.35), rng.uniform(-0.2, 0.02), rng.uniform(-0.4, -0.1)])

    def draw() -> np.ndarray:
        right = far() if rng.random() < 0.65 else near()
        if rng.random() < 0.45:
            left = right * FLIP + [0, rng.uniform(-0.02, 0.12), 0]
            left[1] = max(left[1], right[1] + 0.12)
        else:
            left = HANG[0] if rng.random() < 0.5 else near() * FLIP
        hands = np.stack([[rng.normal(0.4, 0.6), rng.normal(0.0, 0.3), rng.normal(0, 0.15)] for _ in range(2)])
        return np.concatenate([np.stack([left, right]), hands, rng.normal(0.1, 0.25, (2, 1))], -1)

    values = wander(scene, draw, (0.2, 1.2), (0.5, 1.0))
    wrist = values[..., :3]
    extent = np.linalg.norm(wrist[:, 1] - [0, -0.175, 0], axis=-1)
    spine = restless_spine(scene)
    spine[:, 0] += 0.5 * np.maximum(extent - 0.42, 0) / 0.12 * np.clip(0.4 + wrist[:, 1, 0], 0, 1)
    spine[:, 1] += (
        np.clip(-(wrist[:, 1, 2] + 0.1), 0, 0.5) * np.clip((extent - 0.35) / 0.15, 0, 1) * rng.uniform(0.2, 1.2)
    )
    head, looking = look_or_glance(scene, np.stack([wrist[:, 1], wrist[:, 1]], 1), 0.85)
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

    values = wander(scene, draw, (0.05, 0.6), (0.25, 0.7))
    circle = rng.choice([0.0, 0.03]) * rng.uniform(0.5, 1.5)
    angle = 2 * np.pi * rng.uniform(0.7, 1.6) * scene.times
    values[:, 1, :3] += circle * np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
    head, looking = look_or_glance(scene, values[..., :3], 0.9)
    spine = restless_spine(scene) + [0.0, rng.uniform(0.0, 0.2), 0.0]
    return Upper("handle", values[..., :3], values[..., 3:6], values[..., 6], spine, head, looking)


def type_(scene: Scene) -> Upper:
    """Type on a keyboard or a laptop, with a hand on the mouse now and then."""
    rng = scene.rng
    top = scene.table if scene.table is not None else scene.chest_height - 0.38
    ahead = rng.uniform(0.30, 0.40)
    keys = pair((ahead, 0.10, top + 0.06))
    mouse = np.array([ahead + 0.03, -0.30, top + 0.05])

    def draw() -> np.ndarray:
        wrist = keys + rng.normal(0, 0.012, (2, 3)) * [1, 1, 0.3]
        if rng.random() < 0.3:
            wrist[1] = mouse + rng.normal(0, 0.03, 3) * [1, 1, 0]
        return wrist

    wrist = wander(scene, draw, (0.6, 3.0), (0.3, 0.6)) + 0.006 * noise(rng, scene.times, (2, 3), 0.12) * [1, 1, 0.6]
    hand = constant(scene, np.tile([1.25, rng.normal(-0.2, 0.15), rng.normal(-0.05, 0.1)], (2, 1)), 0.06, 0.25)
    down = rng.uniform(0.1, 0.5)
    head = glances(scene, 0.12, down)
    return Upper(
        "type",
        wrist,
        hand,
        constant(scene, np.full(2, 0.25), 0.03),
        restless_spine(scene, 0.02, 0.03, 0.02) + [0, rng.uniform(-0.05, 0.2), 0],
        head,
        False,
        rooted=True,
    )


def phone(scene: Scene) -> Upper:
    """Hold a phone before the face with one hand or two, or at the ear."""
    rng = scene.rng
    device = Support("phone", np.array([0.02, -0.10, -0.025]), 0.0, np.array([0.07, 0.15, 0.009]), "right_wrist")
    style = rng.choice(["one", "two", "ear"], p=[0.45, 0.35, 0.2])
    if style == "ear":
        right = np.array([0.09, -0.15, 0.12])
        wrist = constant(scene, np.stack([HANG[0] if not scene.seated else [0.25, 0.13, -0.4], right]), 0.008)
        hand = constant(scene, np.array([[0.4, 0.1, 0.0], [-0.4, 0.0, 0.2]]), 0.08)
        head = glances(scene) + [-0.05, 0.0, 0.12]
        return Upper(
            "phone",
            wrist,
            hand,
            constant(scene, [0.0, rng.uniform(0.2, 0.8)], 0.04),
            restless_spine(scene),
            head,
            False,
            held=(device,),
        )
    right = np.array([rng.uniform(0.22, 0.36), rng.uniform(-0.12, -0.03), rng.uniform(-0.32, -0.06)])
    if style == "two":
        left = right * FLIP + [rng.normal(0, 0.01), 0.0, 0.0]
        left[1] = max(left[1], 0.06)
        tap = noise(rng, scene.times, (3,), 0.15)
    else:
        left = np.array([0.24, 0.1, -0.4]) if scene.seated else HANG[0]
        if rng.random() < 0.4:
            left = right + [0.02, 0.13, 0.05]
        tap = noise(rng, scene.times, (3,), 0.5)
    wrist = constant(scene, np.stack([left, right]), 0.010)
    wrist[:, 0] += 0.005 * tap
    pronation = rng.uniform(-0.9, -0.3)
    hand = constant(scene, np.array([[pronation if style == "two" else 0.3, 0.2, 0.1], [pronation, 0.25, 0.1]]), 0.06)
    head = look_at(wrist[:, 1] + [0.05, 0.04, 0.05], rng.uniform(0.7, 1.0)) + 0.04 * noise(rng, scene.times, (3,), 1.0)
    return Upper(
        "phone",
        wrist,
        hand,
        constant(scene, [0.05, 0.05], 0.05),
        restless_spine(scene) + [0, rng.uniform(0, 0.15), 0],
        head,
        True,
        held=(device,),
    )


def read(scene: Scene) -> Upper:
    """Hold a newspaper, a book or a tablet with both hands and read; turn a page now and then."""
    rng = scene.rng
    kind = str(rng.choice(["newspaper", "book", "tablet"]))
    half = {"newspaper": rng.uniform(0.18, 0.30), "book": rng.uniform(0.09, 0.14), "tablet": 0.12}[kind]
    height = {"newspaper": rng.uniform(0.35, 0.5), "book": 0.24, "tablet": 0.18}[kind]
    middle = np.array([rng.uniform(0.28, 0.42), rng.normal(0, 0.03), rng.uniform(-0.32, -0.02)])
    drift = 0.02 * noise(rng, scene.times, (3,), 2.0)[:, None]
    wrist = middle + pair((0.0, half, 0.0)) + drift + 0.004 * noise(rng, scene.times, (2, 3), 0.8)
    starts, ends = schedule(scene, (3.0, 7.0), (0.35, 0.5))
    for start in starts[: 0 if kind == "tablet" else None]:  # the right hand carries a page over and comes back
        there = moves(scene.times, [start, start + 0.6], [start + 0.5, start + 1.2], np.array([0.0, 1.0, 0.0]))
        wrist[:, 1] += there[:, None] * np.array([-0.05, 1.2 * half, 0.08])
    hand = constant(scene, np.tile([rng.normal(-0.1, 0.2), rng.normal(0.0, 0.1), rng.normal(0.1, 0.1)], (2, 1)), 0.04)
    sheet = Support(
        kind, np.array([0.02 + 0.1 * height, 0.09, -half]), 0.0, np.array([height, 0.012, 2 * half]), "left_wrist"
    )
    lines = 0.06 * np.sin(2 * np.pi * scene.times / rng.uniform(2.0, 5.0))
    head = look_at(wrist.mean(1) + [0.0, 0.0, 0.3 * height], rng.uniform(0.6, 1.0)) + 0.03 * noise(
        rng, scene.times, (3,), 1.2
    )
    head[:, 0] += lines
    return Upper(
        "read",
        wrist,
        hand,
        constant(scene, np.full(2, rng.uniform(0, 0.5)), 0.03),
        restless_spine(scene, 0.02),
        head,
        True,
        held=(sheet,),
    )


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
    right = (
        low
        + up * (mouth - low)
        + 0.08 * (up * (1 - up)) * [1.0, -0.6, 0.0]
        + 0.005 * noise(rng, scene.times, (3,), 0.8)
    )
    other = np.array([0.22, 0.12, -0.4]) if scene.seated else HANG[0]
    if rng.random() < 0.3:
        other = low * FLIP
    wrist = np.stack([constant(scene, other, 0.006), right], 1)
    hand = np.stack(
        [constant(scene, [0.5, 0.1, 0.0], 0.05), np.concatenate([0.1 + 0.45 * up, 0.1 * up, 0.3 - 0.35 * up], -1)], 1
    )
    swivel = np.stack([np.zeros(len(up)), 0.15 + rng.uniform(0.1, 0.6) * up[:, 0]], 1)
    cup = Support("cup", np.array([0.02, -0.09, -0.045]), 0.0, np.array([0.11, 0.075, 0.075]), "right_wrist")
    away = glances(scene)
    head = away * (1 - 0.7 * up) + up * [0.0, -0.18, 0.0]
    return Upper("drink", wrist, hand, swivel, restless_spine(scene), head, False, held=(cup,))


def open_door(scene: Scene) -> Upper:
    """Reach for a door handle, turn it, pull or push."""
    rng = scene.rng
    height = rng.uniform(0.9, 1.05) - scene.chest_height
    grip, sign = np.array([0.45, -0.16, height]), rng.choice([-1.0, 1.0])
    wrist = constant(scene, HANG, 0.008)
    hand = constant(scene, np.tile([0.4, 0.1, 0.0], (2, 1)), 0.04)
    spine = restless_spine(scene)
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
    head, looking = look_or_glance(scene, wrist[:, [1, 1]], 0.6)
    return Upper("open_door", wrist, hand, constant(scene, np.full(2, 0.2), 0.03), spine, head, looking)


def carry(scene: Scene) -> Upper:
    """Hold a box before the body with both hands."""
    rng = scene.rng
    half = rng.uniform(0.13, 0.22)
    middle = np.array([rng.uniform(0.28, 0.36), 0.0, rng.uniform(-0.42, -0.28)])
    drift = 0.012 * noise(rng, scene.times, (3,), 1.2)[:, None]
    wrist = middle + pair((0.0, half, 0.0)) + drift
    hand = constant(scene, np.tile([rng.uniform(-0.4, 0.1), 0.0, 0.0], (2, 1)), 0.02)
    depth, height = rng.uniform(0.2, 0.35), rng.uniform(0.15, 0.3)
    box = Support("box", np.array([0.0, 0.09, -half]), 0.0, np.array([height, depth, 2 * half - 0.03]), "left_wrist")
    return Upper(
        "lift",
        wrist,
        hand,
        constant(scene, np.full(2, 0.1), 0.02),
        restless_spine(scene) + [0, -0.06, 0],
        glances(scene, 0.3, 0.2),
        False,
        held=(box,),
    )


def lift(scene: Scene) -> Upper:
    """Bend down, take a box from the floor or a shelf, rise and put it back: for scenes whose stance bends."""
    rng = scene.rng
    down = moves(scene.times, *on_and_off(scene, 1.1, (0.3, 0.8), (0.6, 2.0)))
    held = carry(scene)
    bend = rng.uniform(0.45, 0.85)
    low = np.array([0.10, 0.0, -0.02]) * down[:, None]
    spine = restless_spine(scene) + np.stack([0 * down, bend * down, 0 * down], -1)
    head = look_at(held.wrist.mean(1), 0.7) * down[:, None] + glances(scene, 0.2, 0.15) * (1 - down[:, None])
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
    hand = constant(scene, np.array([[0.5, 0.1, 0.3], [-0.1, 0.1, 0.2]]), 0.05)
    slope = 0.9  # the lower hand's stick leaves it between thumb and fingers, down and away from the body
    middle = np.array([0.0, 0.08, -0.03]) + 0.3 * np.array([-np.cos(slope), np.sin(slope), 0.0])
    stick = Support("stick", middle, -slope, np.array([1.4, 0.028, 0.028]), "left_wrist")
    spine = restless_spine(scene) + np.concatenate([0.2 * stroke, 0.25 + 0 * stroke, 0 * stroke], -1) * rng.uniform(
        0.6, 1.4
    )
    head = look_at(low + [0.4, 0.0, -0.8], 0.7) + 0.06 * noise(rng, scene.times, (3,), 1.0)
    return Upper("sweep", wrist, hand, constant(scene, np.full(2, 0.15), 0.04), spine, head, True, held=(stick,))


def push(scene: Scene) -> Upper:
    """Push or pull something heavy at chest or waist height: a cart, a wall, a steering wheel when seated."""
    rng = scene.rng
    height, half = rng.uniform(-0.35, 0.0), rng.uniform(0.12, 0.28)
    stroke = np.clip(noise(rng, scene.times, (1,), 1.2), -1.5, 1.5)
    wrist = pair((0.40, half, height)) + (0.07 * stroke[:, None]) * [1.0, 0.0, 0.0]
    if scene.seated:  # a wheel: the hands go round
        angle = 0.5 * noise(rng, scene.times, (), 1.5)
        wrist = np.stack(
            [
                np.stack([0 * angle + 0.38, s * half * np.cos(angle), height + 0.05 + s * half * np.sin(angle)], -1)
                for s in (1, -1)
            ],
            1,
        )
    hand = constant(scene, np.tile([1.0, -0.5, 0.0], (2, 1)), 0.05)
    lean = 0.0 if scene.seated else rng.uniform(0.05, 0.3)
    return Upper(
        "push",
        wrist,
        hand,
        constant(scene, np.full(2, 0.3), 0.05),
        restless_spine(scene) + [0, lean, 0],
        glances(scene, 0.3),
        False,
    )
