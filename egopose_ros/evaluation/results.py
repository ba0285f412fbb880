"""The results of an evaluation as one JSON object, and the gate that compares two of them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from egopose_ros.evaluation.protocols import PROTOCOLS
from egopose_ros.evaluation.protocols import score as protocol_score
from egopose_ros.evaluation.runs import Run, agreement
from egopose_ros.evaluation.scores import (
    HIGHER_IS_BETTER, REGIONS, UNDIRECTED, Comparison, Metric, difference, per_joint, stretches
)  # fmt: skip

VERSION = 1


def metrics_json(metrics: dict[str, Metric]) -> dict[str, Any]:
    """Return the metrics as {name: {value, low, high}}; bounds are left out where there is no interval."""
    result = {}
    for name, metric in metrics.items():
        entry = {"value": _number(metric.value)}
        if math.isfinite(metric.low):
            entry |= {"low": _number(metric.low), "high": _number(metric.high)}
        result[name] = entry
    return result


def _number(value: float) -> float | None:
    """Return a number that JSON can hold; digits beyond a ten-thousandth of a millimetre mean nothing."""
    return round(value, 4) if math.isfinite(value) else None


def run_json(comparison: Comparison, metrics: dict[str, Metric]) -> dict[str, Any]:
    """Return a run's numbers."""
    run = comparison.run
    return {
        "label": run.label,
        "network": run.network,
        "weights_trained": run.weights_trained,
        "frames": run.size,
        "frames_with_truth": int(np.isfinite(comparison.frame_errors).sum()),
        "frames_dropped": run.frames_dropped,
        "rate_hz": None if np.isnan(run.rate_hz) else round(run.rate_hz, 3),
        "metrics": metrics_json(metrics),
        "as_published": published_json(comparison),
        "per_joint_mm": {joint: round(value, 4) for joint, value in per_joint(comparison).items()},
    }


def difference_json(first: Sequence[Comparison], second: Sequence[Comparison]) -> dict[str, Any] | None:
    """Return how the MPJPE of a run differs from the first run's; None where they have no frame in common."""
    paired = difference(first, second)
    return None if paired is None else metrics_json({"d": paired})["d"]


