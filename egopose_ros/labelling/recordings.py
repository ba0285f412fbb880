"""Recordings to label: bags, videos and folders of images, found and opened alike."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egopose_ros import pipeline as pipelines
from egopose_ros.camera.rig import Rig
from egopose_ros.config import Config, Leaf, replace
from egopose_ros.datasets import footage
from egopose_ros.datasets.footage import Footage
from egopose_ros.files import CALIBRATION
from egopose_ros.labelling import manifest
from egopose_ros.ros import bag_runs
from egopose_ros.ros.bag_frames import BagFrame, BagFrames
from egopose_ros.ros.bag_reader import BagReader, is_bag, is_bag_file

FRAME_ID = "camera"
"""of footage, which names no frame"""


@dataclass(frozen=True)
class Reading:
    """How recordings are read."""

    topics: tuple[str, ...] = ()
    """image topics of the rig, where bags have several"""
    fps: float = footage.FPS
    """rate of folders of images"""
    overrides: dict[str, Leaf] = field(default_factory=dict)
    """settings of the estimator"""

    def as_json(self) -> dict[str, Any]:
        """Return what the frames depend on: neither the network nor where it runs."""
        chosen = sorted(item for item in self.overrides.items() if not item[0].startswith(("network.", "runtime.")))
        overrides = {name: list(value) if isinstance(value, tuple) else value for name, value in chosen}
        return {"topics": list(self.topics), "fps": self.fps, "overrides": overrides}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Reading:
        return Reading(tuple(values["topics"]), values["fps"], dict(values["overrides"]))


class FootageFrames:
    """Footage as frames of a bag."""

    topics: tuple[str, ...] = (FRAME_ID,)
    global_frame = ""

    def __init__(self, source: Footage) -> None:
        self.title = str(source.path)
        self.rejected: Counter[str] = Counter()
        self._source = source

    def __iter__(self) -> Iterator[BagFrame]:
        for item in self._source:
            yield BagFrame(item.frame, FRAME_ID, 0, (), item.frame.stamp_ns / 1e9)


@dataclass(frozen=True)
class Recording:
    """A recording, opened."""

    config: Config
    """of an estimator for it"""
    rig: Rig
    frames: BagFrames | FootageFrames
    source: BagReader | Footage

    @property
    def is_bag(self) -> bool:
        return isinstance(self.source, BagReader)

    @property
    def loss(self) -> str:
        """What is missing of a damaged recording, known after its last frame."""
        return self.source.loss


@contextlib.contextmanager
def opened(path: Path, reading: Reading) -> Iterator[Recording]:
    """Open a recording of any kind; ValueError or OSError says why it cannot be read.

    Footage is calibrated by the setting `camera.calibration`, or by a calibration.yaml beside the images or the video.
    """
    if is_bag(path):
        with BagReader(path) as bag:
            config = bag_runs.settings(bag, reading.topics, reading.overrides)
            frames = BagFrames(bag, config)
            yield Recording(config, bag_runs.rig_of(frames, config), frames, bag)
        return
    with Footage(path, reading.fps) as source:
        file = calibration_of(path, reading)
        if file is None:
            raise FileNotFoundError(
                f"{path}: expected its calibration, by --calibration or in {_beside(path)}, got neither"
            )
        config = replace(Config(), {**reading.overrides, "camera.calibration": str(file)})
        rig = pipelines.load_rig(config.camera.calibration)
        if len(rig.cameras) != 1:
            raise ValueError(f"{config.camera.calibration}: expected one camera for {path}, got {len(rig.cameras)}")
        yield Recording(config, rig, FootageFrames(source), source)


def calibration_of(path: Path, reading: Reading) -> Path | None:
    """Return the calibration file of a recording: that of the setting, else its own; None where it has none."""
    named = reading.overrides.get("camera.calibration")
    if named:
        return Path(str(named))
    return _beside(path) if _beside(path).is_file() else None


def _beside(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / CALIBRATION


def find(inputs: list[Path], out: Path | None = None) -> list[Path]:
    """Return the recordings that some paths name or hold, each once and resolved, without what is in folders of labels.

    `out` is one that may not have its manifest yet. A path with nothing there counts as a recording: it is reported
    with those that fail. ValueError for a folder without a recording, and for a recording in `out`.
    """
    found: dict[Path, None] = {}
    for path in inputs:
        inside = list(_within(path, out)) if path.is_dir() else [path]
        if not inside and not _is_of_labels(path, out):
            raise ValueError(f"{path}: expected bags, videos or images in it, got none")
        found.update((item.resolve(), None) for item in inside)
    if not found:
        named = ", ".join(str(path) for path in inputs)
        raise ValueError(f"{named}: expected recordings outside of folders of labels, got none")
    for item in found:
        if out in item.parents:
            raise ValueError(f"--out {out}: expected a folder without the recordings, got {item} in it")
    return list(found)


def _is_of_labels(folder: Path, out: Path | None) -> bool:
    return folder.resolve() == out or (folder / manifest.FILE).is_file()


def _within(folder: Path, out: Path | None) -> Iterator[Path]:
    """Yield the folder if it is a recording itself, else the recordings in it, in the order of their names."""
    if _is_of_labels(folder, out):
        return
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file()]
    bags = [file for file in files if is_bag_file(file)]
    # A recorder that was killed left no metadata; its files then have the name of their folder.
    if bags and ((folder / "metadata.yaml").is_file() or all(file.name.startswith(folder.name) for file in bags)):
        yield folder
        return
    yield from bags
    yield from (file for file in files if file.suffix.lower() in footage.VIDEOS)
    if footage.images(folder):
        yield folder
    for entry in entries:
        if entry.is_dir():
            yield from _within(entry, out)
