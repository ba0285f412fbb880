"""What a report is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from egopose_ros.evaluation.scores import Comparison, Metric

PICTURES = 4
"""of each kind of frames"""
_GOOD = 10.0
"""per cent of the frames that are better than good ones"""
_APART_S = 1.0
"""Neighbours of a bad frame are as bad: pictures are at least this far apart."""


@dataclass(frozen=True)
class Picture:
    """A frame to show."""

    kind: str
    """worst, typical or good"""
    caption: str
    image: np.ndarray
    """(H, W, 3) RGB uint8, the first camera's with the joints and their truth drawn on it"""


@dataclass(frozen=True)
class Report:
    """Everything that the HTML file shows."""

    numbers: dict[str, Any]
    """the JSON object"""
    comparisons: list[Comparison]
    """one a run, the first is the one that others are compared with"""
    metrics: list[dict[str, Metric]]
    pictures: list[Picture]


def chosen_frames(parts: list[Comparison]) -> list[tuple[str, int, int]]:
    """Return (kind, recording, row) of the worst frames, and of those nearest to the median and to a good error."""
    errors = np.concatenate([part.frame_errors for part in parts])
    owner = np.concatenate([np.full(part.run.size, number) for number, part in enumerate(parts)])
    rows = np.concatenate([np.arange(part.run.size) for part in parts])
    stamps_ns = np.concatenate([part.run.stamps_ns for part in parts])
    known = np.flatnonzero(np.isfinite(errors))
    good, typical = np.percentile(errors[known], (_GOOD, 50.0))
    distance = {"worst": -errors, "typical": np.abs(errors - typical), "good": np.abs(errors - good)}
    chosen: list[tuple[str, int, int]] = []
    for kind, far in distance.items():
        taken: list[int] = []
        for index in known[np.argsort(far[known], kind="stable")].tolist():
            apart = all(owner[index] != owner[t] or abs(stamps_ns[index] - stamps_ns[t]) >= _APART_S * 1e9 for t in taken)
            if apart and len(taken) < PICTURES:
                taken.append(index)
        chosen += [(kind, int(owner[index]), int(rows[index])) for index in taken]
    return chosen
