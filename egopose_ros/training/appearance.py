"""Changes of light, sharpness and what is covered, as training makes them of cached frames."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.synth.splits import SPLITS
from egopose_ros.synth.textures import SIZE, texture_bank
from egopose_ros.training.config import AugmentConfig


def change(images: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> None:
    """Change images (T, V, S, S, 3) uint8 in place, alike in all frames of a clip; only noise is new in each."""
    side = images.shape[2]
    table = _colour_table(config.colour, rng)
    light = _shade(side, config.shade * rng.standard_normal(), rng) if config.shade else None
    grey = rng.random() < config.mono or not _is_coloured(images[0])  # a camera without colour has no tint either
    blur = rng.uniform(0.5, 1.5) * side / CANONICAL.size[0] if rng.random() < config.blur else 0.0
    cover = _cover(side, config, rng)
    sigma = config.noise * rng.random() ** 2
    for image in images.reshape(-1, *images.shape[2:]):
        changed = cv2.LUT(image, table)
        if light is not None:
            changed = cv2.multiply(changed, light, dtype=cv2.CV_8U)
        if cover is not None:
            fill, weight = cover
            changed = cv2.blendLinear(changed, fill, 1.0 - weight, weight)
        if grey:
            changed = cv2.cvtColor(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if blur:
            changed = cv2.GaussianBlur(changed, (0, 0), blur)
        if sigma > 0.5:
            y, x = rng.integers(0, len(_grain()) - side, 2)
            changed = cv2.addWeighted(changed, 1.0, _grain()[y : y + side, x : x + side], sigma / 32, -4.0 * sigma)
        image[:] = changed


def _is_coloured(images: np.ndarray) -> bool:
    red, green, blue = np.moveaxis(images, -1, 0)
    return bool((red != green).any() or (green != blue).any())


def _colour_table(spread: float, rng: np.random.Generator) -> np.ndarray:
    """Return a table (256, 1, 3) of gain, white balance, gamma and black level."""
    gain = np.exp(spread * (rng.standard_normal() + 0.3 * rng.standard_normal(3)))
    gamma = np.exp(spread * rng.standard_normal())
    black = 40.0 * spread * rng.standard_normal()
    level = np.linspace(0.0, 1.0, 256)[:, None] ** gamma * 255.0 * gain + black
    return np.clip(np.rint(level), 0, 255).astype(np.uint8)[:, None]


def _shade(side: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Return gains (S, S, 3) float32 of light from one side: e^slope at one edge, e^-slope at the other."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    across = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    gain = np.exp(slope * (np.cos(angle) * across[None] + np.sin(angle) * across[:, None]))
    return np.repeat(gain[..., None].astype(np.float32), 3, -1)


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """Return normal noise (512, 512, 3) uint8 around 128, of deviation 32; a frame takes any part of it."""
    noise = np.random.default_rng(0).standard_normal((512, 512, 3), np.float32)
    return np.clip(np.rint(128.0 + 32.0 * noise), 0, 255).astype(np.uint8)


def _cover(side: int, config: AugmentConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what covers the image: its look (S, S, 3) uint8 and its weight (S, S) float32, or None.

    Things that are held and that hang into the view are sharp and of any pattern; dirt on the lens is dark and soft.
    """
    weight = np.zeros((side, side), np.float32)
    fill = np.zeros((side, side, 3), np.uint8)
    if rng.random() < config.cutout:
        for _ in range(rng.integers(1, 4)):
            shape = _shape(side, rng)
            dirt = rng.random() < 0.3
            if dirt:
                shape = cv2.GaussianBlur(shape, (0, 0), rng.uniform(0.005, 0.04) * side)
            x, y, width, height = cv2.boundingRect((shape > 0.0).astype(np.uint8))
            box = np.s_[y : y + height, x : x + width]
            inside = shape[box] > 0.0
            look = np.uint8(rng.integers(0, 50)) if dirt else _look((x, y, width, height), rng)[inside]
            fill[box][inside] = look
            weight = np.maximum(weight, shape)
    if rng.random() < config.lens_circle:
        circle = np.zeros((side, side), np.uint8)
        centre = tuple(int(value) for value in np.rint(side * rng.normal(0.5, 0.025, 2)))
        cv2.circle(circle, centre, int(side * rng.uniform(0.36, 0.5)), 1, -1)
        weight[circle == 0] = 1.0
        fill[circle == 0] = 0
    return (fill, weight) if weight.any() else None


def _shape(side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a filled ellipse or parallelogram somewhere, (S, S) float32 of 0 and 1; one in four is large."""
    shape = np.zeros((side, side), np.float32)
    half = side * (rng.uniform(0.08, 0.28, 2) if rng.random() < 0.25 else rng.uniform(0.02, 0.16, 2))
    centre = rng.uniform(0.0, side, 2)
    angle = rng.uniform(0.0, np.pi)
    if rng.random() < 0.5:
        axes = tuple(int(value) for value in half)
        cv2.ellipse(shape, tuple(int(value) for value in centre), axes, float(np.degrees(angle)), 0, 360, 1.0, -1)
        return shape
    along = half[0] * np.array([np.cos(angle), np.sin(angle)])
    across = half[1] * np.array([-np.sin(angle), np.cos(angle)]) + rng.uniform(-0.5, 0.5) * along
    corners = centre + np.array([-along - across, along - across, along + across, across - along])
    cv2.fillConvexPoly(shape, np.rint(corners).astype(np.int32), 1.0)
    return shape


def _look(box: tuple[int, int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Return (H, W, 3) uint8 of a part (x, y, W, H) of an image: one colour, or a pattern of the world's in three."""
    x, y, width, height = box
    colours = rng.uniform(0.0, 255.0, (3, 3))
    if rng.random() < 0.4:
        return np.tile(colours[0].astype(np.uint8), (height, width, 1))
    patterns = _patterns()
    angle, zoom = rng.uniform(0.0, 2.0 * np.pi), np.exp(rng.uniform(-0.7, 1.1))
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.concatenate([turn, rng.uniform(0.0, SIZE, (2, 1)) + turn @ [[x], [y]]], 1)
    pattern = cv2.warpAffine(
        patterns[rng.integers(len(patterns))], matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    ) / np.float32(255.0)  # fmt: skip
    look = colours[0] + pattern[..., :1] * (colours[1] - colours[0]) + pattern[..., 1:2] * (colours[2] - colours[0])
    return np.clip(2.0 * pattern[..., 2:] * look, 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _patterns() -> np.ndarray:
    """Return the patterns (N, 128, 128, 3) uint8 of the training split, as `synth.textures` has them."""
    bank = texture_bank(SPLITS["train"].texture_seed)
    return bank.table[: len(bank.names) * SIZE * SIZE].numpy().reshape(-1, SIZE, SIZE, 3)
