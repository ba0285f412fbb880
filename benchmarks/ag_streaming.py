"""What AG-EgoPose costs live: a step of the stream against a whole window anew, what a pose would cost without a state.

    python benchmarks/ag_streaming.py --json streaming.json

Steps and windows take turns in one run, so that a busy machine is slow for both. Beside the clock, the CPU time of the
process is given, which other work on the machine does not change much. Weights are random: they do not change the cost.
A window encodes its images in chunks, which takes less memory and no more time than all at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.config import RuntimeConfig, replace
from egopose_ros.flags import assignment
from egopose_ros.networks.ag_egopose import AgEgoPose, Evidence
from egopose_ros.networks.table import build
from egopose_ros.pipeline import place
from egopose_ros.training.recipes import load

TARGET = 50.0
"""a window at least so many times a step, at 64 frames"""
CHUNK = 8


def seconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the time of one call by the clock, and its CPU time."""
    clock, process = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - clock) / repeats, (time.process_time() - process) / repeats


def measure(network: AgEgoPose, rounds: int, steps: int) -> dict[str, float]:
    """Return medians over rounds of steps and one window."""
    device = network.decoder.queries.device
    images = torch.randint(0, 256, (1, network.window, 1, 3, *CANONICAL.size), dtype=torch.uint8, device=device)

    def window() -> torch.Tensor:
        parts = [network.look(chunk) for chunk in images.split(CHUNK, 1)]
        whole = {name: torch.cat([getattr(part, name) for part in parts], 1) for name in vars(parts[0])}
        return network.window_of(Evidence(**whole)).joints.cpu()

    state, _ = network.advance(network.init_state(1), network.look(images[:, :1]))
    state = dataclasses.replace(state, filled=torch.ones_like(state.filled))

    def step() -> torch.Tensor:
        return network.advance(state, network.look(images[:, :1]))[1].joints.cpu()

    for _ in range(3):
        step()
    rows = [(*seconds(step, steps), *seconds(window, 1)) for _ in range(rounds)]
    step_s, step_cpu_s, window_s, window_cpu_s = (statistics.median(column) for column in zip(*rows))
    return {
        "step_ms": 1e3 * step_s, "step_cpu_ms": 1e3 * step_cpu_s, "window_ms": 1e3 * window_s,
        "window_cpu_ms": 1e3 * window_cpu_s,
        "ratio": statistics.median(row[2] / row[0] for row in rows),
        "ratio_cpu": statistics.median(row[3] / row[1] for row in rows),
    }  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "configs", nargs="*", type=Path, default=[Path(f"config/training/ag_egopose{x}.yaml") for x in ("", "_cpu")],
        help="training configurations whose networks are measured (default: both that ship)",
    )  # fmt: skip
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of every network")
    parser.add_argument("--threads", type=int, default=1, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="steps of a turn (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as one JSON object")
    arguments = parser.parse_args()
    runtime = replace(RuntimeConfig(), {"threads": arguments.threads})
    overrides, rows = dict(map(assignment, arguments.set)), []
    for path in arguments.configs:
        network = build("ag_egopose", load(path)[1] | overrides).eval()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        device, _ = place(network, runtime)
        with torch.inference_mode():
            numbers = measure(network, arguments.rounds, arguments.steps)
        rows.append({"config": path.stem, "parameters": parameters, "window": network.window, **numbers})
        print(
            f"{path.stem}: {parameters / 1e6:.1f} M parameters, {arguments.threads} thread(s), {device}: "
            f"step {numbers['step_ms']:.1f} ms ({numbers['step_cpu_ms']:.1f} ms CPU), window of {network.window} "
            f"frames {numbers['window_ms']:.0f} ms ({numbers['window_cpu_ms']:.0f} ms CPU), "
            f"ratio {numbers['ratio']:.1f} ({numbers['ratio_cpu']:.1f} by CPU time)",
            flush=True,
        )
    print(f"target: {TARGET:g} with a window of 64 frames")
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": arguments.threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
