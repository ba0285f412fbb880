"""The package installs whole, by CMake as colcon does it and by pip, and declares what it imports."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ("config", "launch", "msg", "weights")
CHECK = """
import json, sys
import egopose_ros
from egopose_ros import resources
print(json.dumps(dict(code=egopose_ros.__file__, share=str(resources.share_directory()))))
"""
CHECK_BAGS = """
from egopose_ros.ros.bag_reader import typestore
assert "egopose_ros/msg/BodyPose" in typestore().types
"""
CHECK_MESSAGES = """
from egopose_ros.msg import BodyPose, Skeleton
for message in BodyPose, Skeleton:
    message.__class__.__import_type_support__()
    assert message.__class__._TYPE_SUPPORT is not None
"""


def shipped(folder):
    """Return the files of a tree, without what Python leaves behind."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in files}


def python(program, path, **variables):
    """Run a program that finds the package on `path` only, away from the repository."""
    environment = {**os.environ, "PYTHONPATH": str(path), **variables}
    done = subprocess.run([sys.executable, "-c", program], cwd="/", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the sources: pip builds inside them, and CMake refuses a NumPy that lies below them."""
    copy = tmp_path_factory.mktemp("package") / "source"
    skipped = shutil.ignore_patterns(".*", "build", "install", "log", "*.egg-info", "__pycache__", "test", "docs")
    return Path(shutil.copytree(ROOT, copy, ignore=skipped))


@pytest.fixture(scope="module")
def installed(source, tmp_path_factory):
    """A prefix into which CMake installed the package, as colcon does."""
    if not (Path(sys.prefix) / "share/ament_cmake").is_dir():
        pytest.skip("no ament_cmake in this environment: colcon builds and tests the package on a distribution")
    folder = tmp_path_factory.mktemp("cmake")
    environment = {**os.environ, "AMENT_PREFIX_PATH": sys.prefix, "CMAKE_PREFIX_PATH": sys.prefix}
    environment["PATH"] = f"{sys.prefix}/bin{os.pathsep}{environment['PATH']}"
    for command in (
        ["cmake", "-S", source, "-B", folder / "build", "-G", "Ninja", f"-DCMAKE_INSTALL_PREFIX={folder / 'prefix'}",
         f"-DPython3_EXECUTABLE={sys.executable}", "-DBUILD_TESTING=OFF"],
        ["cmake", "--build", folder / "build", "--target", "install"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder / "prefix"


def test_cmake_installs_sources_messages_executables_and_shared_files(source, installed):
    (site,) = installed.glob("lib/python3*/site-packages")
    assert shipped(source / "egopose_ros") <= shipped(site / "egopose_ros")
    for name in SHARED:
        there = shipped(installed / "share/egopose_ros" / name)
        if name == "msg":  # beside what is built of them
            there = {file for file in there if file.endswith(".msg")}
        assert there == shipped(source / name)

    libraries = f"{installed}/lib:{os.environ.get('LD_LIBRARY_PATH', '')}"
    found = json.loads(python(CHECK + CHECK_MESSAGES, site, LD_LIBRARY_PATH=libraries))
    assert found == {"code": str(site / "egopose_ros/__init__.py"), "share": str(installed / "share/egopose_ros")}
    assert (installed / "share/ament_index/resource_index/packages/egopose_ros").is_file()

    executables = shipped(source / "executables")
    assert shipped(installed / "lib/egopose_ros") == executables
    for name in executables:
        file = installed / "lib/egopose_ros" / name
        assert os.access(file, os.X_OK) and file.read_text().startswith("#!/usr/bin/env python3\n")


def test_pip_installs_the_core_without_ros(source, tmp_path):
    target = tmp_path / "target"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, capture_output=True)
    assert shipped(target / "egopose_ros") == shipped(source / "egopose_ros")
    for name in SHARED:
        assert shipped(target / "share/egopose_ros" / name) == shipped(source / name)
    assert (target / "bin/egopose").is_file()
    found = json.loads(python(CHECK + CHECK_BAGS, target))
    assert found == {"code": str(target / "egopose_ros/__init__.py"), "share": str(target / "share/egopose_ros")}


def imported(*patterns):
    """Return the top-level names that the matching sources import, wherever in the file."""
    names = set()
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - NEW_IN_PYTHON - {"egopose_ros"}


ROS = re.compile(r"rclpy|.*_msgs|.*_interfaces|tf2_ros|launch.*|ament_.*|rosidl_.*|rpyutils|rmw_.*|rosgraph_.*")
# import -> distribution where the names differ
DISTRIBUTIONS = {"backports": "backports.zstd", "cv2": "opencv-python-headless", "yaml": "pyyaml"}
# In the standard library of Python 3.14.
NEW_IN_PYTHON = {"compression"}


def test_package_xml_names_every_ros_package_that_is_imported():
    package = ET.parse(ROOT / "package.xml").getroot()
    declared = {item.text for tag in ("depend", "exec_depend") for item in package.iter(tag)}
    used = {name for name in imported("egopose_ros/**/*.py", "launch/*.py") if ROS.fullmatch(name)}
    assert used and used - declared == set()


def test_pip_metadata_names_every_other_package_that_is_imported():
    text = (ROOT / "pyproject.toml").read_text()
    declared = {name.lower() for name in re.findall(r'"([A-Za-z][\w.-]*)(?:[<>=~!;][^"]*)?"', text)}
    used = {DISTRIBUTIONS.get(name, name) for name in imported("egopose_ros/**/*.py") if not ROS.fullmatch(name)}
    assert used and used - declared == set()


def test_versions_agree():
    version = ET.parse(ROOT / "package.xml").getroot().findtext("version")
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()


def test_every_dependency_is_pinned():
    constraints = (ROOT / "requirements/constraints.txt").read_text()
    pinned = set(re.findall(r"^([a-z0-9-]+)==", constraints, re.MULTILINE))
    text = (ROOT / "pyproject.toml").read_text()
    tables = re.findall(r"^(?:dependencies|synth|train|view|test) = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    wanted = {name for table in tables for name in re.findall(r'"([A-Za-z][\w.-]*)', table)} - {"egopose_ros"}
    listed = (ROOT / "requirements/ros.txt").read_text()
    wanted |= set(re.findall(r"^([a-z][\w-]*)", listed, re.MULTILINE))
    assert {re.sub("[_.]", "-", name.lower()) for name in wanted} <= pinned


def test_every_source_is_python_3_10():
    """Humble's, whatever runs this. A starred index is of 3.11, and `feature_version` does not look at it."""
    for path in (path for folder in ("egopose_ros", "launch", "tools") for path in (ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(), str(path), feature_version=(3, 10))
        indices = (node.slice for node in ast.walk(tree) if isinstance(node, ast.Subscript))
        parts = [part for index in indices if isinstance(index, ast.Tuple) for part in index.elts]
        assert not any(isinstance(part, ast.Starred) for part in parts), path
