"""Heatmaps: their size, where their peak is in the image, and how sure they are."""

import math

import pytest
import torch

from egopose_ros.features.backbones import BACKBONES
from egopose_ros.features.heatmaps import HeatmapNetwork, peaks, shape_of_peaks


@pytest.mark.parametrize("name", BACKBONES)
def test_every_level_of_the_backbone_reaches_the_heatmaps(name):
    torch.manual_seed(0)
    network = HeatmapNetwork(name, 7).eval()
    heatmaps, coarse = network(torch.randint(0, 256, (1, 3, 96, 64), dtype=torch.uint8))
    assert heatmaps.shape == (1, 7, 24, 16) and coarse.shape == (1, network.backbone.channels[1], 3, 2)
    heatmaps.square().sum().backward()
    assert all(bool((skip[0].weight.grad != 0).any()) for skip in network.decoder.skips)


def gaussian(size, centre, sigma):
    cells = torch.arange(size, dtype=torch.float64)
    row, column = ((cells - at).square() / (2 * sigma**2) for at in (centre[1], centre[0]))
    return torch.exp(-(row[:, None] + column[None, :]))


def test_peaks_are_in_pixels_of_the_image():
    maps = torch.stack([gaussian(64, (10, 40), 2.0), gaussian(64, (0, 63), 2.0)])
    # A cell of 4 pixels holds the pixels 4 i .. 4 i + 3, whose middle is 4 i + 1.5.
    torch.testing.assert_close(peaks(maps, 256), torch.tensor([[41.5, 161.5], [1.5, 253.5]], dtype=torch.float64))


def test_the_shape_of_a_gaussian_is_its_own():
    for sigma in (1.5, 3.0):
        maximum, mass, spread = shape_of_peaks(0.7 * gaussian(64, (30, 33), sigma)).tolist()
        assert maximum == pytest.approx(0.7)
        assert mass == pytest.approx(math.sqrt(0.7 * 2 * math.pi) * sigma / 64, rel=1e-3)
        assert spread == pytest.approx(math.sqrt(2) * sigma / 63, rel=1e-2)
    assert bool(torch.isfinite(shape_of_peaks(torch.zeros(8, 8))).all())
