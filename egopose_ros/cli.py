"""`egopose <command>`: one command line over the functions that the nodes call."""

from __future__ import annotations

import argparse
import importlib
import sys

COMMANDS = {
    "demo": "play a sample bag through the live graph and show the pose",
    "run": "start the estimator on live topics",
    "play": "publish a bag on the live graph, with its stamps and /clock",
    "view": "show live topics, or a bag with a timeline, in the browser",
    "synth": "make synthetic fisheye video with exact truth: bags, clips, contact sheets",
    "train": "train a network in the synthetic world",
    "evaluate": "measure poses on bags with ground truth, or on a split of the benchmark",
    "label": "label bags and videos with a teacher's poses, to look at, to edit and to train on",
    "infer": "poses of a video, a folder of images, a bag or a camera as JSON, and overlays",
    "calibration": "check and draw a camera calibration",
    "doctor": "check the installation and the graph, with the mend for what is wrong",
}
"""name -> help; each lives in `egopose_ros.commands.<name>` and is imported only when it is called."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="egopose", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if arguments[:1] == [name]:
            module = importlib.import_module(f"egopose_ros.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    parsed = parser.parse_args(arguments)
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        print(f"egopose {parsed.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
