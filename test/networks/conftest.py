"""Networks and clips for the tests of this folder, as functions."""

import pytest
import torch

from egopose_ros.networks.interface import NetworkInput
from egopose_ros.networks.table import build

SMALL = {
    "egoposeformer_v2": {"width": 32, "heads": 2, "layers": 1, "window": 4, "head_pose_dropout": 0.0},
    "ag_egopose": {
        "spatial_backbone": "mobilenetv4_s", "temporal_backbone": "shared", "window": 5, "local_window": 2,
        "local_blocks": 1, "global_blocks": 1, "temporal_width": 32, "temporal_heads": 2, "width": 32, "heads": 2,
        "layers": 1, "dropout": 0.0, "path_dropout": 0.0,
    },
}  # fmt: skip
"""settings small enough for long streams, and without what is random in training"""
FRAMES = 11
SIDE = 64


def _make(name, seed=0, **settings):
    torch.manual_seed(seed)
    network = build(name, {**SMALL[name], **settings}).eval()
    # Initial heads are nearly constant; a network whose outputs depend on its inputs shows more.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def _clip(views=1, batch=2, frames=FRAMES, seed=0) -> NetworkInput:
    generator = torch.Generator().manual_seed(seed)
    T_reference_camera = torch.eye(4).repeat(batch, views, 1, 1)
    T_reference_camera[..., 0, 3] = 0.06 * torch.arange(views)
    poses = torch.eye(4, dtype=torch.float64).repeat(batch, frames, 1, 1)
    poses[..., :3, 3] = 0.05 * torch.randn(batch, frames, 3, generator=generator).cumsum(1) + 5000.0
    down = torch.nn.functional.normalize(torch.randn(batch, frames, 3, generator=generator), dim=-1)
    steps = torch.randint(12_000_000, 120_000_000, (batch, frames), generator=generator)
    return NetworkInput(
        images=torch.randint(0, 256, (batch, frames, views, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8),
        T_reference_camera=T_reference_camera,
        stamps_ns=steps.cumsum(1) + 1_700_000_000_000_000_000,
        T_world_reference=poses,
        head_pose_valid=torch.rand(batch, frames, generator=generator) < 0.8,
        gravity_reference=down,
        gravity_valid=torch.rand(batch, frames, generator=generator) < 0.8,
    )


@pytest.fixture(scope="session")
def make():
    """Return a function (name, seed=0, **settings) -> network."""
    return _make


@pytest.fixture(scope="session")
def clip():
    """Return a function (views=1, batch=2, frames=11, seed=0) -> NetworkInput."""
    return _clip
