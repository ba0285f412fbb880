"""Sitting down, sitting with restless feet, and standing up."""

from __future__ import annotations

import numpy as np

from egopose_ros.synth.motion.choreography import SIGN, Choreography
from egopose_ros.synth.motion.clip import BUTTOCKS, Support


def sit(
    stage: Choreography,
    seat: float,
    seconds: float,
    *,
    table: float | None = None,
    action: str = "sit",
    start_seated: bool = False,
) -> None:
    """Sit down on a seat of a height [m], stay, moving the feet now and then, and stand up (unless started seated)."""
    rng = stage.rng
    back, lean = rng.uniform(0.36, 0.44), rng.uniform(0.35, 0.6)
    hips = stage.ahead(-back)
    recline = rng.choice([rng.uniform(-0.05, 0.12), rng.uniform(-0.45, -0.15)], p=[0.65, 0.35])
    flex = rng.uniform(0.0, 0.3) - 0.4 * min(recline, 0.0)
    z = stage.level + max(seat, 0.2) + BUTTOCKS
    stage.supports.append(
        Support(
            "seat",
            np.array([*stage.ahead(-back - 0.02), stage.level + seat - 0.04]),
            stage.yaw,
            np.array([0.46, 0.48, 0.08]),
        )
    )
    if rng.random() < 0.7:
        stage.supports.append(
            Support(
                "backrest",
                np.array([*stage.ahead(-back - 0.27), stage.level + seat + 0.28]),
                stage.yaw,
                np.array([0.05, 0.44, 0.45]),
            )
        )
    if table is not None:
        stage.supports.append(
            Support(
                "table",
                np.array([*stage.ahead(0.33 - 0.05), stage.level + table - 0.02]),
                stage.yaw,
                np.array([0.7, 1.3, 0.04]),
            )
        )
    if not start_seated:
        stage.label("sit_down")
        stage.stand_key()
        down = rng.uniform(1.1, 1.7)
        middle = stage.ahead(-0.55 * back)
        stage.key(stage.t + 0.55 * down, middle, z + 0.45 * (stage.height - z), stage.yaw, lean)
        stage.spine_keys += [
            (stage.t, 0.0, stage.slump, 0.0),
            (stage.t + 0.5 * down, 0.0, stage.slump + 0.35, 0.0),
            (stage.t + 1.25 * down, 0.0, flex, 0.0),
        ]
        stage.knee_keys.append((stage.t, 0.0, 0.0))
        stage.t += down
    else:
        stage.pelvis_keys.clear()
        stage.spine_keys[:] = [(stage.t, 0.0, flex, 0.0)]
    stage.label(action)
    out = rng.uniform(-0.05, 0.35)
    stage.knee_keys.append((stage.t + 0.2, out, out))
    for key in (0.0, 0.35):
        stage.key(stage.t + key, hips, z, stage.yaw, recline * (key > 0 or start_seated))
    until = stage.t + seconds
    while True:
        stage.t += rng.uniform(1.5, 4.5)
        if stage.t > until - 1.0:
            break
        _fidget_seated(stage, rng, hips, z, recline, flex)
    stage.t = until
    stage.key(stage.t, hips, z, stage.yaw, recline)
    stage.spine_keys.append((stage.t, 0.0, flex, 0.0))
    if start_seated:
        return
    stage.label("stand_up")
    for side in range(2):
        last = stage.foot_steps[side][-1]
        if np.hypot(*(np.array(last[2:4]) - stage.beside(side, stage.position, stage.yaw))) > 0.03 or not last[7]:
            begin = max(stage.t - 0.55 + 0.2 * side, last[1] + 0.02)
            stage.step(
                side,
                begin,
                begin + 0.35,
                stage.beside(side, stage.position, stage.yaw),
                stage.level,
                stage.foot_yaw(side),
                0.03,
            )
            stage.roll_foot(
                side, (begin - 0.1, stage.foot_rolls[side][-1][1], stage.foot_rolls[side][-1][2]), (begin + 0.3, 0.0)
            )
    up = rng.uniform(1.0, 1.5)
    stage.key(stage.t + 0.25 * up, stage.ahead(-0.85 * back), z + 0.01, stage.yaw, lean)
    stage.key(stage.t + 0.6 * up, stage.ahead(-0.35 * back), z + 0.5 * (stage.height - z), stage.yaw, lean * 0.9)
    stage.spine_keys += [(stage.t + 0.4 * up, 0.0, stage.slump + 0.35, 0.0), (stage.t + up, 0.0, stage.slump, 0.0)]
    stage.knee_keys += [(stage.t, out, out), (stage.t + up, 0.0, 0.0)]
    stage.t += up
    stage.stand_key()


def _fidget_seated(
    stage: Choreography, rng: np.random.Generator, hips: np.ndarray, z: float, recline: float, flex: float
) -> None:
    """Move a foot (forwards, tucked, on the other knee) or the trunk."""
    kind = rng.random()
    side = int(rng.integers(2))
    crossed = not (stage.foot_steps[0][-1][7] and stage.foot_steps[1][-1][7])
    start = max(stage.t, stage.foot_steps[side][-1][1] + 0.05)
    if crossed:
        side = 0 if not stage.foot_steps[0][-1][7] else 1
    if kind < 0.15 and not crossed and z > 0.5:  # ankle on the other knee
        other = stage.foot_steps[1 - side][-1]
        knee = (
            0.9 * np.array(other[2:4])
            + 0.1 * hips
            + SIGN[side] * 0.02 * np.array([-np.sin(stage.yaw), np.cos(stage.yaw)])
        )
        stage.step(
            side,
            start,
            start + 0.9,
            knee,
            stage.level + 0.50,
            stage.foot_yaw(side) - SIGN[side] * 0.5,
            0.05,
            planted=False,
        )
        stage.roll_foot(side, (start, 0.0), (start + 0.9, 0.1, SIGN[side] * 0.9))
        knees = list(stage.knee_keys[-1][1:])
        stage.knee_keys.append((start, *knees))
        knees[side] = 0.9
        stage.knee_keys.append((start + 0.9, *knees))
    elif kind < 0.65 or crossed:
        forward, left = rng.uniform(-0.22, 0.30), SIGN[side] * rng.uniform(0.03, 0.24)
        heel_up = rng.choice([0.0, rng.uniform(0.3, 0.8)]) * (forward < -0.05)
        stage.step(
            side,
            start,
            start + 0.45,
            stage.ahead(forward, left),
            stage.level,
            stage.foot_yaw(side) + rng.normal(0, 0.15),
            0.04,
        )
        stage.roll_foot(
            side, (start, stage.foot_rolls[side][-1][1], stage.foot_rolls[side][-1][2]), (start + 0.5, heel_up)
        )
        knees = list(stage.knee_keys[-1][1:])
        stage.knee_keys.append((start, *knees))
        knees[side] = rng.uniform(-0.1, 0.4)
        stage.knee_keys.append((start + 0.5, *knees))
    side_bend, twist = rng.normal(0, 0.07), rng.normal(0, 0.1)
    stage.spine_keys.append((start + 0.6, twist, flex + rng.normal(0, 0.08), side_bend))
    stage.key(
        start + 0.6,
        hips + rng.normal(0, 0.012, 2),
        z,
        stage.yaw + rng.normal(0, 0.06),
        recline + rng.normal(0, 0.06),
        side_bend * 0.3,
    )
