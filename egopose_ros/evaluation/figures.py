"""The pictures of a report, as SVG text; the same numbers give the same text."""

from __future__ import annotations

import io
import itertools
from typing import Callable, Iterator, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from egopose_ros.evaluation.motion import Joints, columns, speeds
from egopose_ros.evaluation.rows import gathered, slices
from egopose_ros.evaluation.runs import Run
from egopose_ros.evaluation.scores import CONTACT_M_S, Comparison, Metric, feet_of
from egopose_ros.evaluation.uncertainty import calibration
from egopose_ros.skeleton import skeleton

COLOURS = ("#0a6ebe", "#ec6214", "#2a9d4b", "#8b4fc0", "#b08a00", "#c2255c")
"""of the runs, in order"""
_TRUTH = "#46505a"
_POINTS = 1200
"""of a curve over time: each is the largest of the frames it stands for"""
_SCATTER = 5000
"""frames, evenly taken, that pictures of a distribution are made of"""
_LEVELS = tuple(np.round(np.linspace(0.05, 0.95, 19), 2).tolist())
_STYLE = {
    "svg.hashsalt": "egopose", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e8eb",
    "axes.axisbelow": True, "legend.frameon": False,
}  # fmt: skip

_LAYOUT = {
    "head": (0.0, 1.66), "neck": (0.0, 1.47), "spine3": (0.0, 1.31), "spine2": (0.0, 1.19), "spine1": (0.0, 1.07),
    "pelvis": (0.0, 0.95), "camera": (0.12, 1.72), "collar": (0.09, 1.42), "shoulder": (0.2, 1.42),
    "elbow": (0.34, 1.17), "wrist": (0.46, 0.94), "finger": (0.52, 0.8), "hip": (0.11, 0.88), "knee": (0.14, 0.5),
    "foot_twist": (0.15, 0.16), "ankle": (0.15, 0.1), "talocrural": (0.15, 0.1), "subtalar": (0.16, 0.05),
    "transversetarsal": (0.2, 0.02), "foot": (0.24, 0.02),
}  # fmt: skip
"""joint without its side -> where it is on the drawn body, which faces the reader: its left is on the right"""


def _colours() -> Iterator[str]:
    return itertools.cycle(COLOURS)


def error_over_time(comparisons: Sequence[Comparison]) -> str:
    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        for comparison, colour in zip(comparisons, _colours()):
            seconds, errors = _clock(comparison), comparison.frame_errors * 1000.0
            breaks = np.flatnonzero(np.diff(comparison.run.segment)) + 1  # frames on both sides are not joined by a line
            curve = _thinned(np.insert(seconds, breaks, seconds[breaks]), np.insert(errors, breaks, np.nan))
            axes.plot(*curve, color=colour, lw=1, label=comparison.run.label)
        axes.set(xlabel="time [s]", ylabel="MPJPE of the frame [mm]", ylim=(0, None))
        axes.legend()

    return _svg(plot, (9.0, 2.6))


def body(comparison: Comparison, per_joint_mm: dict[str, float]) -> str:
    """Draw the skeleton with each joint in the colour and size of its error."""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.margins(0.12, 0.05)
        skeleton_ = skeleton(comparison.skeleton)
        places = np.array([_place(joint) for joint in skeleton_.joints])
        for parent, child in skeleton_.bones:
            axes.plot(*places[[parent, child]].T, color="#c8ccd2", lw=3, zorder=1, solid_capstyle="round")
        errors = np.array([per_joint_mm.get(joint, np.nan) for joint in skeleton_.joints])
        known = np.isfinite(errors)
        dots = axes.scatter(
            *places[known].T, c=errors[known], s=40 + 1.2 * np.clip(errors[known], 0, 400), cmap="YlOrRd",
            vmin=0, edgecolors="#333", linewidths=0.6, zorder=2,
        )  # fmt: skip
        for (x, y), error in zip(places[known], errors[known]):
            axes.annotate(f"{error:.0f}", (x, y), (9, 0), textcoords="offset points", fontsize=7, va="center", zorder=3)
        figure.colorbar(dots, ax=axes, shrink=0.6, label="mean error [mm]")
        axes.set_title(comparison.run.label, fontsize=9)

    return _svg(plot, (4.2, 4.6))


