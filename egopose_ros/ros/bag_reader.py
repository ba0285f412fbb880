"""Bags of any kind, db3, mcap or ROS 1, read as messages without ROS; one that breaks off gives all it still holds."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from egopose_ros.resources import share_file
from egopose_ros.ros.bag_salvage import cut_off, salvage

POSE_TYPE = "egopose_ros/msg/BodyPose"
BAGS = (".mcap", ".db3", ".bag")
_COMPRESSED = (".mcap.zstd", ".db3.zstd")
"""files of a bag whose recorder compressed each one"""


class BagError(ValueError):
    """A bag that does not hold what is needed: says what was expected and what it has."""


@dataclass(frozen=True)
class Recorded:
    """A message of a bag."""

    topic: str
    stamp_ns: int
    """when it was recorded"""
    message: Any
    """its fields have the names of ROS 2; arrays are NumPy's"""


class BagReader:
    """A bag, opened. A context manager."""

    def __init__(self, path: Path, beside: BagReader | None = None) -> None:
        """Open a bag folder or a .mcap, .db3 or .bag file; BagError for one that holds nothing to read.

        `beside` is a reader of the same bag that is closed later: what it salvaged of a damaged one serves both.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"bag {path}: expected a bag folder or a .mcap, .db3 or .bag file, got nothing there"
            )
        self.path = path
        self.loss = ""
        """what is missing of a damaged bag, empty for a whole one"""
        self._stack = contextlib.ExitStack()
        try:
            self._reader = self._open() if beside is None else self._share(beside)
        except BaseException:
            self._stack.close()
            raise
        # Humble's db3 brings no definitions: those of the newest distribution, and our own, stand in.
        self._store = typestore()
        self._defined = {c.msgtype for c in self._reader.connections if c.msgdef.format is not MessageDefinitionFormat.NONE}
        self._connections: dict[str, list[Connection]] = {}
        for connection in sorted(self._reader.connections, key=lambda c: c.topic):
            self._connections.setdefault(connection.topic, []).append(connection)

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    @property
    def kinds(self) -> dict[str, str]:
        """Type of each topic, as package/msg/Name."""
        return {topic: connections[0].msgtype for topic, connections in self._connections.items()}

    @property
    def counts(self) -> dict[str, int]:
        """Messages of each topic."""
        return {topic: sum(c.msgcount for c in connections) for topic, connections in self._connections.items()}

    @property
    def start_s(self) -> float:
        """When the first message was recorded."""
        return self._reader.start_time / 1e9

    def contents(self) -> str:
        """Return the topics and their types in one line."""
        return ", ".join(f"{topic} ({kind}, {self.counts[topic]})" for topic, kind in self.kinds.items()) or "no topics"

    def candidates(self, *types: str) -> list[str]:
        """Return the topics of some types that have messages."""
        return [topic for topic, kind in self.kinds.items() if kind in types and self.counts[topic]]

    def require(self, topic: str, *types: str) -> None:
        """Raise BagError unless the topic is there, with one of the types and with messages."""
        if topic not in self._connections:
            raise BagError(f"bag {self.path}: expected topic {topic}, got {self.contents()}")
        if types and self.kinds[topic] not in types:
            raise BagError(f"bag {self.path}: {topic}: expected {' or '.join(types)}, got {self.kinds[topic]}")
        if not self.counts[topic]:
            raise BagError(f"bag {self.path}: {topic}: expected messages, got none")

    def messages(
        self, topics: Iterable[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[Recorded]:
        """Yield the messages of some topics in the order of recording; where the bag breaks off, `loss` says it.

        Only those recorded from `start_ns` until before `stop_ns`.
        """
        connections = [c for topic in dict.fromkeys(topics) for c in self._connections.get(topic, [])]
        if not connections:
            return
        for connection, stamp_ns, data in self._raw(connections, start_ns, stop_ns):
            yield Recorded(connection.topic, stamp_ns, self._deserialize(connection, data))

    def first(self, topic: str) -> Any:
        """Return the first message of a topic, None without one."""
        return next((recorded.message for recorded in self.messages([topic])), None)

    def _raw(
        self, connections: list[Connection], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        messages = self._reader.messages(connections, start_ns, stop_ns)
        count = 0
        while True:
            try:
                item = next(messages, None)
            except Exception as error:  # whatever the decoder of a damaged file meets: SQLite, zstd, struct
                self.loss = f"breaks off after {count} messages: {_line(error)}"
                return
            if item is None:
                return
            count += 1
            yield item

    def _deserialize(self, connection: Connection, data: bytes) -> Any:
        kind = connection.msgtype
        store = self._reader.typestore if kind in self._defined else self._store
        if kind not in store.fielddefs:
            raise BagError(
                f"bag {self.path}: {connection.topic}: expected a known type or one that the bag defines, got {kind}"
            )
        try:
            return store.deserialize_cdr(data, kind) if self._reader.is2 else store.deserialize_ros1(data, kind)
        except Exception as error:  # rosbags meets a wrong layout with struct, index and assertion errors
            raise BagError(
                f"bag {self.path}: {connection.topic}: expected a {kind}, got bytes that are none: {_line(error)}"
            ) from error

    def _open(self) -> AnyReader:
        parts = _parts(self.path)
        damage = cut_off(self.path)
        if not damage:
            try:
                return self._enter(parts)
            except PermissionError:
                raise
            except Exception as error:  # whatever the decoder of a damaged file meets
                damage = _line(error)
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="egopose_bag_")))
        count, copy = salvage(self.path, folder)
        if not count:
            raise BagError(f"bag {self.path}: expected a db3, mcap or ROS 1 bag, got one without a whole message: {damage}")
        self.loss = f"truncated or unfinished ({damage}): its {count} whole messages are used, what follows is lost"
        try:
            return self._enter([copy])
        except Exception as error:  # definitions that contradict each other
            text = f"expected a db3, mcap or ROS 1 bag, got one that is damaged: {_line(error)}"
            raise BagError(f"bag {self.path}: {text}") from error

    def _share(self, other: BagReader) -> AnyReader:
        self.loss = other.loss
        return self._enter(other._opened)

    def _enter(self, paths: list[Path]) -> AnyReader:
        reader = AnyReader(paths, default_typestore=typestore())
        reader.open()
        self._opened = paths
        self._stack.callback(reader.close)
        return reader


def said_loss(bag: BagReader) -> list[str]:
    """Return the line that tells what of a damaged bag is missing; nothing for a whole one."""
    return [f"bag {bag.path}: {bag.loss}"] if bag.loss else []


def is_bag(path: Path) -> bool:
    """Say whether a path looks like a bag: a file with such an ending, or a folder with such files."""
    return any(map(is_bag_file, path.iterdir() if path.is_dir() else (path,)))


def is_bag_file(path: Path) -> bool:
    """Say whether a file has the name of a bag, or of a part of one."""
    return path.name.lower().endswith((*BAGS, *_COMPRESSED))


def _parts(path: Path) -> list[Path]:
    """Return what to open: the path, or the files of a folder that has no metadata; BagError for those of several bags."""
    if not path.is_dir() or (path / "metadata.yaml").is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in BAGS)
    if len(files) > 1 and not all(file.name.startswith(path.name) for file in files):
        listed = ", ".join(file.name for file in files[:10])
        raise BagError(f"bag {path}: expected metadata.yaml, or files named as their folder, got {listed}; name one of them")
    return files or [path]


def typestore() -> Any:
    """Return the types of the newest ROS 2 and our own pose."""
    store = get_typestore(Stores.LATEST)
    store.register(get_types_from_msg(share_file("msg/BodyPose.msg").read_text(), POSE_TYPE))
    return store


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
