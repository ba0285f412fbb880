"""An evaluation as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import base64
import html
from typing import Any

import cv2

from egopose_ros.evaluation import figures
from egopose_ros.evaluation.report_data import Picture, Report
from egopose_ros.evaluation.runs import UNLIKE
from egopose_ros.evaluation.scores import BLOCK_S, CONFIDENCE, per_joint

_REGIONS = (
    "mpjpe_mm", "pa_mpjpe_mm", "root_mpjpe_mm", "upper_mm", "lower_mm", "trunk_mm", "wrist_mm", "foot_mm",
)  # fmt: skip
_SEEN = (
    "visible_mm", "occluded_mm", "in_view_mm", "out_of_view_mm", "unseen_mm", "lower_visible_mm", "lower_unseen_mm",
)  # fmt: skip
_UNITS = {
    "_mm": "mm", "_mm_s": "mm/s", "_m_s2": "m/s²", "_m_s3": "m/s³", "pck_150": "%", "auc": "%",
    "calibration_error": "%", "in_90_percent_region": "%",
}  # fmt: skip
_CSS = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1d2228; background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; border-top: 1px solid #e6e8eb; padding-top: 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } td, th { padding: .2rem .9rem .2rem 0; text-align: right; vertical-align: top }
td:first-child, th:first-child { text-align: left } tr + tr { border-top: 1px solid #eef0f2 } small, figcaption, .muted { color: #66707a; font-size: .82rem }
.warning { background: #fff3df; border-left: 4px solid #e08a00; padding: .5rem .8rem; margin: .8rem 0 }
.row { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0 } .tiles figure { width: calc(25% - .8rem); min-width: 12rem } .tiles img { width: 100% }
svg { max-width: 100%; height: auto }
"""


def render(report: Report) -> str:
    """Return the HTML."""
    comparisons = report.comparisons
    errors = [per_joint(comparison) for comparison in comparisons]
    parts = [
        _head(report),
        _section("Metrics", _metrics(report)),
        _section("Error over time", figures.error_over_time(comparisons)),
        _section("Joints", f'<div class="row">{"".join(map(figures.body, comparisons, errors))}{figures.joints(comparisons, errors)}</div>'),
        _section("Regions", figures.intervals(comparisons, report.metrics, _REGIONS)),
        _section("Seen and not seen", _seen(report)),
        _section("Uncertainty", figures.uncertainty(comparisons), "The dashed line is an uncertainty that is exactly right."),
        _section("Frames", _tiles(report.pictures), "Poses in colours by side, their truth in green."),
        _section("From above", figures.from_above(comparisons)),
        _section("Live against offline", _live(report)),
        _section("Time", figures.times(comparisons)),
        _section("Recordings", _recordings(report)),
    ]
    title = html.escape(", ".join(run["label"] for run in report.numbers["runs"]))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Evaluation of {title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_CSS}</style></head>\n<body>\n'
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def _head(report: Report) -> str:
    numbers = report.numbers
    frames = sum(bag["frames"] for bag in numbers["bags"])
    first = numbers["runs"][0]
    lines = [
        "<h1>Body pose evaluation</h1>",
        f'<p class="muted">{html.escape(first["network"])}, {frames} frames of {len(numbers["bags"])} recording(s), '
        f'protocol {html.escape(numbers["protocol"])}</p>',
    ]
    if not all(run["weights_trained"] for run in numbers["runs"]):
        lines.append('<p class="warning">Random weights: these poses mean nothing.</p>')
    lines += [
        f'<p class="warning">{html.escape(bag["bag"])}: {html.escape(bag["loss"])}</p>' for bag in numbers["bags"] if bag["loss"]
    ]
    return "\n".join(lines)


def _section(title: str, content: str, note: str = "") -> str:
    if not content:
        return ""
    small = f"<p><small>{html.escape(note)}</small></p>" if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{content}{small}</section>"


