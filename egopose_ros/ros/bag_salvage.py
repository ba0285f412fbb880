"""What can still be read of a bag that breaks off: every whole message, copied into a bag that is whole.

A recorder that was killed leaves no index, and readers refuse the file. The records before the break are sound:
they are walked one after the other, with memory for one chunk.
"""

from __future__ import annotations

import bz2
import contextlib
import os
import re
import shutil
import sqlite3
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Iterator, NamedTuple

import lz4.frame
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

try:
    from compression import zstd
except ImportError:
    from backports import zstd

_ROWS_MISSING = 1000
"""rows in a row that cannot be read mean that no more will come"""
_MCAP_MAGIC, _ROS1_MAGIC = b"\x89MCAP0\r\n", b"#ROSBAG V2.0\n"
_SQLITE_MAGIC = b"SQLite format 3\0"
_NAME, _KIND = re.compile(r"[/~\w]+"), re.compile(r"[A-Za-z]\w*/(msg|srv|action)/[A-Za-z]\w*")
_STAMPS = range(2**32 * 1_000_000_000)
"""those that every storage can hold"""
_NO_RECORD = (struct.error, LookupError, ValueError)
"""what bytes that are no record are met with"""
_LARGE, _MOST = 2**20, 2**30
"""lengths from the first on are compared with what is left of the file; none above the second is believed"""


class _Whole(NamedTuple):
    """A whole message of a broken bag."""

    topic: str
    kind: str
    definition: str
    """empty where the bag has none"""
    stamp_ns: int
    data: bytes


def cut_off(path: Path) -> str:
    """Say why a db3 is shorter than it says of itself: SQLite opens it and fails at some message; '' for all else."""
    for file in _files(path):
        with file.open("rb") as stream:
            head = stream.read(100)
        if head.startswith(_SQLITE_MAGIC) and len(head) == 100:
            expected = _sqlite_size(head)
            if file.stat().st_size < expected:
                return f"{file.name}: expected {expected} bytes, got {file.stat().st_size}"
    return ""


def salvage(path: Path, folder: Path) -> tuple[int, Path]:
    """Copy the whole messages of a broken bag below a folder; return how many there were, and the copy."""
    files = _files(path)
    ros1 = bool(files) and _magic(files[0]).startswith(_ROS1_MAGIC)
    copy = folder / ("copy.bag" if ros1 else "copy")
    writer = Writer1(copy) if ros1 else Writer2(copy, version=9, storage_plugin=StoragePlugin.MCAP)
    count = 0
    connections: dict[tuple[str, str], object] = {}
    with writer:
        for file in files:
            for whole in _messages(file, folder):
                key = whole.topic, whole.kind
                if key not in connections:
                    connections[key] = _add(writer, whole)
                if connections[key] is not None and whole.stamp_ns in _STAMPS:
                    writer.write(connections[key], whole.stamp_ns, whole.data)
                    count += 1
    return count, copy


def _add(writer: Writer1 | Writer2, whole: _Whole) -> object | None:
    """Return the connection of a message's topic; None where its name or its definition is damaged."""
    if not _NAME.fullmatch(whole.topic) or not _KIND.fullmatch(whole.kind):
        return None
    try:
        return writer.add_connection(whole.topic, whole.kind, typestore=_store(whole))
    except Exception:  # rosbags meets a damaged definition with errors of its own, of syntax, lookup and assertion
        return None


def _store(whole: _Whole) -> Any:
    """Return the types of a message."""
    if not whole.definition:
        store = get_typestore(Stores.LATEST)
    else:
        store = get_typestore(Stores.EMPTY)
        store.register(_types(whole.definition, whole.kind))
    if whole.kind not in store.fielddefs:
        # A type that nobody defines: its messages are kept, and nobody can ask for them.
        store.register(get_types_from_msg("uint8 unknown", whole.kind))
    return store


def _types(definition: str, kind: str) -> dict:
    """Return the types of a definition in either language, as the bag has it."""
    rule = "=" * 80 + "\n"
    if not definition.startswith(rule + "IDL: "):
        return get_types_from_msg(definition, kind)
    types: dict = {}
    for part in definition.split(rule)[1:]:
        types.update(get_types_from_idl(part.split("\n", 1)[1]))
    return types


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".mcap", ".db3", ".bag"))


