"""What arms, trunk and head do without things: swinging, resting, gestures, stretching, boxing, dancing."""

from __future__ import annotations

import numpy as np

from egopose_ros.synth.motion.curves import moves, noise
from egopose_ros.synth.motion.upper import (
    FLIP,
    HANG,
    Scene,
    Upper,
    constant,
    glances,
    on_and_off,
    pair,
    restless_spine,
    wander,
)


def swing(scene: Scene) -> Upper:
    """Arms swing with the gait, or hang."""
    rng = scene.rng
    amplitude, bend = rng.uniform(0.15, 0.6), abs(rng.normal(0.12, 0.12))
    angle = (
        scene.swing[:, None] * np.array([1.0, -1.0]) * amplitude
        + rng.normal(0.05, 0.08)
        + 0.03 * noise(rng, scene.times, (2,), 1.0)
    )
    bent = bend + 0.35 * np.maximum(angle, 0.0) * rng.uniform(0.5, 1.5)
    length = 0.52 - 0.12 * bent
    spread = abs(rng.normal(0.05, 0.05))
    wrist = np.empty((len(scene.times), 2, 3))
    forward = angle + 0.3 * bent
    wrist[..., 0] = length * np.sin(forward)
    wrist[..., 1] = np.array([1, -1]) * (0.19 + length * spread) - np.array([1, -1]) * 0.08 * np.maximum(angle, 0)
    wrist[..., 2] = -length * np.cos(forward)
    hand = constant(scene, np.tile([rng.normal(0.4, 0.3), rng.normal(0.15, 0.15), 0.0], (2, 1)), 0.06)
    return Upper(
        "",
        wrist,
        hand,
        constant(scene, np.full(2, rng.normal(0, 0.15)), 0.03),
        restless_spine(scene),
        glances(scene),
        False,
    )


def rest(scene: Scene) -> Upper:
    """Arms at rest: crossed, on the hips, on the thighs, clasped in front or behind, in pockets, hanging."""
    rng = scene.rng
    options = [
        (pair((0.20, -0.07, -0.22), (0.17, 0.10, -0.25)), (0.3, 0.1, 0.0), 0.5),  # crossed
        (pair((0.02, 0.23, -0.38)), (-0.2, -0.5, 0.0), 0.9),  # on the hips
        (pair((0.18, 0.04, -0.42), (0.17, -0.03, -0.43)), (0.5, 0.1, 0.0), 0.2),  # clasped in front
        (pair((-0.17, 0.05, -0.43), (-0.18, -0.04, -0.42)), (0.2, 0.2, 0.0), 0.2),  # behind
        (pair((0.08, 0.22, -0.42)), (0.3, 0.2, 0.0), 0.3),  # pockets
        (HANG, (0.4, 0.15, 0.0), 0.0),
        (pair((0.07, 0.16, -0.02), (0.16, -0.10, -0.30)), (0.6, 0.2, 0.0), 0.0),  # a hand at the chin
        (pair((-0.03, 0.14, 0.25)), (0.6, 0.0, 0.0), 1.0),  # behind the head
    ]
    if scene.seated:
        thighs = pair((rng.uniform(0.22, 0.4), rng.uniform(0.06, 0.2), -0.42))
        lap = pair((0.22, 0.05, -0.40), (0.2, -0.06, -0.40))
        armrests = pair((0.24, 0.27, -0.30))
        options = [
            (thighs, (1.1, -0.7, 0.0), 0.2),
            (lap, (0.6, -0.3, 0.0), 0.1),
            (armrests, (1.1, 0.0, 0.0), 0.3),
            options[0],
            options[7],
        ]
    picks = rng.permutation(len(options))[:3]
    index = iter(np.resize(picks, 64))

    def draw() -> np.ndarray:
        wrist, hand, swivel = options[next(index)]
        wrist = wrist + rng.normal(0, 0.02, (2, 3))
        return np.concatenate([wrist, np.tile(hand, (2, 1)) + rng.normal(0, 0.1, (2, 3)), np.full((2, 1), swivel)], -1)

    values = wander(scene, draw, (2.0, 6.0), (0.7, 1.3))
    values[..., :3] += 0.006 * noise(rng, scene.times, (2, 3), 1.5)
    return Upper("", values[..., :3], values[..., 3:6], values[..., 6], restless_spine(scene), glances(scene), False)


