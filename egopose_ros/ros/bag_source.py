"""Bags as serialized messages: which topics fit the installed types, and the bytes to publish on each."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator

from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    MessageDefinitionFormat,
    Nodetype,
    QosDurability,
    QosReliability,
)
from rosbags.typesys import Stores, get_typestore
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from egopose_ros.ros.bag_reader import BagError

_BASE_TYPES = {"float32": "float", "float64": "double", "bool": "boolean", "byte": "octet", "char": "uint8"}
_BOUND = re.compile(r", \d+(?=>)|<\d+>")
_IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_DEFAULT_DEPTH = 10
# A late subscriber of a latched topic gets every message that several recorded publishers had latched.
_LATCHED_DEPTH = 100


@dataclass(frozen=True)
class Track:
    """One topic of a bag whose messages can be published."""

    topic: str
    kind: str
    """package/msg/Name"""
    message_type: type
    qos: QoSProfile
    latched: bool
    is_image: bool
    is_camera_info: bool
    count: int


@dataclass(frozen=True)
class Message:
    """A serialized message (CDR) and when it was recorded."""

    track: Track
    stamp_ns: int
    data: bytes


class BagSource:
    """A bag of any kind, db3, mcap or ROS 1, opened for playing. A context manager."""

    def __init__(self, path: Path, topics: tuple[str, ...] = ()) -> None:
        """Open the bag and sort its topics into `tracks` and `skipped` (topic: reason).

        BagError for a file that is no bag or is damaged, a topic that is not there, and a bag with nothing to play.
        """
        self.path = path
        if not path.exists():
            raise FileNotFoundError(
                f"bag {path}: expected a bag folder or a .mcap, .db3 or .bag file, got nothing there"
            )
        try:
            # Bags without definitions (Humble's db3) need a store to open; their messages are taken as they are.
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.LATEST))
            self._reader.open()
        # A damaged file raises whatever its decoder meets: errors of rosbags, SQLite, zstd, struct, assertions.
        except Exception as error:
            if isinstance(error, PermissionError):
                raise
            raise BagError(
                f"bag {path}: expected a whole db3, mcap or ROS 1 bag, got one that cannot be opened: {error}"
            ) from error
        self.tracks: list[Track] = []
        self.skipped: dict[str, str] = {}
        self._by_connection: dict[int, tuple[Connection, Track]] = {}
        self._typestore = _ros2_typestore(self._reader)
        try:
            self._sort(topics)
        except Exception:
            self.close()
            raise

    def __enter__(self) -> BagSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()

    @property
    def kinds(self) -> dict[str, str]:
        """Type of each track's topic, as package/msg/Name."""
        return {track.topic: track.kind for track in self.tracks}

    @property
    def start_ns(self) -> int:
        return self._reader.start_time

    @property
    def end_ns(self) -> int:
        """When the last message was recorded."""
        return self._reader.end_time - 1

    def messages(self, start_ns: int | None = None) -> Iterator[Message]:
        """Yield the messages in the order of recording; latched ones from before the start come first.

        BagError where the bag breaks off.
        """
        if start_ns is not None:
            yield from self._read([c for c, track in self._by_connection.values() if track.latched], None, start_ns)
        yield from self._read([c for c, _ in self._by_connection.values()], start_ns, None)

    def first(self, track: Track) -> Message | None:
        """Return the first message of a track."""
        return next(self._read([c for c, owner in self._by_connection.values() if owner is track], None, None), None)

    def _read(self, connections: list[Connection], start_ns: int | None, stop_ns: int | None) -> Iterator[Message]:
        if not connections:
            return
        count = 0
        try:
            for connection, stamp_ns, data in self._reader.messages(connections, start_ns, stop_ns):
                _, track = self._by_connection[_key(connection)]
                if not self._reader.is2:
                    data = self._typestore.ros1_to_cdr(data, connection.msgtype)
                yield Message(track, stamp_ns, bytes(data))
                count += 1
        except Exception as error:
            raise BagError(
                f"bag {self.path}: damaged or truncated, breaks off after {count} messages: {error}"
            ) from error

    def _sort(self, topics: tuple[str, ...]) -> None:
        recorded: dict[str, list[Connection]] = {}
        for connection in self._reader.connections:
            recorded.setdefault(connection.topic, []).append(connection)
        missing = [topic for topic in topics if topic not in recorded]
        if missing:
            raise BagError(f"bag {self.path}: no topic {', '.join(missing)}; it has {', '.join(sorted(recorded))}")
        for topic, connections in recorded.items():
            if topics and topic not in topics:
                continue
            reason = self._obstacle(connections)
            if reason:
                self.skipped[topic] = reason
                continue
            track = _track(topic, connections)
            self.tracks.append(track)
            self._by_connection.update({_key(connection): (connection, track) for connection in connections})
        if not self.tracks:
            reasons = "; ".join(f"{topic}: {reason}" for topic, reason in self.skipped.items()) or "it has no topics"
            raise BagError(f"bag {self.path}: expected a topic that can be published, got none ({reasons})")
        if not any(track.count for track in self.tracks):
            raise BagError(f"bag {self.path}: expected messages, got none")

    def _obstacle(self, connections: list[Connection]) -> str:
        """Return why the messages of a topic cannot be published, '' where they can."""
        names = sorted({connection.msgtype for connection in connections})
        if len(names) > 1:
            return f"recorded with several types, {', '.join(names)}"
        live = find_type(names[0])
        if live is None:
            return f"its type {names[0]} is not installed"
        if all(connection.msgdef.format is MessageDefinitionFormat.NONE for connection in connections):
            return ""
        difference = _difference(self._typestore.fielddefs, names[0], live, compare_names=self._reader.is2)
        return f"its {names[0]} differs from the installed one: {difference}" if difference else ""