def joints(comparisons: Sequence[Comparison], per_joint: Sequence[dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for errors in per_joint for name in errors))

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        width = 0.8 / len(comparisons)
        for index, (comparison, errors, colour) in enumerate(zip(comparisons, per_joint, _colours())):
            rows = np.arange(len(names)) + (index - (len(comparisons) - 1) / 2) * width
            axes.barh(rows, [errors.get(n, np.nan) for n in names], width, color=colour, label=comparison.run.label)
        axes.set_yticks(np.arange(len(names)), [name.replace("_", " ") for name in names], fontsize=7)
        axes.invert_yaxis()
        axes.set(xlabel="mean error [mm]")
        axes.grid(axis="y", visible=False)
        axes.legend()

    return _svg(plot, (4.6, 4.6))


def intervals(comparisons: Sequence[Comparison], metrics: Sequence[dict[str, Metric]], names: Sequence[str]) -> str:
    """Draw some metrics [mm] with their intervals, side by side."""
    shown = [name for name in names if any(name in m for m in metrics)]

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        width = 0.8 / len(comparisons)
        for index, (comparison, found, colour) in enumerate(zip(comparisons, metrics, _colours())):
            at = np.arange(len(shown)) + (index - (len(comparisons) - 1) / 2) * width
            picked = [found.get(name, Metric(float("nan"))) for name in shown]
            values = np.array([m.value for m in picked])
            spread = np.nan_to_num([[m.value - m.low for m in picked], [m.high - m.value for m in picked]])
            axes.bar(at, values, width, color=colour, label=comparison.run.label)
            known = spread.any(0)
            axes.errorbar(at[known], values[known], np.maximum(spread[:, known], 0), fmt="none", ecolor="#222", capsize=2)
        axes.set_xticks(np.arange(len(shown)), [name.removesuffix("_mm").replace("_", " ") for name in shown], fontsize=8)
        axes.set(ylabel="error [mm]", xlim=(-0.6, max(len(shown), 4) - 0.4))
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return _svg(plot, (9.0, 2.6))