def gesture(scene: Scene) -> Upper:
    """Talk with the hands, point, clap, touch face and hair and the device on the head."""
    rng = scene.rng
    lively = rng.uniform(0.5, 1.6)

    def draw() -> np.ndarray:
        wrist = (
            np.array([[0.26, 0.16, -0.24], [0.26, -0.16, -0.24]]) + rng.normal(0, [0.06, 0.08, 0.09], (2, 3)) * lively
        )
        hands = np.stack([[rng.normal(-0.1, 0.7), rng.normal(0, 0.35), rng.normal(0, 0.2)] for _ in range(2)])
        kind = rng.random()
        if kind < 0.10:  # point
            wrist[1] = [rng.uniform(0.35, 0.5), rng.uniform(-0.45, 0.05), rng.uniform(-0.1, 0.25)]
        elif kind < 0.20:  # face, hair, headset
            wrist[1] = [rng.uniform(0.10, 0.18), rng.uniform(-0.18, -0.08), rng.uniform(0.05, 0.28)]
            hands[1] = [rng.normal(-0.2, 0.4), rng.normal(0.2, 0.2), 0.0]
        elif kind < 0.27:  # both to the head
            wrist = pair((rng.uniform(0.06, 0.15), 0.17, rng.uniform(0.12, 0.3)))
        elif kind < 0.35:  # clap, clasp
            wrist = pair((0.3, 0.045, rng.uniform(-0.3, 0.0)))
            hands[:, 0] = 0.0
        elif kind < 0.55:  # one hand rests
            wrist[0] = HANG[0] if not scene.seated else [0.25, 0.12, -0.4]
        return np.concatenate([wrist, hands, rng.normal(0.1, 0.3, (2, 1))], -1)

    values = wander(scene, draw, (0.1, 1.2), (0.35, 0.8))
    beat = noise(rng, scene.times, (2, 3), 0.35) * [0.012, 0.015, 0.02] * lively
    return Upper(
        "gesture",
        values[..., :3] + beat,
        values[..., 3:6],
        values[..., 6],
        restless_spine(scene, 0.08, 0.05, 0.05),
        glances(scene, 0.4),
        False,
    )


def wave(scene: Scene) -> Upper:
    """Wave with a raised hand, or with both."""
    rng = scene.rng
    raise_ = moves(scene.times, *on_and_off(scene, 0.7, (1.5, 4.0), (0.5, 2.0)))[:, None]
    high = np.array([rng.uniform(0.12, 0.32), rng.uniform(-0.42, -0.22), rng.uniform(0.02, 0.35)])
    beat = np.sin(2 * np.pi * rng.uniform(1.2, 2.4) * scene.times)[:, None]
    right = (
        HANG[1]
        + raise_ * (high - HANG[1])
        + raise_ * (1 - raise_) * [0.5, 0.0, 0.0]
        + raise_ * beat * [0.0, 0.08, 0.02]
    )
    both = rng.random() < 0.25
    left = right * FLIP if both else constant(scene, HANG[0], 0.008)
    hand_right = np.concatenate([0.4 + 0.4 * raise_, 0.1 * beat * raise_, 0.25 * beat * raise_], -1)
    hand = np.stack([hand_right if both else constant(scene, [0.4, 0.1, 0.0], 0.04), hand_right], 1)
    swivel = np.stack([0.5 * raise_[:, 0] * both, 0.5 * raise_[:, 0]], 1)
    return Upper("wave", np.stack([left, right], 1), hand, swivel, restless_spine(scene), glances(scene, 0.25), False)


def stretch(scene: Scene) -> Upper:
    """Stretch: arms overhead, sideways, behind; bend the trunk to all sides; roll the head."""
    rng = scene.rng

    def draw() -> np.ndarray:
        kind = rng.integers(6)
        wrist = HANG.copy()
        spine, swivel = rng.normal(0, [0.05, 0.05, 0.04]), 0.0
        if kind == 0:  # overhead
            wrist, spine = pair((rng.uniform(-0.05, 0.2), rng.uniform(0.06, 0.25), rng.uniform(0.45, 0.55))), np.array(
                [0, -0.15, rng.normal(0, 0.25)]
            )
        elif kind == 1:  # wide
            wrist, swivel = pair((rng.uniform(-0.15, 0.15), 0.68, rng.uniform(-0.1, 0.15))), 0.2
        elif kind == 2:  # across
            wrist = pair((0.26, -0.02, -0.1), (0.34, 0.28, -0.06))
        elif kind == 3:  # towards the toes
            wrist, spine = pair((0.28, 0.12, -0.45 + rng.uniform(0, 0.3))), np.array([0.0, rng.uniform(0.5, 0.95), 0.0])
        elif kind == 4:  # one arm over, side bend
            wrist[1] = [0.06, -0.02, 0.5]
            spine = np.array([0.0, 0.0, -rng.uniform(0.2, 0.45)])
        else:  # hands on the hips, back arched or twisted
            wrist, swivel = pair((-0.02, 0.22, -0.38)), 0.8
            spine = np.array([rng.normal(0, 0.4), -rng.uniform(0.0, 0.25), rng.normal(0, 0.15)])
        hands = np.tile([rng.normal(0.4, 0.5), rng.normal(0, 0.25), 0.0], (2, 1))
        flat = np.concatenate([wrist + rng.normal(0, 0.02, (2, 3)), hands, np.full((2, 1), swivel)], -1)
        return np.concatenate([flat.ravel(), spine])

    values = wander(scene, draw, (0.5, 2.0), (0.8, 1.5))
    arms = values[:, :14].reshape(-1, 2, 7)
    return Upper(
        "stretch",
        arms[..., :3],
        arms[..., 3:6],
        arms[..., 6],
        values[:, 14:] + restless_spine(scene),
        glances(scene, 0.35),
        False,
    )


