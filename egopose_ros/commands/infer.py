"""`egopose infer`: poses of a video, a folder of images, a bag or a camera as one JSON file, and overlays."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from egopose_ros import pipeline as pipelines
from egopose_ros.camera.rig import Rig
from egopose_ros.commands import DAMAGED
from egopose_ros.config import DEFAULT_NETWORK, Config, replace
from egopose_ros.datasets.footage import FPS, Footage, NamedFrame
from egopose_ros.files import make_folder, require_folder, write_whole
from egopose_ros.flags import settings
from egopose_ros.networks.table import NETWORKS
from egopose_ros.pipeline import Pipeline, StreamState
from egopose_ros.ros import bag_runs
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_reader import BagReader, is_bag
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import BodyPose, Frame
from egopose_ros.viewer.overlay import View, draw

VERSION = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 done with what is whole of a damaged recording."
    parser.add_argument("input", help="video file, folder of images, bag, or the number of a camera device")
    parser.add_argument("--calibration", default="", help="calibration file (a bag may bring its own)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="poses of all frames")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="write each frame with the joints drawn on it")
    parser.add_argument("--independent", action="store_true", help="each image is the first frame of its own stream")
    parser.add_argument("--fps", type=float, default=FPS, help="rate of a folder's images (default 30)")
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="end after so many (default: at the end)")
    parser.add_argument("--network", default="", choices=tuple(NETWORKS), help=f"default that of the checkpoint, or {DEFAULT_NETWORK}")
    parser.add_argument("--checkpoint", default="", help="checkpoint, a file or the name of one that ships (default: its own)")
    parser.add_argument("--topics", nargs="+", default=(), help="image topics of the rig, where a bag has several")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of the estimator; repeatable"
    )


def run(arguments: argparse.Namespace) -> int:
    """Infer every frame; the JSON file appears when all is done. Ctrl-C ends a camera and keeps what there is."""
    require_folder(arguments.out, "--out")
    if not 0 < arguments.fps < math.inf:
        raise ValueError(f"--fps: expected a rate above 0, got {arguments.fps:g}")
    if arguments.frames < 0:
        raise ValueError(f"--frames: expected a number above 0, or 0 for all, got {arguments.frames}")
    if arguments.draw is not None:
        make_folder(arguments.draw, "--draw")
    with contextlib.ExitStack() as stack:
        pipeline, source = _open(stack, arguments)
        entries = _infer(pipeline, source, arguments)
        refused = source.refused()
        if not entries:
            raise ValueError(f"{arguments.input}: expected frames, got none{refused and f' ({refused})'}")
        write_whole(arguments.out, json.dumps(_document(pipeline, arguments.input, entries), indent=1) + "\n")
        print(f"{arguments.out}: {len(entries)} frames by {pipeline.network_name}")
        if not pipeline.weights_trained:
            print("random weights: these poses mean nothing")
        if refused:
            print(f"egopose infer: {arguments.input}: not used: {refused}", file=sys.stderr)
        loss = source.loss()
        if loss:
            text = f"{arguments.input}: {loss}; {arguments.out} holds the poses until there"
            print(f"egopose infer: {text}", file=sys.stderr)
        return DAMAGED if loss else 0


@dataclass(frozen=True)
class _Source:
    """Frames, and what is known of them at their end."""

    items: Iterator[NamedFrame]
    loss: Callable[[], str] = lambda: ""
    """how much of a damaged recording is missing"""
    refused: Callable[[], str] = lambda: ""
    """what of a bag could not be used, by reason"""
    endless: bool = False
    """only Ctrl-C ends it"""


def _open(stack: contextlib.ExitStack, arguments: argparse.Namespace) -> tuple[Pipeline, _Source]:
    flags = {
        "network.name": arguments.network,
        "network.checkpoint": arguments.checkpoint,
        "camera.calibration": arguments.calibration,
    }
    overrides = settings(arguments.set, flags)
    path = Path(arguments.input)
    if is_bag(path):
        reader = stack.enter_context(BagReader(path))
        config = bag_runs.settings(reader, tuple(arguments.topics), overrides)
        frames = BagFrames(reader, config)
        return bag_runs.load(frames, config), _Source(_of_bag(frames), lambda: reader.loss, lambda: _refused(frames))
    if arguments.topics:
        raise ValueError(f"--topics: expected a bag, got {arguments.input}")
    if not path.exists() and not arguments.input.isdigit():
        raise FileNotFoundError(f"{path}: expected a video, a folder of images, a bag or a camera's number, got nothing there")
    config = replace(Config(), overrides)
    if not config.camera.calibration:
        raise ValueError("--calibration: expected a calibration file for this input, got none")
    rig = pipelines.load_rig(config.camera.calibration)
    if len(rig.cameras) != 1:
        named = config.camera.calibration
        raise ValueError(f"--calibration {named}: expected one camera for this input, got {len(rig.cameras)}")
    if arguments.input.isdigit() and not path.exists():
        return pipelines.load(config, rig), _Source(_of_camera(stack, int(arguments.input)), endless=True)
    frames = stack.enter_context(Footage(path, arguments.fps))
    return pipelines.load(config, rig), _Source(iter(frames), lambda: frames.loss)


def _of_bag(frames: BagFrames) -> Iterator[NamedFrame]:
    for item in frames:
        yield NamedFrame(item.frame, str(item.frame.stamp_ns))


def _refused(frames: BagFrames) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in frames.rejected.items() if number)


def _of_camera(stack: contextlib.ExitStack, device: int) -> Iterator[NamedFrame]:
    capture = cv2.VideoCapture(device)
    stack.callback(capture.release)
    if not capture.isOpened():
        raise ValueError(f"{device}: expected a camera of that number, got none")
    return _until_it_ends(capture)


def _until_it_ends(capture: cv2.VideoCapture) -> Iterator[NamedFrame]:
    while True:
        found, image = capture.read()
        if not found:
            return
        stamp_ns = time.time_ns()
        yield NamedFrame(Frame(stamp_ns, (image[..., ::-1],)), str(stamp_ns))


def _infer(pipeline: Pipeline, source: _Source, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    views = _views(pipeline.rig)
    try:
        for item, pose in _poses(pipeline, source, arguments.independent):
            entries.append(_entry(item, pose, views))
            if arguments.draw is not None:
                picture = draw(item.frame.images, views, pose, None)
                name = f"{len(entries) - 1:06d}_{Path(item.name).stem.replace(' ', '_')}.jpg"
                write_whole(arguments.draw / name, cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())
            if len(entries) == arguments.frames:
                break
    except KeyboardInterrupt:
        if not source.endless:
            raise
    return entries


def _poses(pipeline: Pipeline, source: _Source, independent: bool) -> Iterator[tuple[NamedFrame, BodyPose]]:
    """Yield each frame with its pose, once; those of a network that looks ahead come later than their frames."""
    state, awaited = pipeline.init_state(), []
    for newest in tqdm(source.items, unit="frame", disable=None):
        if independent or not pipeline.continues(state, newest.frame):
            yield from _owed(pipeline, state, awaited)
            state, awaited = pipeline.init_state(), []
        try:
            state, pose = pipeline.step(state, newest.frame)
        except ValueError as error:
            raise ValueError(f"{newest.name}: {error}") from None
        awaited.append(newest)
        if len(awaited) > 1 and awaited[0].frame.stamp_ns == pose.stamp_ns:
            continue  # the window's first frame, again
        while awaited[0].frame.stamp_ns != pose.stamp_ns:
            del awaited[0]
        yield awaited[0], pose
    yield from _owed(pipeline, state, awaited)


def _owed(
    pipeline: Pipeline, state: StreamState, awaited: list[NamedFrame]
) -> Iterator[tuple[NamedFrame, BodyPose]]:
    yield from zip(awaited[1:], pipeline.finish(state))


def _views(rig: Rig) -> list[View]:
    return [View(camera.name, camera.T_head_camera, pipelines.projection(camera)) for camera in rig.cameras]


def _entry(item: NamedFrame, pose: BodyPose, views: list[View]) -> dict[str, Any]:
    """Return a frame's pose; pixels are of the first camera's original image, null out of its view."""
    pixels, valid = views[0].project(pose.joints_camera)
    entry: dict[str, Any] = {
        "name": item.name,
        "stamp_ns": pose.stamp_ns,
        "joints_m": _rounded(pose.joints_camera, 5),
        "pixels": [_rounded(p, 2) if inside else None for p, inside in zip(pixels, valid)],
        "window_length": pose.window_length,
    }
    if pose.covariance_camera is not None:
        entry["covariance_m2"] = _rounded(pose.covariance_camera, 9)
    if pose.confidence is not None:
        entry["confidence"] = _rounded(pose.confidence, 4)
    return entry


def _rounded(values: np.ndarray, digits: int) -> list:
    return np.round(np.asarray(values, np.float64), digits).tolist()


def _document(pipeline: Pipeline, source: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    body = skeleton(pipeline.skeleton)
    return {
        "version": VERSION,
        "input": source,
        "network": pipeline.network_name,
        "weights_trained": pipeline.weights_trained,
        "skeleton": body.name,
        "joint_names": list(body.joints),
        "frame": "camera",
        "frames": entries,
    }
