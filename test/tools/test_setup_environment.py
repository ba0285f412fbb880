"""Every problem of `make setup` ends in one line that says what is missing; a step is redone only when it must."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("Makefile", "pyproject.toml", "setup.py", "package.xml", "CMakeLists.txt", "msg", "tools", "requirements")
NEEDED = ("make", "sh", "tr", "cc", "c++")
HIDE_VENV = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "ensurepip" else find(name, *rest)
"""
ARM = "import platform; platform.machine = lambda: 'aarch64'"
SMALL_DISK = "import collections, shutil; shutil.disk_usage = lambda path: collections.namedtuple('D', 'free')(1e9)"
NO_HEADER = "import sysconfig; sysconfig.get_config_var = lambda name: '/nowhere'"


@pytest.fixture
def repository(tmp_path):
    """The files that the set-up reads, in a folder of their own."""
    copy = tmp_path / "repository"
    copy.mkdir()
    for name in FILES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
    return copy


def setup(repository, *, missing=(), patch="", python=sys._base_executable, **variables):
    """Run `make setup` on a machine with few programs; `patch` runs first in its Python."""
    programs = repository.parent / "programs"
    programs.mkdir()
    for name in NEEDED:
        if name not in missing:
            (programs / name).symlink_to(shutil.which(name))
    site = repository.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(patch)
    environment = {"PATH": str(programs), "HOME": str(repository.parent), "PYTHONPATH": str(site), **variables}
    command = ["make", "setup", *([f"PYTHON={python}"] if python else [])]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=120)


def complaint(done):
    """Return the one line of a failed set-up."""
    assert done.returncode != 0
    # make adds that its target failed.
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    "problem, said",
    [
        (dict(missing=["cc"]), r"no C compiler.*build-essential"),
        (dict(missing=["c++"]), r"no C\+\+ compiler.*build-essential"),
        (dict(patch=HIDE_VENV), r"lacks the module venv.*python3\.\d+-venv"),
        (dict(patch=NO_HEADER), r"Python\.h.*python3\.\d+-dev"),
        (dict(patch=ARM), r"expected Linux on x86-64, got Linux on aarch64.*colcon"),
        (dict(patch=SMALL_DISK), r"expected \d+ GB, got 1\.0 GB"),
        (dict(python=None), r"expected Python 3\.10 to 3\.13, found none; install one"),
        (dict(python="old"), r"expected Python 3\.10 to 3\.13, .*old is 3\.9; install one"),
    ],
    ids=["C compiler", "C++ compiler", "venv", "Python.h", "processor", "disk", "no Python", "old Python"],
)
def test_what_is_missing_is_said_in_one_line(repository, problem, said):
    if problem.get("python") == "old":
        old = repository / "old"
        old.write_text("#!/bin/sh\necho 3 9\n")
        old.chmod(0o755)
        problem = dict(python=str(old))
    assert re.search(said, complaint(setup(repository, **problem)))
    assert not (repository / ".venv/bin").exists()


def test_no_network_is_said_in_one_line(repository):
    nowhere = dict(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    line = complaint(setup(repository, **nowhere))
    assert re.search(r"cannot find torch.*network.*TORCH=cuda.*setup\.log", line)


@pytest.fixture
def tools(repository, monkeypatch):
    """The modules of the set-up, of a repository of their own."""
    monkeypatch.syspath_prepend(str(repository / "tools"))
    for name in ("setup_checks", "setup_progress", "setup_environment"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import setup_environment

    yield setup_environment
    for name in ("setup_checks", "setup_progress", "setup_environment"):
        sys.modules.pop(name)


@pytest.mark.parametrize(
    "output, said",
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "the disk is full"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'\nERROR: No matching distribution found "
         "for numpy==2.2.6\n", "check the network"),
        ("ERROR: No matching distribution found for ros-rclpy==9.1.2\n", "no ros-rclpy==9.1.2 for this Python"),
        ("note: x\nERROR: something else\nlast\n", "something else"),
    ],
)
def test_failures_of_pip_are_told_in_one_line(tools, output, said):
    line = tools.checks.diagnose_pip(output.splitlines(keepends=True), "setup.log")
    assert said in line and "\n" not in line


@pytest.mark.parametrize(
    "changed, redone",
    [
        ("msg/Skeleton.msg", ["messages", "command"]),
        ("tools/tf2_msgs/msg/TFMessage.msg", ["messages", "command"]),
        ("requirements/constraints.txt", ["packages", "messages", "command"]),
        ("tools/ros_environment.sh", ["command"]),
        ("tools/setup_checks.py", []),
    ],
)
def test_a_step_is_redone_when_what_it_is_made_from_changes(tools, repository, changed, redone):
    for step in tools.steps("cpu"):
        step.stamp()
    assert all(step.done() for step in tools.steps("cpu"))
    with open(repository / changed, "a") as file:
        file.write("\n")
    assert [step.name for step in tools.pending(tools.steps("cpu"))] == redone


def test_an_environment_without_pip_is_made_anew(tools, tmp_path):
    """What an interruption leaves: pip comes into an environment last."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "broken")], check=True)
    assert tools.usable(sys.executable) and not tools.usable(tmp_path / "broken" / "bin" / "python")


def test_another_build_of_torch_is_installed_only_when_asked_for(tools):
    assert tools.chosen_torch(None) == "cpu"
    (tools.STAMPS).mkdir(parents=True)
    (tools.STAMPS / "torch_build").write_text("cuda")
    assert tools.chosen_torch(None) == "cuda" and tools.chosen_torch("cpu") == "cpu"


def test_exported_cmake_names_this_machine(tools):
    text = '"/opt/python/cp311-cp311/include/python3.11;/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"'
    assert tools.checks.without_foreign_paths(text, "/py", "/np") == '"/py;/np"'
