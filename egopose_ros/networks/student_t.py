"""The trivariate Student-t distribution of a joint's position, by the Cholesky factor L of its scale matrix.

With d = 3, nu = 4 and m = |L^-1 (x - mean)|^2: -log p = (nu + d)/2 log(1 + m/nu) + log|L| + constant, the covariance
is nu/(nu - 2) L L^T, and P(m <= t^2) = I_z(3/2, 2) = z^(3/2) (5 - 3 z)/2 with z = t^2/(t^2 + nu), I the regularised
incomplete beta function.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from egopose_ros.structs import DEGREES_OF_FREEDOM

NU = DEGREES_OF_FREEDOM


def scale_factor(raw: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the lower triangular scale factor [m] that six outputs of a head mean, near 0.07 m where they are zero.

    Its diagonal is at least 1 mm.
    """
    raw = 0.1 * raw
    cholesky = torch.diag_embed(0.1 * torch.nn.functional.softplus(10.0 * raw[..., :3]) + 1e-3)
    rows, columns = torch.tril_indices(3, 3, -1, device=raw.device)
    cholesky[..., rows, columns] = raw[..., 3:]
    return cholesky


def covariance(cholesky: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the covariance [m^2] of scale factors [m]."""
    return NU / (NU - 2.0) * cholesky @ cholesky.transpose(-1, -2)


def mahalanobis(error: Float[Tensor, "*batch 3"], cholesky: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Return m = |L^-1 error|^2."""
    # By hand: a batched triangular solve of 3x3 systems costs more than the rest of the loss.
    x = error[..., 0] / cholesky[..., 0, 0]
    y = (error[..., 1] - cholesky[..., 1, 0] * x) / cholesky[..., 1, 1]
    z = (error[..., 2] - cholesky[..., 2, 0] * x - cholesky[..., 2, 1] * y) / cholesky[..., 2, 2]
    return x * x + y * y + z * z


def negative_log_likelihood(
    error: Float[Tensor, "*batch 3"], cholesky: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Return -log p without its constant."""
    log_determinant = cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (NU + 3.0) / 2.0 * torch.log1p(mahalanobis(error, cholesky) / NU) + log_determinant


def distribution(squared: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return P(m <= squared)."""
    z = squared / (squared + NU)
    return z**1.5 * (5.0 - 3.0 * z) / 2.0


def quantile(probability: float) -> float:
    """Return the m that holds a share of the distribution, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if distribution(torch.tensor(middle)).item() < probability else (low, middle)
    return (low + high) / 2


def probability_within(cholesky: Float[Tensor, "*batch 3 3"], radius: float) -> Float[Tensor, "*batch"]:
    """Return P(|x - mean| <= radius), the mean over directions u of P(m <= (radius / |L u|)^2).

    With x = t L u, u uniform on the sphere and independent of t. Averaged over a Fibonacci lattice of half the sphere
    (u and -u agree): exact for round distributions, within 0.02 for axes of 1:10.
    """
    scales = (cholesky @ _directions(cholesky)).square().sum(-2)  # (..., K)
    return distribution(radius**2 / scales).mean(-1)


def _directions(like: Tensor, count: int = 32) -> Float[Tensor, "3 K"]:
    index = torch.arange(count, device=like.device, dtype=like.dtype)
    z = (index + 0.5) / count
    turn = math.pi * (3.0 - math.sqrt(5.0)) * index
    ring = (1.0 - z * z).sqrt()
    return torch.stack([ring * turn.cos(), ring * turn.sin(), z])
