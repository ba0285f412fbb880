"""Command-line flags made from a configuration tree, never beside it."""

from __future__ import annotations

import argparse
from typing import Any, Mapping, Sequence

import yaml

from egopose_ros.config import Config, ConfigError, Leaf, Option, T, options, replace


def add_flags(parser: argparse._ActionsContainer, tree: Any, only: tuple[str, ...] = ()) -> None:
    """Add one flag a leaf: `window.max_gap_s` becomes `--window.max-gap-s`; a flag that is not given leaves no trace.

    `only` limits them to some leaves.
    """
    for item in options(tree):
        if only and item.name not in only:
            continue
        arguments: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS, "help": _help(item)}
        if isinstance(item.default, bool):
            arguments["action"] = argparse.BooleanOptionalAction
        else:
            arguments["metavar"] = item.name.rpartition(".")[2].upper()
            arguments["type"] = str if isinstance(item.default, tuple) else type(item.default)
            arguments["nargs"] = "+" if isinstance(item.default, tuple) else None
        if item.choices:
            arguments["choices"] = item.choices
            arguments["metavar"] = "{" + ",".join(item.named_choices) + "}"
        parser.add_argument(flag(item), **arguments)


def configuration(arguments: argparse.Namespace, tree: T) -> T:
    """Return the tree with the flags that were given; ConfigError for a value that does not fit."""
    names = {item.name for item in options(tree)}
    return replace(tree, {name: value for name, value in vars(arguments).items() if name in names})


def assignment(text: str) -> tuple[str, Any]:
    """Split NAME=VALUE of a `--set`, its value in YAML, or empty; ConfigError for anything else."""
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set: expected name=value, got '{text}'")
    try:
        return name, yaml.safe_load(value) if value else value
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {name}: expected a value in YAML, got '{value}'") from None


def settings(assignments: Sequence[str], flags: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the estimator's settings that `--set` and flags of their own give.

    A flag wins; one that is empty was not given. ConfigError for a setting that there is not or that does not fit.
    """
    given = dict(assignment(text) for text in assignments) | {name: value for name, value in flags.items() if value}
    replace(Config(), given)
    return given


def flag(item: Option) -> str:
    """Return the flag of a leaf."""
    return "--" + item.name.replace("_", "-")


def _help(item: Option) -> str:
    shown = str(item.default).lower() if isinstance(item.default, bool) else item.default
    default = "" if shown in ("", ()) else f" (default: {shown})"
    unit = f" [{item.unit}]" if item.unit else ""
    return (item.description + unit + default).replace("%", "%%")
