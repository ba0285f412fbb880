"""The likelihood against SciPy, regions and confidence against samples."""

import numpy as np
import pytest
import torch
from scipy import stats

from egopose_ros.networks import student_t

FACTORS = {
    "round": 0.05 * np.eye(3),
    "long": np.array([[0.02, 0, 0], [0.05, 0.1, 0], [-0.05, 0.1, 0.2]]),
    "wide": 0.5 * np.eye(3),
}


@pytest.mark.parametrize("name", FACTORS)
def test_equals_scipys_distribution(name):
    L = FACTORS[name]
    distribution = stats.multivariate_t(np.zeros(3), L @ L.T, df=student_t.NU, seed=0)
    samples = distribution.rvs(100_000)
    factor = torch.from_numpy(L)
    likelihood = student_t.negative_log_likelihood(torch.from_numpy(samples), factor).numpy()
    np.testing.assert_allclose(np.diff(likelihood), np.diff(-distribution.logpdf(samples)), atol=1e-8)
    distances = student_t.mahalanobis(torch.from_numpy(samples), factor)
    for share in (0.1, 0.5, 0.9):
        assert abs(float((distances <= student_t.quantile(share)).double().mean()) - share) < 0.01
    within = (np.linalg.norm(samples, axis=-1) <= 0.1).mean()
    assert abs(float(student_t.probability_within(factor, 0.1)) - within) < 0.02


def test_covariance_is_that_of_the_samples():
    L = FACTORS["long"]
    samples = stats.multivariate_t(np.zeros(3), L @ L.T, df=student_t.NU, seed=0).rvs(2_000_000)
    np.testing.assert_allclose(student_t.covariance(torch.from_numpy(L)), np.cov(samples.T), rtol=0.1)
