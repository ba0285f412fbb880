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
FLIP = np.array([1.0, -1.0, 1.0])
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


def schedule(scene: Scene, hold: tuple[float, float], move: tuple[float, float]) -> tuple[list[float], list[float]]:
    """Return starts and ends of moves with random rests between them."""
    starts, ends, t = [], [], scene.times[0] + scene.rng.uniform(0.0, hold[1])
    while t < scene.times[-1]:
        starts.append(t)
        ends.append(t + scene.rng.uniform(*move))
        t = ends[-1] + scene.rng.uniform(*hold)
    return starts, ends


def on_and_off(
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


def wander(
    scene: Scene, sample: Callable[[], np.ndarray], hold: tuple[float, float], move: tuple[float, float]
) -> np.ndarray:
    """Move between random samples, resting at each."""
    starts, ends = schedule(scene, hold, move)
    return moves(scene.times, starts, ends, np.array([sample() for _ in range(len(starts) + 1)], float))


def constant(scene: Scene, values: np.ndarray, jitter: float = 0.0, period_s: float = 1.2) -> np.ndarray:
    values = np.asarray(values, float)
    return values + jitter * noise(scene.rng, scene.times, values.shape, period_s)


def pair(left: tuple[float, ...], right: tuple[float, ...] | None = None) -> np.ndarray:
    """Return left and right values; right mirrors left where it is not given."""
    left_values = np.array(left, float)
    if right is None:
        return np.stack([left_values, left_values * FLIP])
    return np.stack([left_values, np.array(right, float)])


def look_at(points: np.ndarray, share: float = 0.8) -> np.ndarray:
    """Return head angles (T, 3) that turn the face towards points (T, 3) in chest axes; the eyes do the rest."""
    direction = points - _EYES
    yaw = np.arctan2(direction[:, 1], np.maximum(direction[:, 0], 0.05))
    pitch = np.arctan2(-direction[:, 2], np.maximum(np.hypot(direction[:, 0], direction[:, 1]), 0.05))
    yaw, pitch = 1.1 * np.tanh(share * yaw / 1.1), 0.85 * np.tanh(share * pitch / 0.85)
    return np.stack([yaw, pitch, 0.1 * yaw], -1)


def glances(scene: Scene, spread: float = 0.35, down: float = 0.05) -> np.ndarray:
    """Return head angles (T, 3) of somebody who looks here and there."""
    rng = scene.rng
    usual = rng.normal(down, 0.12)
    draw = lambda: np.array(
        [rng.normal(0, spread), usual + rng.normal(0, 0.5 * spread), rng.normal(0, 0.05)]
    )  # noqa: E731
    return np.clip(wander(scene, draw, (0.3, 2.5), (0.25, 0.7)), [-1.1, -0.6, -0.25], [1.1, 0.9, 0.25])


def restless_spine(scene: Scene, twist: float = 0.04, flexion: float = 0.03, side: float = 0.03) -> np.ndarray:
    return [twist, flexion, side] * noise(scene.rng, scene.times, (3,), 1.8)


def look_or_glance(scene: Scene, wrists: np.ndarray, probability: float) -> tuple[np.ndarray, bool]:
    if scene.rng.random() < probability:
        target = wrists.mean(1) if scene.rng.random() < 0.6 else wrists[:, 1]
        return look_at(target, scene.rng.uniform(0.6, 1.0)) + 0.05 * noise(scene.rng, scene.times, (3,), 0.9), True
    return glances(scene), False
