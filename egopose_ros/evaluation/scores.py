"""What the poses of a run are worth against ground truth: every metric, with confidence intervals by block bootstrap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Sequence

import numpy as np

from egopose_ros.evaluation import metrics, motion
from egopose_ros.evaluation.protocols import PROTOCOLS
from egopose_ros.evaluation.runs import Run, merge_runs
from egopose_ros.evaluation.truth import Truth, TruthError
from egopose_ros.evaluation.uncertainty import LEVELS, Calibration, calibration
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import skeleton, skeleton_map
from egopose_ros.structs import Visibility

BLOCK_S = 1.0
"""Errors of neighbouring frames are alike: the bootstrap draws blocks of this length."""
DRAWS = 1000
CONFIDENCE = 0.95
_CONTACT_M_S = 0.1
"""feet that are slower than this by the truth are taken to stand"""
REGIONS = {
    "upper": ("neck", "head", "collar", "shoulder", "elbow", "wrist"),
    "lower": ("hip", "knee", "ankle", "foot"),
    "trunk": ("pelvis", "spine1", "spine2", "spine3"),
    "wrist": ("wrist",),
    "foot": ("ankle", "foot"),
}
"""region -> joints without their side"""
HIGHER_IS_BETTER = ("pck_150", "auc")
_COVERED = "in_90_percent_region"
UNDIRECTED = ("jitter_truth_m_s3", "sharpness_mm", _COVERED, f"visible_{_COVERED}", f"unseen_{_COVERED}")


@dataclass(frozen=True)
class Metric:
    """A number and its confidence interval; NaN bounds where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class Comparison:
    """A run beside its truth, on the skeleton of a protocol, in the first camera's frame."""

    run: Run
    protocol: str
    skeleton: str
    predicted: np.ndarray
    """(T, J, 3) [m]"""
    truth: np.ndarray
    """(T, J, 3) [m], NaN where not known"""
    visible: np.ndarray | None
    """(T, J) uint8, values of Visibility"""
    in_world: bool
    """whether each of its recordings has some head pose"""

    @property
    def predicted_world(self) -> np.ndarray | None:
        """(T, J, 3), with a head pose; made anew each time, as the truth in the world and the covariance"""
        return rigid.apply(self.run.T_world_camera, self.predicted) if self.in_world else None

    @property
    def truth_world(self) -> np.ndarray | None:
        """(T, J, 3), with a head pose"""
        return rigid.apply(self.run.T_world_camera, self.truth) if self.in_world else None

    @property
    def covariance(self) -> np.ndarray | None:
        """(T, J, 3, 3) [m^2], NaN where a joint's truth is not known, or the run has no joint of its name"""
        return _map_covariance(self.run, skeleton(self.skeleton).joints, np.isfinite(self.truth).all(-1))

    @property
    def errors(self) -> np.ndarray:
        """(T, J) [m]"""
        return metrics.joint_errors(self.predicted, self.truth)

    @property
    def frame_errors(self) -> np.ndarray:
        """(T,) [m], MPJPE of each frame"""
        return metrics.mpjpe(self.predicted, self.truth)


