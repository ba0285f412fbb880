"""`egopose evaluate --split`: networks over a split of the benchmark, frame by frame as they run live."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from egopose_ros import pipeline
from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.commands.evaluation_outcome import Evaluation, concluded, picture, recording_json
from egopose_ros.config import Config, Leaf, replace
from egopose_ros.evaluation import results, scores
from egopose_ros.evaluation.contenders import Contender
from egopose_ros.evaluation.report_data import Picture, chosen_frames
from egopose_ros.evaluation.runs import RunBuilder
from egopose_ros.evaluation.scores import Comparison
from egopose_ros.evaluation.truth import Truth
from egopose_ros.pipeline import Pipeline
from egopose_ros.resources import cache_directory, cores
from egopose_ros.ros import bag_runs
from egopose_ros.ros.bag_frames import BagFrame
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import DEGREES_OF_FREEDOM, Frame
from egopose_ros.synth.motion.library import clip_folder, mark_of
from egopose_ros.training import cache
from egopose_ros.training.cache import CachedClip
from egopose_ros.training.config import DataConfig
from egopose_ros.viewer.overlay import View


DEFAULTS = {
    "split": "test", "views": 1, "clips": 40, "frames": 60, "rate": "30", "head_pose": False, "wearer_height": False,
    "cache": None, "render_workers": cores(),
}  # fmt: skip
"""of the arguments, which are None where they are not given"""


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the arguments that bags do not share; `complete` gives them their defaults."""
    parser.add_argument("--split", choices=("validation", "test"), help="default test")
    parser.add_argument("--views", type=_count, help="cameras of the rigs (default 1)")
    parser.add_argument("--clips", type=_count, help="clips of the split (default 40)")
    parser.add_argument("--frames", type=_count, help="frames of a clip (default 60)")
    parser.add_argument("--rate", metavar="HZ", help="frame rate (default 30)")
    parser.add_argument("--head-pose", action="store_true", default=None, help="give the network the head pose, too")
    parser.add_argument(
        "--wearer-height", action="store_true", default=None, help="give each wearer's height, as wearer.height_m"
    )
    parser.add_argument("--cache", type=Path, help="folder of rendered clips (default: in the user's cache)")
    parser.add_argument("--render-workers", type=_count, help="processes that render (default: one a core)")


