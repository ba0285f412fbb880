"""Without an extra or without ROS a command says in one line what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from egopose_ros.cli import EXTRAS

ROOT = Path(__file__).resolve().parents[2]
ROS = ("rclpy", "make setup, or source a ROS 2 distribution")
VIEW = ("viser", "pip install 'egopose_ros[view]'")


@pytest.mark.parametrize(
    ("command", "missing", "mend"),
    [
        ("view", *VIEW),
        ("view --help", *VIEW),
        ("view", *ROS),
        ("play bag", *ROS),
        ("demo", *ROS),
        ("run", "rclpy", "make setup, or source a ROS 2 distribution"),
        ("run", "egopose_ros.msg", "make setup, or colcon build"),
        ("play bag", "rosgraph_msgs", "make setup, or source a ROS 2 distribution"),
        ("run", "yaml", "egopose doctor"),
    ],
)
def test_what_is_missing_is_one_line(command: str, missing: str, mend: str) -> None:
    for needed in {"view": ("viser",), "play bag": ("rclpy",), "run": ("rclpy",)}.get(command, ()):
        if needed != missing:
            pytest.importorskip(needed)
    code = (
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"  # any import of it now raises ModuleNotFoundError
        "from egopose_ros.cli import main\n"
        f"sys.exit(main({command.split()!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 1 and mend in done.stderr and missing in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


def test_the_extras_that_are_named_bring_the_package() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        assert any(requirement.startswith(package) for requirement in extras[extra]), package
