"""Squats, lunges, kicks, kneeling and crawling."""

from __future__ import annotations

import numpy as np

from egopose_ros.synth.motion.choreography import SIGN, Choreography


def squat(stage: Choreography, depth: float, seconds: float, action: str = "squat") -> None:
    """Bend the knees until the pelvis is `depth` [m] lower, stay, and rise."""
    rng = stage.rng
    stage.label(action)
    stage.stand_key()
    deep = np.clip((depth - 0.25) / 0.35, 0.0, 1.0)
    heels = deep * rng.choice([0.0, rng.uniform(0.3, 0.6)])
    down, up = rng.uniform(0.7, 1.2, 2)
    lean, flex, out = (
        0.25 + 0.4 * deep * rng.uniform(0.4, 1.0),
        stage.slump + rng.uniform(0.1, 0.45),
        rng.uniform(0.1, 0.5),
    )
    low = stage.ahead(-0.10 * deep * (heels == 0) + 0.03)
    for key, lower in ((down, depth), (down + seconds, depth + rng.normal(0, 0.01))):
        stage.key(stage.t + key, low, stage.level + stage.height - lower, stage.yaw, lean)
        stage.spine_keys.append((stage.t + key, 0.0, flex, 0.0))
        stage.knee_keys.append((stage.t + key, out, out))
    for side in range(2):
        stage.roll_foot(
            side,
            (stage.t + 0.3 * down, 0.0),
            (stage.t + down, heels),
            (stage.t + down + seconds, heels),
            (stage.t + down + seconds + 0.8 * up, 0.0),
        )
    stage.knee_keys.insert(-2, (stage.t, 0.0, 0.0))
    stage.t += down + seconds + up
    stage.spine_keys.append((stage.t, 0.0, stage.slump, 0.0))
    stage.knee_keys.append((stage.t, 0.0, 0.0))
    stage.stand_key()


def _step_out(
    stage: Choreography, side: int, forward: float, left: float, seconds: float, yaw: float = 0.0, lift: float = 0.05
) -> None:
    """Move one foot to an offset from the heading's origin."""
    stage.step(
        side, stage.t, stage.t + seconds, stage.ahead(forward, left), stage.level, stage.foot_yaw(side) + yaw, lift
    )
    stage.roll_foot(
        side, (stage.t - 0.12, 0.0), (stage.t, 0.25), (stage.t + seconds, -0.05), (stage.t + seconds + 0.1, 0.0)
    )


def lunge(stage: Choreography, seconds: float, forward: float, lower: float, action: str) -> None:
    """Step forwards with one foot, lower the pelvis, come back."""
    rng = stage.rng
    stage.label(action)
    stage.stand_key()
    side = int(rng.integers(2))
    _step_out(stage, side, forward, SIGN[side] * stage.stance, 0.45)
    stage.roll_foot(1 - side, (stage.t + 0.3, 0.0), (stage.t + 0.7, 0.5 * lower / 0.2))
    hold = max(seconds - 1.2, 0.2)
    for key in (0.6, 0.6 + hold):
        stage.key(stage.t + key, stage.ahead(0.55 * forward), stage.level + stage.height - lower, stage.yaw, 0.08)
    stage.t += 0.6 + hold
    stage.roll_foot(1 - side, (stage.t, 0.5 * lower / 0.2), (stage.t + 0.4, 0.0))
    stage.step(
        side,
        stage.t,
        stage.t + 0.5,
        stage.beside(side, stage.position, stage.yaw),
        stage.level,
        stage.foot_yaw(side),
        0.05,
    )
    stage.roll_foot(side, (stage.t - 0.1, 0.0), (stage.t + 0.1, 0.25), (stage.t + 0.5, 0.0))
    stage.t += 0.6
    stage.stand_key()