def compare(
    run: Run,
    truth: Truth,
    protocol: str,
    offset_s: float = 0.0,
    in_view: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Comparison:
    """Bring a run and its truth to the skeleton of a protocol and to the first camera's frame.

    `truth.frame` is 'camera' or 'world'; `in_view` says of points (N, 3) in the first camera's frame whether they are
    in its image, where the truth does not know what is visible. TruthError without a common joint or frame.
    """
    body = skeleton(PROTOCOLS[protocol].skeleton)
    joints, visible = truth.at(run.stamps_ns, offset_s)
    of_run, of_truth = (skeleton_map(name, body.name) for name in (run.skeleton, truth.skeleton))
    predicted = of_run(run.joints).astype(np.float64)
    joints = of_truth(joints).astype(np.float64)
    if truth.frame == "world":
        T_camera_world = rigid.invert(run.T_world_camera)
        joints = rigid.apply(T_camera_world, joints)
    joints[:, ~of_run.weights.any(-1)] = np.nan  # joints that the run does not have are not compared
    if not np.isfinite(joints).all(-1).any():
        raise TruthError(
            f"{truth.source}: expected ground truth at the stamps of some poses, for joints that both have, got none "
            f"({truth.skeleton} and {run.skeleton}, {len(truth.stamps_ns)} stamps and {run.size})"
        )
    visible = _map_visible(visible, truth.skeleton, body.name)
    if visible is None and in_view is not None:
        inside = in_view(np.nan_to_num(joints).reshape(-1, 3)).reshape(joints.shape[:2])
        # Whether anything hides what is in view is not known.
        visible = np.where(inside, 255, Visibility.OUT_OF_VIEW).astype(np.uint8)
    in_world = bool(np.isfinite(run.T_world_camera).all((1, 2)).any())
    return Comparison(run, protocol, body.name, predicted, joints, visible, in_world)


def merge(parts: list[Comparison]) -> Comparison:
    """Join the comparisons of one network on several recordings, whose frames are no neighbours in time."""
    if len(parts) == 1:
        return parts[0]

    def joined(values: list[np.ndarray | None]) -> np.ndarray | None:
        return None if any(value is None for value in values) else np.concatenate(values)

    arrays = {name: joined([getattr(part, name) for part in parts]) for name in ("predicted", "truth", "visible")}
    in_world = all(part.in_world for part in parts)
    return replace(parts[0], run=merge_runs([part.run for part in parts]), in_world=in_world, **arrays)


def _map_covariance(run: Run, joints: Sequence[str], known: np.ndarray) -> np.ndarray | None:
    """Return the covariances of joints with a namesake in the run where known (T, J); None without any.

    Nothing is said of a joint interpolated from others, whose errors need not be independent.
    """
    if run.covariance is None:
        return None
    own = skeleton(run.skeleton).joints
    unknown = np.full((run.size, 3, 3), np.nan, np.float32)
    mapped = np.stack([run.covariance[:, own.index(joint)] if joint in own else unknown for joint in joints], 1)
    mapped[~known] = np.nan
    return mapped if np.isfinite(mapped).all((-1, -2)).any() else None


def _map_visible(visible: np.ndarray | None, source: str, target: str) -> np.ndarray | None:
    """Return the visibility of joints that have a namesake; a joint without one is taken to be out of view."""
    if visible is None or source == target:
        return visible
    names, goal = skeleton(source).joints, skeleton(target).joints
    columns = [visible[:, names.index(joint)] if joint in names else np.zeros(len(visible), np.uint8) for joint in goal]
    return np.stack(columns, 1)


def score(comparison: Comparison, draws: int = DRAWS) -> dict[str, Metric]:
    """Return every metric that can be had, by name with its unit."""
    c = comparison
    errors = c.errors * 1000.0
    known = np.isfinite(c.truth).all(-1)
    pa = metrics.pa_mpjpe(c.predicted, c.truth) * 1000.0
    frames = np.isfinite(pa)
    samples = {
        "mpjpe_mm": _sums(errors, known),
        "pa_mpjpe_mm": (np.where(frames, pa, 0.0), frames.astype(float)),
        "pck_150": _sums(100.0 * (errors <= 150.0), known),
    }
    body = skeleton(c.skeleton)
    if "pelvis" in body.joints:
        rooted = metrics.root_aligned(c.predicted, c.truth, (body.index("pelvis"),))
        samples["root_mpjpe_mm"] = _sums(metrics.joint_errors(*rooted) * 1000.0, np.isfinite(rooted[1]).all(-1))
    bare = np.array([joint.removeprefix("left_").removeprefix("right_") for joint in body.joints])
    for region, members in REGIONS.items():
        samples[f"{region}_mm"] = _sums(errors, known & np.isin(bare, members))
    for name, group in _groups(c).items():
        samples[f"{name}_mm"] = _sums(errors, known & group)
        if name in ("visible", "unseen"):
            samples[f"lower_{name}_mm"] = _sums(errors, known & group & np.isin(bare, REGIONS["lower"]))
    result = {name: metric for name, sums in samples.items() if (metric := bootstrap(*sums, _block(c), draws))}
    result["auc"] = Metric(100.0 * metrics.auc(c.predicted, c.truth))
    result["p95_mm"] = Metric(float(np.nanpercentile(np.where(known, errors, np.nan), 95)))
    return result | _motion(c) | _uncertainty(c)


def per_joint(comparison: Comparison) -> dict[str, float]:
    """Return the mean error [mm] of each joint that was compared."""
    known = np.isfinite(comparison.truth).all(-1)
    return {
        joint: float(comparison.errors[known[:, row], row].mean() * 1000.0)
        for row, joint in enumerate(skeleton(comparison.skeleton).joints)
        if known[:, row].any()
    }


def difference(first: Sequence[Comparison], second: Sequence[Comparison], draws: int = DRAWS) -> Metric | None:
    """Return by how much the MPJPE [mm] of the second run exceeds the first's on their common frames, paired.

    Each run is a comparison a recording: recordings may have the same stamps.
    """
    deltas = []
    for one, other in zip(first, second):
        _, a, b = np.intersect1d(one.run.stamps_ns, other.run.stamps_ns, return_indices=True)
        deltas.append((other.frame_errors[b] - one.frame_errors[a]) * 1000.0)
    delta = np.concatenate(deltas)
    known = np.isfinite(delta)
    return bootstrap(np.where(known, delta, 0.0), known.astype(float), _block(first[0]), draws)


def bootstrap(sums: np.ndarray, counts: np.ndarray, block: int, draws: int = DRAWS) -> Metric | None:
    """Return the mean sum/count over frames (T,) with its interval by the circular block bootstrap; None for no count.

    Politis and Romano, A circular block-resampling procedure for stationary data, 1992. Same seed, same interval.
    """
    if not counts.sum():
        return None
    value = float(sums.sum() / counts.sum())
    frames = len(sums)
    block = min(block, frames)
    if frames < 2 * block:
        return Metric(value)
    totals = []
    starts = np.random.default_rng(0).integers(0, frames, (draws, -(-frames // block)))
    for values in (sums, counts):
        running = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[:block]]))])
        totals.append((running[starts + block] - running[starts]).sum(1))
    drawn = totals[0][totals[1] > 0] / totals[1][totals[1] > 0]
    low, high = np.percentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Metric(value, float(low), float(high))


