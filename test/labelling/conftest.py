"""A small trained teacher, and the small bags of the evaluation's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from egopose_ros import checkpoint  # noqa: E402
from egopose_ros.networks.table import build  # noqa: E402


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    checkpoint.save(path, build("egoposeformer_v2", {"width": 32, "heads": 2, "layers": 1}), {})
    return path
