"""`egopose evaluate --split`: measure a network on a split of the benchmark, frame by frame as it runs live."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from egopose_ros import pipeline
from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.config import Config, replace
from egopose_ros.evaluation.benchmark import Track, summarise
from egopose_ros.files import write_whole
from egopose_ros.networks.student_t import NU
from egopose_ros.pipeline import Pipeline
from egopose_ros.resources import cache_directory
from egopose_ros.structs import Frame, Visibility
from egopose_ros.training import cache
from egopose_ros.training.cache import CachedClip
from egopose_ros.training.config import DataConfig


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the arguments that bags do not share."""
    parser.add_argument("--split", default="test", choices=("validation", "test"), help="default test")
    parser.add_argument("--views", type=int, default=1, help="cameras of the rigs (default 1)")
    parser.add_argument("--clips", type=int, default=40, help="clips of the split (default 40)")
    parser.add_argument("--frames", type=int, default=60, help="frames of a clip (default 60)")
    parser.add_argument("--rate", default="30", metavar="HZ", help="frame rate (default 30)")
    parser.add_argument("--head-pose", action="store_true", help="give the network the head pose, too")
    parser.add_argument("--cache", type=Path, help="folder of rendered clips (default: in the user's cache)")
    parser.add_argument("--render-workers", type=int, default=2, help="processes that render (default 2)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    if len(arguments.checkpoint) > 1:
        raise ValueError(f"--checkpoint: expected one for a split, got {len(arguments.checkpoint)}")
    data = replace(
        DataConfig(), {"views": arguments.views, "clip_frames": arguments.frames, "rates_hz": (arguments.rate,)}
    )
    root = arguments.cache or cache_directory() / "clips"
    cache.render_missing(root, arguments.split, data, arguments.clips, arguments.render_workers)
    clips = cache.load(root, arguments.split, data, arguments.clips)
    settings = {
        "network.name": arguments.network,
        "network.checkpoint": arguments.checkpoint[0] if arguments.checkpoint else "",
        "runtime.precision": arguments.precision,
        "window.max_gap_s": 2.0 / float(arguments.rate) + 0.5,
    }
    estimator = pipeline.load(replace(Config(), settings), rig_of(clips[0]))
    tracks = [track(estimator, clip, arguments.head_pose) for clip in tqdm(clips, "evaluate", unit="clip")]
    numbers = {
        "network": arguments.network,
        "checkpoint": estimator.checkpoint,
        "split": arguments.split,
        "views": arguments.views,
        "head_pose": arguments.head_pose,
        "rate_hz": float(arguments.rate),
        "clips": len(clips),
        **summarise(tracks, estimator.skeleton, NU),
    }
    print(_table(numbers))
    if arguments.json is not None:
        write_whole(arguments.json, json.dumps(numbers, indent=2) + "\n")
    return 0


def rig_of(clip: CachedClip) -> Rig:
    """Return the rig of a clip in canonical cameras, its head frame that of the first one."""
    cameras = (RigCamera(f"camera{i}", CANONICAL, T_head_camera=T) for i, T in enumerate(clip.T_reference_camera))
    return Rig(tuple(cameras))


def track(pipeline: Pipeline, clip: CachedClip, head_pose: bool) -> Track:
    """Run a pipeline over a clip, with or without its head pose."""
    pipeline = pipeline.with_rig(rig_of(clip))
    state = pipeline.init_state()
    poses = []
    for index in range(clip.frames):
        images = tuple(clip.image(index, view) for view in range(clip.views))
        T_world_head = clip.T_world_reference[index] if head_pose else None
        state, pose = pipeline.step(state, Frame(int(clip.stamps_ns[index]), images, T_world_head))
        poses.append(pose)
    joints = np.stack([pose.joints_camera for pose in poses])
    # Smoothness is of the wearer, so in the world, by the true head pose also where the network has none.
    R, t = clip.T_world_reference[:, :3, :3], clip.T_world_reference[:, None, :3, 3]
    in_world = [points @ np.swapaxes(R, -1, -2) + t for points in (joints, clip.joints)]
    covariance = None
    if poses[0].covariance_camera is not None:
        covariance = np.stack([pose.covariance_camera for pose in poses])
    rate = 1e9 / float(np.diff(clip.stamps_ns).mean())
    visible = (clip.visible == Visibility.VISIBLE).any(1)
    return Track(rate, joints, clip.joints, *in_world, visible, covariance)


def _table(numbers: dict) -> str:
    rows = [
        f"{numbers['network']} ({numbers['checkpoint']}), {numbers['split']} split: {numbers['clips']} clips, "
        f"{numbers['frames']} frames at {numbers['rate_hz']:g} Hz, {'with' if numbers['head_pose'] else 'no'} head pose",
        f"  MPJPE     {numbers['mpjpe_mm']:8.1f} mm",
        f"  PA-MPJPE  {numbers['pa_mpjpe_mm']:8.1f} mm",
        f"  MPJVE     {numbers['mpjve_mm_s']:8.1f} mm/s",
        f"  jitter    {numbers['jitter']:8.1f} m/s^3 (truth {numbers['jitter_truth']:.1f})",
    ]
    rows += [f"  {name:16s} {value:8.1f} mm" for name, value in numbers["regions_mm"].items()]
    rows += [f"  {name:16s} {value:8.1f} mm" for name, value in numbers["per_joint_mm"].items()]
    for name, share in numbers.get("in_90_percent_region", {}).items():
        rows.append(f"  {name} joints inside their 90 % region: {100 * share:.1f} %")
    return "\n".join(rows)