def punch(scene: Scene) -> Upper:
    """Box: a guard, jabs, crosses, hooks and uppercuts with the trunk behind them."""
    rng = scene.rng
    guard = pair(
        (rng.uniform(0.22, 0.3), 0.13, rng.uniform(-0.08, 0.08)),
        (rng.uniform(0.18, 0.26), -0.12, rng.uniform(-0.08, 0.06)),
    )
    wrist = constant(scene, guard, 0.012, 0.4)
    hand = constant(scene, np.tile([0.1, 0.0, 0.0], (2, 1)), 0.06, 0.5)
    swivel = constant(scene, np.full(2, 0.15), 0.04)
    spine = restless_spine(scene, 0.06) + [rng.normal(0, 0.1), 0.08, 0.0]
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
    return Upper("punch", wrist, hand, swivel, spine, glances(scene, 0.12, 0.08), False)


def throw(scene: Scene) -> Upper:
    """Throw overarm or underarm: wind up, swing, follow through."""
    rng = scene.rng
    wrist = constant(scene, np.stack([HANG[0], [0.25, -0.15, -0.3]]), 0.01)
    hand = constant(scene, np.tile([0.3, 0.0, 0.0], (2, 1)), 0.05)
    spine, swivel = restless_spine(scene), constant(scene, np.full(2, 0.1), 0.03)
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
    return Upper("throw", wrist, hand, swivel, spine, glances(scene, 0.15), False)


def look_around(scene: Scene) -> Upper:
    """Turn the head and the trunk far to all sides, up and down; the arms hang or rest."""
    rng = scene.rng
    arms = rest(scene) if rng.random() < 0.5 else swing(scene)
    draw = lambda: np.array([rng.uniform(-1.1, 1.1), rng.uniform(-0.6, 0.75), rng.normal(0, 0.1)])  # noqa: E731
    head = wander(scene, draw, (0.2, 1.2), (0.4, 1.0))
    spine = restless_spine(scene)
    spine[:, 0] += 0.25 * head[:, 0]
    return Upper("look_around", arms.wrist, arms.hand, arms.swivel, spine, head, False)


def dance(scene: Scene) -> Upper:
    """Move arms, trunk and head to a beat."""
    rng = scene.rng
    beat = 2 * np.pi * rng.uniform(0.8, 1.3) * scene.times
    base = pair((rng.uniform(0.1, 0.35), rng.uniform(0.15, 0.4), rng.uniform(-0.3, 0.2)))
    pattern = rng.normal(0, [0.08, 0.09, 0.12], (2, 2, 3)) * rng.uniform(0.6, 1.3)
    if rng.random() < 0.5:
        pattern[:, 1] = pattern[:, 0] * FLIP * rng.choice([-1.0, 1.0])
    phases = np.stack([np.sin(beat), np.sin(0.5 * beat + rng.uniform(0, 6))], -1)
    change = wander(scene, lambda: rng.normal(0, [0.08, 0.1, 0.15], (2, 3)), (0.8, 2.0), (0.4, 0.8))
    wrist = base + np.einsum("tk,ksc->tsc", phases, pattern) + change
    hand = 0.4 * noise(rng, scene.times, (2, 3), 0.6) * [1.0, 0.6, 0.3] + [0.3, 0.0, 0.0]
    spine = restless_spine(scene, 0.12, 0.08, 0.08) + np.stack(
        [0.2 * np.sin(0.5 * beat), 0.04 * np.sin(beat), 0.1 * np.sin(0.5 * beat + 1)], -1
    )
    head = glances(scene, 0.35) + np.stack([0 * beat, 0.08 * np.sin(beat), 0.06 * np.sin(0.5 * beat)], -1)
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
        return np.concatenate(
            [
                arms.ravel(),
                np.clip(spine, [-0.7, -0.3, -0.45], [0.7, 0.9, 0.45]),
                np.clip(head, [-1.1, -0.6, -0.3], [1.1, 0.8, 0.3]),
            ]
        )

    values = wander(scene, draw, (0.0, 0.8), (0.7, 1.8))
    arms = values[:, :14].reshape(-1, 2, 7)
    return Upper("explore", arms[..., :3], arms[..., 3:6], arms[..., 6], values[:, 14:17], values[:, 17:], False)
