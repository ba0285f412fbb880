"""Good, typical and worst frames at a glance: one line of pictures a kind."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from egopose_ros.evaluation.report_data import Picture
from egopose_ros.files import write_whole

_GAP_PX, _LINE_PX = 6, 22
_PAPER, _INK = (255, 255, 255), (40, 44, 50)


def write_sheet(path: Path, pictures: list[Picture]) -> None:
    """Write pictures with their captions."""
    tiles = [_captioned(picture) for picture in pictures]
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    lines = []
    for kind in reversed(dict.fromkeys(picture.kind for picture in pictures)):
        line = [_padded(tile, height, width) for tile, picture in zip(tiles, pictures) if picture.kind == kind]
        lines.append(np.concatenate(line, 1))
    widest = max(line.shape[1] for line in lines)
    sheet = np.concatenate([_padded(line, line.shape[0], widest) for line in lines])
    write_whole(path, cv2.imencode(path.suffix, sheet[..., ::-1])[1].tobytes())


def _captioned(picture: Picture) -> np.ndarray:
    """Return a picture over its kind and caption."""
    strip = np.full((_LINE_PX, picture.image.shape[1], 3), _PAPER, np.uint8)
    text = f"{picture.kind}: {picture.caption}"
    cv2.putText(strip, text, (2, _LINE_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return np.concatenate([picture.image, strip])


def _padded(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return an image on paper of at least that size, with a margin right and below."""
    result = np.full((height + _GAP_PX, width + _GAP_PX, 3), _PAPER, np.uint8)
    result[: image.shape[0], : image.shape[1]] = image
    return result