def benchmark_json(run: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a run as those of a benchmark, one value each; a joint that is not seen counts as occluded."""
    values = {name: entry["value"] for name, entry in run["metrics"].items()}
    regions = {name: name for name in (*REGIONS, "visible", "out_of_view", "lower_visible")}
    regions |= {"occluded": "unseen", "lower_occluded": "lower_unseen"}
    numbers: dict[str, Any] = {name: run[name] for name in ("network", "checkpoint", "frames")}
    numbers |= {name: values.get(name) for name in ("mpjpe_mm", "pa_mpjpe_mm", "mpjve_mm_s")}
    numbers |= {"jitter": values.get("jitter_m_s3"), "jitter_truth": values.get("jitter_truth_m_s3")}
    numbers["per_joint_mm"] = run["per_joint_mm"]
    numbers["regions_mm"] = {name: values[f"{key}_mm"] for name, key in regions.items() if f"{key}_mm" in values}
    shares = {
        name: values[key] / 100.0
        for name, prefix in (("all", ""), ("visible", "visible_"), ("occluded", "unseen_"))
        if (key := f"{prefix}in_90_percent_region") in values
    }
    if shares:
        numbers["in_90_percent_region"] = shares
    return numbers


def published_json(comparison: Comparison) -> dict[str, Any]:
    """Return what the protocol reports, computed as its papers do [mm]; motion needs a head pose and is left out without."""
    c = comparison
    moving = PROTOCOLS[c.protocol].motion
    if moving and not c.in_world:
        return {}
    pair = c.placed if moving else (c.predicted, c.truth)
    scores = protocol_score(c.protocol, *pair, fps=c.run.rate_hz, stretches=stretches(c))
    lengths = {
        "mpjpe_mm": scores.mpjpe, "pa_mpjpe_mm": scores.pa_mpjpe, "ba_mpjpe_mm": scores.ba_mpjpe,
        "ground_mm": scores.ground, **{f"{region}_mm": value for region, value in scores.regions},
    }  # fmt: skip
    rates = {"mpjve_m_s": scores.mpjve, "jitter_m_s3": scores.jitter}
    told = {name: value * 1000.0 for name, value in lengths.items() if value is not None}
    told |= {name: value for name, value in rates.items() if value is not None}
    return {name: _number(value) for name, value in told.items()}


def agreement_json(path: Path, live: Run, complete: Run | None, loss: str) -> dict[str, Any]:
    """Return how poses recorded live compare with those of the same network offline, if any; `loss` of a damaged bag."""
    told = {"predictions": str(path), "label": live.label, "loss": loss}
    if complete is None:
        unknown = dict.fromkeys(("compared_with", "start_ns", "common", "largest_mm", "median_mm"))
        lists = {name: [] for name in ("dropped_ns", "unknown_ns", "unlike_ns")}
        return {**told, "not_compared": f"another network ({live.network or 'unknown'})", **unknown, **lists}
    a = agreement(complete, live)
    return {
        **told,
        "not_compared": "",
        "compared_with": complete.label,
        "start_ns": int(complete.stamps_ns[0]),
        "common": a.common,
        "largest_mm": None if np.isnan(a.largest_m) else round(a.largest_m * 1000.0, 6),
        "median_mm": None if np.isnan(a.median_m) else round(a.median_m * 1000.0, 6),
        "dropped_ns": list(a.missing_ns),
        "unknown_ns": list(a.unknown_ns),
        "unlike_ns": list(a.unlike_ns),
    }


def timing_json(run: Run) -> dict[str, Any]:
    """Return what differs from one time to the next, apart from everything that does not."""
    entry: dict[str, Any] = {"label": run.label}
    for name, seconds in (("step_ms", run.step_s), ("age_ms", run.age_s)):
        known = seconds[np.isfinite(seconds)]
        if len(known):
            p50, p95, p99 = np.percentile(known, (50, 95, 99)) * 1e3
            entry[name] = {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "p99": round(float(p99), 3)}
    return entry


@dataclass(frozen=True)
class Verdict:
    """How one metric compares with the baseline's."""

    metric: str
    baseline: float
    value: float | None
    limit: float
    """the worst value that passes"""

    @property
    def passed(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.limit if self.metric in HIGHER_IS_BETTER else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.metric in HIGHER_IS_BETTER else "<="
        got = "nothing" if self.value is None else f"{self.value:g}"
        return f"{self.metric}: expected {sign} {self.limit:g} (baseline {self.baseline:g}), got {got}"


def read_baseline(path: Path) -> dict[str, float]:
    """Return metric -> value of the first run of a results file; ValueError for a file that is none."""
    if not path.is_file():
        raise FileNotFoundError(f"--gate {path}: expected the JSON of an earlier evaluation, got nothing there")
    try:
        entries = json.loads(path.read_text())["runs"][0]["metrics"]
        return {name: float(entry["value"]) for name, entry in entries.items() if entry["value"] is not None}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"--gate {path}: expected the JSON of an earlier evaluation, got {error!r}") from None


def parse_tolerances(items: list[str]) -> dict[str, tuple[float, bool]]:
    """Return name -> (value, whether it is a share of the baseline) of NAME=VALUE and NAME=VALUE%; '*' is every name."""
    result = {}
    for item in items:
        name, separator, text = item.partition("=")
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = math.nan
        if not separator or not name or not value >= 0.0:
            raise ValueError(f"--tolerance: expected name=value or name=value% of at least 0, got '{item}'")
        result[name] = (value / 100.0, True) if text.endswith("%") else (value, False)
    return result


def require_known(tolerances: dict[str, tuple[float, bool]], baseline: dict[str, float]) -> None:
    """Raise ValueError for a tolerance of a metric that the baseline lacks, or that has no better direction."""
    judged = [name for name in baseline if name not in UNDIRECTED]
    unknown = [name for name in tolerances if name != "*" and name not in judged]
    if unknown:
        raise ValueError(f"--tolerance: expected metrics of the baseline, {', '.join(judged)}, got {', '.join(unknown)}")


def gate(
    metrics: dict[str, Metric], baseline: dict[str, float], tolerances: dict[str, tuple[float, bool]]
) -> list[Verdict]:
    """Judge every metric of a baseline that has a better direction; one that is gone does not pass.

    Without a tolerance nothing may be worse.
    """
    judged = {name: value for name, value in baseline.items() if name not in UNDIRECTED}
    verdicts = []
    for name, expected in judged.items():
        value, relative = tolerances.get(name, tolerances.get("*", (0.0, False)))
        slack = value * abs(expected) if relative else value
        limit = expected - slack if name in HIGHER_IS_BETTER else expected + slack
        metric = metrics.get(name)
        rounded = None if metric is None else _number(metric.value)
        verdicts.append(Verdict(name, expected, rounded, limit))
    return verdicts