def _block(c: Comparison) -> int:
    return max(1, round(c.run.rate_hz * BLOCK_S)) if np.isfinite(c.run.rate_hz) else 1


def _sums(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(mask, values, 0.0).sum(-1), mask.sum(-1).astype(float)


def _groups(c: Comparison) -> dict[str, np.ndarray]:
    """Return the joints (T, J) that are seen, and those that are not, as far as it is known."""
    if c.visible is None:
        return {}
    groups = {"out_of_view": c.visible == Visibility.OUT_OF_VIEW}
    if (c.visible == 255).any():
        return {"in_view": c.visible == 255, **groups}
    seen = c.visible == Visibility.VISIBLE
    return {"visible": seen, "occluded": c.visible == Visibility.OCCLUDED, **groups, "unseen": ~seen}


def _motion(c: Comparison) -> dict[str, Metric]:
    """Return the metrics of motion, in the world where there is a head pose and in the camera's frame elsewhere."""
    predicted, truth = (c.predicted_world, c.truth_world) if c.in_world else (c.predicted, c.truth)
    rate = c.run.rate_hz
    parts: dict[str, list[tuple[float, int]]] = {}
    for rows in stretches(c):
        p, t = predicted[rows], truth[rows]
        if len(p) < 4 or not np.isfinite(t).any():
            continue
        found = {
            "mpjve_mm_s": 1000.0 * motion.mpjve(p, t, rate),
            "acceleration_error_m_s2": motion.acceleration_error(p, t, rate),
            "jitter_m_s3": motion.jitter(p, rate),
            "jitter_truth_m_s3": motion.jitter(t, rate),
        }
        if c.in_world:
            found |= _feet(c.skeleton, p, t, rate)
        for name, value in found.items():
            if np.isfinite(value):
                parts.setdefault(name, []).append((value, len(p)))
    return {
        name: Metric(float(np.average([v for v, _ in values], weights=[n for _, n in values])))
        for name, values in parts.items()
    }


def stretches(c: Comparison) -> list[slice]:
    """Return the longest rows without a jump in time."""
    steps = np.diff(c.run.stamps_ns) * c.run.rate_hz / 1e9
    breaks = np.flatnonzero((np.diff(c.run.segment) != 0) | (steps > 1.5) | (steps <= 0)) + 1
    edges = [0, *breaks.tolist(), c.run.size]
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:])]


def _feet(name: str, predicted: np.ndarray, truth: np.ndarray, rate: float) -> dict[str, float]:
    body = skeleton(name)
    feet = [row for row, joint in enumerate(body.joints) if joint.endswith("_foot")]
    lowest = np.where(np.isfinite(truth[..., 2]).all(-1), truth[..., 2].min(-1), np.nan)
    if not feet or not np.isfinite(lowest).any():
        return {}
    speed = np.linalg.norm(np.diff(truth[:, feet], axis=0), axis=-1) * rate
    contact = np.concatenate([speed[:1], speed]) < _CONTACT_M_S
    # Where the truth's lowest joints are is the floor, at the height of joints above soles.
    floor = float(np.nanpercentile(lowest, 5))
    return {
        "foot_skate_mm_s": 1000.0 * motion.foot_skate(predicted[:, feet], contact, rate),
        "ground_penetration_mm": 1000.0 * motion.ground_penetration(predicted, floor),
    }


def _uncertainty(c: Comparison) -> dict[str, Metric]:
    covariance = c.covariance
    if covariance is None:
        return {}
    error, told = c.predicted - c.truth, np.isfinite(covariance).all((-1, -2))
    measured = calibration(error, covariance, c.run.degrees_of_freedom)
    result = {
        "calibration_error": Metric(100.0 * measured.error),
        _COVERED: _covered(measured),
        "sharpness_mm": Metric(1000.0 * measured.sharpness),
    }
    groups = _groups(c)
    for name in ("visible", "unseen"):
        group = groups.get(name)
        if group is not None and (group & told).any():
            part = calibration(error[group], covariance[group], c.run.degrees_of_freedom)
            result[f"{name}_{_COVERED}"] = _covered(part)
    return result


def _covered(measured: Calibration) -> Metric:
    return Metric(100.0 * measured.observed[LEVELS.index(0.9)])
