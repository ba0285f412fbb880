"""Numerics shared by the camera models: safe norms, polynomials, and inverses with exact first derivatives.

Model parameters are Python floats, so nothing here ever moves data between devices.
"""

from __future__ import annotations

from typing import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Pair = tuple[float, float]

NEWTON_STEPS = 4
TABLE_SIZE = 129


def safe_norm(vector: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Return the length of vectors; its gradient at zero is zero instead of NaN."""
    squared = (vector * vector).sum(-1)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)


def polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """Evaluate a polynomial, lowest order first, by Horner's rule."""
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def polynomial_at(coefficients: Sequence[float], x: float) -> float:
    """Evaluate a polynomial, lowest order first, at a number."""
    value = 0.0
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value


def derivative(coefficients: Sequence[float]) -> tuple[float, ...]:
    """Return the coefficients of a polynomial's derivative."""
    return tuple(i * c for i, c in enumerate(coefficients))[1:] or (0.0,)


def invert_monotone(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], target: Tensor, upper: float
) -> Tensor:
    """Solve function(x) = target on [0, upper], where `function` gives an increasing value and its slope.

    A table gives the start and Newton's method the rest. The last step alone is differentiated, which gives the exact
    first derivative of the inverse. Targets beyond function(upper) end near `upper`.
    """
    with torch.no_grad():
        nodes = torch.linspace(0.0, upper, TABLE_SIZE, dtype=target.dtype, device=target.device)
        values = function(nodes)[0]
        index = torch.searchsorted(values, target.detach().contiguous()).clamp(1, TABLE_SIZE - 1)
        low, high = values[index - 1], values[index]
        fraction = ((target - low) / (high - low)).clamp(0.0, 1.0)
        x = nodes[index - 1] + fraction * (upper / (TABLE_SIZE - 1))
        for _ in range(NEWTON_STEPS):
            value, slope = function(x)
            x = (x - (value - target) / slope).clamp(0.0, upper)
        value, slope = function(x)
    return x - (value - target) / slope


def distort(
    plane: Float[Tensor, "*batch 2"],
    radial: Callable[[Tensor], tuple[Tensor, Tensor]],
    tangential: Pair,
    prism: tuple[Pair, Pair],
) -> Float[Tensor, "*batch 2"]:
    """Apply x g(r²) + 2 (p·x) x + r² p + r² s + r⁴ t; `radial` gives g and its slope, prism is (s, t)."""
    x, y = plane.unbind(-1)
    squared = x * x + y * y
    gain = radial(squared)[0] + 2.0 * (tangential[0] * x + tangential[1] * y)
    bend = [squared * (p + s + t * squared) for p, s, t in zip(tangential, *prism)]
    return torch.stack([gain * x + bend[0], gain * y + bend[1]], -1)


def undistort(
    target: Float[Tensor, "*batch 2"],
    guess: Float[Tensor, "*batch 2"],
    radial: Callable[[Tensor], tuple[Tensor, Tensor]],
    tangential: Pair,
    prism: tuple[Pair, Pair],
) -> tuple[Float[Tensor, "*batch 2"], Bool[Tensor, "*batch"]]:
    """Invert `distort` from a near guess by Newton's method, and say where that succeeded.

    Differentiable once with respect to the target. Where there is no solution the guess is returned.
    """
    with torch.no_grad():
        plane = guess.detach()
        for _ in range(NEWTON_STEPS):
            residual = distort(plane, radial, tangential, prism) - target
            plane = plane - _solve_2x2(_jacobian(plane, radial, tangential, prism), residual)
        value = distort(plane, radial, tangential, prism)
        tolerance = 1e3 * torch.finfo(target.dtype).eps * (1.0 + target.norm(dim=-1))
        solved = (value - target).norm(dim=-1) < tolerance
        plane = torch.where(solved[..., None], plane, guess)
        jacobian = _jacobian(plane, radial, tangential, prism)
    return torch.where(solved[..., None], plane - _solve_2x2(jacobian, value - target), guess), solved


def _jacobian(
    plane: Tensor, radial: Callable[[Tensor], tuple[Tensor, Tensor]], tangential: Pair, prism: tuple[Pair, Pair]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the rows of d distort / d plane."""
    x, y = plane.unbind(-1)
    (p, q), (s, t) = tangential, prism
    squared = x * x + y * y
    gain, slope = radial(squared)
    gain = gain + 2.0 * (p * x + q * y)
    # d squared / d(x, y) = 2 (x, y) multiplies whatever depends on r² alone.
    along_x = 2.0 * (slope * x + p + s[0] + 2.0 * t[0] * squared)
    along_y = 2.0 * (slope * y + q + s[1] + 2.0 * t[1] * squared)
    first = (gain + along_x * x + 2.0 * p * x, along_x * y + 2.0 * q * x)
    second = (along_y * x + 2.0 * p * y, gain + along_y * y + 2.0 * q * y)
    return first, second


def _solve_2x2(rows: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], right: Tensor) -> Tensor:
    (a, b), (c, d) = rows
    x, y = right.unbind(-1)
    determinant = a * d - b * c
    return torch.stack([(d * x - b * y) / determinant, (a * y - c * x) / determinant], -1)
