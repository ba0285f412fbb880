"""`egopose evaluate` as these tests run it."""

import json
from pathlib import Path

from egopose_ros import cli

UNTRAINED = ("--set", "network.allow_untrained=true", "--set", "runtime.device=cpu")


def evaluate(*arguments: object) -> int:
    """Run `egopose evaluate` with a network that was not trained; return its exit status."""
    return cli.main(["evaluate", *map(str, arguments), *UNTRAINED])


def numbers(path: Path) -> dict:
    """Return what an evaluation's JSON has in common with that of any repetition."""
    content = json.loads(path.read_text())
    return {name: content[name] for name in ("protocol", "runs")}
