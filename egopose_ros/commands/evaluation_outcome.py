"""What bag and split evaluation have in common: numbers, metrics and pictures of the comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from egopose_ros.evaluation import results, scores
from egopose_ros.evaluation.report_data import Picture, Report
from egopose_ros.evaluation.scores import Comparison, Metric
from egopose_ros.structs import BodyPose
from egopose_ros.viewer.overlay import View, draw


@dataclass(frozen=True)
class Evaluation:
    """What came out."""

    numbers: dict[str, Any]
    """the JSON object"""
    metrics: list[dict[str, Metric]]
    """of each run"""
    report: Report
    losses: tuple[str, ...] = ()
    """one line for each damaged bag, of predictions too"""


def concluded(
    protocol: str,
    recordings: list[dict[str, Any]],
    runs: list[list[Comparison]],
    pictures: list[Picture],
    *,
    checkpoints: Sequence[str],
    live: Sequence[dict[str, Any]] = (),
    losses: Sequence[str] = (),
) -> Evaluation:
    """Score runs, each a comparison a recording, the first being the one that the others are compared with.

    `checkpoints` are those of the first runs; the others have none that is known.
    """
    merged = [scores.merge(parts) for parts in runs]
    metrics = [scores.score(comparison) for comparison in merged]
    entries = [results.run_json(c, m) for c, m in zip(merged, metrics)]
    for entry, checkpoint in zip(entries, checkpoints):
        entry["checkpoint"] = checkpoint
    for entry, parts in zip(entries[1:], runs[1:]):
        entry["mpjpe_difference_mm"] = results.difference_json(runs[0], parts)
    numbers = {
        "version": results.VERSION,
        "protocol": protocol,
        "bags": recordings,
        "runs": entries,
        "live": list(live),
        "timing": [results.timing_json(comparison.run) for comparison in merged],
    }
    return Evaluation(numbers, metrics, Report(numbers, merged, metrics, pictures), tuple(losses))


def recording_json(name: str, topics: Sequence[str], frames: int, truth: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what the numbers say of a recording and its truth."""
    whole = {"rejected": {}, "notes": [], "loss": ""}
    return {"bag": name, "topics": list(topics), "frames": frames, **whole, **more, "truth": truth}


def picture(kind: str, part: Comparison, row: int, image: np.ndarray, view: View, recording: str) -> Picture:
    """Draw a frame of a comparison on the first camera's image."""
    stamps_ns = part.run.stamps_ns
    pose, truth = (
        BodyPose(int(stamps_ns[row]), part.skeleton, joints[row].astype(np.float32), None, None, None, None, 1, True)
        for joints in (part.predicted, part.truth)
    )
    seconds = int(stamps_ns[row] - stamps_ns[0]) / 1e9
    caption = f"{part.frame_errors[row] * 1000.0:.0f} mm at {seconds:.2f} s of {recording}"
    return Picture(kind, caption, draw([image], [view], pose, truth))
