"""Where the files that ship beside the code are, and where made files are kept."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = "egopose_ros"


def share_directory() -> Path:
    """Return the folder that holds config/, launch/ and weights/.

    The repository where the code runs from it; else `share/egopose_ros` of the prefix into which pip or colcon
    installed the code. FileNotFoundError where there is neither.
    """
    # Not resolved: colcon --symlink-install links each file, and the folder to find lies beside the links.
    package = Path(os.path.abspath(__file__)).parent
    candidates = [package.parent, *(parent / "share" / PACKAGE for parent in package.parents)]
    for candidate in candidates:
        if (candidate / "package.xml").is_file() and (candidate / "config").is_dir():
            return candidate
    raise FileNotFoundError(
        f"the shipped files of {PACKAGE} (config, launch, weights): expected them in share/{PACKAGE} of the prefix that "
        f"holds {package}, got nothing there; install the package again"
    )


def share_file(name: str) -> Path:
    """Return a shipped file or folder by its path below the share directory; FileNotFoundError where it is missing."""
    path = share_directory() / name
    if not path.exists():
        raise FileNotFoundError(f"shipped file {name}: expected {path}, got nothing there; install the package again")
    return path


def cache_directory() -> Path:
    """Return the folder for files that can be made again (it may not exist yet).

    `$EGOPOSE_CACHE`, else `egopose_ros` in `$XDG_CACHE_HOME` or `~/.cache`.
    """
    own = os.environ.get("EGOPOSE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / PACKAGE


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
