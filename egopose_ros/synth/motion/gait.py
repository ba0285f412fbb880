"""Walking, turning, running, stairs, and steps about one place."""

from __future__ import annotations

import numpy as np

from egopose_ros.synth.motion.choreography import SIGN, Choreography
from egopose_ros.synth.motion.clip import Support
from egopose_ros.synth.motion.curves import blur, minimum_jerk

_HEEL_ROOM = 0.055
"""[m] tread behind a foot on stairs"""


def walk(
    stage: Choreography,
    legs: list[tuple[float, float, float]],
    direction: float = 0.0,
    action: str = "walk",
    cadence: float = 1.0,
) -> None:
    """Walk legs of (seconds, speed [m/s], turn rate [rad/s]), towards `direction` off the heading, and stop."""
    stage.label(action)
    stage.stand_key()
    dt, tail = 0.01, 2.5
    total = sum(seconds for seconds, _, _ in legs)
    grid = np.arange(0.0, total + tail, dt)
    speed, turn = np.zeros_like(grid), np.zeros_like(grid)
    begin = 0.0
    for seconds, leg_speed, leg_turn in legs:
        inside = (grid >= begin) & (grid < begin + seconds)
        speed[inside], turn[inside] = leg_speed, leg_turn
        begin += seconds
    ramp = minimum_jerk(grid / 0.7) * minimum_jerk((total - grid) / 0.7)
    speed, turn = blur(speed, grid, 0.2) * ramp, blur(turn, grid, 0.2) * ramp
    rate = cadence * (1.25 + 0.5 * np.minimum(speed, 1.6) + 0.55 * np.clip(speed - 1.6, 0, 2) + 0.15 * np.abs(turn))
    phase = -0.4 + np.cumsum(rate) * dt
    yaw = stage.yaw + np.cumsum(turn) * dt
    velocity = speed[:, None] * np.stack([np.cos(yaw + direction), np.sin(yaw + direction)], -1)
    path = stage.position + np.cumsum(velocity, 0) * dt
    stop = np.searchsorted(grid, total - 0.3)
    last = int(np.ceil(phase[stop])) + 1
    _footfalls(stage, grid, phase, path, yaw, speed, np.full(last + 1, stage.level), last, np.cos(direction))


def stairs(stage: Choreography, count: int, rise: float, depth: float, cadence: float) -> None:
    """Climb (rise > 0) or descend `count` steps [m], which are added as supports."""
    stage.label("stairs")
    stage.stand_key()
    grid = np.arange(0.0, (count + 4) / cadence, 0.01)
    phase = -0.4 + grid * cadence
    along = blur(depth * np.clip(phase, 0.0, count + 0.25), grid, 0.10)
    path = stage.position + along[:, None] * [np.cos(stage.yaw), np.sin(stage.yaw)]
    heights = stage.level + rise * np.clip(np.arange(count + 2), 0, count)
    for k in range(count + 1):
        top, platform = float(heights[k]), k == (count if rise > 0 else 0)
        length = depth + 1.3 * platform
        back = _HEEL_ROOM + (length - depth) * (rise < 0)
        if top > 0.01:
            centre = np.array([*stage.ahead(depth * k - back + length / 2), top / 2])
            stage.supports.append(Support("step", centre, stage.yaw, np.array([length, 1.1, top])))
    _footfalls(
        stage,
        grid,
        phase,
        path,
        np.full(len(grid), stage.yaw),
        np.full(len(grid), depth * cadence),
        heights,
        count + 1,
        0.25,
    )


