"""Throughput of evaluating a bag against that of the bare network: `python benchmarks/evaluation.py --bag BAG`.

Both are timed in one run, so that other work on the machine slows both: the network's share of the time is what the
evaluation's throughput is of the bare network's. Exit status 1 below the target.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from egopose_ros.evaluation.runs import RunBuilder
from egopose_ros.pipeline import Pipeline
from egopose_ros.ros import bag_runs
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_poses import PoseBag
from egopose_ros.ros.bag_reader import BagReader

TARGET = 0.9


class _Stopwatch:
    """Stands before a network and adds up the time of its steps."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self.seconds = 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def step(self, *arguments: object) -> object:
        began = time.perf_counter()
        result = self._network.step(*arguments)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - began
        return result


def main() -> int:
    """Print the rates and the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bag", type=Path, help="bag to evaluate (default: the sample bag)")
    parser.add_argument("--checkpoint", default="", help="default: random weights, which take as long")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bag = arguments.bag
    if bag is None:
        from egopose_ros.synth.sample import sample_bag

        bag = sample_bag()
    overrides = {"network.checkpoint": arguments.checkpoint, "network.allow_untrained": True}
    with BagReader(bag) as reader, tempfile.TemporaryDirectory() as folder:
        config = bag_runs.settings(reader, (), overrides)
        frames = BagFrames(reader, config)
        pipeline: Pipeline = bag_runs.load(frames, config)
        watch = pipeline._network = _Stopwatch(pipeline._network)
        with PoseBag(Path(folder) / "warm") as poses:
            bag_runs.run(pipeline, frames, RunBuilder(), poses)
        watch.seconds, builder = 0.0, RunBuilder()
        began = time.perf_counter()
        with PoseBag(Path(folder) / "poses") as poses:
            bag_runs.run(pipeline, frames, builder, poses)
        seconds = time.perf_counter() - began
    count = len(builder.stamps_ns)
    share = watch.seconds / seconds
    numbers = {"frames": count, "evaluation_hz": count / seconds, "network_hz": count / watch.seconds, "share": share}
    print(
        f"{count} frames: evaluation {count / seconds:.1f} Hz, bare network {count / watch.seconds:.1f} Hz: "
        f"{share:.3f} (target {TARGET})"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")
    return 0 if share >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