def _magic(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(16)


def _messages(file: Path, folder: Path) -> Iterator[_Whole]:
    magic = _magic(file)
    if magic.startswith(_MCAP_MAGIC):
        with file.open("rb") as stream:
            stream.seek(len(_MCAP_MAGIC))
            yield from _mcap(stream, {}, {})
    elif magic.startswith(_ROS1_MAGIC):
        with file.open("rb") as stream:
            stream.seek(len(_ROS1_MAGIC))
            yield from _ros1(stream, {})
    elif magic.startswith(_SQLITE_MAGIC):
        yield from _sqlite(_filled(file, folder))


def _mcap(stream: BinaryIO, schemas: dict[int, tuple[str, str]], channels: dict[int, tuple[int, str]]) -> Iterator[_Whole]:
    """Walk the records of an MCAP file or chunk (mcap.dev/spec) until they end or break off."""
    while len(head := stream.read(9)) == 9:
        code, size = head[0], struct.unpack_from("<Q", head, 1)[0]
        body = _read(stream, size)
        if code == 0x06:
            yield from _mcap(BytesIO(_mcap_chunk(body)), schemas, channels)
            continue
        if len(body) < size or code in (0x02, 0x0F):  # footer or the end of the data: only the index follows
            return
        try:
            message = _mcap_record(code, body, schemas, channels)
        except _NO_RECORD:
            return
        if message is not None:
            yield message


def _mcap_record(
    code: int, body: bytes, schemas: dict[int, tuple[str, str]], channels: dict[int, tuple[int, str]]
) -> _Whole | None:
    """Take over a schema or a channel; return a message whose channel and schema are known."""
    if code == 0x03:
        name, at = _text(body, 2)
        _, at = _text(body, at)
        schemas[struct.unpack_from("<H", body)[0]] = (name, _text(body, at)[0])
    elif code == 0x04:
        number, schema = struct.unpack_from("<HH", body)
        channels[number] = (schema, _text(body, 4)[0])
    elif code == 0x05:
        number, _, stamp_ns, _ = struct.unpack_from("<HIQQ", body)
        if number in channels and channels[number][0] in schemas:
            schema, topic = channels[number]
            return _Whole(topic, *schemas[schema], stamp_ns, body[22:])
    return None


def _read(stream: BinaryIO, size: int) -> bytes:
    """Return the next bytes, fewer at the end of the file; memory for no more than there are."""
    if size >= _LARGE:
        at = stream.tell()
        size = min(size, stream.seek(0, os.SEEK_END) - at, _MOST)
        stream.seek(at)
    return stream.read(size)


def _mcap_chunk(body: bytes) -> bytes:
    """Return the records of a chunk, of a broken one as far as they can be unpacked."""
    try:
        compression, at = _text(body, 28)
    except _NO_RECORD:
        return b""
    packed = body[at + 8 :]
    if not compression:
        return packed
    unpack = lz4.frame.LZ4FrameDecompressor() if compression == "lz4" else zstd.ZstdDecompressor()
    whole = bytearray()
    try:
        # In small steps: what came before the break stays.
        for start in range(0, len(packed), 4096):
            whole += unpack.decompress(packed[start : start + 4096])
    except (RuntimeError, EOFError, MemoryError, zstd.ZstdError):
        pass
    return bytes(whole)


def _text(body: bytes, at: int) -> tuple[str, int]:
    """Return a string behind its length, and where it ends; struct.error or ValueError where there is none."""
    end = at + 4 + struct.unpack_from("<I", body, at)[0]
    if end > len(body):
        raise ValueError(f"expected a string of {end - at - 4} bytes, got {len(body) - at - 4}")
    return body[at + 4 : end].decode(), end


def _ros1(stream: BinaryIO, topics: dict[int, tuple[str, str, str]]) -> Iterator[_Whole]:
    """Walk the records of a ROS 1 bag or chunk (wiki.ros.org/Bags/Format/2.0) until they end or break off."""
    while (record := _ros1_record(stream)) is not None:
        header, data = record
        try:
            if header.get(b"op") == b"\x05":
                yield from _ros1(BytesIO(_ros1_chunk(header[b"compression"], data)), topics)
            elif (message := _ros1_message(header, data, topics)) is not None:
                yield message
        except _NO_RECORD:
            return


def _ros1_message(header: dict[bytes, bytes], data: bytes, topics: dict[int, tuple[str, str, str]]) -> _Whole | None:
    """Take over a topic; return a message whose topic is known."""
    code = header.get(b"op")
    if code == b"\x07":
        fields = _ros1_fields(data)
        kind = fields[b"type"].decode().replace("/", "/msg/")
        number = struct.unpack("<I", header[b"conn"])[0]
        topics[number] = (header[b"topic"].decode(), kind, fields[b"message_definition"].decode())
    elif code == b"\x02":
        number = struct.unpack("<I", header[b"conn"])[0]
        seconds, nanoseconds = struct.unpack("<II", header[b"time"])
        if number in topics:
            return _Whole(*topics[number], seconds * 1_000_000_000 + nanoseconds, data)
    return None


def _ros1_record(stream: BinaryIO) -> tuple[dict[bytes, bytes], bytes] | None:
    """Return header and data of the next record; the data of a broken chunk as far as they go, else None."""
    parts = []
    for _ in range(2):
        size = stream.read(4)
        if len(size) < 4:
            return None
        expected = struct.unpack("<I", size)[0]
        part = _read(stream, expected)
        chunk = parts and _ros1_fields(parts[0]).get(b"op") == b"\x05"
        if len(part) < expected and not chunk:
            return None
        parts.append(part)
    return _ros1_fields(parts[0]), parts[1]


def _ros1_fields(data: bytes) -> dict[bytes, bytes]:
    fields, at = {}, 0
    while at + 4 <= len(data):
        end = at + 4 + struct.unpack_from("<I", data, at)[0]
        name, _, value = data[at + 4 : end].partition(b"=")
        fields[name] = value
        at = end
    return fields


def _ros1_chunk(compression: bytes, data: bytes) -> bytes:
    if compression == b"none":
        return data
    unpack = lz4.frame.LZ4FrameDecompressor() if compression == b"lz4" else bz2.BZ2Decompressor()
    try:
        return unpack.decompress(data)
    except (RuntimeError, OSError, EOFError, MemoryError):
        return b""


def _sqlite_size(head: bytes) -> int:
    """Return the size that a database's header speaks of: pages of a size, of which 1 stands for 64 KiB."""
    page = struct.unpack_from(">H", head, 16)[0]
    return (65536 if page == 1 else page) * struct.unpack_from(">I", head, 28)[0]


def _filled(file: Path, folder: Path) -> Path:
    """Return a copy whose missing pages are zeros: SQLite opens nothing that is shorter than it should be."""
    copy = folder / file.name
    shutil.copyfile(file, copy)
    with copy.open("r+b") as stream, contextlib.suppress(OSError):  # a damaged size may be more than a disk can hold
        stream.truncate(max(_sqlite_size(stream.read(100).ljust(100, b"\0")), file.stat().st_size))
    return copy


def _sqlite(file: Path) -> Iterator[_Whole]:
    """Walk the messages of a db3 by their rows, which needs no index, past those on pages that are missing."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as database:
        try:
            topics = {row[0]: row[1:] for row in database.execute("SELECT id, name, type FROM topics")}
            rows = database.execute("SELECT name FROM sqlite_master WHERE name = 'message_definitions'")
            query = "SELECT topic_type, encoded_message_definition FROM message_definitions"
            definitions = dict(database.execute(query)) if rows.fetchone() else {}
        except sqlite3.DatabaseError:
            return
        row = failures = 0
        while failures < _ROWS_MISSING:
            row += 1
            try:
                query = "SELECT topic_id, timestamp, data FROM messages WHERE id = ?"
                found = database.execute(query, (row,)).fetchone()
            except sqlite3.DatabaseError:
                found = None
            if found is None or found[0] not in topics or not found[2]:
                failures += 1
                continue
            failures = 0
            whole = _Whole(*topics[found[0]], definitions.get(topics[found[0]][1], ""), *found[1:])
            # A damaged row may have a value of any type.
            if [*map(type, whole)] == [str, str, str, int, bytes]:
                yield whole
