"""The numbers that a network gets on a split of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from egopose_ros.evaluation import motion
from egopose_ros.evaluation.metrics import joint_errors, pa_mpjpe
from egopose_ros.evaluation.uncertainty import calibration
from egopose_ros.skeleton import skeleton

REGIONS = {
    "upper": ("neck", "head", "collar", "shoulder", "elbow", "wrist"),
    "lower": ("hip", "knee", "ankle", "foot"),
    "trunk": ("pelvis", "spine1", "spine2", "spine3"),
    "wrist": ("wrist",),
    "foot": ("ankle", "foot"),
}
"""region -> joints without their side"""


@dataclass(frozen=True)
class Track:
    """A clip and what a network said about it, in the first camera's frame and in the world."""

    rate_hz: float
    joints: np.ndarray
    """(T, J, 3) [m]"""
    truth: np.ndarray
    """(T, J, 3) [m]"""
    joints_world: np.ndarray
    truth_world: np.ndarray
    visible: np.ndarray
    """(T, J) bool, in any view"""
    covariance: np.ndarray | None
    """(T, J, 3, 3) [m^2]"""


def summarise(tracks: list[Track], skeleton_name: str, degrees_of_freedom: float | None = None) -> dict:
    """Return the numbers of the report; the covariances are of a Student t with so many degrees, or of a Gaussian."""
    joints, truth = (np.concatenate([getattr(t, name) for t in tracks]) for name in ("joints", "truth"))
    visible = np.concatenate([t.visible for t in tracks])
    errors = joint_errors(joints, truth) * 1000.0
    names = skeleton(skeleton_name).joints
    bare = [name.removeprefix("left_").removeprefix("right_") for name in names]
    regions = {
        region: _mean(errors[:, [i for i, name in enumerate(bare) if name in members]])
        for region, members in REGIONS.items()
    }
    lower = np.isin(bare, REGIONS["lower"])
    regions |= {
        "visible": _mean(errors[visible]),
        "occluded": _mean(errors[~visible]),
        "lower_visible": _mean(errors[:, lower][visible[:, lower]]),
        "lower_occluded": _mean(errors[:, lower][~visible[:, lower]]),
    }
    numbers = {
        "frames": len(joints),
        "mpjpe_mm": _mean(errors),
        "pa_mpjpe_mm": _mean(pa_mpjpe(joints, truth)) * 1000.0,
        "mpjve_mm_s": _over(tracks, lambda t: motion.mpjve(t.joints_world, t.truth_world, t.rate_hz)) * 1000.0,
        "jitter": _over(tracks, lambda t: motion.jitter(t.joints_world, t.rate_hz)),
        "jitter_truth": _over(tracks, lambda t: motion.jitter(t.truth_world, t.rate_hz)),
        "per_joint_mm": {name: _mean(errors[:, index]) for index, name in enumerate(names)},
        "regions_mm": regions,
    }
    if tracks[0].covariance is not None:
        covariance = np.concatenate([t.covariance for t in tracks])
        error = joints - truth
        numbers["in_90_percent_region"] = {
            name: calibration(error[mask], covariance[mask], degrees_of_freedom, (0.9,)).observed[0]
            for name, mask in (("all", visible | True), ("visible", visible), ("occluded", ~visible))
            if mask.any()
        }
    return numbers


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.size(values) else float("nan")


def _over(tracks: list[Track], metric: Callable[[Track], float]) -> float:
    """Average a metric of motion over clips by their frames."""
    return float(np.average([metric(t) for t in tracks], weights=[len(t.joints) for t in tracks]))
