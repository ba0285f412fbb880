"""Smooth curves of time: minimum-jerk moves between keys, and band-limited noise."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d


def minimum_jerk(u: np.ndarray) -> np.ndarray:
    """Return 10 u^3 - 15 u^4 + 6 u^5 of u clipped to 0..1 (Flash and Hogan 1985)."""
    u = np.clip(u, 0.0, 1.0)
    return u**3 * (10.0 - 15.0 * u + 6.0 * u**2)


def moves(times: np.ndarray, starts: list[float], ends: list[float], values: np.ndarray) -> np.ndarray:
    """Hold values[0], then move by minimum jerk to values[i + 1] between starts[i] and ends[i]; values (N + 1, ...)."""
    values = np.asarray(values, float)
    result = np.repeat(values[:1], len(times), 0)
    for start, end, before, after in zip(starts, ends, values[:-1], values[1:]):
        weight = minimum_jerk((times - start) / max(end - start, 1e-3))
        result = result + weight.reshape(-1, *[1] * (values.ndim - 1)) * (after - before)
    return result


def through(times: np.ndarray, keys: list[tuple[float, ...]], blur_s: float = 0.06) -> np.ndarray:
    """Return (T, C) of keys (time, value, ...): monotone cubic between them, constant outside, then blurred."""
    table = np.array(sorted(keys), float)
    table = table[np.concatenate([np.diff(table[:, 0]) > 1e-4, [True]])]
    if len(table) == 1:
        return np.repeat(table[:, 1:], len(times), 0)
    clipped = np.clip(times, table[0, 0], table[-1, 0])
    return blur(PchipInterpolator(table[:, 0], table[:, 1:], axis=0)(clipped), times, blur_s)


def blur(values: np.ndarray, times: np.ndarray, sigma_s: float) -> np.ndarray:
    """Blur along time with a Gaussian of `sigma_s` seconds."""
    if len(times) < 2 or sigma_s <= 0:
        return values
    return gaussian_filter1d(values, sigma_s / (times[1] - times[0]), axis=0, mode="nearest")


def noise(rng: np.random.Generator, times: np.ndarray, shape: tuple[int, ...], period_s: float) -> np.ndarray:
    """Return (T, *shape) smooth noise of about unit deviation whose fluctuations last about `period_s`."""
    knots = np.arange(times[0] - 2 * period_s, times[-1] + 3 * period_s, period_s)
    values = rng.standard_normal((len(knots), *shape))
    position = (times - knots[0]) / period_s
    left = position.astype(int)
    weights = np.exp(-0.5 * ((position[:, None] - (left[:, None] + np.arange(-1, 3))) / 0.7) ** 2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    picked = values[np.clip(left[:, None] + np.arange(-1, 3), 0, len(knots) - 1)]
    return np.einsum("tk,tk...->t...", weights, picked)
