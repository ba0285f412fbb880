"""Memory, threads and file handles over many lifecycle cycles and over an hour of video, run as fast as it goes.

`python benchmarks/soak.py [--cycles 1000] [--hours 1]`. A cycle configures the real network (random weights where none
ship), activates, takes a frame, deactivates and cleans up, through the services that lifecycle managers use. The hour has
the stamps of 30 Hz; a frame is published when the pose of the one before has come.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import live_graph
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from live_graph import Bench, Camera, Child

SIZE = 256
RATE_HZ = 30.0
SAMPLES = 100
RIG = f"""
egopose_rig: 1
cameras:
- {{name: down, model: kannala_brandt, size: [{SIZE}, {SIZE}], centre: [127.5, 127.5], focal: [73.3, 73.3],
   k: [0.0, 0.0, 0.0, 0.0], field_of_view_deg: 200.0}}
"""
GROWTH = 0.02
"""Of the memory, from the middle of a run to its end, that still counts as flat: a leak grows there as anywhere, while
what is allocated once, whenever that is, has mostly been so by then."""


def main() -> int:
    parser = live_graph.parser(__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=1.0, help="of video at 30 Hz")
    arguments = parser.parse_args()
    live_graph.isolate()
    bench = Bench()
    rows = []
    try:
        with tempfile.TemporaryDirectory(prefix="egopose_") as folder:
            rig = Path(folder) / "rig.yaml"
            rig.write_text(RIG)
            if arguments.cycles:
                rows.append(soak_lifecycle(bench, rig, arguments.cycles))
            if arguments.hours:
                rows.append(soak_stream(bench, rig, round(arguments.hours * 3600 * RATE_HZ)))
    finally:
        bench.close()
    live_graph.report(rows, arguments.json)
    return int(not all(row["flat"] for row in rows))


def soak_lifecycle(bench: Bench, rig: Path, cycles: int) -> dict[str, Any]:
    settings = {"autostart": "false", "camera.calibration": str(rig), "network.allow_untrained": "true"}
    rules = [argument for name, value in settings.items() for argument in ("-p", f"{name}:={value}")]
    camera = Camera(bench, SIZE, SIZE, "mono8")
    client = bench.node.create_client(ChangeState, "/estimator/change_state")

    def change(transition: int) -> None:
        request = ChangeState.Request()
        request.transition.id = transition
        future = client.call_async(request)
        bench.spin_while(lambda: not future.done())
        if not future.result().success:
            raise RuntimeError(f"lifecycle transition {transition} failed; the estimator's log says why")

    def cycle(number: int) -> None:
        change(Transition.TRANSITION_CONFIGURE)
        change(Transition.TRANSITION_ACTIVATE)
        bench.forget()
        while not bench.received:
            camera.publish(time.time_ns())
            bench.spin(time.monotonic() + 0.05)
            camera.published.clear()
        change(Transition.TRANSITION_DEACTIVATE)
        change(Transition.TRANSITION_CLEANUP)

    with Child("-m", "egopose_ros.ros.estimator", "--ros-args", *rules, "--log-level", "error") as under_test:
        bench.spin_while(lambda: not client.service_is_ready())
        row = soak("lifecycle cycles", under_test, cycle, cycles)
    camera.close()
    return row


def soak_stream(bench: Bench, rig: Path, frames: int) -> dict[str, Any]:
    camera = Camera(bench, SIZE, SIZE, "mono8")
    start_ns = 0
    lost = 0

    def frame(number: int) -> None:
        nonlocal lost
        stamp_ns = start_ns + round(number / RATE_HZ * 1e9)
        bench.forget()
        camera.published.clear()
        camera.publish(stamp_ns)
        try:
            bench.spin_while(lambda: stamp_ns not in bench.received, 5.0)
        except TimeoutError:
            lost += 1

    with live_graph.estimator(rig) as under_test:
        camera.warm_up(under_test)
        # Follows on the warm-up's stamps: a jump would be judged first.
        start_ns = time.time_ns()
        row = soak(f"frames ({frames / RATE_HZ / 3600:g} h)", under_test, frame, frames)
    camera.close()
    return {**row, "lost": lost}


def soak(name: str, under_test: Child, step: Callable[[int], None], count: int) -> dict[str, Any]:
    """Take the steps, sampling the process; end it; compare the middle of the run with its end."""
    usage = []
    began = time.monotonic()
    for number in range(count):
        step(number)
        if number % max(1, count // SAMPLES) == 0:
            usage.append(under_test.usage())
    seconds = time.monotonic() - began
    status = under_test.stop()
    tenth = max(1, len(usage) // 10)
    middle = len(usage) // 2
    periods = {"start": usage[:tenth], "middle": usage[middle : middle + tenth], "end": usage[-tenth:]}
    row: dict[str, Any] = {"run": name, "count": count, "seconds": round(seconds)}
    flat = status == 0
    for key, growth in (("memory_mb", GROWTH), ("threads", 0.0), ("handles", 0.0)):
        values = {period: statistics.median(sample[key] for sample in samples) for period, samples in periods.items()}
        row |= {f"{key} {period}": round(value, 1) for period, value in values.items()}
        flat = flat and values["end"] <= values["middle"] * (1 + growth)
    return {**row, "exit status": status, "flat": flat, "lost": 0}


if __name__ == "__main__":
    sys.exit(main())
