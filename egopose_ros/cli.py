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

EXTRAS = {"viser": "view", "trimesh": "view", "matplotlib": "eval", "h5py": "train", "ray": "ray"}
"""package -> the extra of pyproject.toml that brings it"""
MESSAGES = "egopose_ros.msg"


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        parsed = _parse(arguments)
        return parsed.run(parsed)
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        mend = _mend(error.name or "")
        if not mend:
            raise
        print(f"egopose {arguments[0]}: {mend}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"egopose {arguments[0]}: {error}", file=sys.stderr)
        return 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="egopose", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if arguments[:1] == [name]:
            module = importlib.import_module(f"egopose_ros.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser.parse_args(arguments)


def _mend(module: str) -> str:
    """Say what a missing module belongs to and how it is installed; '' for a module of our own."""
    if module == MESSAGES:
        mend = "make setup, or colcon build and source install/setup.bash"
        return f"expected the built messages ({module}), got none: {mend}"
    package = module.partition(".")[0]
    if package in ("", "egopose_ros"):
        return ""
    if package == "rclpy" or package.endswith(("_msgs", "_interfaces")):
        return f"expected ROS 2, got no {package}: make setup, or source a ROS 2 distribution"
    if package in EXTRAS:
        return f"expected the package {package}, got none: pip install 'egopose_ros[{EXTRAS[package]}]'"
    return f"expected the package {package}, got none: see egopose doctor"


if __name__ == "__main__":
    sys.exit(main())
