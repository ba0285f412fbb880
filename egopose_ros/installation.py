"""What `egopose doctor` looks at without ROS: Python, packages, torch and its device, weights, a calibration."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from egopose_ros.config import DEFAULT_NETWORK
from egopose_ros.resources import share_directory

PACKAGES = ("jaxtyping", "numpy", "opencv-python-headless", "pyyaml", "rosbags", "safetensors", "scipy", "torch", "tqdm")
"""What the core imports, by the names that pip knows."""
ALTERNATIVES = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv"), "pyyaml": ("PyYAML",)}
MODULES = {"opencv-python-headless": "cv2", "pyyaml": "yaml"}
"""what is imported, where it has another name"""
OLDEST = {"torch": (2, 4), "numpy": (1, 23)}


class Status(Enum):
    OK = "ok"
    NOTE = "note"
    """worth knowing, or not looked at"""
    WRONG = "wrong"
    """something that is needed does not work"""


@dataclass(frozen=True)
class Finding:
    """What was found about one item, and what to do where it is wrong."""

    item: str
    status: Status
    found: str
    mend: str = ""


def look(calibration: str = "") -> Iterator[Finding]:
    """Yield the findings, in the order in which one needs the other."""
    yield python()
    missing = packages()
    yield missing
    if missing.status is Status.WRONG:
        return
    yield device()
    yield from weights()
    yield check_calibration(calibration)


def python() -> Finding:
    """Look at the interpreter."""
    found = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info < (3, 10):
        return Finding("Python", Status.WRONG, found, "expected Python 3.10 or newer: make setup PYTHON=/path/to/python")
    return Finding("Python", Status.OK, found)


def packages() -> Finding:
    """Look whether everything that the core imports is installed, and new enough."""
    missing, old, found = [], [], []
    for name in PACKAGES:
        version = next(filter(None, map(_version, (name, *ALTERNATIVES.get(name, ())))), None)
        if version is None and _importable(MODULES.get(name, name)):
            found.append(name)  # a distribution's OpenCV has no metadata
            continue
        if version is None:
            missing.append(name)
            continue
        found.append(f"{name} {version}")
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        if numbers < OLDEST.get(name, (0,)):
            old.append(f"{name} {version} (expected {'.'.join(map(str, OLDEST[name]))} or newer)")
    if missing or old:
        text = "; ".join(filter(None, (missing and f"missing: {', '.join(missing)}", old and f"too old: {', '.join(old)}")))
        mend = (
            "make setup; beside a ROS distribution: rosdep install --from-paths . --ignore-src -y (OpenCV, SciPy, YAML), "
            "then pip install -r requirements/distribution.txt"
        )
        return Finding("packages", Status.WRONG, text, mend)
    return Finding("packages", Status.OK, ", ".join(found))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _importable(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None  # a folder without code has no origin


def device() -> Finding:
    """Look at torch and what it can run on."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", Status.WRONG, f"does not import: {error}", "make clean, then make setup")
    text = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Finding("device", Status.OK, f"{text}, CUDA {torch.version.cuda}: {', '.join(names)}")
    text += f", CPU with {torch.get_num_threads()} threads"
    if Path("/proc/driver/nvidia/version").is_file():
        mend = "make setup TORCH=cuda" if torch.version.cuda is None else f"a driver for CUDA {torch.version.cuda}"
        return Finding("device", Status.NOTE, f"{text}; an NVIDIA driver is there, and torch does not use it", mend)
    return Finding("device", Status.OK, text)


def weights(directory: Path | None = None) -> Iterator[Finding]:
    """Look whether every checkpoint that ships is there and whole, and whether the default network has one."""
    # torch is needed to import it, which `packages` found.
    from egopose_ros import checkpoint

    directory = directory or share_directory() / "weights"
    mend = f"bring the files of {directory} back (git checkout -- weights), or install the package again"
    try:
        entries = checkpoint.manifest(directory)
    except ValueError as error:
        yield Finding("weights", Status.WRONG, str(error), mend)
        return
    for entry in entries:
        try:
            checkpoint.verify(directory / entry.file, entry)
        except ValueError as error:
            yield Finding("weights", Status.WRONG, str(error), mend)
        else:
            text = f"{entry.file}: {entry.network}, {_count(entry.views, 'view')}, {entry.bytes / 1e6:.1f} MB, checksum right"
            yield Finding("weights", Status.OK, text)
    if DEFAULT_NETWORK not in {entry.network for entry in entries}:
        yield Finding(
            "weights", Status.WRONG, f"none in {directory} for {DEFAULT_NETWORK}, the default network",
            "name a checkpoint with network.checkpoint, or train one with egopose train",
        )


def check_calibration(path: str) -> Finding:
    """Look whether a calibration file is valid."""
    if not path:
        return Finding("calibration", Status.NOTE, "not looked at: name it with --calibration FILE")
    from egopose_ros.camera import calibration

    try:
        rig = calibration.load(path)
    except (OSError, ValueError) as error:
        return Finding("calibration", Status.WRONG, str(error), "see docs/calibration.md for what a file must say")
    cameras = ", ".join(f"{camera.name} {'x'.join(map(str, camera.model.size))}" for camera in rig.cameras)
    return Finding("calibration", Status.OK, f"{path}: {_count(len(rig.cameras), 'camera')}: {cameras}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