def kick(stage: Choreography, seconds: float, height: float, side: int) -> None:
    """Kick forwards to a height [m] above the ground and put the foot back."""
    rng = stage.rng
    stage.label("kick")
    stage.stand_key()
    t, home = stage.t, stage.beside(side, stage.position, stage.yaw)
    over = stage.ahead(0.0, -SIGN[side] * 0.07)
    wind, strike = 0.35 * seconds, 0.28 * seconds
    stage.step(
        side,
        t,
        t + wind,
        stage.ahead(-0.28, SIGN[side] * 0.12),
        stage.level + 0.12,
        stage.foot_yaw(side),
        0.05,
        planted=False,
    )
    aim = stage.ahead(0.62 - 0.25 * height, SIGN[side] * rng.uniform(-0.05, 0.2))
    stage.step(side, t + wind, t + wind + strike, aim, stage.level + height, stage.foot_yaw(side), 0.0, planted=False)
    stage.step(side, t + wind + strike + 0.05, t + seconds, home, stage.level, stage.foot_yaw(side), 0.10)
    stage.roll_foot(
        side, (t - 0.05, 0.0), (t + wind, 0.9), (t + wind + strike, rng.uniform(-0.5, 0.2)), (t + seconds, 0.0)
    )
    stage.key(t + wind, over, stage.level + stage.height - 0.03, stage.yaw - SIGN[side] * 0.1, 0.1)
    stage.key(
        t + wind + strike, over, stage.level + stage.height - 0.02, stage.yaw + SIGN[side] * 0.25, -0.15 - 0.2 * height
    )
    stage.spine_keys += [
        (t, 0.0, stage.slump, 0.0),
        (t + wind + strike, -SIGN[side] * 0.2, 0.3, 0.0),
        (t + seconds, 0.0, stage.slump, 0.0),
    ]
    stage.swing_keys += [
        (t, 0.0),
        (t + wind, -SIGN[side] * 0.9),
        (t + wind + strike, SIGN[side] * 1.2),
        (t + seconds, 0.0),
    ]
    stage.t = t + seconds + 0.1
    stage.stand_key()


def kneel(stage: Choreography, seconds: float, both: bool, action: str = "kneel") -> None:
    """Kneel on one knee or both, stay (sometimes on the heels), and stand up."""
    rng = stage.rng
    stage.label(action)
    stage.stand_key()
    side = int(rng.integers(2))
    hips = stage.ahead(0.06)
    out = rng.uniform(0.05, 0.3)
    step = 0.6
    sides = (side, 1 - side) if both else (side,)
    stage.step(
        1 - side,
        stage.t,
        stage.t + 0.5,
        stage.ahead(0.40, SIGN[1 - side] * 0.13),
        stage.level,
        stage.foot_yaw(1 - side),
        0.06,
    )
    begin = stage.t + 0.35
    kneeling = stage.level + 0.535
    for k, kneeler in enumerate(sides):
        start = begin + k * 1.0
        toe = rng.uniform(0.95, 1.15)
        behind = stage.ahead(-0.42 if k == 0 else -0.40, SIGN[kneeler] * 0.13)
        start = max(start, stage.foot_steps[kneeler][-1][1] + 0.05)
        stage.step(
            kneeler,
            start,
            start + step,
            behind,
            stage.level,
            stage.foot_yaw(kneeler) * 0.5 + 0.5 * stage.yaw,
            0.06,
            planted=False,
        )
        stage.roll_foot(kneeler, (start, 0.1), (start + step, toe))
    arrive = begin + step + 0.4 + (0.9 if both else 0.0)
    lean, flex = rng.uniform(-0.02, 0.45), stage.slump + rng.uniform(0.0, 0.4)
    rest = kneeling - (rng.uniform(0.1, 0.2) if both and rng.random() < 0.5 else 0.0)
    rest_at = stage.ahead(0.06 - 1.1 * (kneeling - rest))
    stage.key(begin + step + 0.15, hips, kneeling + 0.02, stage.yaw, 0.25)
    stage.spine_keys += [(stage.t, 0.0, stage.slump, 0.0), (begin + step, 0.0, flex, 0.0)]
    stage.knee_keys += [(stage.t, 0.0, 0.0), (arrive, out, out)]
    stage.t = arrive
    stage.key(stage.t, rest_at, rest, stage.yaw, lean)
    until = stage.t + seconds
    while stage.t < until - 1.5:
        stage.t += rng.uniform(1.0, 3.0)
        if stage.t < until - 0.5:
            stage.key(
                stage.t,
                rest_at + rng.normal(0, 0.015, 2),
                rest + rng.normal(0, 0.004),
                stage.yaw + rng.normal(0, 0.08),
                lean + rng.normal(0, 0.1),
                rng.normal(0, 0.04),
            )
            stage.spine_keys.append((stage.t, rng.normal(0, 0.12), flex + rng.normal(0, 0.1), rng.normal(0, 0.08)))
    stage.t = until
    stage.key(stage.t, hips, kneeling, stage.yaw, lean + 0.1)
    if both:
        stage.step(
            1 - side,
            stage.t,
            stage.t + 0.7,
            stage.ahead(0.36, SIGN[1 - side] * 0.13),
            stage.level,
            stage.foot_yaw(1 - side),
            0.12,
        )
        stage.roll_foot(1 - side, (stage.t, toe), (stage.t + 0.45, 0.1), (stage.t + 0.7, 0.0))
        stage.t += 0.7
        stage.key(stage.t, hips, kneeling, stage.yaw, 0.2)
    stage.position = stage.ahead(0.34)
    stage.key(
        stage.t + 0.7, stage.position + 0.2 * (hips - stage.position), stage.level + stage.height - 0.12, stage.yaw, 0.3
    )
    stage.step(
        side,
        stage.t + 0.35,
        stage.t + 0.95,
        stage.beside(side, stage.position, stage.yaw),
        stage.level,
        stage.foot_yaw(side),
        0.08,
    )
    stage.roll_foot(side, (stage.t + 0.3, 0.9), (stage.t + 0.75, 0.15), (stage.t + 0.95, 0.0))
    stage.step(
        1 - side,
        stage.t + 1.0,
        stage.t + 1.35,
        stage.beside(1 - side, stage.position, stage.yaw),
        stage.level,
        stage.foot_yaw(1 - side),
        0.04,
    )
    stage.spine_keys += [(stage.t + 0.5, 0.0, flex + 0.2, 0.0), (stage.t + 1.4, 0.0, stage.slump, 0.0)]
    stage.knee_keys += [(stage.t, out, out), (stage.t + 1.2, 0.0, 0.0)]
    stage.t += 1.4
    stage.stand_key()


