"""Rows that come one by one and may be more than memory holds: beyond some megabytes they lie in a temporary file."""

from __future__ import annotations

import math
import os
import resource
import tempfile
from pathlib import Path
from typing import IO, Callable, Iterable, Iterator

import numpy as np

PIECE = 4096
"""rows that are worked on at once: some megabytes of poses"""
_IN_MEMORY = 4_000_000
"""bytes"""
_AT_ONCE = 1_000_000
"""bytes that are written at once"""
_BINS = 4096
"""of the histogram in which a percentile is looked for"""


class Rows:
    """Rows of one shape and type. What is read from them is a read-only array, mapped from the file where there is one.

    The file has no name and is gone with the last array of it. It lies in $TMPDIR, else in /var/tmp, for /tmp may be
    memory.
    """

    def __init__(self, shape: tuple[int, ...] = (), dtype: type = np.float64) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._tail = bytearray()
        self._file: IO[bytes] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: np.ndarray | float) -> None:
        """Keep a row; ValueError for another shape."""
        self.extend(np.asarray(row)[None])

    def extend(self, rows: np.ndarray) -> None:
        """Keep several; ValueError for another shape."""
        if rows.shape[1:] != self._shape:
            raise ValueError(f"rows: expected shape {self._shape}, got {rows.shape[1:]}")
        self._tail += rows.astype(self._dtype, copy=False).tobytes()
        self._count += len(rows)
        if self._file is None and len(self._tail) > _IN_MEMORY:
            self._file = tempfile.TemporaryFile(dir=temporary_directory())
        if self._file is not None and len(self._tail) > _AT_ONCE:
            self._flush(self._file)

    def array(self) -> np.ndarray:
        """Return all rows so far (N, ...)."""
        shape = (self._count, *self._shape)
        if self._file is None:
            return np.frombuffer(bytes(self._tail), self._dtype).reshape(shape)
        self._flush(self._file)
        return np.memmap(self._file, self._dtype, "r", shape=shape)

    def _flush(self, file: IO[bytes]) -> None:
        file.write(self._tail)
        file.flush()
        self._tail = bytearray()


def allow_many_files() -> None:
    """Let this process open as many files as the system lets it: each long array has one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Derived:
    """An array that is worked out from others, for the slice of rows that is asked for."""

    def __init__(self, shape: tuple[int, ...], get: Callable[[slice], np.ndarray]) -> None:
        self.shape = shape
        self._get = get

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._get(slice(*rows.indices(len(self))))

    def part(self, rows: slice) -> Derived:
        """Return some neighbouring rows, worked out when they are asked for."""
        first, stop, _ = rows.indices(len(self))
        return Derived((stop - first, *self.shape[1:]), lambda part: self[first + part.start : first + part.stop])


def gathered(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """Return pieces (n, ...), one at least, as one array (N, ...)."""
    rows = None
    for piece in pieces:
        if rows is None:
            rows = Rows(piece.shape[1:], piece.dtype.type)
        rows.extend(piece)
    if rows is None:
        raise ValueError("expected a piece at least, got none")
    return rows.array()


def joined(values: list[np.ndarray | None]) -> np.ndarray | None:
    """Return arrays one after the other; None where one is missing."""
    if any(value is None for value in values):
        return None
    return gathered(value[rows] for value in values for rows in slices(len(value)))


def blank(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Return an array of NaN to write to, which lies on disk where it is large."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= _IN_MEMORY:
        return np.full(shape, np.nan, dtype)
    with tempfile.TemporaryFile(dir=temporary_directory()) as file:
        values = np.memmap(file, dtype, "w+", shape=shape)
    for rows in slices(len(values)):
        values[rows] = np.nan
    return values


def slices(count: int, overlap: int = 0) -> Iterator[slice]:
    """Yield slices of PIECE rows or less that cover `count`, one at least, each with the last rows of the one before."""
    for first in range(0, max(count, 1), PIECE):
        yield slice(max(first - overlap, 0), min(first + PIECE, count))


def percentile(pieces: Callable[[], Iterable[np.ndarray]], percent: float) -> float:
    """Return a percentile of the finite values >= 0 of pieces, as np.percentile does; NaN without any.

    `pieces` is asked three times: for the largest, for how many lie in each of many bins, for those of the bins needed.
    """
    count, largest = 0, 0.0
    for values in pieces():
        known = values[np.isfinite(values)]
        count, largest = count + len(known), max(largest, float(known.max(initial=0.0)))
    if not count:
        return math.nan
    largest = largest or 1.0

    def bins(values: np.ndarray) -> np.ndarray:
        return np.minimum(values / largest * _BINS, _BINS - 1).astype(np.int64)

    histogram = np.zeros(_BINS, np.int64)
    for values in pieces():
        histogram += np.bincount(bins(values[np.isfinite(values)]), minlength=_BINS)
    place = (count - 1) * percent / 100.0
    ranks = math.floor(place), min(math.floor(place) + 1, count - 1)
    below = np.concatenate([[0], np.cumsum(histogram)])
    first, last = (int(np.searchsorted(below, rank, "right")) - 1 for rank in ranks)
    near = []
    for values in pieces():
        known = values[np.isfinite(values)]
        places = bins(known)
        near.append(known[(places >= first) & (places <= last)])
    low, high = (np.sort(np.concatenate(near))[rank - below[first]] for rank in ranks)
    return float(low + (high - low) * (place - ranks[0]))


def mean(pieces: Iterable[np.ndarray]) -> float:
    """Return the mean of all that is known in pieces; NaN where nothing is."""
    total, count = 0.0, 0
    for values in pieces:
        known = values[~np.isnan(values)]
        total, count = total + float(known.sum()), count + len(known)
    return total / count if count else math.nan


def temporary_directory() -> str | None:
    """Return the folder of temporary files; None for that of `tempfile`."""
    usual = Path("/var/tmp")
    return None if os.environ.get("TMPDIR") or not os.access(usual, os.W_OK) else str(usual)
