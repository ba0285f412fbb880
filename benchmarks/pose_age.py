"""Age of the poses where the network is slower than the camera, and whether every frame still enters the window.

`python benchmarks/pose_age.py [--inference-ms 100] [--seconds 20]`. The age runs from the arrival of the newest image
to the publication of its pose, on the steady clock.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import live_graph
from live_graph import Bench, Camera

RATE_HZ = 30.0
WIDTH, HEIGHT = 1280, 1024
RIG = Path(__file__).resolve().parents[1] / "config" / "cameras" / "cap_equidistant.yaml"
TARGET = 1.5
"""of the inference time, for the age's p95"""


def main() -> int:
    parser = live_graph.parser(__doc__)
    parser.add_argument("--inference-ms", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--encoding", default="mono8", choices=live_graph.CHANNELS)
    arguments = parser.parse_args()
    live_graph.isolate()
    bench = Bench()
    try:
        with tempfile.TemporaryDirectory(prefix="egopose_") as folder:
            report = Path(folder) / "report.json"
            camera = Camera(bench, WIDTH, HEIGHT, arguments.encoding)
            with live_graph.estimator(RIG, report, arguments.inference_ms) as under_test:
                camera.warm_up(under_test)
                camera.run(round(arguments.seconds * RATE_HZ), RATE_HZ)
            entered = set(json.loads(report.read_text())["entered_ns"])
    finally:
        bench.close()
    age = live_graph.percentiles_ms(bench.ages_s)
    missing = len(set(camera.published) - entered)
    row = {
        "input Hz": RATE_HZ,
        "inference ms": arguments.inference_ms,
        "load": round(os.getloadavg()[0], 1),
        **{f"age {name}": value for name, value in age.items()},
        "p95 / inference": round(age["p95"] / arguments.inference_ms, 2),
        "poses": len(bench.received),
        "frames": len(camera.published),
        "in the window": len(camera.published) - missing,
    }
    live_graph.report([row], arguments.json)
    return int(row["p95 / inference"] > TARGET or missing > 0)


if __name__ == "__main__":
    sys.exit(main())