def complete(arguments: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with defaults in place of those that were not given."""
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    return argparse.Namespace(**{**vars(arguments), **DEFAULTS, **given})


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got '{text}'")
    return int(text)


def evaluate(arguments: argparse.Namespace, subjects: tuple[Contender, ...], overrides: dict[str, Leaf]) -> Evaluation:
    """Run every contender over the clips of a split, made first where they are missing, and score the poses."""
    data = replace(
        DataConfig(), {"views": arguments.views, "clip_frames": arguments.frames, "rates_hz": (arguments.rate,)}
    )
    root = arguments.cache or cache_directory() / "clips"
    cache.render_missing(root, arguments.split, data, arguments.clips, arguments.render_workers)
    clips = cache.load(root, arguments.split, data, arguments.clips)
    config = replace(Config(), {"window.max_gap_s": 2.0 / float(arguments.rate) + 0.5, **overrides})
    estimators = [pipeline.load(subject.configured(config), rig_of(clips[0])) for subject in subjects]
    settings = [config] * len(clips)
    if arguments.wearer_height:
        heights_m = (_height_m(data.seed + number, arguments.split) for number in range(len(clips)))
        settings = [replace(config, {"wearer.height_m": height_m}) for height_m in heights_m]
    runs = []
    for subject, estimator in zip(subjects, estimators):
        parts = []
        for setting, clip in zip(settings, tqdm(clips, subject.label, unit="clip", disable=None)):
            estimator.configure(setting)
            seen = ClipFrames(clip, arguments.head_pose)
            parts.append(track(estimator, seen, subject.label, arguments.protocol, arguments.together))
        runs.append(parts)
    name = f"{arguments.split} split, {len(clips)} clips of {arguments.frames} frames at {arguments.rate} Hz"
    frames = sum(clip.frames for clip in clips)
    truth = {
        "source": "the synthetic world", "skeleton": SMPL22.name, "frame": "camera", "stamps": frames, "offset_s": 0.0,
        "offset_estimated": False, "correlation": None,
    }  # fmt: skip
    told = [f"{'with' if arguments.head_pose else 'no'} head pose"]
    told += ["the wearers' heights are given"] if arguments.wearer_height else []
    for subject, estimator in zip(subjects, estimators):
        if estimator.window > arguments.frames:
            told.append(f"no window of {subject.label} is ever full: --frames {arguments.frames}, it takes {estimator.window}")
    notes = [*told, *dict.fromkeys(w for e in estimators for w in e.warnings)]
    topics = [f"camera {view}" for view in range(clips[0].views)]
    evaluation = concluded(
        arguments.protocol,
        [recording_json(name, topics, frames, truth, notes=notes)],
        runs,
        _pictures(clips, runs[0]),
        checkpoints=[estimator.checkpoint for estimator in estimators],
    )
    evaluation.numbers.update(
        results.benchmark_json(evaluation.numbers["runs"][0]),
        split=arguments.split,
        views=arguments.views,
        head_pose=arguments.head_pose,
        wearer_height=arguments.wearer_height,
        rate_hz=float(arguments.rate),
        clips=len(clips),
        motion=mark_of(clip_folder()).lstrip("_"),
    )
    return evaluation


def _height_m(seed: int, split: str) -> float:
    from egopose_ros.synth.world import wearer  # only this needs the body

    return wearer(seed, split).stature


def rig_of(clip: CachedClip) -> Rig:
    """Return the rig of a clip in canonical cameras, its head frame that of the first one."""
    cameras = (RigCamera(f"camera{i}", CANONICAL, T_head_camera=T) for i, T in enumerate(clip.T_reference_camera))
    return Rig(tuple(cameras))


class ClipFrames:
    """A clip as the frames of a recording; some of its frames where their numbers are given."""

    title, topics, global_frame = "clip", ("camera",), ""

    def __init__(self, clip: CachedClip, head_pose: bool = False, numbers: Sequence[int] | None = None) -> None:
        self.clip = clip
        self._head_pose = head_pose
        self._numbers = range(clip.frames) if numbers is None else numbers
        self.rejected: Counter[str] = Counter()

    def image(self, number: int, view: int) -> np.ndarray:
        """Return an image (S, S, 3) uint8 RGB; what changes images overrides this."""
        return self.clip.image(number, view)

    def __iter__(self) -> Iterator[BagFrame]:
        for number in self._numbers:
            stamp_ns = int(self.clip.stamps_ns[number])
            images = tuple(self.image(number, view) for view in range(self.clip.views))
            T_world_head = self.clip.T_world_reference[number] if self._head_pose else None
            yield BagFrame(Frame(stamp_ns, images, T_world_head), "camera", 0, (), stamp_ns / 1e9)


def track(
    estimator: Pipeline, frames: ClipFrames, label: str, protocol: str, together: int = bag_runs.TOGETHER
) -> Comparison:
    """Run a pipeline over the frames of a clip."""
    clip = frames.clip
    estimator, builder = estimator.with_rig(rig_of(clip)), RunBuilder()
    bag_runs.run(estimator, frames, builder, None, together=together)
    run = builder.build(label, estimator.network_name, estimator.weights_trained, 0, DEGREES_OF_FREEDOM)
    # Motion is of the wearer, so in the world, by the true head pose also where the network has none.
    run = dataclasses.replace(run, T_world_camera=clip.T_world_reference[np.searchsorted(clip.stamps_ns, run.stamps_ns)])
    truth = Truth("clip", clip.stamps_ns, clip.joints, SMPL22.name, "camera", clip.visible.max(1))
    return scores.compare(run, truth, protocol)


def _pictures(clips: list[CachedClip], parts: list[Comparison]) -> list[Picture]:
    view = View("camera", np.eye(4), pipeline.projection(rig_of(clips[0]).cameras[0]))
    result = []
    for kind, owner, row in chosen_frames(parts):
        clip, part = clips[owner], parts[owner]
        image = clip.image(int(np.searchsorted(clip.stamps_ns, part.run.stamps_ns[row])), 0)
        result.append(picture(kind, part, row, image, view, f"clip {owner}"))
    return result
