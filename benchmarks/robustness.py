"""What disturbs a network, one thing at a time, on clips of the test split: `python benchmarks/robustness.py`.

Clips are rendered at 60 Hz; but for the frame rate, every second frame is used. Each disturbance is a function of its
strength and of the clip's number alone. Prints the error at each strength as a table, and draws the curves.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Callable, Sequence

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from egopose_ros import pipeline
from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.commands.evaluate_split import ClipFrames, rig_of, track
from egopose_ros.config import DEFAULT_NETWORK, Config, replace
from egopose_ros.evaluation.scores import merge, score
from egopose_ros.networks.table import NETWORKS
from egopose_ros.resources import cache_directory
from egopose_ros.training import cache
from egopose_ros.training.cache import CachedClip
from egopose_ros.training.config import DataConfig

RATE_HZ = 60
PROTOCOL = "sceneego"
"""of 15 joints, which every network has"""
Change = Callable[[np.ndarray], np.ndarray]
SIDE = CANONICAL.size[0]


class Altered(ClipFrames):
    """A clip whose images are changed."""

    def __init__(self, clip: CachedClip, numbers: Sequence[int], change: Change) -> None:
        super().__init__(clip, numbers=numbers)
        self._change = change

    def image(self, number: int, view: int) -> np.ndarray:
        return self._change(super().image(number, view))


def rays() -> np.ndarray:
    """Return the unit ray (S S, 3) of every pixel of the canonical image."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    pixels = torch.from_numpy(np.stack([columns, rows], -1).reshape(-1, 2))
    return CANONICAL.unproject(pixels)[0].numpy()


def resampled(directions: np.ndarray) -> Change:
    """Return the change that gives each pixel what is seen in a direction (S S, 3); black outside the image."""
    pixels, valid = CANONICAL.project(torch.from_numpy(directions))
    at = np.where(valid[:, None], pixels, -10.0).astype(np.float32).reshape(SIDE, SIDE, 2)
    return lambda image: cv2.remap(image, at, None, cv2.INTER_LINEAR)


def every_second(clip: CachedClip) -> range:
    return range(0, clip.frames, 2)


def brightness(clip: CachedClip, gain: float, rng: np.random.Generator) -> ClipFrames:
    return Altered(clip, every_second(clip), lambda image: np.clip(image * gain, 0, 255).astype(np.uint8))


def blur(clip: CachedClip, sigma: float, rng: np.random.Generator) -> ClipFrames:
    return Altered(clip, every_second(clip), lambda image: cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image)


def occlusion(clip: CachedClip, share: float, rng: np.random.Generator) -> ClipFrames:
    """Cover a share of the lens with one soft dark spot that stays where it is."""
    angle, distance = rng.uniform(0, 2 * np.pi), SIDE / 2 * np.sqrt(rng.uniform(0, 0.5))
    centre = SIDE / 2 + distance * np.array([np.cos(angle), np.sin(angle)])
    rows, columns = np.mgrid[:SIDE, :SIDE]
    radius = SIDE / 2 * np.sqrt(share)
    depth = radius - np.hypot(columns - centre[0], rows - centre[1])
    light = 1.0 - np.clip(depth / 4.0 + 0.5, 0.0, 1.0)[..., None] if share else 1.0
    return Altered(clip, every_second(clip), lambda image: (image * light).astype(np.uint8))


def slip(clip: CachedClip, degrees: float, rng: np.random.Generator) -> ClipFrames:
    """Turn the camera on the head about an axis across its view; the truth is in the turned camera's frame."""
    angle = rng.uniform(0, 2 * np.pi)
    R = Rotation.from_rotvec(np.radians(degrees) * np.array([np.cos(angle), np.sin(angle), 0.0])).as_matrix()
    joints = (clip.joints @ R).astype(np.float32)  # R^T x: R takes the turned camera's axes to the old ones
    T = clip.T_world_reference.copy()
    T[:, :3, :3] = T[:, :3, :3] @ R
    turned = dataclasses.replace(clip, joints=joints, T_world_reference=T)
    return Altered(turned, every_second(clip), resampled(rays() @ R.T))


def calibration(clip: CachedClip, error: float, rng: np.random.Generator) -> ClipFrames:
    """Take a camera whose rays are that share further from the axis than its calibration says."""
    direction = rays()
    angle = np.arctan2(np.hypot(direction[:, 0], direction[:, 1]), direction[:, 2]) * (1.0 + error)
    across = direction[:, :2] / np.maximum(np.hypot(direction[:, 0], direction[:, 1])[:, None], 1e-9)
    wrong = np.concatenate([across * np.sin(angle)[:, None], np.cos(angle)[:, None]], 1)
    return Altered(clip, every_second(clip), resampled(wrong))