def uncertainty(comparisons: Sequence[Comparison]) -> str:
    """Draw expected against observed coverage, and the error against the predicted standard deviation; '' for none."""
    some = [comparison.part(slice(None, None, -(-comparison.run.size // _SCATTER))) for comparison in comparisons]
    told = [(c, colour, said) for c, colour in zip(some, _colours()) if (said := c.covariance) is not None]
    if not told:
        return ""

    def plot(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=_TRUTH, lw=0.8, ls="--")
        for comparison, colour, covariance in told:
            error = comparison.predicted - comparison.truth
            measured = calibration(error, covariance, comparison.run.degrees_of_freedom, _LEVELS)
            left.plot(measured.levels, measured.observed, color=colour, marker=".", label=comparison.run.label)
            sigma = np.sqrt(np.trace(covariance, axis1=-2, axis2=-1)) * 1000.0
            right.plot(*_binned(sigma, comparison.errors * 1000.0), color=colour, marker=".")
        limit = max(right.get_xlim()[1], 1.0)
        right.plot([0, limit], [0, limit], color=_TRUTH, lw=0.8, ls="--")
        left.set(xlabel="expected share inside the region", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
        right.set(xlabel="predicted standard deviation [mm]", ylabel="error, root mean square [mm]", xlim=(0, None), ylim=(0, None))
        left.legend()

    return _svg(plot, (9.0, 3.2))


def times(comparisons: Sequence[Comparison]) -> str:
    """Draw histograms of what a frame took and of the age of recorded poses; '' for none."""
    parts = [
        (title, [(c, s[np.isfinite(s)] * 1000.0, colour) for c, colour in zip(comparisons, _colours()) if np.isfinite(s := get(c)).any()])
        for title, get in (
            ("time of the pipeline, shared by frames that went through together [ms]", lambda c: c.run.step_s),
            ("age of a recorded pose [ms]", lambda c: c.run.age_s),
        )
    ]
    parts = [(title, entries) for title, entries in parts if entries]
    if not parts:
        return ""

    def plot(figure: Figure) -> None:
        for axes, (title, entries) in zip(np.atleast_1d(figure.subplots(1, len(parts))), parts):
            limit = max(float(np.percentile(values, 99.5)) for _, values, _ in entries) * 1.1
            for comparison, values, colour in entries:
                axes.hist(np.clip(values, 0, limit), 50, range=(0, limit), color=colour, alpha=0.6, label=comparison.run.label)
            axes.set(xlabel=title, ylabel="frames")
            axes.legend()

    return _svg(plot, (9.0, 2.4))


def from_above(comparisons: Sequence[Comparison]) -> str:
    """Draw the head's path and where feet stand, by the poses and by the truth; '' without a head pose."""
    placed = [(c, colour) for c, colour in zip(comparisons, _colours()) if c.in_world]
    if not placed:
        return ""

    def plot(figure: Figure) -> None:
        axes = figure.subplots()
        first = placed[0][0]
        axes.plot(*_path(first.run).T, color=_TRUTH, lw=1.2, label="head camera")
        axes.plot(*_standing(first, first.placed[1]).T, "x", color=_TRUTH, ms=5, label="feet that stand, truth")
        for comparison, colour in placed:
            feet = _standing(comparison, comparison.placed[0])
            axes.plot(*feet.T, "o", color=colour, ms=3.5, alpha=0.5, mew=0, label=f"the same, {comparison.run.label}")
        axes.set_aspect("equal", "datalim")
        axes.set(xlabel="x [m]", ylabel="y [m]")
        axes.legend(fontsize=7)

    return _svg(plot, (5.6, 4.4))


def _standing(comparison: Comparison, joints_world: Joints) -> np.ndarray:
    """Return where feet are (N, 2) in the frames in which they stand by the truth."""
    feet = feet_of(comparison.skeleton)
    truth, own = (columns(joints, feet) for joints in (comparison.placed[1], joints_world))
    still = speeds(truth, comparison.run.rate_hz) < CONTACT_M_S
    points = gathered(own[rows][still[rows]][:, :2] for rows in slices(len(truth)))
    return _every(points[np.isfinite(points).all(-1)])


def _path(run: Run) -> np.ndarray:
    """Return where the camera was (N, 2), with a gap where two places are not neighbours in time."""
    points, segment = _every(run.T_world_camera[:, :2, 3]).copy(), _every(run.segment)
    points[1:][np.diff(segment) != 0] = np.nan
    return points


def _every(points: np.ndarray) -> np.ndarray:
    """Return so many of (N, ...) as can be told apart."""
    return points[:: max(1, len(points) // _POINTS)]


def _clock(comparison: Comparison) -> np.ndarray:
    """Return seconds of the frames, recordings one after the other."""
    steps = np.diff(comparison.run.stamps_ns) / 1e9
    steps = np.where(np.diff(comparison.run.segment) == 0, steps, 1.0)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the largest of each stretch of frames."""
    size = -(-len(x) // _POINTS)
    if size == 1:
        return x, y
    padded = np.pad(y, (0, -len(y) % size), constant_values=np.nan).reshape(-1, size)
    return x[::size], np.where(np.isfinite(padded).any(1), np.nanmax(np.nan_to_num(padded, nan=-1.0), 1), np.nan)


def _binned(x: np.ndarray, y: np.ndarray, bins: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return the root mean square of both in bins of equal count."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    parts = np.array_split(np.argsort(x, kind="stable"), min(bins, max(1, len(x))))
    return tuple(np.array([np.sqrt(np.mean(values[part] ** 2)) for part in parts if len(part)]) for values in (x, y))


def _place(joint: str) -> tuple[float, float]:
    side, _, bare = joint.partition("_")
    if side not in ("left", "right"):
        return _LAYOUT.get(joint, (0.0, 0.0))
    x, y = _LAYOUT.get(bare, (0.3, 0.0))
    return (x, y) if side == "left" else (-x, y)


def _svg(plot: Callable[[Figure], None], size: tuple[float, float]) -> str:
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        plot(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
