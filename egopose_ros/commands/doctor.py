"""`egopose doctor`: look at the installation and the graph, item by item, with the mend for what is wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from egopose_ros import installation
from egopose_ros.installation import Finding, Status

if TYPE_CHECKING:
    from egopose_ros.ros import health


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calibration", metavar="FILE", default="", help="check this calibration as well")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC", default=[], help="image topics that should be there")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to listen to each topic (default: 2)")
    parser.add_argument("--json", metavar="FILE", help="write the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; return 1 where something that is needed is wrong."""
    if not arguments.seconds > 0:
        raise ValueError(f"--seconds: expected a time above 0, got {arguments.seconds:g}")
    findings = []
    for finding in look(arguments):
        findings.append(finding)
        print(f"{finding.status.value:6}{finding.item:15}{finding.found}", flush=True)
        if finding.mend:
            print(f"{'':21}-> {finding.mend}", flush=True)
    wrong = sum(finding.status is Status.WRONG for finding in findings)
    print(f"{wrong} wrong" if wrong else "all is well")
    if arguments.json:
        items = [{**vars(finding), "status": finding.status.value} for finding in findings]
        Path(arguments.json).write_text(json.dumps({"healthy": not wrong, "items": items}, indent=2) + "\n")
    return 1 if wrong else 0


def look(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Yield the findings; what needs a thing that is missing is left out."""
    yield from installation.look(arguments.calibration)

    from egopose_ros.ros import health

    for check in (health.client_library, health.middleware, health.interfaces):
        finding = check()
        yield finding
        if finding.status is Status.WRONG:
            return
    yield health.shared_memory()
    yield from health.graph(arguments.topics, arguments.seconds, cameras(arguments.calibration))


def cameras(path: str) -> tuple[health.Camera, ...]:
    """Return the cameras of a calibration; none of one that cannot be read, of which `installation.look` tells."""
    from egopose_ros.ros import health

    try:
        from egopose_ros.camera import calibration  # with torch

        rig = calibration.load(path) if path else None
    except (ImportError, OSError, ValueError):
        return ()
    return tuple(health.Camera(camera.name, camera.model.size) for camera in rig.cameras) if rig else ()
