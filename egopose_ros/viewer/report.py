"""The monitor's numbers as text for the terminal and as HTML for the page."""

from __future__ import annotations

import html
import math

from egopose_ros.viewer.monitor import Status

QUIET_S = 1.5
"""Without a pose for this long the stream is said to have stopped."""

UNTRAINED = "untrained weights: these poses are random numbers"


def rows(status: Status) -> list[tuple[str, str]]:
    """Return label and value of each line of the table."""
    p50, p95, p99 = (_number(value, ".1f") for value in status.latency_ms)
    frames, full = status.window
    untrained = bool(status.network) and not status.weights_trained
    lines = [
        ("network", (status.network or "–") + (" (untrained)" if untrained else "")),
        ("state", _state(status)),
        ("input", f"{status.input_hz:.1f} Hz, {status.frames_in} frames"),
        ("output", f"{status.output_hz:.1f} Hz, {status.poses_out} poses"),
        ("latency", f"p50 {p50}   p95 {p95}   p99 {p99} ms"),
        ("dropped", f"{status.frames_dropped} frames"),
        ("window", f"{frames} frames{'' if full else ', filling'}"),
    ]
    if not math.isnan(status.mpjpe_mm):
        lines.append(("error", f"MPJPE {status.mpjpe_mm:.0f} mm   aligned {status.pa_mpjpe_mm:.0f} mm"))
    return lines


def _state(status: Status) -> str:
    if math.isinf(status.quiet_s):
        return "waiting for the first pose"
    if status.quiet_s > QUIET_S:
        return f"no pose for {status.quiet_s:.0f} s"
    return status.tracking_state.name.lower()


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def line(status: Status) -> str:
    """Return the table in one line, for a log."""
    return "  ".join(f"{label}: {' '.join(value.split())}" for label, value in rows(status))


def table(status: Status) -> str:
    """Return the table as HTML."""
    cells = "".join(
        f"<tr><td style='opacity:.6;padding:1px 14px 1px 0'>{html.escape(label)}</td>"
        f"<td style='white-space:pre'>{html.escape(value)}</td></tr>"
        for label, value in rows(status)
    )
    warning = "" if status.weights_trained or not status.network else problem(UNTRAINED)
    body = f"<table style='font-size:13px;font-variant-numeric:tabular-nums;line-height:1.5'>{cells}</table>"
    return f"<div style='padding:2px 12px'>{warning}{body}{''.join(map(problem, status.problems))}</div>"


def problem(text: str) -> str:
    """Return a warning as HTML."""
    style = "background:#8a2d21;color:#fff;border-radius:4px;padding:4px 8px;margin:4px 0;font-size:13px"
    return f"<div style='{style}'>{html.escape(text)}</div>"