def _metrics(report: Report) -> str:
    runs = report.numbers["runs"]
    rows = ["<tr><th></th>" + "".join(f"<th>{html.escape(run['label'])}</th>" for run in runs) + "</tr>"]
    for name in dict.fromkeys(name for run in runs for name in run["metrics"]):
        cells = "".join(f"<td>{_cell(run['metrics'].get(name))}</td>" for run in runs)
        rows.append(f"<tr><td>{html.escape(_title(name))}</td>{cells}</tr>")
    if len(runs) > 1:
        cells = "".join(f"<td>{_cell(run.get('mpjpe_difference_mm'))}</td>" for run in runs)
        rows.append(f"<tr><td>MPJPE against the first, common frames [mm]</td>{cells}</tr>")
    for key, label in (("frames_with_truth", "frames with truth"), ("frames_dropped", "frames dropped")):
        rows.append(f"<tr><td>{label}</td>" + "".join(f"<td>{run[key]}</td>" for run in runs) + "</tr>")
    note = f"Intervals: {CONFIDENCE:.0%}, circular block bootstrap over frames, blocks of {BLOCK_S:g} s."
    return f"<table>{''.join(rows)}</table><p><small>{note}</small></p>"


def _title(name: str) -> str:
    """Return a metric's name for people: 'pa_mpjpe_mm' is 'PA-MPJPE [mm]'."""
    suffix = next((s for s in sorted(_UNITS, key=len, reverse=True) if name.endswith(s)), "")
    stem = name.removesuffix(suffix) if suffix.startswith("_") else name
    for text, shown in (("pa_mpjpe", "PA-MPJPE"), ("mpjpe", "MPJPE"), ("mpjve", "MPJVE"), ("pck", "PCK"), ("auc", "AUC")):
        stem = stem.replace(text, shown)
    return f"{stem.replace('_', ' ')} [{_UNITS[suffix]}]" if suffix else stem.replace("_", " ")


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None or entry["value"] is None:
        return "–"
    interval = f" <small>[{entry['low']:.1f}, {entry['high']:.1f}]</small>" if "low" in entry else ""
    return f"{entry['value']:.1f}{interval}"


def _seen(report: Report) -> str:
    if not any(name in metrics for metrics in report.metrics for name in _SEEN):
        return ""
    return figures.intervals(report.comparisons, report.metrics, _SEEN)


def _tiles(pictures: list[Picture]) -> str:
    groups = []
    for kind in dict.fromkeys(picture.kind for picture in pictures):
        tiles = "".join(_tile(picture) for picture in pictures if picture.kind == kind)
        groups.append(f'<h3>{kind}</h3><div class="row tiles">{tiles}</div>')
    return "".join(groups)


def _tile(picture: Picture) -> str:
    _, data = cv2.imencode(".jpg", picture.image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 80))
    source = base64.b64encode(data.tobytes()).decode()
    caption = html.escape(picture.caption)
    return f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{source}"><figcaption>{caption}</figcaption></figure>'


def _live(report: Report) -> str:
    rows = []
    for live in report.numbers["live"]:
        said = f"not compared: {live['not_compared']}." if live["not_compared"] else _agreement(live)
        rows.append(f"<p>{html.escape(live['predictions'])}: {html.escape(said)}</p>")
        if live["loss"]:
            rows.append(f'<p class="warning">{html.escape(live["predictions"])}: {html.escape(live["loss"])}</p>')
    return "".join(rows)


def _agreement(live: dict[str, Any]) -> str:
    dropped = ", ".join(f"{(stamp - live['start_ns']) / 1e9:.2f}" for stamp in live["dropped_ns"][:200])
    more = ", …" if len(live["dropped_ns"]) > 200 else ""
    unlike = f" {len(live['unlike_ns'])} frames are left out: each {UNLIKE}." if live["unlike_ns"] else ""
    return (
        f"{live['common']} frames in common with {live['compared_with']}; a joint is at most {live['largest_mm']} mm "
        f"from its offline place (median {live['median_mm']} mm).{unlike} {len(live['dropped_ns'])} frames have no live pose"
        + (f": at {dropped}{more} s of the recording." if dropped else ".")
    )


def _recordings(report: Report) -> str:
    rows = []
    for bag in report.numbers["bags"]:
        truth = bag["truth"]
        how = "estimated" if truth["offset_estimated"] else "given"
        rejected = ", ".join(f"{count} {reason}" for reason, count in bag["rejected"].items()) or "nothing"
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in bag["notes"])
        rows.append(
            f"<p><b>{html.escape(bag['bag'])}</b>: {bag['frames']} frames on {html.escape(', '.join(bag['topics']))}. "
            f"Ground truth: {html.escape(truth['source'])}, {truth['stamps']} stamps of {truth['skeleton']} in the "
            f"{truth['frame']} frame, its clock {truth['offset_s']:.3f} s ahead ({how}). Not used: {html.escape(rejected)}.</p>"
            f"<ul class='muted'>{notes}</ul>"
        )
    return "".join(rows)
