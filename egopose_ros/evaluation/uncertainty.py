"""Is the predicted uncertainty true? Expected against observed coverage of confidence regions, and sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtr, fdtr  # not scipy.stats, which takes a second to import

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True)
class Calibration:
    """How often the truth lay inside the predicted region of each level."""

    levels: tuple[float, ...]
    observed: tuple[float, ...]
    sharpness: float
    """mean predicted standard deviation of a coordinate [m]: smaller is better at equal calibration"""
    count: int
    """joints that the fractions are over"""

    @property
    def error(self) -> float:
        """Mean absolute difference between expected and observed coverage."""
        return float(np.mean(np.abs(np.subtract(self.levels, self.observed))))


class Coverage:
    """Measures errors (..., 3) against covariances (..., 3, 3) [m^2], as they come.

    Of a Gaussian, or of a Student t with > 2 degrees: the squared Mahalanobis distance follows chi^2 with 3 degrees, or
    3 F(3, nu) in the scale matrix (nu - 2)/nu cov. Joints with a NaN are left out.
    """

    def __init__(self, degrees_of_freedom: float | None = None, levels: tuple[float, ...] = LEVELS) -> None:
        self._degrees_of_freedom, self._levels = degrees_of_freedom, levels
        self._inside = np.zeros(len(levels), np.int64)
        self._deviation_m = 0.0
        self.count = 0

    def add(self, error: np.ndarray, covariance: np.ndarray) -> None:
        """Count some joints."""
        error, covariance = error.reshape(-1, 3), covariance.reshape(-1, 3, 3)
        known = np.isfinite(error).all(-1) & np.isfinite(covariance).all((-1, -2))
        error, covariance = error[known].astype(np.float64), covariance[known].astype(np.float64)
        squared = np.einsum("ni,ni->n", error, np.linalg.solve(covariance, error[..., None])[..., 0])
        if self._degrees_of_freedom is None:
            probability = chdtr(3, squared)
        else:
            nu = self._degrees_of_freedom
            probability = fdtr(3, nu, squared * nu / (nu - 2.0) / 3.0)
        self._inside += np.count_nonzero(probability[:, None] <= np.array(self._levels), axis=0)
        self._deviation_m += float(np.sqrt(np.trace(covariance, axis1=-2, axis2=-1) / 3.0).sum())
        self.count += len(error)

    def result(self) -> Calibration:
        """Return what was measured; ValueError where no joint had truth and covariance."""
        if not self.count:
            raise ValueError("expected at least one joint with truth and covariance, got none")
        observed = tuple(float(inside / self.count) for inside in self._inside)
        return Calibration(self._levels, observed, self._deviation_m / self.count, self.count)


def calibration(
    error: np.ndarray,
    covariance: np.ndarray,
    degrees_of_freedom: float | None = None,
    levels: tuple[float, ...] = LEVELS,
) -> Calibration:
    """Measure errors (..., 3) against covariances (..., 3, 3) [m^2]; see `Coverage`."""
    coverage = Coverage(degrees_of_freedom, levels)
    coverage.add(error, covariance)
    return coverage.result()