def frame_rate(clip: CachedClip, hz: float, rng: np.random.Generator) -> ClipFrames:
    return ClipFrames(clip, numbers=range(0, clip.frames, round(RATE_HZ / hz)))


def dropped(clip: CachedClip, share: float, rng: np.random.Generator) -> ClipFrames:
    """Leave out frames at random."""
    numbers = np.array(every_second(clip))
    return ClipFrames(clip, numbers=numbers[rng.random(len(numbers)) >= share].tolist())


Disturb = Callable[[CachedClip, float, np.random.Generator], ClipFrames]
DISTURBANCES: dict[str, tuple[Disturb, str, tuple[float, ...]]] = {
    "brightness": (brightness, "gain", (0.25, 0.5, 1.0, 2.0)),
    "blur": (blur, "sigma [px of 256]", (0.0, 1.0, 2.0, 3.0)),
    "lens covered": (occlusion, "share", (0.0, 0.05, 0.15, 0.3)),
    "camera slip": (slip, "degrees", (0.0, 5.0, 10.0, 20.0)),
    "calibration error": (calibration, "share of the angle", (-0.05, 0.0, 0.05, 0.1)),
    "frame rate": (frame_rate, "Hz", (10.0, 15.0, 30.0, 60.0)),
    "frames dropped": (dropped, "share", (0.0, 0.1, 0.3, 0.5)),
}


def curves(network: str, clips: list[CachedClip], bar: tqdm) -> dict[str, list[dict[str, float]]]:
    """Return MPJPE and PA-MPJPE [mm] and MPJVE [mm/s] at each strength of each disturbance."""
    config = replace(Config(), {"network.name": network, "window.max_gap_s": 1.0})
    estimator = pipeline.load(config, rig_of(clips[0]))
    result: dict[str, list[dict[str, float]]] = {}
    for name, (disturb, _, strengths) in DISTURBANCES.items():
        for strength in strengths:
            disturbed = (disturb(clip, strength, np.random.default_rng(n)) for n, clip in enumerate(clips))
            metrics = score(merge([track(estimator, frames, network, PROTOCOL) for frames in disturbed]), draws=2)
            numbers = {key: metrics[key].value for key in ("mpjpe_mm", "pa_mpjpe_mm", "mpjve_mm_s")}
            result.setdefault(name, []).append({"strength": strength, **numbers})
            bar.update()
    return result


def draw(path: Path, found: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """Draw MPJPE over the strength of each disturbance."""
    matplotlib.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure((11.0, 5.2), layout="constrained")
    panels = figure.subplots(2, 4, sharey=True).flatten()
    for panel, (name, (_, unit, _)) in zip(panels, DISTURBANCES.items()):
        for network, of_network in found.items():
            points = of_network[name]
            panel.plot([p["strength"] for p in points], [p["mpjpe_mm"] for p in points], "o-", label=network)
        panel.set(title=name, xlabel=unit)
        panel.grid(color="#e6e8eb")
    panels[0].set_ylim(bottom=0.0)  # of all, once everything is drawn
    panels[0].set_ylabel("MPJPE [mm]")
    panels[4].set_ylabel("MPJPE [mm]")
    panels[-1].axis("off")
    panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="center", frameon=False)
    figure.savefig(path, dpi=100)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", nargs="+", default=[DEFAULT_NETWORK], choices=tuple(NETWORKS))
    parser.add_argument("--clips", type=int, default=10, help="clips of two seconds (default 10)")
    parser.add_argument("--cache", type=Path, help="folder of rendered clips (default: in the user's cache)")
    parser.add_argument("--json", type=Path, help="write the numbers")
    parser.add_argument("--picture", type=Path, help="draw the curves into a PNG")
    arguments = parser.parse_args()
    data = DataConfig(clip_frames=2 * RATE_HZ, rates_hz=(str(RATE_HZ),))
    root = arguments.cache or cache_directory() / "clips"
    cache.render_missing(root, "test", data, arguments.clips, 2)
    clips = cache.load(root, "test", data, arguments.clips)
    points = sum(len(strengths) for *_, strengths in DISTURBANCES.values())
    with tqdm(total=points * len(arguments.network), unit="point") as bar:
        found = {network: curves(network, clips, bar) for network in arguments.network}
    for name, (_, unit, strengths) in DISTURBANCES.items():
        print(f"| {name}, {unit} | " + " | ".join(f"{strength:g}" for strength in strengths) + " |")
        for network, of_network in found.items():
            print(f"| {network} | " + " | ".join(f"{point['mpjpe_mm']:.0f}" for point in of_network[name]) + " |")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    if arguments.picture is not None:
        draw(arguments.picture, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
