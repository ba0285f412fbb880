"""Two worlds, one door: the ROS folder never imports torch, the core never imports ROS."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "egopose_ros"
ROS_PACKAGES = {"rclpy", "tf2_ros", "tf2_msgs", "launch", "launch_ros", "rcl_interfaces", "builtin_interfaces"}
CORE_WITH_TORCH = {"camera", "features", "networks", "checkpoint", "synth", "training"}
"""The door is egopose_ros.pipeline, opened when a node is configured and not before."""


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "ros").rglob("*.py")), ids=lambda path: path.name)
def test_the_ros_folder_reaches_the_core_by_one_door(path: Path) -> None:
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in ("torch", "torchvision"), f"{path.name} imports {name}"
        if parts[0] == "egopose_ros" and len(parts) > 1:
            assert parts[1] not in CORE_WITH_TORCH, f"{path.name} imports {name}"


def test_the_core_knows_no_ros() -> None:
    outside = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in ("ros", "commands")]
    assert len(outside) > 20
    for path in outside:
        for name in imports(path):
            top = name.split(".")[0]
            assert top not in ROS_PACKAGES and not top.endswith("_msgs"), f"{path.relative_to(ROOT)} imports {name}"


def test_every_ros_module_imports_where_torch_cannot_be() -> None:
    pytest.importorskip("rclpy", reason="the ROS folder needs rclpy")
    pytest.importorskip("egopose_ros.msg", reason="the ROS folder needs the built messages: make setup")
    stems = sorted({path.stem for path in (ROOT / "ros").glob("*.py")} - {"__init__"})
    modules = [f"egopose_ros.ros.{stem}" for stem in stems]
    code = (
        "import sys, importlib\n"
        "sys.modules['torch'] = None\n"  # any import of it now raises ImportError
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert not any(name.startswith('torch.') for name in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT.parent)
    assert result.returncode == 0, result.stderr
