"""The results of an evaluation as one JSON object, and the gate that compares two of them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egopose_ros.evaluation.scores import HIGHER_IS_BETTER, UNDIRECTED, Metric

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


def gate(
    metrics: dict[str, Metric], baseline: dict[str, float], tolerances: dict[str, tuple[float, bool]]
) -> list[Verdict]:
    """Judge every metric of a baseline that has a better direction; one that is gone does not pass.

    Without a tolerance nothing may be worse. ValueError for a tolerance of a metric that the baseline lacks.
    """
    judged = {name: value for name, value in baseline.items() if name not in UNDIRECTED}
    unknown = [name for name in tolerances if name != "*" and name not in judged]
    if unknown:
        raise ValueError(f"--tolerance: expected metrics of the baseline, {', '.join(judged)}, got {', '.join(unknown)}")
    verdicts = []
    for name, expected in judged.items():
        value, relative = tolerances.get(name, tolerances.get("*", (0.0, False)))
        slack = value * abs(expected) if relative else value
        limit = expected - slack if name in HIGHER_IS_BETTER else expected + slack
        metric = metrics.get(name)
        rounded = None if metric is None else _number(metric.value)
        verdicts.append(Verdict(name, expected, rounded, limit))
    return verdicts
