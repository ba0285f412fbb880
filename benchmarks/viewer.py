"""Scenes and images a second of the browser page while the network infers in a process beside it.

    python benchmarks/viewer.py --seconds 15

Poses come at 30 Hz with images of the default size. A headless Chromium looks on where there is one; it draws in
software, which takes cores that a GPU would leave free: `--no-browser` leaves it out, and then no image is drawn.
Scenes are those that the page sends of those that it was given; the browser's own rate is counted in its tab.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any, Iterator

import cv2
import numpy as np

from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import BodyPose, Frame, TrackingState
from egopose_ros.viewer.monitor import GraphMonitor, PoseReport
from egopose_ros.viewer.overlay import DOWNWARD, Shot, View
from egopose_ros.viewer.page import LATE_S, Page

RATE_HZ = 30.0
SIZE = (1024, 1280)
"""height and width of the images"""
COUNT_RENDERS = """
window.renders = 0
let frame = -1
const clear = WebGL2RenderingContext.prototype.clear
WebGL2RenderingContext.prototype.clear = function (...mask) {
    if (document.timeline.currentTime !== frame) window.renders++
    frame = document.timeline.currentTime
    return clear.apply(this, mask)
}
"""
"""counts the animation frames in which the tab draws"""
FLAGS = (
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"
)  # fmt: skip


def infer(ready: Any, stop: Any, results: Any) -> None:
    """Run the default network on noise at 30 Hz, or as fast as it goes, until told to stop; as a live node loads it."""
    from egopose_ros.config import Config, replace
    from egopose_ros.ros.estimator import load_pipeline

    loaded = load_pipeline(replace(Config(), {"network.allow_untrained": True}))
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    state, _ = loaded.step(loaded.init_state(), Frame(time.monotonic_ns(), (image,)))
    ready.set()
    seconds, origin = [], time.monotonic()
    while not stop.is_set():
        began = time.monotonic()
        state, _ = loaded.step(state, Frame(time.monotonic_ns(), (image,)))
        seconds.append(time.monotonic() - began)
        time.sleep(max(0.0, origin + len(seconds) / RATE_HZ - time.monotonic()))
    results.put({"hz": len(seconds) / (time.monotonic() - origin), "step_ms": 1e3 * float(np.median(seconds))})


@contextlib.contextmanager
def inference() -> Iterator[dict[str, float]]:
    """Infer beside what is measured; the numbers are there afterwards."""
    context, numbers = multiprocessing.get_context("spawn"), {}
    ready, stop, results = context.Event(), context.Event(), context.Queue()
    child = context.Process(target=infer, args=(ready, stop, results), daemon=True)
    child.start()
    try:
        if not ready.wait(120):
            raise TimeoutError("the network did not start within 120 s")
        yield numbers
        stop.set()
        numbers.update(results.get(timeout=30))
    finally:
        child.terminate()


@contextlib.contextmanager
def onlooker(url: str, wanted: bool) -> Iterator[Any]:
    """Give a browser's tab on the page, None without one."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not wanted or path is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        tab = browser.new_page(viewport={"width": 900, "height": 640})
        tab.set_default_timeout(120_000)
        tab.add_init_script(COUNT_RENDERS)
        tab.goto(url)
        tab.wait_for_selector("td:text('network')")
        yield tab
        browser.close()


def pose_at(index: int) -> BodyPose:
    """Return a body that sways below a head that walks."""
    rest = np.random.default_rng(0).uniform((-0.3, -0.3, 0.2), (0.3, 0.3, 1.5), (SMPL22.size, 3))
    T_world_camera = DOWNWARD.copy()
    T_world_camera[:3, 3] += (0.03 * index, 0.0, 1.6)
    joints = (rest + 0.1 * np.sin(index / 10.0)).astype(np.float32)
    covariance = np.tile(1e-3 * np.eye(3, dtype=np.float32), (SMPL22.size, 1, 1))
    return BodyPose(
        round(index * 1e9 / RATE_HZ), SMPL22.name, joints, None, covariance, None, T_world_camera, 64, True
    )


def project(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    depth = np.maximum(points[:, 2:], 0.1)
    return 400.0 * points[:, :2] / depth + (SIZE[1] / 2, SIZE[0] / 2), points[:, 2] > 0.1


def photograph() -> np.ndarray:
    """Return an image that compresses as a camera's does: shapes of all sizes, and grain."""
    random, image = np.random.default_rng(1), np.full(SIZE, 128.0)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        shapes = random.normal(0.0, 80.0 / cells**0.5, (cells, cells))
        image += cv2.resize(shapes, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(image + random.normal(0.0, 3.0, SIZE), 0, 255).astype(np.uint8)


def feed(page: Page, monitor: GraphMonitor, tab: Any, seconds: float) -> dict[str, float]:
    """Hand over poses at 30 Hz; return scenes, images and renders a second, and how much of a core the page takes."""
    image, count = photograph(), round(seconds * RATE_HZ)
    renders = tab.evaluate("window.renders") if tab else 0
    origin, cpu_s, scenes, images = time.monotonic(), time.process_time(), page.scenes_drawn, page.images_drawn
    for index in range(count):
        time.sleep(max(0.0, origin + index / RATE_HZ - time.monotonic()))
        pose = pose_at(index)
        monitor.observe_pose(PoseReport(pose, 0.02, 0, "noise", True, TrackingState.TRACKING), time.monotonic())
        page.show(Shot(pose, None, lambda: [image]))
    time.sleep(1.0 / RATE_HZ)
    elapsed = time.monotonic() - origin
    numbers = {
        "images_hz": (page.images_drawn - images) / elapsed,
        "core_percent": 100.0 * (time.process_time() - cpu_s) / elapsed,
    }
    if tab:
        numbers["renders_hz"] = (tab.evaluate("window.renders") - renders) / elapsed
    time.sleep(LATE_S)  # what waits is drawn
    return {"scenes_hz": (page.scenes_drawn - scenes) / count * RATE_HZ, **numbers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--no-browser", action="store_true", help="nobody looks")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    arguments = parser.parse_args()
    monitor = GraphMonitor()
    page = Page(monitor, host="127.0.0.1", port=0)
    page.set_views([View("camera", DOWNWARD, project)])
    with inference() as network, onlooker(page.url, not arguments.no_browser) as tab:
        feed(page, monitor, tab, 3.0)
        numbers = feed(page, monitor, tab, arguments.seconds)
    page.close()
    rounded: dict[str, Any] = {name: round(value, 1) for name, value in numbers.items()}
    rounded |= {"browser": tab is not None, "inference_hz": round(network["hz"], 1)}
    rounded |= {"inference_ms": round(network["step_ms"], 1)}
    print(json.dumps(rounded))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rounded, indent=1) + "\n")


if __name__ == "__main__":
    main()
