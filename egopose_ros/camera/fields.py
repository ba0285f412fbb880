"""Checked access to what a calibration file holds."""

from __future__ import annotations

import math
from typing import Any, Mapping

import numpy as np


def require(data: Mapping[str, Any], key: str, expected: str = "it") -> Any:
    """Return a value; ValueError says what was expected and which keys there are."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{key}: expected a mapping that holds {expected}, got {type(data).__name__}")
    if key not in data:
        raise ValueError(f"{key}: expected {expected}, got only {', '.join(map(str, data)) or 'nothing'}")
    return data[key]


def numbers(data: Mapping[str, Any], key: str, length: int | None = None) -> tuple[float, ...]:
    """Return a list of finite numbers, of a length if one is given."""
    value = require(data, key, "a list of numbers" if length is None else f"{length} numbers")
    shown = f"{length} numbers" if length is not None else "a list of numbers"
    converted = [_float(item) for item in value] if isinstance(value, (list, tuple)) else [None]
    if None in converted or (length is not None and len(converted) != length):
        raise ValueError(f"{key}: expected {shown}, got {value!r}")
    if not all(math.isfinite(item) for item in converted):
        raise ValueError(f"{key}: expected finite numbers, got {value!r}")
    return tuple(converted)


def number(data: Mapping[str, Any], key: str) -> float:
    """Return one finite number."""
    return numbers({key: [require(data, key, "a number")]}, key, 1)[0]


def integers(data: Mapping[str, Any], key: str, length: int) -> tuple[int, ...]:
    """Return a list of whole numbers."""
    values = numbers(data, key, length)
    if any(value != int(value) for value in values):
        raise ValueError(f"{key}: expected {length} whole numbers, got {list(values)}")
    return tuple(int(value) for value in values)


def integer(data: Mapping[str, Any], key: str) -> int:
    """Return one whole number."""
    return integers({key: [require(data, key, "a whole number")]}, key, 1)[0]


def mappings(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return a list of mappings."""
    value = require(data, key, "a list of mappings")
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{key}: expected a list of mappings, got {value!r}")
    return value


def matrix(data: Mapping[str, Any], key: str, rows: int, columns: int) -> np.ndarray:
    """Return a (rows, columns) matrix of finite numbers, written as nested lists."""
    value = require(data, key, f"a {rows}x{columns} matrix")
    if not isinstance(value, (list, tuple)) or len(value) != rows:
        raise ValueError(f"{key}: expected a {rows}x{columns} matrix, got {value!r}")
    return np.array([numbers({key: row}, key, columns) for row in value])


def _float(item: Any) -> float | None:
    """Return a number; YAML reads one without a point, such as 1e-3, as text."""
    if type(item) not in (int, float, str):
        return None
    try:
        return float(item)
    except ValueError:
        return None