def find_type(name: str) -> type | None:
    """Return the installed class of 'package/msg/Name', None where there is none."""
    package, _, rest = name.partition("/")
    try:
        module = importlib.import_module(f"{package}.msg")
    except ImportError:
        return None
    return getattr(module, rest.rpartition("/")[2], None)


def _key(connection: Connection) -> int:
    return id(connection.owner) * 65536 + connection.id


def _ros2_typestore(reader: AnyReader) -> Any:
    """Return the bag's types as ROS 2 lays them out: a ROS 1 header has one field more."""
    if reader.is2:
        return reader.typestore
    header = get_typestore(Stores.LATEST).fielddefs["std_msgs/msg/Header"]
    store = get_typestore(Stores.EMPTY)
    store.register({**reader.typestore.fielddefs, "std_msgs/msg/Header": header})
    return store


def _track(topic: str, connections: list[Connection]) -> Track:
    message_type = find_type(connections[0].msgtype)
    assert message_type is not None
    count = sum(connection.msgcount for connection in connections)
    qos, latched = _offered(connections, count)
    kind = connections[0].msgtype
    is_camera_info = kind == "sensor_msgs/msg/CameraInfo"
    return Track(topic, kind, message_type, qos, latched, kind in _IMAGE_TYPES, is_camera_info, count)


def _offered(connections: list[Connection], count: int) -> tuple[QoSProfile, bool]:
    """Return the QoS to offer, the strongest that any recorded publisher did, and whether the topic is latched."""
    recorded = []
    latched = any(c.topic == "/tf_static" for c in connections)
    for connection in connections:
        if isinstance(connection.ext, ConnectionExtRosbag1):
            latched = latched or bool(connection.ext.latching)
        else:
            recorded.extend(connection.ext.offered_qos_profiles)
    latched = latched or any(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in recorded)
    best_effort = bool(recorded) and all(qos.reliability is QosReliability.BEST_EFFORT for qos in recorded)
    depth = max([_DEFAULT_DEPTH, *(qos.depth for qos in recorded)])
    if latched:
        depth = max(depth, min(count, _LATCHED_DEPTH))
    qos = QoSProfile(
        depth=min(depth, 1000),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
    return qos, latched


def _difference(bag_types: dict[str, Any], name: str, live: type, *, compare_names: bool) -> str:
    """Return the first field whose layout differs, '' where the bytes of one type are those of the other.

    ROS 1 wrote some fields' names in capitals (CameraInfo.K), which the bytes do not show; nor do they show bounds.
    """
    fields = [item for item in bag_types[name][1] if item[0] != "structure_needs_at_least_one_member"]
    recorded = [(field, _render(description), _nested(description)) for field, description in fields]
    installed = [(k, _BOUND.sub("", kind)) for k, kind in live.get_fields_and_field_types().items()]
    for index in range(max(len(recorded), len(installed))):
        if index >= len(recorded):
            return f"the bag lacks {installed[index][0]}"
        field, kind, nested = recorded[index]
        if index >= len(installed):
            return f"the bag has {field} besides"
        live_field, live_kind = installed[index]
        if kind != live_kind or (compare_names and field != live_field):
            return f"{field} ({kind}) in the bag, {live_field} ({live_kind}) here"
        if nested:
            live_nested = find_type(nested)
            inner = "is not installed" if live_nested is None else _difference(
                bag_types, nested, live_nested, compare_names=compare_names
            )
            if inner:
                return f"{field}: {inner}"
    return ""


def _render(description: Any) -> str:
    """Write a field's type as the generated classes do, without bounds."""
    kind, value = description
    if kind is Nodetype.BASE:
        return _BASE_TYPES.get(value[0], value[0])
    if kind is Nodetype.NAME:
        return value.replace("/msg/", "/")
    inner = _render(value[0])
    return f"{inner}[{value[1]}]" if kind is Nodetype.ARRAY else f"sequence<{inner}>"


def _nested(description: Any) -> str:
    kind, value = description
    if kind is Nodetype.NAME:
        return value
    return "" if kind is Nodetype.BASE else _nested(value[0])
