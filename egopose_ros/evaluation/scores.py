"""What the poses of a run are worth against ground truth: every metric, with confidence intervals by block bootstrap.

A recording may be of any length: metrics are worked out piece by piece, and of a frame no more than a number is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Callable, Iterator, Sequence

import numpy as np

from egopose_ros.evaluation import metrics, motion
from egopose_ros.evaluation.protocols import PROTOCOLS
from egopose_ros.evaluation.rows import Derived, Rows, gathered, joined, percentile, slices
from egopose_ros.evaluation.runs import Run, merge_runs
from egopose_ros.evaluation.truth import Truth, TruthError
from egopose_ros.evaluation.uncertainty import LEVELS, Calibration, Coverage
from egopose_ros.geometry import rigid
from egopose_ros.skeleton import skeleton, skeleton_map
from egopose_ros.structs import Visibility

BLOCK_S = 1.0
"""Errors of neighbouring frames are alike: the bootstrap draws blocks of this length."""
DRAWS = 1000
CONFIDENCE = 0.95
CONTACT_M_S = 0.1
"""feet that are slower than this by the truth are taken to stand"""
_BLOCKS_AT_ONCE = 100_000
"""blocks that are drawn at once: those of all draws take more memory than all poses"""
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
    occlusion: bool
    """whether `visible` knows what hides joints, or only what is in view"""
    in_world: bool
    """whether each of its recordings has some head pose"""

    def part(self, rows: slice) -> Comparison:
        """Return some of the frames."""
        visible = None if self.visible is None else self.visible[rows]
        return replace(
            self, run=self.run.part(rows), predicted=self.predicted[rows], truth=self.truth[rows], visible=visible
        )

    def parts(self) -> Iterator[Comparison]:
        """Yield all frames, as many at a time as memory takes."""
        return (self.part(rows) for rows in slices(self.run.size))

    @property
    def errors(self) -> np.ndarray:
        """(T, J) [m]"""
        return metrics.joint_errors(self.predicted, self.truth)

    @property
    def known(self) -> np.ndarray:
        """(T, J) whether there is truth"""
        return np.isfinite(self.truth).all(-1)

    @property
    def placed(self) -> tuple[Derived, Derived]:
        """Predicted and true joints (T, J, 3), in the world where there is a head pose, else in the camera's frame"""

        def get(joints: np.ndarray, rows: slice) -> np.ndarray:
            return rigid.apply(self.run.T_world_camera[rows], joints[rows]) if self.in_world else joints[rows]

        return tuple(Derived(joints.shape, partial(get, joints)) for joints in (self.predicted, self.truth))

    @property
    def covariance(self) -> np.ndarray | None:
        """(T, J, 3, 3) [m^2], NaN where a joint's truth is not known, or the run has no joint of its name"""
        return _map_covariance(self.run, skeleton(self.skeleton).joints, self.known)

    @cached_property
    def frame_errors(self) -> np.ndarray:
        """(T,) [m], MPJPE of each frame"""
        return gathered(metrics.mpjpe(part.predicted, part.truth) for part in self.parts())


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
    of_run, of_truth = (skeleton_map(name, body.name) for name in (run.skeleton, truth.skeleton))
    shape = (body.size, 3)
    predicted, true, seen = Rows(shape), Rows(shape), Rows(shape[:1], np.uint8)
    any_truth = in_world = told = unknown = False
    for rows in slices(run.size):
        T_world_camera = run.T_world_camera[rows]
        joints, visible = truth.at(run.stamps_ns[rows], offset_s)
        predicted.extend(of_run(run.joints[rows]))
        joints = of_truth(joints).astype(np.float64)
        if truth.frame == "world":
            joints = rigid.apply(rigid.invert(T_world_camera), joints)
        joints[:, ~of_run.weights.any(-1)] = np.nan  # joints that the run does not have are not compared
        true.extend(joints)
        any_truth |= bool(np.isfinite(joints).all(-1).any())
        in_world |= bool(np.isfinite(T_world_camera).all((1, 2)).any())
        visible = _map_visible(visible, truth.skeleton, body.name)
        told |= visible is not None
        if visible is None and in_view is not None:
            inside = in_view(np.nan_to_num(joints).reshape(-1, 3)).reshape(joints.shape[:2])
            # Whether anything hides what is in view is not known.
            visible = np.where(inside, 255, Visibility.OUT_OF_VIEW).astype(np.uint8)
        if visible is not None:
            seen.extend(visible)
            unknown |= bool((visible == 255).any())
    if not any_truth:
        raise TruthError(
            f"{truth.source}: expected ground truth at the stamps of some poses, for joints that both have, got none "
            f"({truth.skeleton} and {run.skeleton}, {len(truth.stamps_ns)} stamps and {run.size})"
        )
    arrays = predicted.array(), true.array(), seen.array() if len(seen) else None
    return Comparison(run, protocol, body.name, *arrays, told and not unknown, in_world)


