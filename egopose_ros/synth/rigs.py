"""Rigs that people wear: where cameras sit on the head, what their lenses see, and how they slip and shake."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.geometry.rigid import transform
from egopose_ros.synth.materials import Draw

BANDS = 20
"""Place, pitch, outward angle and distance of cameras come from a band of their range; which bands, the split says."""


@dataclass(frozen=True)
class Lens:
    """The part of the canonical picture that a lens and its sensor fill."""

    angle: float
    """[rad] radius of the lens circle"""
    low: tuple[float, float]
    high: tuple[float, float]
    """[px] the sensor's rectangle in the canonical picture"""
    rim: tuple[float, float, float, float] = (1e6, 0.0, 0.0, 0.0)
    """edge of what the rig itself hides at the bottom: row at the middle [px], slope, curve [1/px], its brightness"""

    def seen(self, rays: Tensor, size: tuple[int, int]) -> Tensor:
        """Return which canonical pixels (P,) carry light."""
        index = torch.arange(len(rays), device=rays.device)
        x, y = index % size[0], index // size[0]
        inside = (x >= self.low[0]) & (x <= self.high[0]) & (y >= self.low[1]) & (y <= self.high[1])
        return inside & (rays[:, 2] > math.cos(self.angle))

    def hidden(self, rays: Tensor, size: tuple[int, int]) -> Tensor:
        """Return how much of each canonical pixel (P,) the rig hides, 0..1: near and out of focus."""
        index = torch.arange(len(rays), device=rays.device)
        x, y = index % size[0] - 127.5, torch.div(index, size[0], rounding_mode="floor")
        row, slope, curve, _ = self.rim
        return ((y - (row + slope * x + curve * x * x)) / 5.0 + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class WornRig:
    """A rig and its lenses."""

    rig: Rig
    lenses: tuple[Lens, ...]
    kind: str
    slip_m: float
    slip_rad: float
    shake_rad: float


def banded(draw: Draw, low: float, high: float, bands: tuple[int, ...]) -> float:
    """Draw from the given bands (numbers below `BANDS`) of a range."""
    return low + (high - low) * (draw.choice(bands) + draw.uniform(0, 1)) / BANDS


def looking(pitch: float, outward: float, roll: float) -> np.ndarray:
    """Return R_head_camera (3, 3) of a camera that looks down, its image top to the front.

    Pitch lifts the axis to the front, outward turns it to the left (+y) [rad].
    """
    down = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    return _turn(1, -pitch) @ _turn(0, outward) @ down @ _turn(2, roll)


def looking_turn(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """Return a small rotation (3, 3) from three angles [rad]."""
    return _turn(0, roll) @ _turn(1, pitch) @ _turn(2, yaw)


def _turn(axis: int, angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    R = np.eye(3)
    R[i, i] = R[j, j] = c
    R[i, j], R[j, i] = -s, s
    return R


def draw_rig(draw: Draw, views: int, bands: tuple[int, ...]) -> WornRig:
    """Draw a cap (one camera), glasses or a headset (also two) whose parameters lie in some bands."""
    if views not in (1, 2):
        raise ValueError(f"views: expected 1 or 2 cameras for a drawn rig, got {views}; give a rig for more")
    kind = "cap" if views == 1 and draw.chance(0.75) else draw.choice(("glasses", "headset", "cap_stereo"))

    def band(low: float, high: float) -> float:
        return banded(draw, low, high, bands)

    if kind.startswith("cap"):
        place = np.array([band(0.08, 0.23), draw.uniform(-0.02, 0.02), band(-0.06, 0.11)])
        pitch, outward, apart = band(-0.25, 0.4), 0.0, band(0.03, 0.06)
    elif kind == "glasses":
        place = np.array([band(0.032, 0.075), 0.0, band(-0.025, 0.03)])
        pitch, outward, apart = band(-0.05, 0.6), band(0.0, 0.45), band(0.05, 0.075)
    else:
        place = np.array([band(0.05, 0.11), 0.0, band(-0.045, 0.03)])
        pitch, outward, apart = band(0.0, 0.9), band(0.1, 0.6), band(0.03, 0.08)
    cameras, lenses = [], []
    lens = _draw_lens(draw, kind)
    sides = ((1, "left"), (-1, "right"))
    if kind == "cap":
        sides = ((0, "camera"),)
    elif views == 1:
        sides = (draw.choice(sides),)
    for side, name in sides:
        R = looking(pitch + draw.normal(0, 0.02), side * outward + draw.normal(0, 0.03), draw.normal(0, 0.03))
        T = transform(R, place + np.array([0.0, side * apart, 0.0]))
        cameras.append(RigCamera(name, CANONICAL, T))
        lenses.append(lens)
    return WornRig(
        Rig(tuple(cameras)), tuple(lenses), kind, draw.uniform(0, 0.006), draw.uniform(0, 0.03), draw.uniform(0, 0.004)
    )


def _draw_lens(draw: Draw, kind: str) -> Lens:
    angle = math.radians(draw.uniform(84, 100) if draw.chance(0.7) else draw.uniform(75, 92))
    radius = angle * 128.0 / math.radians(100.0)
    cx, cy = 127.5 + draw.normal(0, 2.0), 127.5 + draw.normal(0, 2.0)
    width, height = 300.0, 300.0
    sort = draw.uniform(0, 1)
    if sort < 0.45:  # a 5:4 sensor that cuts the circle above and below
        height = radius * draw.uniform(0.88, 1.06)
    elif sort < 0.6:  # a sensor that lies inside the circle
        height, width = radius * draw.uniform(0.72, 0.95), radius * draw.uniform(0.85, 1.05)
    rim = Lens.rim
    if draw.chance(0.12 if kind.startswith("cap") else 0.4):
        row = min(cy + height, cy + radius) - draw.uniform(4, 28)
        rim = (row, draw.normal(0, 0.12), draw.normal(0, 0.002), draw.uniform(0.0, 0.08))
    return Lens(angle, (cx - width, cy - height), (cx + width, cy + height), rim)


def slip(draw: Draw, rig: WornRig, T_world_head: np.ndarray, fps: float) -> np.ndarray:
    """Return T_skull_rig (T, 4, 4): how the rig's head frame wanders against the skull, and shakes as it moves."""
    frames = len(T_world_head)
    drift = _wander(draw, frames, fps, 2.0)
    place = T_world_head[:, :3, 3]
    jolt = np.zeros((frames, 3))
    if frames > 2:
        jolt[1:-1] = np.diff(place, 2, axis=0) * fps**2
    shake = np.clip(jolt, -15, 15) / 10.0 * rig.shake_rad + 0.15 * rig.shake_rad * _white(draw, frames)
    angles = rig.slip_rad * drift[:, :3] + shake
    R = np.stack([_turn(0, a) @ _turn(1, b) @ _turn(2, c) for a, b, c in angles])
    return transform(R, rig.slip_m * drift[:, 3:] + 0.02 * shake)


def _white(draw: Draw, frames: int) -> np.ndarray:
    return torch.randn(frames, 3, generator=draw.generator, dtype=torch.float64).numpy()


def _wander(draw: Draw, frames: int, fps: float, seconds: float) -> np.ndarray:
    """Return (T, 6) smooth unit-variance wander with a time constant."""
    keep = math.exp(-1.0 / (fps * seconds))
    noise = torch.randn(frames, 6, generator=draw.generator, dtype=torch.float64).numpy()
    out = np.empty_like(noise)
    out[0] = noise[0]
    for k in range(1, frames):
        out[k] = keep * out[k - 1] + math.sqrt(1 - keep**2) * noise[k] * 0.3
    return out
