"""Command-line flags made from a configuration tree, never beside it."""

from __future__ import annotations

import argparse
from typing import Any

from egopose_ros.config import Option, T, options, replace


def add_flags(parser: argparse.ArgumentParser, tree: Any) -> None:
    """Add one flag a leaf: `window.max_gap_s` becomes `--window.max-gap-s`; a flag that is not given leaves no trace."""
    for item in options(tree):
        kind = type(item.default)
        arguments: dict[str, Any] = {"type": kind}
        if kind is bool:
            arguments = {"type": boolean, "nargs": "?", "const": True}
        elif kind is tuple:
            arguments = {"type": str, "nargs": "+"}
        if item.choices:
            arguments["choices"] = item.choices
        parser.add_argument(
            flag(item), dest=item.name, default=argparse.SUPPRESS, help=_help(item), metavar=_metavar(item), **arguments
        )


def configuration(arguments: argparse.Namespace, tree: T) -> T:
    """Return the tree with the flags that were given; ConfigError for a value that does not fit."""
    names = {item.name for item in options(tree)}
    return replace(tree, {name: value for name, value in vars(arguments).items() if name in names})


def flag(item: Option) -> str:
    """Return the flag of a leaf."""
    return "--" + item.name.replace("_", "-")


def boolean(text: str) -> bool:
    """Read true or false, as ROS writes them; ArgumentTypeError otherwise."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got '{text}'")
    return text.lower() == "true"


def _help(item: Option) -> str:
    shown = str(item.default).lower() if isinstance(item.default, bool) else item.default
    default = "" if shown in ("", ()) else f" (default: {shown})"
    unit = f" [{item.unit}]" if item.unit else ""
    return (item.description + unit + default).replace("%", "%%")


def _metavar(item: Option) -> str | None:
    return None if item.choices else item.name.rpartition(".")[2].upper()
