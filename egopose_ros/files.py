"""Files that are whole or not there, and names in them that several rooms write and read."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

CALIBRATION = "calibration.yaml"
"""of the cameras that took what lies in its folder: what CameraInfo cannot express"""


def topic_part(camera: str) -> str:
    """Return a camera's name as a part of the topics and frames of a bag: Aria's camera-slam-left may be none."""
    return re.sub(r"^(?=\d)|[^A-Za-z0-9_]", "_", camera)


def require_folder(path: Path, option: str) -> None:
    """Raise FileNotFoundError unless a file can be made at a path: before the work, not after it."""
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: expected a folder to write in, got none")
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path}: expected the name of a file, got a folder")


def make_folder(path: Path, option: str, parents: bool = False) -> None:
    """Make a folder, with `parents` those above it too, unless it is there.

    NotADirectoryError where a file has its name, FileNotFoundError without a folder to make it in.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{option} {path}: expected a folder, or the name of a new one, got a file")
    if not parents and not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: expected a folder to make it in, got none")
    path.mkdir(exist_ok=True, parents=parents)


def require_picture(path: Path, option: str) -> None:
    """Raise ValueError unless a path is that of a picture."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{option} {path}: expected the name of a .png or .jpg file")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under another name beside it, then give it its name: a good file is never replaced by half a one."""
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
