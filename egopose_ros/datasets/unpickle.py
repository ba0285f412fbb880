"""Read pickles that hold NumPy arrays and plain containers, and nothing that could run code."""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from egopose_ros.datasets.interface import DatasetError, existing


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, which protocol 2 uses to store bytes, for its one honest use."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes stored as {encoding}, expected latin1")
    return text.encode("latin1")


def _admitted() -> dict[tuple[str, str], Any]:
    reconstruct = np.zeros(1).__reduce__()[0]
    from_buffer = np.zeros(1).__reduce_ex__(5)[0]
    scalar = np.float64(0).__reduce__()[0]
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("_codecs", "encode"): _encode,
    }
    for package in ("numpy.core", "numpy._core"):  # the name before and since NumPy 2
        names[(f"{package}.multiarray", "_reconstruct")] = reconstruct
        names[(f"{package}.multiarray", "scalar")] = scalar
        names[(f"{package}.numeric", "_frombuffer")] = from_buffer
    return names


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        admitted = _admitted()
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}; only arrays and plain containers are read")
        return admitted[(module, name)]


def load_pickle(path: Path) -> Any:
    """Return the content of a pickle; DatasetError names the file and what it holds that is not admitted."""
    with existing(path, "a pickle").open("rb") as file:
        return _load(file, path)


def load_npy(path: Path) -> Any:
    """Return an array of a .npy file; a pickled object (a dictionary, say) is unwrapped, under the same rule."""
    with existing(path, "a .npy file").open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read(file)
            if dtype.hasobject:
                array = _load(file, path)
                return array.item() if array.ndim == 0 else array
            file.seek(0)
            return np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{path}: not a whole .npy file: {error}") from error


def _load(file: BinaryIO, path: Path) -> Any:
    try:
        return _ArraysOnly(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, ValueError, TypeError) as error:
        raise DatasetError(f"{path}: cannot read this pickle: {error}") from error
