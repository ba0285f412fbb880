"""What `make setup` needs from the machine, and what is wrong when a step fails, each in one line with its mend."""

import importlib.util
import os
import platform
import re
import shutil
import sysconfig
from pathlib import Path

SPACE_GB = {"cpu": 4, "cuda": 10}
DISK_FULL = "the disk is full: free some space and run make setup again"
APT = "on Debian and Ubuntu: sudo apt install"

NO_NETWORK = re.compile(
    r"NameResolutionError|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|SSLError|"
    r"Temporary failure in name resolution|Failed to resolve|Network is unreachable|Connection refused|"
    r"Read timed out|IncompleteRead|Connection broken"
)


class SetupError(Exception):
    """Something the environment cannot be made without; the message is one line."""


def machine(root, torch, installs):
    """Check processor, compiler, Python's own parts and disk space; SetupError names the first that is missing."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise SetupError(
            f"expected Linux on x86-64, got {platform.system()} on {platform.machine()}: ROS 2 comes as wheels for "
            "x86-64 only; use a ROS distribution with colcon, or 'pip install .' for the core without ROS (README)"
        )
    if platform.libc_ver()[0] != "glibc":
        raise SetupError("expected a Linux with glibc (Debian, Ubuntu), got another C library: ROS 2 has no wheels for it")
    version = ".".join(platform.python_version_tuple()[:2])
    if not importlib.util.find_spec("ensurepip") or not importlib.util.find_spec("venv"):
        raise SetupError(f"Python {version} lacks the module venv; {APT} python{version}-venv")
    if not (Path(sysconfig.get_config_var("INCLUDEPY")) / "Python.h").is_file():
        raise SetupError(f"Python {version} lacks its header Python.h; {APT} python{version}-dev")
    for variable, names, language in (("CC", ("cc", "gcc", "clang"), "C"), ("CXX", ("c++", "g++", "clang++"), "C++")):
        asked = os.environ.get(variable, "").split()[:1]
        if not any(shutil.which(name) for name in asked or names):
            raise SetupError(f"no {language} compiler ({' '.join(asked) or ', '.join(names)}); {APT} build-essential")
    free_gb = shutil.disk_usage(root).free / 1e9
    if installs and free_gb < SPACE_GB[torch]:
        raise SetupError(f"not enough disk space in {root}: expected {SPACE_GB[torch]} GB, got {free_gb:.1f} GB; free some")


def diagnose_pip(lines, log):
    """Tell in one line why pip failed."""
    output = "".join(lines)
    if "No space left on device" in output:
        return DISK_FULL
    if NO_NETWORK.search(output):
        return f"pip cannot reach its package index: check the network, or PIP_INDEX_URL and the proxy (log: {log})"
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        return f"the package index has no {missing.group(1)} for this Python and machine (log: {log})"
    return f"pip failed: {_last(lines, r'ERROR: (.+)')} (log: {log})"


def diagnose_torch(lines, log):
    """Tell in one line why pip could not install torch, which may come from an index of its own."""
    output = "".join(lines)
    if "No space left on device" not in output and (NO_NETWORK.search(output) or "No matching distribution" in output):
        return (f"pip cannot find torch for the CPU: check the network to download.pytorch.org, or take the larger CUDA "
                f"build from PyPI with 'make setup TORCH=cuda' (log: {log})")
    return diagnose_pip(lines, log)


def diagnose_build(lines, log):
    """Tell in one line why the messages did not build."""
    if any("No space left on device" in line for line in lines):
        return DISK_FULL
    reason = _last(lines, r".*?(CMake Error.*|(?:fatal )?error: .+)")
    return f"the messages did not build: {reason}; 'make clean' and run it again (log: {log})"


def _last(lines, pattern):
    found = [match.group(1).strip() for match in map(re.compile(pattern).match, lines) if match]
    return found[-1] if found else next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def without_foreign_paths(text, python_include, numpy_include):
    """Replace in an exported CMake file the paths of the machine that built the wheels."""
    text = re.sub(r'/opt/python/[^;"]*/numpy/_core/include', lambda _: numpy_include, text)
    return re.sub(r'/opt/python/[^;"/]+/include/python3\.\d+', lambda _: python_include, text)