def crawl(stage: Choreography, seconds: float, speed: float) -> None:
    """Crawl on hands and knees; must be the first movement."""
    rng = stage.rng
    stage.label("crawl")
    stage.pelvis_keys.clear()
    for steps, pitch in zip(stage.foot_steps, stage.foot_rolls):
        steps.clear()
        pitch[:] = [(0.0, rng.uniform(2.2, 2.6), 0.0)]
    height, pitch = 0.475, rng.uniform(1.28, 1.42)
    period = 1.1 if speed > 0.05 else 2.0
    steps = max(int(np.ceil(seconds / period)), 1)
    stride = speed * period
    stage.spine_keys[:] = [(0.0, 0.0, rng.uniform(-0.1, 0.15), 0.0)]
    stage.crawl_keys[:] = [(0.0, 1.0)]
    for side in range(2):
        _step_crawl(stage, side, -1.0, -0.9, 0.0)
    for k in range(steps):
        for half in range(2):
            t, along = stage.t + (k + 0.5 * half) * period, (k + 0.5 * (half + 1)) * stride
            if speed > 0.05:
                _step_crawl(stage, half, t, t + 0.42 * period, along)
            centre = stage.ahead(along - 0.25 * stride, SIGN[1 - half] * 0.02)
            stage.key(
                t + 0.2 * period,
                centre,
                height + rng.normal(0, 0.006),
                stage.yaw + SIGN[half] * 0.04,
                pitch + rng.normal(0, 0.02),
                SIGN[half] * 0.04,
            )
            stage.spine_keys.append(
                (t + 0.2 * period, SIGN[half] * 0.06, stage.spine_keys[0][2] + rng.normal(0, 0.04), SIGN[half] * 0.06)
            )
    stage.t += steps * period
    stage.position = stage.ahead(steps * stride)


def _step_crawl(stage: Choreography, side: int, start: float, end: float, along: float) -> None:
    """Move one knee, by its ankle, and the hand of the other side."""
    rng = stage.rng
    base = stage.ahead(along - 0.47, SIGN[side] * 0.10)
    if not stage.foot_steps[side]:
        stage.foot_steps[side].append((start, end, *base, stage.level, stage.yaw, 0.0, 0.0))
    else:
        stage.step(side, start, end, base, stage.level, stage.yaw, 0.02, planted=False)
    other = 1 - side
    hand = stage.ahead(along + 0.44 + rng.normal(0, 0.02), SIGN[other] * (0.20 + rng.normal(0, 0.015)))
    lift = 0.0 if not stage.hand_steps[other] else 0.10
    stage.hand_steps[other].append((start, end, *hand, stage.level + 0.055, 0.0, lift, 1.0))
