"""A contact sheet: what the world looks like, at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import cv2
import numpy as np

from egopose_ros.files import require_picture
from egopose_ros.synth.world import record

_FRAMES = 8
"""Rendered for each picture, so that motion blur and exposure have settled"""


def sheet(
    path: str | Path,
    *,
    split: str = "train",
    seed: int = 0,
    rows: int = 4,
    columns: int = 6,
    tile: int = 256,
    views: int = 1,
    device: str = "cpu",
    clips: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a picture of rows x columns recordings from `seed` on; `progress` hears (done, of)."""
    path = Path(path)
    require_picture(path, "contact sheet")
    tiles = []
    for index in range(rows * columns):
        recording = record(seed + index, split, frames=_FRAMES, views=views, device=device, clips=clips)
        images = recording.images[-1].cpu().numpy()  # (V, H, W, 3)
        tiles.append(cv2.resize(np.concatenate(list(images), 1), (tile * views, tile), interpolation=cv2.INTER_AREA))
        if progress is not None:
            progress(index + 1, rows * columns)
    lines = [np.concatenate(tiles[row * columns : (row + 1) * columns], 1) for row in range(rows)]
    if not cv2.imwrite(str(path), np.concatenate(lines, 0)[..., ::-1]):
        raise OSError(f"{path}: could not write the contact sheet")