def _footfalls(
    stage: Choreography,
    grid: np.ndarray,
    phase: np.ndarray,
    path: np.ndarray,
    yaw: np.ndarray,
    speed: np.ndarray,
    heights: np.ndarray,
    last: int,
    roll_over: float,
) -> None:
    """Put stances at whole phases 1..last, alternating sides, and the pelvis with its sway in between.

    A stance lasts `duty` phases about its own; feet roll from heel to toe by `roll_over` (negative: backwards).
    """
    rng, start = stage.rng, stage.t
    first_side = int(rng.integers(2))
    fast = np.clip((speed.max() - 1.7) / 1.2, 0.0, 1.0)
    duty = 0.62 - 0.24 * fast
    at = lambda p: float(np.interp(p, phase, grid))  # noqa: E731
    width = stage.stance * np.clip(1.0 - 0.35 * speed.max(), 0.45, 1.0)
    lift_base = rng.uniform(0.04, 0.09) + 0.10 * fast
    for k in range(1, last + 1):
        side = (k + first_side) % 2
        land, leave, centre = at(k - duty), at(k - 2 + duty), at(k)
        row = np.searchsorted(grid, centre).clip(0, len(grid) - 1)
        final = k >= last - 1
        base = stage.beside(side, path[row], yaw[row], stage.stance if final else width)
        base = base + rng.normal(0, 0.004 if np.ptp(heights) > 0 else 0.01, 2)
        base = stage.apart(side, base, yaw[row])
        climb = heights[k] - stage.foot_steps[side][-1][4]
        lift = lift_base + 0.75 * max(climb, 0) + 0.25 * abs(climb)
        leave = max(leave, stage.foot_steps[side][-1][1] - start + 0.05, 0.02)
        land = max(land, leave + 0.18)
        foot_yaw = stage.foot_yaw(side, yaw[row]) + rng.normal(0, 0.04)
        stage.step(side, start + leave, start + land, base, heights[k], foot_yaw, lift)
        g = roll_over * np.clip(speed[row] / 1.2, 0.0, 1.3)
        swing = land - leave
        settle = 0.0 if final and k == last else 1.0
        stage.roll_foot(
            side,
            (start + leave - 0.28 / max(np.interp(leave, grid, np.gradient(phase, grid)), 0.8), 0.0),
            (start + leave, max(0.7 * g, 0.15)),
            (start + leave + 0.45 * swing, 0.30 * abs(g)),
            (start + land, -0.32 * g * settle),
            (start + land + 0.10, 0.0),
        )
    end = at(last - duty) + 0.25
    bob, sway = (0.014 + 0.035 * fast) * stage.sway_scale, 0.028 * stage.sway_scale * (1 - 0.6 * fast)
    lean = 0.03 + 0.035 * speed.max() + 0.08 * fast + rng.normal(0, 0.02)
    ground = np.interp(phase - 0.55, np.arange(len(heights)), heights)
    ground = np.where(
        np.diff(heights).min(initial=0) < 0, np.interp(phase - 0.05, np.arange(len(heights)), heights), ground
    )
    active = minimum_jerk(grid / 0.5) * minimum_jerk((end - grid) / 0.5)
    amplitude = active * np.clip(np.maximum(speed, 0.3) / 1.2, 0.0, 1.4)
    sided = 1.0 if first_side == 0 else -1.0  # whole even phases are stances of the first side
    wave, quarter = sided * np.cos(np.pi * phase), sided * np.sin(np.pi * phase)
    for i in range(5, int(end / 0.01), 5):
        lateral = stage.beside(0, path[i], yaw[i], sway * amplitude[i] * wave[i] / max(speed[i], 0.8))
        z = (
            ground[i]
            + stage.height
            - bob * active[i]
            + bob * amplitude[i] * np.cos(2 * np.pi * phase[i]) * (1 - 2 * fast)
        )
        hip_turn, drop = 0.10 * quarter[i] * amplitude[i] * roll_over, 0.05 * wave[i] * amplitude[i]
        stage.pelvis_keys.append((start + grid[i], *lateral, z, yaw[i] + hip_turn, lean * active[i], drop, yaw[i]))
        stage.spine_keys.append((start + grid[i], -2.0 * hip_turn, stage.slump + 0.03 * active[i], -drop))
        stage.swing_keys.append((start + grid[i], quarter[i] * amplitude[i]))
    stage.t, stage.position, stage.yaw = start + end, path[-1], float(yaw[-1])
    stage.level = float(heights[last])
    stage.swing_keys.append((stage.t, 0.0))
    stage.spine_keys.append((stage.t + 0.15, 0.0, stage.slump, 0.0))
    stage.t += 0.15
    stage.stand_key()


def shuffle(
    stage: Choreography,
    seconds: float,
    reach: float,
    bounce: float,
    action: str,
    period: tuple[float, float] = (0.4, 0.9),
) -> None:
    """Step about one place, the pelvis following the feet: dancing, boxing, throwing, sweeping."""
    rng = stage.rng
    stage.label(action)
    stage.stand_key()
    until = stage.t + seconds
    side = int(rng.integers(2))
    home = stage.position.copy()
    while stage.t < until - 0.3:
        beat = rng.uniform(*period)
        yaw = rng.normal(0, 0.25 * min(reach / 0.15, 1.0))
        target = stage.ahead(rng.normal(0, reach), SIGN[side] * stage.stance * 1.3 + rng.normal(0, 0.6 * reach))
        other = np.array(stage.foot_steps[1 - side][-1][2:4])
        target = stage.apart(side, target, stage.yaw, 0.15)
        travel = min(0.85 * beat, 0.6)
        stage.step(
            side,
            stage.t,
            stage.t + travel,
            target,
            stage.level,
            stage.foot_yaw(side) + yaw,
            rng.uniform(0.03, 0.05 + bounce),
        )
        stage.roll_foot(
            side,
            (stage.t - 0.1, 0.0),
            (stage.t, rng.uniform(0.1, 0.4)),
            (stage.t + travel, rng.uniform(-0.1, 0.15)),
            (stage.t + travel + 0.1, 0.0),
        )
        middle = 0.5 * (target + other)
        stage.t += beat
        weight = rng.uniform(-0.3, 0.3)
        lower = abs(rng.normal(0, bounce)) + 0.02
        stage.key(
            stage.t,
            middle + weight * (target - other),
            stage.level + stage.height - lower,
            stage.yaw + rng.normal(0, 0.15),
            0.05 + rng.normal(0, 0.06),
            rng.normal(0, 0.07),
        )
        stage.spine_keys.append(
            (stage.t, rng.normal(0, 0.15), stage.slump + rng.normal(0.05, 0.08), rng.normal(0, 0.08))
        )
        side = 1 - side
    for last in range(2):
        stage.step(
            last, stage.t, stage.t + 0.35, stage.beside(last, home, stage.yaw), stage.level, stage.foot_yaw(last), 0.03
        )
        stage.t += 0.4
    stage.position = home
    stage.spine_keys.append((stage.t, 0.0, stage.slump, 0.0))
    stage.stand_key()
