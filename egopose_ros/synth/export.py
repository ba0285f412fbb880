"""Many recordings to disk: named by their seeds, whole or not at all, listed in a manifest, and resumed where ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from tqdm import tqdm

from egopose_ros import devices
from egopose_ros.camera import calibration
from egopose_ros.camera.rig import Rig
from egopose_ros.config import ConfigError, option
from egopose_ros.synth import splits
from egopose_ros.synth.bags import write_bag
from egopose_ros.synth.clip_files import write_clip
from egopose_ros.synth.motion.library import clip_folder, mark_of
from egopose_ros.synth.world import Recording, record

MANIFEST = "manifest.json"
ENTRY = "recording.json"
"""in a recording's folder: its line of the manifest"""
_WRITERS: dict[str, Callable[[Recording, Path], None]] = {"bag": write_bag, "clip": write_clip}
_MOST_BYTES = 6 * 2**30
"""of the images of one recording, which are held in memory"""


@dataclass(frozen=True)
class SynthConfig:
    """What to make."""

    split: str = option("train", "Split of the benchmark.", choices=tuple(splits.SPLITS))
    seed: int = option(0, "Seed of the first recording; the others follow.", minimum=0)
    count: int = option(1, "Recordings.", minimum=1)
    seconds: float = option(10.0, "Length of each recording.", minimum=0.1, maximum=600.0, unit="s")
    fps: float = option(30.0, "Frame rate.", minimum=1.0, maximum=240.0, unit="Hz")
    views: int = option(
        1, "Cameras of the drawn rigs, in the canonical camera, where no rig is given.", minimum=1, maximum=2
    )
    rig: str = option("", "Calibration file of the rig to film with, at its own size. Empty: rigs drawn by seed.")
    format: str = option("bag", "bag: rosbag (mcap). clip: JPEG images and truth.npz.", choices=tuple(_WRITERS))
    clips: str = option("", "Folder of .bvh and .glb motion. Empty: EGOPOSE_MOTION_DIR, or procedural motion only.")
    device: str = option("auto", "auto, cpu, cuda or cuda:N. Recordings are equal only on the same kind of device.")

    @property
    def frames(self) -> int:
        return max(int(round(self.seconds * self.fps)), 1)

    def resolve_device(self) -> str:
        """Return the device to render on; ConfigError for one that is not there."""
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return str(devices.require(self.device, others="auto, "))

    def load_rig(self) -> Rig | None:
        """Return the rig to film with, None where it is drawn; ConfigError where its images would not fit in memory."""
        rig = calibration.load(self.rig) if self.rig else None
        sizes = [camera.model.size for camera in rig.cameras] if rig else [(256, 256)] * self.views
        size = sum(3 * width * height for width, height in sizes) * self.frames
        if size > _MOST_BYTES:
            limit = _MOST_BYTES * self.seconds / size
            raise ConfigError(f"seconds: expected up to {limit:.1f} for images of this size, got {self.seconds:g}")
        return rig

    def clips_folder(self) -> Path | None:
        """Return the folder of clips; FileNotFoundError if it is not there."""
        folder = Path(self.clips) if self.clips else clip_folder()
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"clips: expected a folder of .bvh and .glb clips, got '{folder}'")
        return folder


def export(config: SynthConfig, folder: Path) -> list[Path]:
    """Write the recordings below a folder and return their paths; those that are there already are left as they are.

    ConfigError where the folder holds recordings made with other settings, or the device is not there.
    """
    device, rig, clips = config.resolve_device(), config.load_rig(), config.clips_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        listed = _open_manifest(config, folder)["recordings"]
    views = len(rig.cameras) if rig else config.views
    paths, bar = [], tqdm(desc=f"synth {config.split}", total=config.count * config.frames * views, unit="frame")
    for seed in range(config.seed, config.seed + config.count):
        path = folder / f"{config.split}{'-clips' if clips else ''}_{seed:07d}"
        paths.append(path)
        if path.exists():
            known = _entry_of(path)
            if listed.get(path.name) != known:  # ended before the manifest was written
                _list(config, folder, path.name, known)
            bar.total -= config.frames * views
            bar.refresh()
            continue
        recording = record(
            seed,
            config.split,
            frames=config.frames,
            fps=config.fps,
            views=config.views,
            rig=rig,
            device=device,
            clips=clips,
            progress=bar.update,
        )
        entry = _entry(recording)
        _write(recording, entry, path, _WRITERS[config.format])
        _list(config, folder, path.name, entry)
    bar.close()
    return paths


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs off a folder's manifest: several may render into one folder, each its own seeds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _list(config: SynthConfig, folder: Path, name: str, entry: dict[str, Any]) -> None:
    """Write a recording into the manifest as it is now."""
    with _alone(folder):
        manifest = _open_manifest(config, folder)
        manifest["recordings"][name] = entry
        _replace(folder / MANIFEST, manifest)


def _write(recording: Recording, entry: dict[str, Any], path: Path, writer: Callable[[Recording, Path], None]) -> None:
    """Write in a folder beside the path and move out of it, so that what carries the name is whole."""
    staging = path.with_name(f".{path.name}.partial")
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir()
    writer(recording, staging / path.name)
    _replace(staging / path.name / ENTRY, entry)
    os.replace(staging / path.name, path)
    staging.rmdir()


def _replace(path: Path, document: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _entry_of(path: Path) -> dict[str, Any]:
    """Return what a finished recording says of itself; ConfigError where the path is something else."""
    if not (path / ENTRY).is_file():
        raise ConfigError(
            f"{path}: expected a recording with {ENTRY} or nothing there, got something else; move it away"
        )
    return json.loads((path / ENTRY).read_text(encoding="utf-8"))


def _open_manifest(config: SynthConfig, folder: Path) -> dict[str, Any]:
    """Return the folder's manifest, or a new one."""
    settings = {
        name: value for name, value in asdict(config).items() if name not in ("split", "seed", "count", "device")
    }
    settings["rig"] = Path(config.rig).read_text(encoding="utf-8") if config.rig else ""
    settings["clips"] = mark_of(config.clips_folder())
    fresh = {"egopose_synth": 1, "world": splits.VERSION, "settings": settings, "recordings": {}}
    path = folder / MANIFEST
    if not path.is_file():
        return fresh
    there = json.loads(path.read_text(encoding="utf-8"))
    old = {"world": there.get("world"), **there.get("settings", {})}
    old["clips"] = mark_of(None) if old.get("clips") is False else old.get("clips")  # as it was said before
    new = {"world": splits.VERSION, **settings}
    different = sorted(name for name in new if old.get(name) != new[name])
    if different:
        what = ", ".join(f"{name} {old.get(name)!r} (now {new[name]!r})" for name in different)
        raise ConfigError(f"{path}: expected recordings made with the same settings, got {what}; use another folder")
    return there


def _entry(recording: Recording) -> dict[str, Any]:
    actions, counts = np.unique(np.array(recording.action), return_counts=True)
    return {
        "seed": recording.seed,
        "split": recording.split,
        "frames": len(recording.stamps_ns),
        "fps": recording.fps,
        "motion": recording.motion,
        "body": recording.body,
        "actions": dict(zip(actions.tolist(), counts.tolist())),
        "licences": list(recording.licences),
    }
