"""A bag as a recording to look at: an index of its frames, images on demand, truth, and poses recorded or computed."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from egopose_ros.config import Config, Leaf
from egopose_ros.evaluation.contenders import Contender, contenders, told_apart
from egopose_ros.ros import bag_runs, images
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_poses import estimated_topics, is_truth, pose_topic, read_poses
from egopose_ros.ros.bag_reader import POSE_TYPE, BagError, BagReader, said_loss
from egopose_ros.ros.bag_truth import find_topic
from egopose_ros.ros.stamps import to_ns
from egopose_ros.structs import TrackingState
from egopose_ros.viewer.overlay import View
from egopose_ros.viewer.recording import Recording, Track, truth_in_camera

AHEAD = 8
"""Frames whose images are read at once."""
SLACK_S = 0.25
"""Images of one frame are recorded this close together."""


@dataclass(frozen=True)
class Asked:
    """What is to be shown of a bag."""

    bag: Path
    topics: tuple[str, ...] = ()
    overrides: tuple[tuple[str, Leaf], ...] = ()
    """of the settings that a bag gives"""
    contenders: tuple[Contender, ...] = ()
    """whose poses are computed"""
    predictions: tuple[Path, ...] = ()
    """bags of poses"""
    truth: str = ""
    """topic or file, '' for the bag's own where it has one"""
    truth_frame: str = ""
    truth_skeleton: str = ""


class _Stopped(Exception):
    """Nobody looks any more."""


@contextlib.contextmanager
def opened(asked: Asked) -> Iterator[Recording]:
    """Give the recording; ValueError or OSError for what does not fit.

    Poses asked for come first, then those recorded; without any, they are computed with the network that ships.
    """
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(BagReader(asked.bag))
        config = bag_runs.settings(reader, asked.topics, dict(asked.overrides))
        frames = BagFrames(reader, config, decode=False)
        tracks, losses = [], []
        labels = told_apart([(str(path), "") for path in asked.predictions])
        for path, label in zip(asked.predictions, labels):
            with BagReader(path) as predicted:
                tracks.append(_recorded(predicted, pose_topic(predicted), label))
                losses += said_loss(predicted)
        tracks += [_recorded(reader, topic, topic) for topic in estimated_topics(reader)]
        shown = asked.contenders if asked.contenders or tracks else contenders((), (), config.network)
        computed = _Computed(reader, config)
        stack.callback(computed.stop)
        tracks = [*computed.tracks(shown), *tracks]
        cameras = _cameras(frames, config)
        recording = _recording(asked, frames, config, cameras, tracks)
        stack.callback(recording.images.close)
        losses += _add_truth(recording, asked, frames, config)
        recording.losses = (*said_loss(reader), *losses)
        yield recording


def _recording(asked: Asked, frames: BagFrames, config: Config, cameras: tuple[Any, ...], tracks: list[Track]) -> Recording:
    from egopose_ros import pipeline  # brings torch, which a camera's projection is written in

    found = {item.frame.stamp_ns: item for item in map(_light, tqdm(frames, desc="index", unit="frame", disable=None))}
    if not found:
        raise BagError(f"bag {asked.bag}: expected frames on {', '.join(frames.topics)}, got none")
    places = [found[stamp_ns] for stamp_ns in sorted(found)]
    stamps_ns = np.array([place.frame.stamp_ns for place in places], np.int64)
    T_head_camera = cameras[0].T_head_camera if cameras else np.full((4, 4), np.nan)
    unknown = np.full((4, 4), np.nan)
    T_world_camera = np.stack(
        [unknown if p.frame.T_world_head is None else p.frame.T_world_head @ T_head_camera for p in places]
    )
    views = tuple(View(camera.name, camera.T_head_camera, pipeline.projection(camera)) for camera in cameras)
    recording = Recording(asked.bag.name, stamps_ns, T_world_camera, views, tuple(tracks))
    recording.images = _Images(frames.bag, frames.topics, places)
    return recording


def _add_truth(recording: Recording, asked: Asked, frames: BagFrames, config: Config) -> list[str]:
    """Show the truth that is asked for, or else the bag's own; return what is said where that cannot be used."""
    own = any(map(is_truth, frames.bag.candidates(POSE_TYPE)))
    if not asked.truth and not own:
        return []
    try:
        name = asked.truth or find_topic(frames.bag)
        truth = bag_runs.open_truth(frames, config, name, asked.truth_frame, asked.truth_skeleton)
    except ValueError as error:
        if asked.truth or asked.truth_frame:
            raise
        return [f"no ground truth is shown: {error}"]
    recording.truth = truth_in_camera(truth.at(recording.stamps_ns)[0], truth.frame, recording.T_world_camera)
    recording.truth_skeleton = truth.skeleton
    return []


