"""Where pelvis and feet go: walking, turning, stairs, sitting, squatting, kneeling, crawling, kicks and free steps.

A `Choreography` collects keys, one movement after another; `Choreography.tracks` turns them into curves. Feet stand on
bases (the point of the sole below the ankle) and roll over ball and heel; they move between bases by minimum jerk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from egopose_ros.synth.motion.body import REFERENCE, SOLE, rotation_about, yaw_pitch_roll
from egopose_ros.synth.motion.clip import Support
from egopose_ros.synth.motion.curves import blur, minimum_jerk, noise, through
from egopose_ros.synth.motion.placement import sink

STANDING = float(REFERENCE[0, 2]) - 0.012
"""[m] height of the pelvis of a person who stands at ease"""
_BALL = np.array([0.13, 0.0, -SOLE])
_HEEL = np.array([-0.045, 0.0, -SOLE])
_HEEL_ROOM = 0.055
"""[m] tread behind a foot on stairs"""
_BUTTOCKS = 0.15
"""[m] pelvis above a seat"""
_SIGN = np.array([1.0, -1.0])


@dataclass(frozen=True)
class Tracks:
    """Curves of a choreography over T frames."""

    pelvis_world: np.ndarray
    """(T, 3)"""
    pelvis_angles: np.ndarray
    """(T, 3) yaw, pitch, roll"""
    heading: np.ndarray
    """(T,) yaw without the sway of the gait"""
    spine: np.ndarray
    """(T, 3) twist, flexion, side bend that the movement asks for"""
    swing: np.ndarray
    """(T,) how far the left arm swings forwards, about -1..1"""
    ankle_world: np.ndarray
    """(T, 2, 3)"""
    foot_angles: np.ndarray
    """(T, 2, 3)"""
    toe: np.ndarray
    """(T, 2)"""
    knee_out: np.ndarray
    """(T, 2)"""
    contact: np.ndarray
    """(T, 2) bool"""
    crawl: np.ndarray
    """(T,) 1 where the hands are on the floor"""
    hands_world: np.ndarray
    """(T, 2, 3) where they are then"""
    action: tuple[str, ...]


@dataclass
class Choreography:
    """Keys of pelvis and feet up to the time `t` [s]; every movement starts where the one before it ended."""

    rng: np.random.Generator
    stance: float = 0.1
    """[m] half the distance between the feet"""
    level: float = 0.0
    """[m] height of the ground underfoot"""
    t: float = 0.0
    position: np.ndarray = field(default_factory=lambda: np.zeros(2))
    yaw: float = 0.0
    supports: list[Support] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = self.rng
        self.slump = rng.normal(0.02, 0.05)
        self.toe_out = abs(rng.normal(0.12, 0.1))
        self.height = STANDING - abs(rng.normal(0.0, 0.012))
        self.sway_scale = rng.uniform(0.5, 1.5)
        self._pelvis: list[tuple[float, ...]] = []
        self._spine: list[tuple[float, ...]] = [(0.0, 0.0, self.slump, 0.0)]
        self._knees: list[tuple[float, ...]] = [(0.0, 0.0, 0.0)]
        self._swing: list[tuple[float, ...]] = [(0.0, 0.0)]
        self._crawl: list[tuple[float, ...]] = [(0.0, 0.0)]
        self._steps: list[list[tuple[float, ...]]] = [[], []]  # start, end, x, y, z, yaw, lift, planted
        self._pitch: list[list[tuple[float, ...]]] = [[], []]  # t, pitch, roll
        self._hand_steps: list[list[tuple[float, ...]]] = [[], []]
        self._labels: list[tuple[float, str]] = []
        for side in range(2):
            x, y = self._beside(side, self.position, self.yaw)
            self._steps[side].append((-1.0, -0.9, x, y, self.level, self._foot_yaw(side), 0.0, 1.0))
            self._pitch[side].append((0.0, 0.0, 0.0))
        self._stand_key()

    def _foot_yaw(self, side: int, yaw: float | None = None) -> float:
        return (self.yaw if yaw is None else yaw) + _SIGN[side] * self.toe_out

    def _beside(self, side: int, position: np.ndarray, yaw: float, width: float | None = None) -> np.ndarray:
        width = self.stance if width is None else width
        return position + _SIGN[side] * width * np.array([-np.sin(yaw), np.cos(yaw)])

    def _apart(self, side: int, base: np.ndarray, yaw: float, least: float = 0.10) -> np.ndarray:
        """Keep a foot on its side of the other one."""
        left = np.array([-np.sin(yaw), np.cos(yaw)])
        gap = _SIGN[side] * ((base - np.array(self._steps[1 - side][-1][2:4])) @ left)
        return base + _SIGN[side] * max(least - gap, 0.0) * left

    def ahead(self, forward: float, left: float = 0.0) -> np.ndarray:
        """Return the point (2,) at an offset [m] in the heading's axes."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return self.position + np.array([forward * cos - left * sin, forward * sin + left * cos])

    def _key(self, t: float, position: np.ndarray, z: float, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> None:
        self._pelvis.append((t, position[0], position[1], z, yaw, pitch, roll, yaw))

    def _stand_key(self) -> None:
        self._key(self.t, self.position, self.level + self.height, self.yaw, 0.03)

    def _label(self, action: str) -> None:
        self._labels.append((self.t, action))

    def _step(
        self, side: int, start: float, end: float, base: np.ndarray, z: float, yaw: float, lift: float, planted: bool = True
    ) -> None:
        previous = self._steps[side][-1][5]
        yaw = previous + np.arctan2(np.sin(yaw - previous), np.cos(yaw - previous))
        self._steps[side].append((start, end, base[0], base[1], z, yaw, lift, float(planted)))

    def _roll_foot(self, side: int, *keys: tuple[float, ...]) -> None:
        """Add keys (t, pitch[, roll]) of a foot."""
        self._pitch[side].extend((*key, 0.0)[:3] for key in keys)

    def stand(self, seconds: float, action: str = "idle") -> None:
        """Stand, shifting weight now and then."""
        self._label(action)
        self._stand_key()
        end = self.t + seconds
        while self.t < end - 1.2 and self.rng.random() < 0.8:
            self.t += self.rng.uniform(0.8, 2.5)
            if self.t > end - 0.4:
                break
            shift = self.rng.normal(0, 0.025, 2) + [0, self.rng.choice([-1, 1]) * self.rng.uniform(0, 0.05)]
            roll = -np.sign(shift[1]) * abs(self.rng.normal(0, 0.05))
            lower = abs(self.rng.normal(0, 0.012))
            self._key(self.t, self.ahead(*shift), self.level + self.height - lower, self.yaw + self.rng.normal(0, 0.06), 0.03, roll)
        self.t = end
        self._stand_key()

    def walk(
        self, legs: list[tuple[float, float, float]], direction: float = 0.0, action: str = "walk", cadence: float = 1.0
    ) -> None:
        """Walk legs of (seconds, speed [m/s], turn rate [rad/s]), towards `direction` off the heading, and stop."""
        self._label(action)
        self._stand_key()
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
        yaw = self.yaw + np.cumsum(turn) * dt
        velocity = speed[:, None] * np.stack([np.cos(yaw + direction), np.sin(yaw + direction)], -1)
        path = self.position + np.cumsum(velocity, 0) * dt
        stop = np.searchsorted(grid, total - 0.3)
        last = int(np.ceil(phase[stop])) + 1
        self._footfalls(grid, phase, path, yaw, speed, np.full(last + 1, self.level), last, np.cos(direction))

    def climb_to(self, height: float) -> None:
        """Start on a platform [m] above the floor; must come first."""
        self.level = height
        for side, steps in enumerate(self._steps):
            steps[:] = [(*step[:4], height, *step[5:]) for step in steps]
        self._pelvis.clear()
        self._stand_key()

    def stairs(self, count: int, rise: float, depth: float, cadence: float) -> None:
        """Climb (rise > 0) or descend `count` steps [m], which are added as supports."""
        self._label("stairs")
        self._stand_key()
        grid = np.arange(0.0, (count + 4) / cadence, 0.01)
        phase = -0.4 + grid * cadence
        along = blur(depth * np.clip(phase, 0.0, count + 0.25), grid, 0.10)
        path = self.position + along[:, None] * [np.cos(self.yaw), np.sin(self.yaw)]
        heights = self.level + rise * np.clip(np.arange(count + 2), 0, count)
        for k in range(count + 1):
            top, platform = float(heights[k]), k == (count if rise > 0 else 0)
            length = depth + 1.3 * platform
            back = _HEEL_ROOM + (length - depth) * (rise < 0)
            if top > 0.01:
                centre = np.array([*self.ahead(depth * k - back + length / 2), top / 2])
                self.supports.append(Support("step", centre, self.yaw, np.array([length, 1.1, top])))
        self._footfalls(grid, phase, path, np.full(len(grid), self.yaw), np.full(len(grid), depth * cadence), heights, count + 1, 0.25)

    def _footfalls(
        self,
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
        rng, start = self.rng, self.t
        first_side = int(rng.integers(2))
        fast = np.clip((speed.max() - 1.7) / 1.2, 0.0, 1.0)
        duty = 0.62 - 0.24 * fast
        at = lambda p: float(np.interp(p, phase, grid))  # noqa: E731
        width = self.stance * np.clip(1.0 - 0.35 * speed.max(), 0.45, 1.0)
        lift_base = rng.uniform(0.04, 0.09) + 0.10 * fast
        for k in range(1, last + 1):
            side = (k + first_side) % 2
            land, leave, centre = at(k - duty), at(k - 2 + duty), at(k)
            row = np.searchsorted(grid, centre).clip(0, len(grid) - 1)
            final = k >= last - 1
            base = self._beside(side, path[row], yaw[row], self.stance if final else width)
            base = base + rng.normal(0, 0.004 if np.ptp(heights) > 0 else 0.01, 2)
            base = self._apart(side, base, yaw[row])
            climb = heights[k] - self._steps[side][-1][4]
            lift = lift_base + 0.75 * max(climb, 0) + 0.25 * abs(climb)
            leave = max(leave, self._steps[side][-1][1] - start + 0.05, 0.02)
            land = max(land, leave + 0.18)
            foot_yaw = self._foot_yaw(side, yaw[row]) + rng.normal(0, 0.04)
            self._step(side, start + leave, start + land, base, heights[k], foot_yaw, lift)
            g = roll_over * np.clip(speed[row] / 1.2, 0.0, 1.3)
            swing = land - leave
            settle = 0.0 if final and k == last else 1.0
            self._roll_foot(
                side,
                (start + leave - 0.28 / max(np.interp(leave, grid, np.gradient(phase, grid)), 0.8), 0.0),
                (start + leave, max(0.7 * g, 0.15)),
                (start + leave + 0.45 * swing, 0.30 * abs(g)),
                (start + land, -0.32 * g * settle),
                (start + land + 0.10, 0.0),
            )
        end = at(last - duty) + 0.25
        bob, sway = (0.014 + 0.035 * fast) * self.sway_scale, 0.028 * self.sway_scale * (1 - 0.6 * fast)
        lean = 0.03 + 0.035 * speed.max() + 0.08 * fast + rng.normal(0, 0.02)
        ground = np.interp(phase - 0.55, np.arange(len(heights)), heights)
        ground = np.where(np.diff(heights).min(initial=0) < 0, np.interp(phase - 0.05, np.arange(len(heights)), heights), ground)
        active = minimum_jerk(grid / 0.5) * minimum_jerk((end - grid) / 0.5)
        amplitude = active * np.clip(np.maximum(speed, 0.3) / 1.2, 0.0, 1.4)
        sided = 1.0 if first_side == 0 else -1.0  # whole even phases are stances of the first side
        wave, quarter = sided * np.cos(np.pi * phase), sided * np.sin(np.pi * phase)
        for i in range(5, int(end / 0.01), 5):
            lateral = self._beside(0, path[i], yaw[i], sway * amplitude[i] * wave[i] / max(speed[i], 0.8))
            z = ground[i] + self.height - bob * active[i] + bob * amplitude[i] * np.cos(2 * np.pi * phase[i]) * (1 - 2 * fast)
            hip_turn, drop = 0.10 * quarter[i] * amplitude[i] * roll_over, 0.05 * wave[i] * amplitude[i]
            self._pelvis.append((start + grid[i], *lateral, z, yaw[i] + hip_turn, lean * active[i], drop, yaw[i]))
            self._spine.append((start + grid[i], -2.0 * hip_turn, self.slump + 0.03 * active[i], -drop))
            self._swing.append((start + grid[i], quarter[i] * amplitude[i]))
        self.t, self.position, self.yaw = start + end, path[-1], float(yaw[-1])
        self.level = float(heights[last])
        self._swing.append((self.t, 0.0))
        self._spine.append((self.t + 0.15, 0.0, self.slump, 0.0))
        self.t += 0.15
        self._stand_key()

    def step_to(self, side: int, forward: float, left: float, seconds: float, yaw: float = 0.0, lift: float = 0.05) -> None:
        """Move one foot to an offset from the heading's origin."""
        self._step(side, self.t, self.t + seconds, self.ahead(forward, left), self.level, self._foot_yaw(side) + yaw, lift)
        self._roll_foot(side, (self.t - 0.12, 0.0), (self.t, 0.25), (self.t + seconds, -0.05), (self.t + seconds + 0.1, 0.0))

    def sit(self, seat: float, seconds: float, *, table: float | None = None, action: str = "sit", start_seated: bool = False) -> None:
        """Sit down on a seat of a height [m], stay, moving the feet now and then, and stand up (unless started seated)."""
        rng = self.rng
        back, lean = rng.uniform(0.36, 0.44), rng.uniform(0.35, 0.6)
        hips = self.ahead(-back)
        recline = rng.choice([rng.uniform(-0.05, 0.12), rng.uniform(-0.45, -0.15)], p=[0.65, 0.35])
        flex = rng.uniform(0.0, 0.3) - 0.4 * min(recline, 0.0)
        z = self.level + max(seat, 0.2) + _BUTTOCKS
        self.supports.append(Support("seat", np.array([*self.ahead(-back - 0.02), self.level + seat - 0.04]), self.yaw, np.array([0.46, 0.48, 0.08])))
        if rng.random() < 0.7:
            self.supports.append(Support("backrest", np.array([*self.ahead(-back - 0.27), self.level + seat + 0.28]), self.yaw, np.array([0.05, 0.44, 0.45])))
        if table is not None:
            self.supports.append(Support("table", np.array([*self.ahead(0.33 - 0.05), self.level + table - 0.02]), self.yaw, np.array([0.7, 1.3, 0.04])))
        if not start_seated:
            self._label("sit_down")
            self._stand_key()
            down = rng.uniform(1.1, 1.7)
            middle = self.ahead(-0.55 * back)
            self._key(self.t + 0.55 * down, middle, z + 0.45 * (self.height - z), self.yaw, lean)
            self._spine += [(self.t, 0.0, self.slump, 0.0), (self.t + 0.5 * down, 0.0, self.slump + 0.35, 0.0), (self.t + 1.25 * down, 0.0, flex, 0.0)]
            self._knees.append((self.t, 0.0, 0.0))
            self.t += down
        else:
            self._pelvis.clear()
            self._spine[:] = [(self.t, 0.0, flex, 0.0)]
        self._label(action)
        out = rng.uniform(-0.05, 0.35)
        self._knees.append((self.t + 0.2, out, out))
        for key in (0.0, 0.35):
            self._key(self.t + key, hips, z, self.yaw, recline * (key > 0 or start_seated))
        until = self.t + seconds
        while True:
            self.t += rng.uniform(1.5, 4.5)
            if self.t > until - 1.0:
                break
            self._fidget_seated(rng, hips, z, recline, flex)
        self.t = until
        self._key(self.t, hips, z, self.yaw, recline)
        self._spine.append((self.t, 0.0, flex, 0.0))
        if start_seated:
            return
        self._label("stand_up")
        for side in range(2):
            last = self._steps[side][-1]
            if np.hypot(*(np.array(last[2:4]) - self._beside(side, self.position, self.yaw))) > 0.03 or not last[7]:
                begin = max(self.t - 0.55 + 0.2 * side, last[1] + 0.02)
                self._step(side, begin, begin + 0.35, self._beside(side, self.position, self.yaw), self.level, self._foot_yaw(side), 0.03)
                self._roll_foot(side, (begin - 0.1, self._pitch[side][-1][1], self._pitch[side][-1][2]), (begin + 0.3, 0.0))
        up = rng.uniform(1.0, 1.5)
        self._key(self.t + 0.25 * up, self.ahead(-0.85 * back), z + 0.01, self.yaw, lean)
        self._key(self.t + 0.6 * up, self.ahead(-0.35 * back), z + 0.5 * (self.height - z), self.yaw, lean * 0.9)
        self._spine += [(self.t + 0.4 * up, 0.0, self.slump + 0.35, 0.0), (self.t + up, 0.0, self.slump, 0.0)]
        self._knees += [(self.t, out, out), (self.t + up, 0.0, 0.0)]
        self.t += up
        self._stand_key()

    def _fidget_seated(self, rng: np.random.Generator, hips: np.ndarray, z: float, recline: float, flex: float) -> None:
        """Move a foot (forwards, tucked, on the other knee) or the trunk."""
        kind = rng.random()
        side = int(rng.integers(2))
        crossed = not (self._steps[0][-1][7] and self._steps[1][-1][7])
        start = max(self.t, self._steps[side][-1][1] + 0.05)
        if crossed:
            side = 0 if not self._steps[0][-1][7] else 1
        if kind < 0.15 and not crossed and z > 0.5:  # ankle on the other knee
            other = self._steps[1 - side][-1]
            knee = 0.9 * np.array(other[2:4]) + 0.1 * hips + _SIGN[side] * 0.02 * np.array([-np.sin(self.yaw), np.cos(self.yaw)])
            self._step(side, start, start + 0.9, knee, self.level + 0.50, self._foot_yaw(side) - _SIGN[side] * 0.5, 0.05, planted=False)
            self._roll_foot(side, (start, 0.0), (start + 0.9, 0.1, _SIGN[side] * 0.9))
            knees = list(self._knees[-1][1:])
            self._knees.append((start, *knees))
            knees[side] = 0.9
            self._knees.append((start + 0.9, *knees))
        elif kind < 0.65 or crossed:
            forward, left = rng.uniform(-0.22, 0.30), _SIGN[side] * rng.uniform(0.03, 0.24)
            heel_up = rng.choice([0.0, rng.uniform(0.3, 0.8)]) * (forward < -0.05)
            self._step(side, start, start + 0.45, self.ahead(forward, left), self.level, self._foot_yaw(side) + rng.normal(0, 0.15), 0.04)
            self._roll_foot(side, (start, self._pitch[side][-1][1], self._pitch[side][-1][2]), (start + 0.5, heel_up))
            knees = list(self._knees[-1][1:])
            self._knees.append((start, *knees))
            knees[side] = rng.uniform(-0.1, 0.4)
            self._knees.append((start + 0.5, *knees))
        side_bend, twist = rng.normal(0, 0.07), rng.normal(0, 0.1)
        self._spine.append((start + 0.6, twist, flex + rng.normal(0, 0.08), side_bend))
        self._key(start + 0.6, hips + rng.normal(0, 0.012, 2), z, self.yaw + rng.normal(0, 0.06), recline + rng.normal(0, 0.06), side_bend * 0.3)

    def squat(self, depth: float, seconds: float, action: str = "squat") -> None:
        """Bend the knees until the pelvis is `depth` [m] lower, stay, and rise."""
        rng = self.rng
        self._label(action)
        self._stand_key()
        deep = np.clip((depth - 0.25) / 0.35, 0.0, 1.0)
        heels = deep * rng.choice([0.0, rng.uniform(0.3, 0.6)])
        down, up = rng.uniform(0.7, 1.2, 2)
        lean, flex, out = 0.25 + 0.4 * deep * rng.uniform(0.4, 1.0), self.slump + rng.uniform(0.1, 0.45), rng.uniform(0.1, 0.5)
        low = self.ahead(-0.10 * deep * (heels == 0) + 0.03)
        for key, lower in ((down, depth), (down + seconds, depth + rng.normal(0, 0.01))):
            self._key(self.t + key, low, self.level + self.height - lower, self.yaw, lean)
            self._spine.append((self.t + key, 0.0, flex, 0.0))
            self._knees.append((self.t + key, out, out))
        for side in range(2):
            self._roll_foot(side, (self.t + 0.3 * down, 0.0), (self.t + down, heels), (self.t + down + seconds, heels), (self.t + down + seconds + 0.8 * up, 0.0))
        self._knees.insert(-2, (self.t, 0.0, 0.0))
        self.t += down + seconds + up
        self._spine.append((self.t, 0.0, self.slump, 0.0))
        self._knees.append((self.t, 0.0, 0.0))
        self._stand_key()

    def kneel(self, seconds: float, both: bool, action: str = "kneel") -> None:
        """Kneel on one knee or both, stay (sometimes on the heels), and stand up."""
        rng = self.rng
        self._label(action)
        self._stand_key()
        side = int(rng.integers(2))
        hips = self.ahead(0.06)
        out = rng.uniform(0.05, 0.3)
        step = 0.6
        sides = (side, 1 - side) if both else (side,)
        self._step(1 - side, self.t, self.t + 0.5, self.ahead(0.40, _SIGN[1 - side] * 0.13), self.level, self._foot_yaw(1 - side), 0.06)
        begin = self.t + 0.35
        kneeling = self.level + 0.535
        for k, kneeler in enumerate(sides):
            start = begin + k * 1.0
            toe = rng.uniform(0.95, 1.15)
            behind = self.ahead(-0.42 if k == 0 else -0.40, _SIGN[kneeler] * 0.13)
            start = max(start, self._steps[kneeler][-1][1] + 0.05)
            self._step(kneeler, start, start + step, behind, self.level, self._foot_yaw(kneeler) * 0.5 + 0.5 * self.yaw, 0.06, planted=False)
            self._roll_foot(kneeler, (start, 0.1), (start + step, toe))
        arrive = begin + step + 0.4 + (0.9 if both else 0.0)
        lean, flex = rng.uniform(-0.02, 0.45), self.slump + rng.uniform(0.0, 0.4)
        rest = kneeling - (rng.uniform(0.1, 0.2) if both and rng.random() < 0.5 else 0.0)
        rest_at = self.ahead(0.06 - 1.1 * (kneeling - rest))
        self._key(begin + step + 0.15, hips, kneeling + 0.02, self.yaw, 0.25)
        self._spine += [(self.t, 0.0, self.slump, 0.0), (begin + step, 0.0, flex, 0.0)]
        self._knees += [(self.t, 0.0, 0.0), (arrive, out, out)]
        self.t = arrive
        self._key(self.t, rest_at, rest, self.yaw, lean)
        until = self.t + seconds
        while self.t < until - 1.5:
            self.t += rng.uniform(1.0, 3.0)
            if self.t < until - 0.5:
                self._key(self.t, rest_at + rng.normal(0, 0.015, 2), rest + rng.normal(0, 0.004), self.yaw + rng.normal(0, 0.08), lean + rng.normal(0, 0.1), rng.normal(0, 0.04))
                self._spine.append((self.t, rng.normal(0, 0.12), flex + rng.normal(0, 0.1), rng.normal(0, 0.08)))
        self.t = until
        self._key(self.t, hips, kneeling, self.yaw, lean + 0.1)
        if both:
            self._step(1 - side, self.t, self.t + 0.7, self.ahead(0.36, _SIGN[1 - side] * 0.13), self.level, self._foot_yaw(1 - side), 0.12)
            self._roll_foot(1 - side, (self.t, toe), (self.t + 0.45, 0.1), (self.t + 0.7, 0.0))
            self.t += 0.7
            self._key(self.t, hips, kneeling, self.yaw, 0.2)
        self.position = self.ahead(0.34)
        self._key(self.t + 0.7, self.position + 0.2 * (hips - self.position), self.level + self.height - 0.12, self.yaw, 0.3)
        self._step(side, self.t + 0.35, self.t + 0.95, self._beside(side, self.position, self.yaw), self.level, self._foot_yaw(side), 0.08)
        self._roll_foot(side, (self.t + 0.3, 0.9), (self.t + 0.75, 0.15), (self.t + 0.95, 0.0))
        self._step(1 - side, self.t + 1.0, self.t + 1.35, self._beside(1 - side, self.position, self.yaw), self.level, self._foot_yaw(1 - side), 0.04)
        self._spine += [(self.t + 0.5, 0.0, flex + 0.2, 0.0), (self.t + 1.4, 0.0, self.slump, 0.0)]
        self._knees += [(self.t, out, out), (self.t + 1.2, 0.0, 0.0)]
        self.t += 1.4
        self._stand_key()

    def kick(self, seconds: float, height: float, side: int) -> None:
        """Kick forwards to a height [m] above the ground and put the foot back."""
        rng = self.rng
        self._label("kick")
        self._stand_key()
        t, home = self.t, self._beside(side, self.position, self.yaw)
        over = self.ahead(0.0, -_SIGN[side] * 0.07)
        wind, strike, back = 0.35 * seconds, 0.28 * seconds, 0.37 * seconds
        self._step(side, t, t + wind, self.ahead(-0.28, _SIGN[side] * 0.12), self.level + 0.12, self._foot_yaw(side), 0.05, planted=False)
        aim = self.ahead(0.62 - 0.25 * height, _SIGN[side] * rng.uniform(-0.05, 0.2))
        self._step(side, t + wind, t + wind + strike, aim, self.level + height, self._foot_yaw(side), 0.0, planted=False)
        self._step(side, t + wind + strike + 0.05, t + seconds, home, self.level, self._foot_yaw(side), 0.10)
        self._roll_foot(side, (t - 0.05, 0.0), (t + wind, 0.9), (t + wind + strike, rng.uniform(-0.5, 0.2)), (t + seconds, 0.0))
        self._key(t + wind, over, self.level + self.height - 0.03, self.yaw - _SIGN[side] * 0.1, 0.1)
        self._key(t + wind + strike, over, self.level + self.height - 0.02, self.yaw + _SIGN[side] * 0.25, -0.15 - 0.2 * height)
        self._spine += [(t, 0.0, self.slump, 0.0), (t + wind + strike, -_SIGN[side] * 0.2, 0.3, 0.0), (t + seconds, 0.0, self.slump, 0.0)]
        self._swing += [(t, 0.0), (t + wind, -_SIGN[side] * 0.9), (t + wind + strike, _SIGN[side] * 1.2), (t + seconds, 0.0)]
        self.t = t + seconds + 0.1
        self._stand_key()

    def shuffle(self, seconds: float, reach: float, bounce: float, action: str, period: tuple[float, float] = (0.4, 0.9)) -> None:
        """Step about one place, the pelvis following the feet: dancing, boxing, throwing, sweeping."""
        rng = self.rng
        self._label(action)
        self._stand_key()
        until = self.t + seconds
        side = int(rng.integers(2))
        home = self.position.copy()
        while self.t < until - 0.3:
            beat = rng.uniform(*period)
            yaw = rng.normal(0, 0.25 * min(reach / 0.15, 1.0))
            target = self.ahead(rng.normal(0, reach), _SIGN[side] * self.stance * 1.3 + rng.normal(0, 0.6 * reach))
            other = np.array(self._steps[1 - side][-1][2:4])
            target = self._apart(side, target, self.yaw, 0.15)
            travel = min(0.85 * beat, 0.6)
            self._step(side, self.t, self.t + travel, target, self.level, self._foot_yaw(side) + yaw, rng.uniform(0.03, 0.05 + bounce))
            self._roll_foot(side, (self.t - 0.1, 0.0), (self.t, rng.uniform(0.1, 0.4)), (self.t + travel, rng.uniform(-0.1, 0.15)), (self.t + travel + 0.1, 0.0))
            middle = 0.5 * (target + other)
            self.t += beat
            weight = rng.uniform(-0.3, 0.3)
            lower = abs(rng.normal(0, bounce)) + 0.02
            self._key(self.t, middle + weight * (target - other), self.level + self.height - lower, self.yaw + rng.normal(0, 0.15), 0.05 + rng.normal(0, 0.06), rng.normal(0, 0.07))
            self._spine.append((self.t, rng.normal(0, 0.15), self.slump + rng.normal(0.05, 0.08), rng.normal(0, 0.08)))
            side = 1 - side
        for last in range(2):
            self._step(last, self.t, self.t + 0.35, self._beside(last, home, self.yaw), self.level, self._foot_yaw(last), 0.03)
            self.t += 0.4
        self.position = home
        self._spine.append((self.t, 0.0, self.slump, 0.0))
        self._stand_key()

    def lunge(self, seconds: float, forward: float, lower: float, action: str) -> None:
        """Step forwards with one foot, lower the pelvis, come back."""
        rng = self.rng
        self._label(action)
        self._stand_key()
        side = int(rng.integers(2))
        self.step_to(side, forward, _SIGN[side] * self.stance, 0.45)
        self._roll_foot(1 - side, (self.t + 0.3, 0.0), (self.t + 0.7, 0.5 * lower / 0.2))
        hold = max(seconds - 1.2, 0.2)
        for key in (0.6, 0.6 + hold):
            self._key(self.t + key, self.ahead(0.55 * forward), self.level + self.height - lower, self.yaw, 0.08)
        self.t += 0.6 + hold
        self._roll_foot(1 - side, (self.t, 0.5 * lower / 0.2), (self.t + 0.4, 0.0))
        self._step(side, self.t, self.t + 0.5, self._beside(side, self.position, self.yaw), self.level, self._foot_yaw(side), 0.05)
        self._roll_foot(side, (self.t - 0.1, 0.0), (self.t + 0.1, 0.25), (self.t + 0.5, 0.0))
        self.t += 0.6
        self._stand_key()

    def crawl(self, seconds: float, speed: float) -> None:
        """Crawl on hands and knees; must be the first movement."""
        rng = self.rng
        self._label("crawl")
        self._pelvis.clear()
        for steps, pitch in zip(self._steps, self._pitch):
            steps.clear()
            pitch[:] = [(0.0, rng.uniform(2.2, 2.6), 0.0)]
        height, pitch = 0.475, rng.uniform(1.28, 1.42)
        period = 1.1 if speed > 0.05 else 2.0
        steps = max(int(np.ceil(seconds / period)), 1)
        stride = speed * period
        self._spine[:] = [(0.0, 0.0, rng.uniform(-0.1, 0.15), 0.0)]
        self._crawl[:] = [(0.0, 1.0)]
        for side in range(2):
            self._step_crawl(side, -1.0, -0.9, 0.0)
        for k in range(steps):
            for half in range(2):
                t, along = self.t + (k + 0.5 * half) * period, (k + 0.5 * (half + 1)) * stride
                if speed > 0.05:
                    self._step_crawl(half, t, t + 0.42 * period, along)
                centre = self.ahead(along - 0.25 * stride, _SIGN[1 - half] * 0.02)
                self._key(t + 0.2 * period, centre, height + rng.normal(0, 0.006), self.yaw + _SIGN[half] * 0.04, pitch + rng.normal(0, 0.02), _SIGN[half] * 0.04)
                self._spine.append((t + 0.2 * period, _SIGN[half] * 0.06, self._spine[0][2] + rng.normal(0, 0.04), _SIGN[half] * 0.06))
        self.t += steps * period
        self.position = self.ahead(steps * stride)

    def _step_crawl(self, side: int, start: float, end: float, along: float) -> None:
        """Move one knee, by its ankle, and the hand of the other side."""
        rng = self.rng
        base = self.ahead(along - 0.47, _SIGN[side] * 0.10)
        if not self._steps[side]:
            self._steps[side].append((start, end, *base, self.level, self.yaw, 0.0, 0.0))
        else:
            self._step(side, start, end, base, self.level, self.yaw, 0.02, planted=False)
        other = 1 - side
        hand = self.ahead(along + 0.44 + rng.normal(0, 0.02), _SIGN[other] * (0.20 + rng.normal(0, 0.015)))
        lift = 0.0 if not self._hand_steps[other] else 0.10
        self._hand_steps[other].append((start, end, *hand, self.level + 0.055, 0.0, lift, 1.0))

    def tracks(self, times: np.ndarray) -> Tracks:
        """Return the curves at times [s] from 0 on."""
        rng = self.rng
        pelvis = through(times, self._pelvis, 0.07)
        spine = through(times, self._spine, 0.10)
        pelvis[:, :3] += [0.004, 0.006, 0.0015] * noise(rng, times, (3,), 1.3)
        pelvis[:, 3:6] += 0.012 * noise(rng, times, (3,), 1.1)
        knees = through(times, self._knees, 0.12)
        ankles, angles = np.empty((len(times), 2, 3)), np.empty((len(times), 2, 3))
        contact = np.zeros((len(times), 2), bool)
        for side in range(2):
            base, planted = _bases(times, self._steps[side])
            roll = through(times, self._pitch[side], 0.025)
            angles[:, side] = np.stack([base[:, 3], roll[:, 0], roll[:, 1]], -1)
            ankles[:, side] = _rolled(base, angles[:, side])
            contact[:, side] = planted
        toe = np.clip(np.minimum(angles[:, :, 1], 1.9 - angles[:, :, 1]), 0.0, 1.0)
        hands = np.zeros((len(times), 2, 3))
        if self._hand_steps[0] and self._hand_steps[1]:
            hands = np.stack([_bases(times, steps)[0][:, :3] for steps in self._hand_steps], 1)
        R = yaw_pitch_roll(pelvis[:, 3:6])
        pelvis[:, 2] -= sink(R, pelvis[:, :3], ankles, contact, REFERENCE, 1.0 / max(times[1] - times[0], 1e-3), 0.985)
        labels = np.searchsorted([t for t, _ in self._labels], times, side="right") - 1
        return Tracks(
            pelvis[:, :3],
            pelvis[:, 3:6],
            through(times, [(*key[:1], key[7]) for key in self._pelvis], 0.3)[:, 0],
            spine + 0.015 * noise(rng, times, (3,), 1.5),
            through(times, self._swing, 0.05)[:, 0],
            ankles,
            angles,
            toe,
            knees + 0.02 * noise(rng, times, (2,), 1.5),
            contact,
            through(times, self._crawl, 0.2)[:, 0],
            hands,
            tuple(self._labels[max(label, 0)][1] for label in labels),
        )


def _bases(times: np.ndarray, steps: list[tuple[float, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Return x, y, z, yaw (T, 4) of a foot's base, and whether it is planted (T,)."""
    steps = sorted(steps)
    base = np.repeat(np.array(steps[0][2:6])[None], len(times), 0)
    planted = np.full(len(times), bool(steps[0][7]))
    for before, step in zip(steps[:-1], steps[1:]):
        start, end = max(step[0], before[1]), max(step[1], before[1] + 0.1)
        u = (times - start) / (end - start)
        base += minimum_jerk(u)[:, None] * (np.array(step[2:6]) - np.array(before[2:6]))
        u = np.clip(u, 0.0, 1.0)
        base[:, 2] += step[6] * 64 * (u * (1 - u)) ** 3
        moved = np.hypot(step[2] - before[2], step[3] - before[3]) > 1e-6 or step[4] != before[4]
        if moved:
            planted[(times > start) & (times < end)] = False
        planted[times >= end] = bool(step[7])
    return base, planted


def _rolled(base: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return ankles (T, 3) of a foot that rolls over its ball (pitch > 0) or its heel (pitch < 0) on its base."""
    R_yaw = rotation_about("z", angles[:, 0])
    pivot = np.where(angles[:, 1:2] > 0, _BALL, _HEEL)
    flat = base[:, :3] + [0.0, 0.0, SOLE]
    return flat + ((R_yaw - yaw_pitch_roll(angles)) @ pivot[..., None])[..., 0]
