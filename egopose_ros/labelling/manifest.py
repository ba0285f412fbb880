"""What is known of a folder of labels: who made them, and how each recording went. One JSON object a line.

The first line says what made the labels. Every later line is a recording, appended when it is finished; the last line
of a recording holds. A line that a crash cut short is none.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from egopose_ros.files import write_whole

FILE = "manifest.jsonl"
VERSION = 1
LABELLED, FAILED = "labelled", "failed"


class LabelError(ValueError):
    """Labels that do not fit what is asked: says what was expected and what there is."""


@dataclass(frozen=True)
class Entry:
    """How a recording went."""

    name: str
    """of its bag of labels in the folder"""
    source: str
    """absolute path of the recording"""
    status: str
    """labelled or failed"""
    bytes: int = 0
    """of the recording when it was labelled"""
    reason: str = ""
    """why it failed"""
    loss: str = ""
    """what is missing of a damaged recording that was labelled as far as it goes"""
    frames: int = 0
    confidence: float | None = None
    """mean over joints and frames, None for a network that gives none"""
    rejected: dict[str, int] = field(default_factory=dict)
    """frames that could not be used, by reason"""
    seconds: float = 0.0


class Manifest:
    """The manifest of a folder, open for one process to write. A context manager."""

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        """Open or begin it; LabelError where the folder is another teacher's or another process writes there."""
        self.folder = folder
        self._lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.entries = self._open({"version": VERSION, **header})
        except BlockingIOError:
            self._lock.close()
            raise LabelError(
                f"{folder}: expected no other run that writes there, got one; wait for it to end"
            ) from None
        except BaseException:
            self._lock.close()
            raise
        self._file: TextIO = (folder / FILE).open("a")

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.close()

    def add(self, entry: Entry) -> None:
        """Append an entry; it is on the disk when this returns."""
        self.entries[entry.source] = entry
        self._file.write(_line(asdict(entry)))
        self._file.flush()
        os.fsync(self._file.fileno())

    def is_done(self, source: Path) -> bool:
        """Say whether a recording has its labels."""
        entry = self.entries.get(str(source))
        return entry is not None and entry.status == LABELLED and (self.folder / entry.name).is_dir()

    def names(self, sources: list[Path]) -> dict[Path, str]:
        """Return a name for the labels of each recording: its file's, with its folder's where two are alike."""
        taken = {entry.name for entry in self.entries.values()}
        chosen: dict[Path, str] = {}
        for source in sources:
            stem = source.stem if source.is_file() else source.name
            candidates = [stem, f"{source.parent.name}_{stem}", *(f"{stem}_{n}" for n in range(2, len(taken) + 3))]
            known = self.entries.get(str(source))
            chosen[source] = known.name if known else next(name for name in candidates if name not in taken)
            taken.add(chosen[source])
        return chosen

    def _open(self, header: dict[str, Any]) -> dict[str, Entry]:
        path = self.folder / FILE
        if not path.is_file():
            write_whole(path, _line(header))
            return {}
        there, entries = read(self.folder)
        if there != header:
            parts = sorted(key for key in there.keys() | header.keys() if there.get(key) != header.get(key))
            difference = "; ".join(f"{part} {there.get(part)} there, {header.get(part)} now" for part in parts)
            raise LabelError(
                f"{self.folder}: expected a folder for labels of the same making, got {difference}; give another --out"
            )
        _end_the_last_line(path)
        return {entry.source: entry for entry in entries}


def read(folder: Path) -> tuple[dict[str, Any], list[Entry]]:
    """Return the header and the recordings of a folder of labels; LabelError where there is none or it is damaged."""
    path = folder / FILE
    if not path.is_file():
        raise LabelError(f"{folder}: expected labels, made by `egopose label` (with a {FILE}), got none")
    text = path.read_text()
    lines = text.splitlines()
    whole = lines if text.endswith("\n") else lines[:-1]
    try:
        header, *rest = (json.loads(line) for line in whole if line)
        entries = {item["source"]: Entry(**item) for item in rest}
    except (ValueError, TypeError, KeyError) as error:
        raise LabelError(f"{path}: expected a JSON object of a recording on each line, got another: {error}") from None
    if header.get("version") != VERSION:
        raise LabelError(f"{path}: expected version {VERSION}, got {header.get('version')}")
    return header, list(entries.values())


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values) + "\n"


def _end_the_last_line(path: Path) -> None:
    """Drop what a crash left of a line, so that the next one begins well."""
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
