"""Keys of pelvis, feet, knees and spine, collected one movement after another, and the curves that they become.

Feet stand on bases (the point of the sole below the ankle) and roll over ball and heel; they move between bases by
minimum jerk. The movements themselves are in `gait`, `seats` and `floor`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from egopose_ros.synth.motion.body import REFERENCE, SOLE, rotation_about, yaw_pitch_roll
from egopose_ros.synth.motion.clip import Support
from egopose_ros.synth.motion.curves import minimum_jerk, noise, through
from egopose_ros.synth.motion.placement import sink

STANDING = float(REFERENCE[0, 2]) - 0.012
"""[m] height of the pelvis of a person who stands at ease"""
_BALL = np.array([0.13, 0.0, -SOLE])
_HEEL = np.array([-0.045, 0.0, -SOLE])
SIGN = np.array([1.0, -1.0])
"""of y on the left and on the right"""


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
        self.pelvis_keys: list[tuple[float, ...]] = []
        self.spine_keys: list[tuple[float, ...]] = [(0.0, 0.0, self.slump, 0.0)]
        self.knee_keys: list[tuple[float, ...]] = [(0.0, 0.0, 0.0)]
        self.swing_keys: list[tuple[float, ...]] = [(0.0, 0.0)]
        self.crawl_keys: list[tuple[float, ...]] = [(0.0, 0.0)]
        self.foot_steps: list[list[tuple[float, ...]]] = [[], []]  # start, end, x, y, z, yaw, lift, planted
        self.foot_rolls: list[list[tuple[float, ...]]] = [[], []]  # t, pitch, roll
        self.hand_steps: list[list[tuple[float, ...]]] = [[], []]
        self.labels: list[tuple[float, str]] = []
        for side in range(2):
            x, y = self.beside(side, self.position, self.yaw)
            self.foot_steps[side].append((-1.0, -0.9, x, y, self.level, self.foot_yaw(side), 0.0, 1.0))
            self.foot_rolls[side].append((0.0, 0.0, 0.0))
        self.stand_key()

    def foot_yaw(self, side: int, yaw: float | None = None) -> float:
        return (self.yaw if yaw is None else yaw) + SIGN[side] * self.toe_out

    def beside(self, side: int, position: np.ndarray, yaw: float, width: float | None = None) -> np.ndarray:
        width = self.stance if width is None else width
        return position + SIGN[side] * width * np.array([-np.sin(yaw), np.cos(yaw)])

    def apart(self, side: int, base: np.ndarray, yaw: float, least: float = 0.10) -> np.ndarray:
        """Keep a foot on its side of the other one."""
        left = np.array([-np.sin(yaw), np.cos(yaw)])
        gap = SIGN[side] * ((base - np.array(self.foot_steps[1 - side][-1][2:4])) @ left)
        return base + SIGN[side] * max(least - gap, 0.0) * left

    def ahead(self, forward: float, left: float = 0.0) -> np.ndarray:
        """Return the point (2,) at an offset [m] in the heading's axes."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return self.position + np.array([forward * cos - left * sin, forward * sin + left * cos])

    def key(self, t: float, position: np.ndarray, z: float, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> None:
        self.pelvis_keys.append((t, position[0], position[1], z, yaw, pitch, roll, yaw))

    def stand_key(self) -> None:
        self.key(self.t, self.position, self.level + self.height, self.yaw, 0.03)

    def label(self, action: str) -> None:
        self.labels.append((self.t, action))

    def step(
        self,
        side: int,
        start: float,
        end: float,
        base: np.ndarray,
        z: float,
        yaw: float,
        lift: float,
        planted: bool = True,
    ) -> None:
        previous = self.foot_steps[side][-1][5]
        yaw = previous + np.arctan2(np.sin(yaw - previous), np.cos(yaw - previous))
        self.foot_steps[side].append((start, end, base[0], base[1], z, yaw, lift, float(planted)))

    def roll_foot(self, side: int, *keys: tuple[float, ...]) -> None:
        """Add keys (t, pitch[, roll]) of a foot."""
        self.foot_rolls[side].extend((*key, 0.0)[:3] for key in keys)

    def stand(self, seconds: float, action: str = "idle") -> None:
        """Stand, shifting weight now and then."""
        self.label(action)
        self.stand_key()
        end = self.t + seconds
        while self.t < end - 1.2 and self.rng.random() < 0.8:
            self.t += self.rng.uniform(0.8, 2.5)
            if self.t > end - 0.4:
                break
            shift = self.rng.normal(0, 0.025, 2) + [0, self.rng.choice([-1, 1]) * self.rng.uniform(0, 0.05)]
            roll = -np.sign(shift[1]) * abs(self.rng.normal(0, 0.05))
            lower = abs(self.rng.normal(0, 0.012))
            self.key(
                self.t,
                self.ahead(*shift),
                self.level + self.height - lower,
                self.yaw + self.rng.normal(0, 0.06),
                0.03,
                roll,
            )
        self.t = end
        self.stand_key()

    def climb_to(self, height: float) -> None:
        """Start on a platform [m] above the floor; must come first."""
        self.level = height
        for side, steps in enumerate(self.foot_steps):
            steps[:] = [(*step[:4], height, *step[5:]) for step in steps]
        self.pelvis_keys.clear()
        self.stand_key()

    def tracks(self, times: np.ndarray) -> Tracks:
        """Return the curves at times [s] from 0 on."""
        rng = self.rng
        pelvis = through(times, self.pelvis_keys, 0.07)
        spine = through(times, self.spine_keys, 0.10)
        pelvis[:, :3] += [0.004, 0.006, 0.0015] * noise(rng, times, (3,), 1.3)
        pelvis[:, 3:6] += 0.012 * noise(rng, times, (3,), 1.1)
        knees = through(times, self.knee_keys, 0.12)
        ankles, angles = np.empty((len(times), 2, 3)), np.empty((len(times), 2, 3))
        contact = np.zeros((len(times), 2), bool)
        for side in range(2):
            base, planted = _bases(times, self.foot_steps[side])
            roll = through(times, self.foot_rolls[side], 0.025)
            angles[:, side] = np.stack([base[:, 3], roll[:, 0], roll[:, 1]], -1)
            ankles[:, side] = _rolled(base, angles[:, side])
            contact[:, side] = planted
        toe = np.clip(np.minimum(angles[:, :, 1], 1.9 - angles[:, :, 1]), 0.0, 1.0)
        hands = np.zeros((len(times), 2, 3))
        if self.hand_steps[0] and self.hand_steps[1]:
            hands = np.stack([_bases(times, steps)[0][:, :3] for steps in self.hand_steps], 1)
        R = yaw_pitch_roll(pelvis[:, 3:6])
        pelvis[:, 2] -= sink(R, pelvis[:, :3], ankles, contact, REFERENCE, 1.0 / max(times[1] - times[0], 1e-3), 0.985)
        labels = np.searchsorted([t for t, _ in self.labels], times, side="right") - 1
        return Tracks(
            pelvis[:, :3],
            pelvis[:, 3:6],
            through(times, [(*key[:1], key[7]) for key in self.pelvis_keys], 0.3)[:, 0],
            spine + 0.015 * noise(rng, times, (3,), 1.5),
            through(times, self.swing_keys, 0.05)[:, 0],
            ankles,
            angles,
            toe,
            knees + 0.02 * noise(rng, times, (2,), 1.5),
            contact,
            through(times, self.crawl_keys, 0.2)[:, 0],
            hands,
            tuple(self.labels[max(label, 0)][1] for label in labels),
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
