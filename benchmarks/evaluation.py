"""Throughput of evaluating a bag against that of the bare network: `python benchmarks/evaluation.py --bag BAG`.

All go over the same frames in turns, several times in one run, so that other work on the machine slows all; the median
of the ratios counts. Evaluation reads, decodes, remaps, infers some frames together, and writes the poses to a bag. The
bare network gets its inputs ready made, one by one as in a stream, and in the groups of the evaluation. Exit status 1
below the target.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

import torch

from egopose_ros.config import DEFAULT_NETWORK
from egopose_ros.evaluation.runs import RunBuilder
from egopose_ros.networks.interface import NetworkInput
from egopose_ros.networks.table import NETWORKS
from egopose_ros.pipeline import Pipeline
from egopose_ros.ros import bag_runs
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_poses import PoseBag
from egopose_ros.ros.bag_reader import BagReader

TARGET = 0.9


class _Recorder:
    """Stands before a network and keeps what it is given."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self.inputs: list[NetworkInput] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def step(self, state: object, clip: NetworkInput) -> object:
        self.inputs.append(clip)
        return self._network.step(state, clip)


@torch.inference_mode()
def bare(network: torch.nn.Module, inputs: list[NetworkInput]) -> None:
    """Run a network over prepared inputs, each result awaited as the evaluation does."""
    state = network.init_state(1)
    for clip in inputs:
        state, prediction = network.step(state, clip)
        prediction.joints.cpu()


def seconds_of(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> int:
    """Print the rates and the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bag", type=Path, help="bag to evaluate (default: the sample bag)")
    parser.add_argument("--network", default=DEFAULT_NETWORK, choices=tuple(NETWORKS), help="default %(default)s")
    parser.add_argument("--checkpoint", default="", help="default: the weights that ship")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn (default 5)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bag = arguments.bag
    if bag is None:
        from egopose_ros.synth.sample import sample_bag

        bag = sample_bag()
    overrides = {"network.name": arguments.network, "network.checkpoint": arguments.checkpoint}
    overrides["network.allow_untrained"] = True
    with BagReader(bag) as reader, tempfile.TemporaryDirectory() as folder:
        config = bag_runs.settings(reader, (), overrides)
        frames = BagFrames(reader, config)
        pipeline: Pipeline = bag_runs.load(frames, config)
        network = pipeline._network
        recorder = pipeline._network = _Recorder(network)

        def evaluate(together: int = bag_runs.TOGETHER) -> None:
            with PoseBag(Path(folder) / "poses") as poses:
                bag_runs.run(pipeline, frames, RunBuilder(), poses, together=together)

        evaluate()  # warm, too
        groups, recorder.inputs = recorder.inputs, []
        evaluate(1)
        pipeline._network, singles = network, recorder.inputs
        actions = (lambda: bare(network, singles), lambda: bare(network, groups), evaluate, lambda: evaluate(1))
        turns = [[seconds_of(action) for action in actions] for _ in range(arguments.rounds)]
    names = ("network", "network_in_groups", "evaluation", "evaluation_of_single_frames")
    numbers = {f"{name}_hz": len(singles) / statistics.median(all_) for name, all_ in zip(names, zip(*turns))}
    shares = {
        "share": statistics.median(alone / whole for alone, _, whole, _ in turns),
        "share_of_groups": statistics.median(alone / whole for _, alone, whole, _ in turns),
        "share_of_single_frames": statistics.median(alone / whole for alone, _, _, whole in turns),
    }
    print(f"{len(singles)} frames, {arguments.rounds} rounds, {bag_runs.TOGETHER} frames together")
    for name, value in numbers.items():
        print(f"{name.replace('_hz', '').replace('_', ' '):>30} {value:7.1f} Hz")
    print(f"evaluation / network {shares['share']:.3f} (target {TARGET}); both in groups {shares['share_of_groups']:.3f}; ", end="")
    print(f"both frame by frame {shares['share_of_single_frames']:.3f}")
    numbers |= shares | {"frames": len(singles), "together": bag_runs.TOGETHER}
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")
    return 0 if shares["share"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
