"""How fast the synthetic world renders, and where the time goes.

    OMP_NUM_THREADS=1 python benchmarks/renderer.py --processes 2

A process renders whole recordings, one after another, motion, bodies, rooms and sensor included; several processes
share nothing. `--json FILE` writes the numbers.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import multiprocessing
import os
import platform
import pstats
import time

STAGES = (
    ("motion", "library.py", "draw_motion"),
    ("placement on the body", "placement.py", "place"),
    ("room, clothes", "world.py", "_build_stage"),
    ("skinning", "world.py", "_pose"),
    ("shadow map of the room", "render.py", "_render_room_shadow"),
    ("visibility of the body", "render.py", "_body_surface"),
    ("rasteriser, eye and light", "raster.py", "rasterise"),
    ("visibility of the room", "render.py", "_room_surfaces"),
    ("light and shadow", "render.py", "_shade"),
    ("flow", "render.py", "_flow"),
    ("sensor", "sensor.py", "expose"),
    ("visibility of joints", "truth.py", "joint_visibility"),
)
"""label, file, function; a stage counts what runs inside it too"""


def _render(task: tuple[int, int, int, int, str]) -> tuple[float, float]:
    """Render recordings first..last and return (wall, CPU) seconds."""
    import torch

    from egopose_ros.synth.world import record

    first, last, frames, views, device = task
    if device == "cpu":
        torch.set_num_threads(1)
    record(first, "train", frames=2, views=views, device=device)  # caches, warm-up
    wall, cpu = time.perf_counter(), time.process_time()
    for seed in range(first, last):
        record(seed, "train", frames=frames, views=views, device=device)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def _profile(frames: int, views: int, device: str) -> dict[str, float]:
    """Return milliseconds a frame of each stage, from a profiled run."""
    from egopose_ros.synth.world import record

    record(0, "train", frames=2, views=views, device=device)
    profile = cProfile.Profile()
    profile.enable()
    for seed in range(4):
        record(seed, "train", frames=frames, views=views, device=device)
    profile.disable()
    stats = pstats.Stats(profile).stats
    times = {}
    for label, file, function in STAGES:
        total = sum(row[3] for key, row in stats.items() if os.path.basename(key[0]) == file and key[2] == function)
        times[label] = 1e3 * total / (4 * frames * views)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=6, help="recordings of each process")
    parser.add_argument("--frames", type=int, default=64, help="frames of a recording")
    parser.add_argument("--views", type=int, default=1, choices=(1, 2))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    count, frames, views = arguments.recordings, arguments.frames, arguments.views
    tasks = [(p * count, (p + 1) * count, frames, views, arguments.device) for p in range(arguments.processes)]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        times = pool.map(_render, tasks, chunksize=1)
    images = count * frames * views
    rate = sum(images / wall for wall, _ in times)
    cpu_ms = 1e3 * sum(cpu for _, cpu in times) / (images * arguments.processes)
    print(f"{arguments.device}, {platform.processor() or platform.machine()}, {arguments.processes} processes")
    print(f"{rate:.1f} pictures/s at 256x256 in all, {cpu_ms:.1f} ms of CPU time a picture")
    print("where the time goes in one process (ms a picture; stages inside others count in both):")
    stages = _profile(min(frames, 32), views, arguments.device)
    for label, milliseconds in stages.items():
        print(f"  {label:28s} {milliseconds:6.1f}")
    if arguments.json:
        result = {"device": arguments.device, "processes": arguments.processes, "pictures_per_s": rate}
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({**result, "cpu_ms": cpu_ms, "stages_ms": stages}, file, indent=2)


if __name__ == "__main__":
    main()