def merge(parts: list[Comparison]) -> Comparison:
    """Join the comparisons of one network on several recordings, whose frames are no neighbours in time."""
    if len(parts) == 1:
        return parts[0]
    arrays = {name: joined([getattr(part, name) for part in parts]) for name in ("predicted", "truth", "visible")}
    shared = {name: all(getattr(part, name) for part in parts) for name in ("occlusion", "in_world")}
    return replace(parts[0], run=merge_runs([part.run for part in parts]), **shared, **arrays)


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
    sums: dict[str, Rows] = {}
    counts = []
    for part in c.parts():
        counts.append(metrics.count_within(part.predicted, part.truth, metrics.AUC_THRESHOLDS))
        for name, pair in _samples(part).items():
            sums.setdefault(name, Rows((2,))).extend(np.stack(pair, -1))
    block = _block(c)
    result = {name: metric for name, rows in sums.items() if (metric := bootstrap(*rows.array().T, block, draws))}
    within, known = (sum(values) for values in zip(*counts))
    result["auc"] = Metric(100.0 * float(np.mean(within / known)))
    p95_m = percentile(lambda: (np.where(part.known, part.errors, np.nan) for part in c.parts()), 95.0)
    result["p95_mm"] = Metric(1000.0 * p95_m)
    return result | _motion(c) | _uncertainty(c)


def _samples(c: Comparison) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what each metric that is a mean sums up in every frame (T,), and of how many."""
    errors, known = c.errors * 1000.0, c.known
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
    return samples


def per_joint(comparison: Comparison) -> dict[str, float]:
    """Return the mean error [mm] of each joint that was compared."""
    pairs = [[values.sum(0) for values in (np.where(p.known, p.errors, 0.0), p.known)] for p in comparison.parts()]
    totals, counts = np.sum(pairs, 0)
    return {
        joint: float(total / count * 1000.0)
        for joint, total, count in zip(skeleton(comparison.skeleton).joints, totals, counts)
        if count
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
    running = [np.concatenate([[0.0], np.cumsum(np.concatenate([v, v[:block]]))]) for v in (sums, counts)]
    random, blocks = np.random.default_rng(0), -(-frames // block)
    totals = np.empty((draws, 2))
    some = max(1, _BLOCKS_AT_ONCE // blocks)
    for first in range(0, draws, some):
        starts = random.integers(0, frames, (min(some, draws - first), blocks))
        totals[first : first + some] = np.stack([(v[starts + block] - v[starts]).sum(1) for v in running], -1)
    drawn = totals[totals[:, 1] > 0, 0] / totals[totals[:, 1] > 0, 1]
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
    if not c.occlusion:
        return {"in_view": c.visible != Visibility.OUT_OF_VIEW, **groups}
    seen = c.visible == Visibility.VISIBLE
    return {"visible": seen, "occluded": c.visible == Visibility.OCCLUDED, **groups, "unseen": ~seen}


def _motion(c: Comparison) -> dict[str, Metric]:
    """Return the metrics of motion, in the world where there is a head pose and in the camera's frame elsewhere."""
    rate = c.run.rate_hz
    parts: dict[str, list[tuple[float, int]]] = {}
    for rows in stretches(c):
        predicted, truth = (joints.part(rows) for joints in c.placed)
        if not motion.measurable(truth):
            continue
        found = {
            "mpjve_mm_s": 1000.0 * motion.mpjve(predicted, truth, rate),
            "acceleration_error_m_s2": motion.acceleration_error(predicted, truth, rate),
            "jitter_m_s3": motion.jitter(predicted, rate),
            "jitter_truth_m_s3": motion.jitter(truth, rate),
        }
        if c.in_world:
            found |= _feet(c.skeleton, predicted, truth, rate)
        for name, value in found.items():
            if np.isfinite(value):
                parts.setdefault(name, []).append((value, len(truth)))
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


def _feet(name: str, predicted: Derived, truth: Derived, rate: float) -> dict[str, float]:
    feet = list(feet_of(name))
    if not feet:
        return {}
    lowest = gathered(
        np.where(np.isfinite(heights[:, feet]).all(-1), np.where(np.isfinite(heights), heights, np.inf).min(-1), np.nan)
        for heights in (truth[rows][..., 2] for rows in slices(len(truth)))
    )
    if not np.isfinite(lowest).any():
        return {}
    own, true = (motion.columns(joints, feet_of(name)) for joints in (predicted, truth))
    contact = motion.speeds(true, rate) < CONTACT_M_S
    # Where the truth's lowest joints are is the floor, at the height of joints above soles.
    floor = float(np.nanpercentile(lowest, 5))
    return {
        "foot_skate_mm_s": 1000.0 * motion.foot_skate(own, contact, rate),
        "ground_penetration_mm": 1000.0 * motion.ground_penetration(predicted, floor),
    }


def feet_of(name: str) -> list[int]:
    """Return the rows of a skeleton's feet."""
    return [row for row, joint in enumerate(skeleton(name).joints) if joint.endswith("_foot")]


def _uncertainty(c: Comparison) -> dict[str, Metric]:
    groups = ("all", "visible", "unseen")
    measured = {name: Coverage(c.run.degrees_of_freedom) for name in groups}
    for part in c.parts():
        covariance = part.covariance
        if covariance is None:
            continue
        error = part.predicted - part.truth
        measured["all"].add(error, covariance)
        for name, group in _groups(part).items():
            if name in groups:
                measured[name].add(error[group], covariance[group])
    if not measured["all"].count:
        return {}
    whole = measured["all"].result()
    result = {
        "calibration_error": Metric(100.0 * whole.error),
        _COVERED: _covered(whole),
        "sharpness_mm": Metric(1000.0 * whole.sharpness),
    }
    return result | {
        f"{name}_{_COVERED}": _covered(measured[name].result()) for name in groups[1:] if measured[name].count
    }


def _covered(measured: Calibration) -> Metric:
    return Metric(100.0 * measured.observed[LEVELS.index(0.9)])
