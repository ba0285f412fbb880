"""Time of resampling 1280x1024 images into the canonical camera: `python benchmarks/remap.py [--device cuda]`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import torch

from egopose_ros.camera import calibration
from egopose_ros.camera.remap import Remapper

RIG = Path(__file__).resolve().parents[1] / "config" / "cameras" / "scene_ego.yaml"


def main() -> None:
    """Print milliseconds a frame, the median of many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="of the batched path")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    model = calibration.load(RIG).cameras[0].model
    width, height = model.size
    colour = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    mono = np.ascontiguousarray(colour[..., 0])
    batch = torch.from_numpy(colour).permute(2, 0, 1).repeat(arguments.batch, 1, 1, 1).to(arguments.device)
    for block in (None, 1):
        remapper = Remapper(model, block=block)
        print(f"averaging blocks of {remapper.block}x{remapper.block} px")
        for name, image in (("mono", mono), ("colour", colour)):
            print(f"  OpenCV {name}: {median_ms(lambda: remapper.numpy(image), arguments.repeats):.2f} ms a frame")
        per_batch = median_ms(lambda: synchronised(remapper, batch), max(3, arguments.repeats // 5))
        print(f"  torch colour, {arguments.batch} on {arguments.device}: {per_batch / arguments.batch:.2f} ms a frame")


def synchronised(remapper: Remapper, batch: torch.Tensor) -> None:
    """Remap and wait until the device is done."""
    remapper.torch(batch)
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)


def median_ms(function: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


if __name__ == "__main__":
    main()
