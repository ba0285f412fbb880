"""A network over a bag: settings from the bag, every frame through the live node's pipeline, poses to a run and a bag."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator, Protocol

import numpy as np

from egopose_ros.config import Config, Leaf
from egopose_ros.config import replace as configure
from egopose_ros.evaluation import truth as truths
from egopose_ros.evaluation.rows import gathered, slices
from egopose_ros.evaluation.runs import RunBuilder
from egopose_ros.evaluation.truth import OFFSET_LIMIT_S, Truth, TruthError
from egopose_ros.geometry import rigid
from egopose_ros.ros import bag_truth, images
from egopose_ros.ros.bag_frames import BagFrame, BagFrames
from egopose_ros.ros.bag_poses import PoseBag, pose_topic, read_poses
from egopose_ros.ros.bag_reader import BagError, BagReader
from egopose_ros.ros.bag_settings import HEAD_POSE, HEAD_POSES, estimator_settings
from egopose_ros.ros.pose_fields import PoseStatus
from egopose_ros.ros.stamps import to_ns
from egopose_ros.structs import BodyPose, TrackingState
from egopose_ros.window.ring import Lookup

TOGETHER = 4
"""frames of a recording that go through the network at once: less time for each on a CPU (benchmarks/evaluation.py)"""
_LATEST_NS = 2**62
"""later than any recording"""


def settings(bag: BagReader, topics: tuple[str, ...], overrides: dict[str, Leaf]) -> Config:
    """Return the configuration of an estimator for a bag: what the bag says of itself, then what the user says."""
    if not bag.kinds:
        raise BagError(f"bag {bag.path}: expected topics, got none")
    calibration = str(overrides.get("camera.calibration", ""))
    return configure(Config(), {**estimator_settings(bag, topics, calibration), **overrides})


def load(frames: BagFrames, config: Config) -> Any:
    """Return the pipeline of a configuration, its rig from the calibration file or from CameraInfo in the bag."""
    from egopose_ros import pipeline

    return pipeline.load(config, rig_of(frames, config))


def rig_of(frames: BagFrames, config: Config) -> Any:
    """Return the rig of the calibration file or of CameraInfo; BagError where it is not that of the images.

    Where neither says where it sits on the head, static TF does, as for the live node.
    """
    from egopose_ros import pipeline

    if config.camera.calibration:
        rig = pipeline.load_rig(config.camera.calibration)
    else:
        rig = pipeline.rig_from_camera_info(frames.camera_infos())
    cameras, topics = len(rig.cameras), config.camera.topics
    if cameras != len(topics):
        listed = ", ".join(topics)
        raise BagError(f"{frames.title}: expected images of the {cameras} cameras of its calibration, got {listed}")
    T_head_first = None if rig.head_known else frames.T_head_camera()
    return rig if T_head_first is None else rig.placed(T_head_first)


class Frames(Protocol):
    """Frames of a recording in order: those of a bag, or what stands in for it."""

    title: str
    """what errors call the recording"""
    topics: tuple[str, ...]
    rejected: Counter[str]
    """frames that could not be used, by reason"""
    global_frame: str
    """the frame that head poses are in, empty without"""

    def __iter__(self) -> Iterator[BagFrame]: ...


class Collector(Protocol):
    """What takes the poses of a run."""

    def add(self, pose: BodyPose, segment: int, *, step_s: float) -> None: ...


def run(
    pipeline: Any,
    frames: Frames,
    builder: Collector,
    poses: PoseBag | None,
    segment: int = 0,
    on_frame: Callable[[], object] = lambda: None,
    together: int = TOGETHER,
) -> int:
    """Take every frame through the pipeline, `together` at a time; return the segment of the last.

    BagError without a frame or for a wrong size.
    """
    state, epoch, count, last_ns = pipeline.init_state(), 0, 0, None
    for items in _groups(frames, together):
        if items[0].epoch != epoch:
            epoch, segment, state = items[0].epoch, segment + 1, pipeline.init_state()
        began = time.perf_counter()
        try:
            state, found = pipeline.steps(state, [item.frame for item in items])
        except ValueError as error:
            raise BagError(f"{frames.title}: {error}") from None
        seconds = (time.perf_counter() - began) / len(items)
        for item, pose in zip(items, found):
            if not np.isfinite(pose.joints_camera).all():
                raise BagError(f"{frames.title}: expected finite joints of the network, got NaN or infinity")
            # A network that looks ahead stays with the first frame at first: as the node, keep what was said first.
            if pose.stamp_ns == item.frame.stamp_ns or pose.stamp_ns != last_ns:
                builder.add(pose, segment, step_s=seconds)
                if poses is not None:
                    poses.write(pose, item.frame_id, frames.global_frame, _status(pipeline, pose, seconds))
            last_ns = pose.stamp_ns
            count += 1
            on_frame()
    if not count:
        refused = ", ".join(f"{number} {reason}" for reason, number in frames.rejected.items() if number)
        raise BagError(f"{frames.title}: expected frames on {', '.join(frames.topics)}, got none ({refused or 'no images'})")
    return segment


def _groups(frames: Frames, size: int) -> Iterator[list[BagFrame]]:
    """Yield frames in groups of at most so many, each of one epoch."""
    group: list[BagFrame] = []
    for item in frames:
        if group and (len(group) == size or item.epoch != group[0].epoch):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _status(pipeline: Any, pose: BodyPose, seconds: float) -> PoseStatus:
    state = TrackingState.TRACKING if pose.window_full else TrackingState.INITIALIZING
    return PoseStatus(state, 0, seconds, pipeline.network_name, pipeline.weights_trained)


def recorded(bag: BagReader, topic: str, builder: RunBuilder, max_gap_s: float) -> tuple[str, bool, int]:
    """Read recorded poses into a builder; return network, whether it was trained, and how many frames it dropped.

    BagError for a pose that is not finite.
    """
    topic, segment, last_ns, status = topic or pose_topic(bag), 0, None, None
    for pose, status in read_poses(bag, topic):
        if not np.isfinite(pose.joints_camera).all():
            stamp_s = pose.stamp_ns / 1e9
            raise BagError(f"bag {bag.path}: {topic}: expected finite joints, got NaN or infinity at {stamp_s:.3f} s")
        if last_ns is not None and not 0 < pose.stamp_ns - last_ns <= max_gap_s * 1e9:
            segment += 1
        last_ns = pose.stamp_ns
        builder.add(pose, segment, age_s=status.age_s)
    assert status is not None  # a topic without messages was refused
    return status.network, status.weights_trained, status.frames_dropped


def open_truth(frames: BagFrames, config: Config, name: str, frame: str, skeleton_name: str) -> Truth:
    """Return the ground truth of a topic or file, in 'camera' or 'world'; `frame` and `skeleton_name` where unclear."""
    is_file = name not in frames.bag.kinds and Path(name).suffix.lower() in (".csv", ".json", ".npz")
    truth = truths.load(Path(name), frame, skeleton_name) if is_file else bag_truth.read(frames.bag, name, skeleton_name)
    if frame:
        return replace(truth, frame=frame)
    return resolve_frame(truth, frames, config.head_pose.source != "none")


def resolve_frame(truth: Truth, frames: BagFrames, has_head_pose: bool) -> Truth:
    """Return the truth in 'camera' or 'world'; BagError for a frame that neither names nor TF connects."""
    first = frames.bag.first(frames.topics[0])
    camera = (first.header.frame_id if first is not None else "") or "camera"
    if truth.frame in ("camera", camera):
        return replace(truth, frame="camera")
    head = frames.bag.first(frames.head_topic) if frames.head_topic else None
    world = frames.global_frame or (head.header.frame_id if head is not None else "")
    if has_head_pose and truth.frame in ("world", world):
        return replace(truth, frame="world")
    T_camera_frame, lookup = frames.tree.lookup(camera, truth.frame, None, 0)
    if lookup is Lookup.FOUND:
        moved = (rigid.apply(T_camera_frame, truth.joints[rows]).astype(np.float32) for rows in slices(len(truth.joints)))
        return replace(truth, frame="camera", joints=gathered(moved))
    worlds = f", '{world or 'world'}' (the head pose's frame)" if has_head_pose else ""
    raise BagError(
        f"{truth.source}: expected ground truth in '{camera}' (the camera's frame){worlds} or in a frame that TF "
        f"connects with the camera's, got '{truth.frame}'; --truth-frame camera or world says which it is"
    )


def require_truth_in_time(frames: BagFrames, truth: Truth, offset_s: float) -> None:
    """Raise TruthError where no image was recorded near the time of the truth, before any is inferred.

    The clock of the stamps may be another than the recorder's, or be set later: either may fit.
    """
    bag, topic = frames.bag, frames.topics[0]
    first = next(iter(bag.messages([topic])), None)
    if first is None:
        return
    start_ns, stop_ns = (int(stamp) - round(offset_s * 1e9) for stamp in truth.stamps_ns[[0, -1]])
    slack_ns = round(OFFSET_LIMIT_S * 1e9)
    for ahead_ns in (0, to_ns(first.message.header.stamp) - first.stamp_ns):
        span = (start_ns - ahead_ns - slack_ns, stop_ns - ahead_ns + slack_ns)
        if next(iter(bag.messages([topic], *(min(max(edge, 0), _LATEST_NS) for edge in span))), None) is not None:
            return
    if not bag.loss:
        raise TruthError(
            f"{truth.source}: expected ground truth that overlaps the poses in time, got {start_ns / 1e9:.3f} to "
            f"{stop_ns / 1e9:.3f} s (offset {offset_s:g} s) and no image within {OFFSET_LIMIT_S:g} s of it, the first "
            f"at {to_ns(first.message.header.stamp) / 1e9:.3f} s; give --truth-offset"
        )


def unused_head_poses(bag: BagReader, config: Config) -> str:
    """Say which topics could be head poses where none is used; '' where there is nothing to say."""
    there = [topic for topic in bag.candidates(*HEAD_POSES) if topic != HEAD_POSE]
    if config.head_pose.source != "none" or not there:
        return ""
    return f"no head pose is used; {', '.join(there)} could be one: --set head_pose.source=..., head_pose.topic=..."


def images_at(frames: BagFrames, stamps_ns: set[int], tolerance_s: float) -> dict[int, np.ndarray]:
    """Return the first camera's image at some stamps of frames: (H, W) or (H, W, 3) RGB uint8.

    A frame has the stamp of its newest image: that of the first camera may be older by the tolerance between cameras.
    """
    nearest: dict[int, tuple[int, Any]] = {}
    tolerance_ns = round(tolerance_s * 1e9) if len(frames.topics) > 1 else 0
    for item in frames.bag.messages([frames.topics[0]]):
        stamp_ns = to_ns(item.message.header.stamp)
        for wanted_ns in stamps_ns:
            age_ns = wanted_ns - stamp_ns
            if 0 <= age_ns <= tolerance_ns and (wanted_ns not in nearest or age_ns < nearest[wanted_ns][0]):
                nearest[wanted_ns] = age_ns, item.message
        if len(nearest) == len(stamps_ns) and not any(age_ns for age_ns, _ in nearest.values()):
            break
    found = {}
    for wanted_ns, (_, message) in nearest.items():
        with contextlib.suppress(images.ImageError):
            found[wanted_ns] = images.decode(message)
    return found