@dataclass(frozen=True)
class _Place:
    """Where a frame's images are in the bag."""

    frame: Any
    stamps_ns: tuple[int, ...]
    """of its images, one a view"""
    recorded_s: float


def _light(item: Any) -> _Place:
    return _Place(item.frame, tuple(to_ns(message.header.stamp) for message in item.messages), item.recorded_s)


def _cameras(frames: BagFrames, config: Config) -> tuple[Any, ...]:
    """Return the rig's cameras; none where no calibration is known, which recorded poses can be shown without."""
    try:
        return bag_runs.rig_of(frames, config).cameras
    except BagError:
        if not config.camera.calibration:
            return ()
        from egopose_ros import pipeline  # with torch

        # Of a part of the rig: recorded poses can be shown, and what is computed has its own word on it.
        return pipeline.load_rig(config.camera.calibration).cameras


def _recorded(reader: BagReader, topic: str, label: str) -> Track:
    track = Track(label)
    for pose, status in read_poses(reader, topic):
        track.network, track.weights_trained = status.network, status.weights_trained
        track.add(
            pose,
            age_s=status.age_s,
            frames_dropped=status.frames_dropped,
            tracking_state=TrackingState(status.tracking_state),
        )
    track.complete = True
    return track


class _Computed:
    """Networks over the bag, each on a thread of its own with the bag opened anew."""

    def __init__(self, bag: BagReader, config: Config) -> None:
        self._bag, self._config = bag, config
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def tracks(self, shown: Sequence[Contender]) -> list[Track]:
        """Return a track for each contender. The first is loaded at once, so that what does not fit is an error here."""
        result = []
        for one in shown:
            loaded = None if result else self._load(one)
            result.append(Track(f"computed: {one.label}", lambda track, c=one, p=loaded: self._begin(track, c, p)))
        return result

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(10.0)

    def _load(self, contender: Contender) -> Any:
        config = contender.configured(self._config)
        with BagReader(self._bag.path, self._bag) as reader:
            return bag_runs.load(BagFrames(reader, config), config)

    def _begin(self, track: Track, contender: Contender, loaded: Any) -> None:
        thread = threading.Thread(target=self._run, args=(track, contender, loaded), name=track.label, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, track: Track, contender: Contender, pipeline: Any) -> None:
        try:
            pipeline = pipeline or self._load(contender)
            track.network, track.weights_trained = pipeline.network_name, pipeline.weights_trained
            with BagReader(self._bag.path, self._bag) as reader:
                bag_runs.run(pipeline, BagFrames(reader, self._config), track, None, on_frame=self._go_on)
        except _Stopped:
            pass
        except Exception as error:  # the shell of a thread: whatever a network meets is said on the page
            track.problem = f"{type(error).__name__}: {error}"
        finally:
            track.complete = True

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise _Stopped


class _Images:
    """Images of frames, read some at a time: for one thread."""

    def __init__(self, bag: BagReader, topics: tuple[str, ...], places: list[_Place]) -> None:
        self._bag, self._topics, self._places = bag, topics, places
        self._reader: BagReader | None = None
        self._read: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def __call__(self, index: int) -> list[np.ndarray]:
        """Return the images of a frame, RGB; ValueError where they cannot be had."""
        wanted = list(zip(self._topics, self._places[index].stamps_ns))
        if any(key not in self._read for key in wanted):
            self._fetch(index)
        missing = [topic for topic, stamp_ns in wanted if (topic, stamp_ns) not in self._read]
        if missing:
            raise ValueError(f"expected images on {', '.join(missing)}, got none")
        return [images.decode(self._read[key]) for key in wanted]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _fetch(self, index: int) -> None:
        if self._reader is None:
            self._reader = BagReader(self._bag.path, self._bag)
        last = min(index + AHEAD, len(self._places)) - 1
        keep = {key for place in self._places[index : last + 1] for key in zip(self._topics, place.stamps_ns)}
        self._read.clear()
        start_ns = round((self._places[index].recorded_s - SLACK_S) * 1e9)
        stop_ns = round((self._places[last].recorded_s + SLACK_S) * 1e9)
        for recorded in self._reader.messages(self._topics, start_ns, stop_ns):
            key = recorded.topic, to_ns(recorded.message.header.stamp)
            if key in keep:
                self._read.setdefault(key, recorded.message)
