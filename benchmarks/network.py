"""Frames a second of `Pipeline.step` on this machine: networks, backbones and views, streaming and all anew.

    python benchmarks/network.py --json network.json

Weights are random: they do not change the cost. Variants take turns, so that a machine that is busy for a while is slow
for all of them; a time is the median of its turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.config import Config, WindowConfig, replace
from egopose_ros.networks.table import build, most_views
from egopose_ros.pipeline import Pipeline, place
from egopose_ros.structs import Frame

_SQUARE = {"crop_left": 32, "crop_top": 48, "crop_side": 192}
NETWORKS = {
    "mobilenetv4_s": ("egoposeformer_v2", {"backbone": "mobilenetv4_s"}),
    "mobilenetv4_s 192": ("egoposeformer_v2", {"backbone": "mobilenetv4_s", **_SQUARE}),
    "lite0 192 (shipped)": ("egoposeformer_v2", {"backbone": "efficientnet_lite0", **_SQUARE}),
    "resnet18": ("egoposeformer_v2", {"backbone": "resnet18"}),
    "ag_egopose": ("ag_egopose", {}),
}
"""name of a row -> network and its settings"""
PERIOD_NS = 33_333_333


class Stream:
    """A pipeline that is fed noise."""

    def __init__(self, name: str, views: int, precision: str, threads: int):
        cameras = (RigCamera(f"camera{view}", CANONICAL) for view in range(views))
        settings = replace(Config(), {"runtime.precision": precision, "runtime.threads": threads})
        kind, model = NETWORKS[name]
        network = build(kind, {**model, "views": views}).eval()
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        device, warnings = place(network, settings.runtime)
        self.pipeline = Pipeline(
            network, kind, Rig(tuple(cameras)), settings, checkpoint="", device=device, warnings=warnings
        )  # fmt: skip
        rng = np.random.default_rng(0)
        self.images = [
            tuple(rng.integers(0, 256, (*CANONICAL.size, 3), np.uint8) for _ in range(views)) for _ in range(8)
        ]
        self.state = self.pipeline.init_state()
        self.count = 0

    def step(self) -> None:
        """Take one frame."""
        self.count += 1
        frame = Frame(self.count * PERIOD_NS, self.images[self.count % len(self.images)])
        self.state, _ = self.pipeline.step(self.state, frame)

    def window(self) -> None:
        """Take as many frames as may wait (`window.max_pending`) together, from nothing: a part of a window anew."""
        state = self.pipeline.init_state()
        frames = WindowConfig().max_pending
        for index in range(frames):
            frame = Frame((index + 1) * PERIOD_NS, self.images[index % len(self.images)])
            if index == frames - 1:
                self.pipeline.step(state, frame)
            else:
                state = self.pipeline.observe(state, frame)


def seconds(call, repeats: int) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each variant (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as one JSON object")
    arguments = parser.parse_args()
    streams = {
        (name, views, precision): Stream(name, views, precision, arguments.threads)
        for name, (kind, _) in NETWORKS.items()
        for views in (1, 2)
        for precision in ("fp32", "bf16")
        if views <= most_views(kind)
    }
    times: dict[tuple, list[float]] = {key: [] for key in streams}
    windows: dict[tuple, list[float]] = {key: [] for key in streams}
    old: dict[tuple, list[float]] = {key: [] for key in streams}
    for stream in streams.values():
        for _ in range(20):
            stream.step()
    for _ in range(arguments.rounds):
        for key, stream in streams.items():
            times[key].append(seconds(stream.step, 15))
        for key, stream in streams.items():
            if key[0] != "ag_egopose":  # benchmarks/ag_streaming.py has that one, which takes long
                windows[key].append(seconds(stream.window, 1))
    for stream in streams.values():
        while stream.count < (1000 if stream.pipeline.network_name != "ag_egopose" else 150):
            stream.step()
    for _ in range(arguments.rounds):
        for key, stream in streams.items():
            old[key].append(seconds(stream.step, 15))

    base = statistics.median(times["mobilenetv4_s", 1, "fp32"])
    rows = []
    for key, stream in streams.items():
        step = statistics.median(times[key])
        rows.append(
            {
                "network": key[0], "views": key[1], "precision": key[2], "parameters": stream.parameters,
                "ms": 1e3 * step, "frames_per_s": 1 / step, "ratio": step / base,
                "pending_ms": 1e3 * statistics.median(windows[key]) if windows[key] else None,
                "ms_later": 1e3 * statistics.median(old[key]),
            }
        )  # fmt: skip
    print(f"{arguments.threads} thread(s), torch {torch.__version__}, device {stream.pipeline.device}")
    print("network              views  type  params   ms/frame  frames/s  ratio  8 frames anew  after 1000 frames (AG: 150)")
    for row in rows:
        anew = "-" if row["pending_ms"] is None else f"{row['pending_ms']:.0f} ms"
        print(
            f"{row['network']:20s} {row['views']:5d}  {row['precision']}  {row['parameters'] / 1e6:5.1f}M  {row['ms']:8.1f}"
            f"  {row['frames_per_s']:8.1f}  {row['ratio']:5.2f}  {anew:>11s}  {row['ms_later']:11.1f} ms"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": arguments.threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
