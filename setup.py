"""Install the core with pip; `share/egopose_ros` then holds the same files as after `colcon build`.

Everything else is declared in pyproject.toml.
"""

from pathlib import Path

from setuptools import setup

SHARED = ("config", "launch", "msg", "weights")


def shared_files() -> list[tuple[str, list[str]]]:
    """List the files beside the code, one entry for each folder, as `data_files` wants them."""
    folders = {"share/egopose_ros": ["package.xml"]}
    for root in SHARED:
        for path in sorted(Path(root).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                folders.setdefault(f"share/egopose_ros/{path.parent.as_posix()}", []).append(path.as_posix())
    return list(folders.items())


setup(data_files=shared_files())
