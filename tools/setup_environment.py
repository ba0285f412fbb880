"""Make the environment `.venv`: pinned dependencies, ROS 2 from wheels, this package's messages, the command `egopose`.

    python3 tools/setup_environment.py [--torch cpu|cuda]

Needs nothing but the standard library. Each step leaves a stamp that names what it was made from; a step whose stamp
still fits is not run again. Whatever is missing ends the run with one line that says what to do.
"""

import argparse
import errno
import fcntl
import hashlib
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setup_checks as checks
from setup_progress import Progress

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
STAMPS = VENV / "share/egopose_ros/setup"
BUILD = VENV / "build"
LOG = VENV / "setup.log"

TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
EXTRAS = "eval,train,view,test"
# Settings of another environment (a sourced ROS distribution, another set of wheels) would be mixed into this one, and
# some of pip's would lead past it.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH", "PIP_USER",
           "PIP_TARGET", "PIP_PREFIX", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")


class Step:
    """A part of the environment with the hash of everything it is made from."""

    def __init__(self, name, title, make, inputs):
        self.name, self.title, self.make = name, title, make
        self.hash = hashlib.sha256("\n".join(inputs).encode()).hexdigest()

    def done(self):
        """Tell whether the stamp fits."""
        stamp = STAMPS / self.name
        return stamp.is_file() and stamp.read_text() == self.hash

    def stamp(self):
        """Note that the step is done."""
        STAMPS.mkdir(parents=True, exist_ok=True)
        (STAMPS / self.name).write_text(self.hash)


def contents(*patterns):
    """Return name and hash of every file of the repository that matches."""
    files = sorted({path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()})
    return [f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]


def steps(torch):
    """List the steps in order; a step is made again when one before it is."""
    venv = Step("venv", "create .venv", make_venv, [str(VENV), str(sys.version_info[:2])])
    torch_step = Step("torch", f"install {TORCH} ({torch})", lambda progress: install_torch(torch, progress),
                      [venv.hash, TORCH, torch])
    packages = Step("packages", "install the pinned packages", install_packages,
                    [torch_step.hash, EXTRAS, *contents("pyproject.toml", "setup.py", "requirements/*.txt")])
    messages = Step("messages", "build the messages", build_messages,
                    [packages.hash, *contents("CMakeLists.txt", "package.xml", "msg/*", "tools/tf2_msgs/**/*")])
    command = Step("command", "install the command egopose", install_command,
                   [packages.hash, *contents("tools/ros_environment.sh", "tools/egopose_ros_messages.py")])
    return [venv, torch_step, packages, messages, command]


def pending(ordered):
    """Return the steps from the first one on whose stamp does not fit."""
    return list(itertools.dropwhile(lambda step: step.done(), ordered))


def chosen_torch(asked):
    """Return the build of torch that was asked for, else the one that is there, else the CPU's."""
    choice = STAMPS / "torch_build"
    return asked or (choice.read_text() if choice.is_file() else "cpu")


def environment():
    """Return the environment variables for pip and CMake."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    kept["PATH"] = f"{VENV / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    # /tmp may be small and in memory; pip unpacks hundreds of megabytes.
    kept["TMPDIR"] = str(BUILD)
    return {**kept, "AMENT_PREFIX_PATH": str(VENV), "CMAKE_PREFIX_PATH": str(VENV), "PYTHONUNBUFFERED": "1"}


def run(command, progress, diagnose):
    """Run a command into the log and show its progress; SetupError says in one line why it failed."""
    lines = []
    with open(LOG, "a") as log:
        log.write(f"$ {' '.join(map(str, command))}\n")
        process = subprocess.Popen([str(part) for part in command], cwd=str(ROOT), env=environment(), text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in process.stdout:
            log.write(line)
            lines.append(line)
            progress.show(line)
    if process.wait():
        raise checks.SetupError(diagnose(lines, LOG))


def pip(progress, *arguments, diagnose=checks.diagnose_pip):
    """Install with pip."""
    run([PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--prefer-binary",
         "-c", ROOT / "requirements/constraints.txt", *arguments], progress, diagnose)


def make_venv(progress):
    """Create the environment, anew where one was made for another place or Python."""
    if not (STAMPS / "venv").is_file() and usable(PYTHON):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    # Python of an activated environment: the one to build on lies below it.
    base = getattr(sys, "_base_executable", sys.executable)
    made = subprocess.run([base, "-m", "venv", str(VENV)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode:
        raise checks.SetupError(checks.diagnose_pip(made.stdout.splitlines(), "none yet"))


def usable(python):
    """Tell whether an interpreter is there, runs, is of this version and has pip, which comes last into an environment."""
    ask = "import sys, pip; print(sys.version_info[:2])"
    try:
        found = subprocess.run([str(python), "-c", ask], capture_output=True, text=True)
    except OSError:
        return False
    return found.stdout.strip() == str(sys.version_info[:2])


def install_torch(build, progress):
    """Install torch alone, so that nothing else is asked of PyTorch's own index."""
    # PyPI's build of the same version is CUDA's, twice the size of everything else together.
    cpu = [f"{TORCH}+cpu", "--extra-index-url", TORCH_CPU_INDEX, "--retries", "1"]
    again = ["--force-reinstall"] if chosen_torch(None) != build else []
    pip(progress, "--no-deps", *again, *(cpu if build == "cpu" else [TORCH]), diagnose=checks.diagnose_torch)
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / "torch_build").write_text(build)


def install_packages(progress):
    """Install every dependency, and this package so that edits of its sources take effect."""
    pip(progress, TORCH, "-r", ROOT / "requirements/ros.txt", "-e", f"{ROOT}[{EXTRAS}]")


def build_messages(progress):
    """Build the messages into the environment, beside those of the wheels."""
    mend_exported_cmake()
    # Not in site-packages: there it would hide the sources, or be hidden by them. See tools/egopose_ros_messages.py.
    cmake(progress, ROOT, "-DINTERFACES_ONLY=ON", "-DPYTHON_INSTALL_DIR=lib/egopose_ros/python")
    cmake(progress, TOOLS / "tf2_msgs")


def mend_exported_cmake():
    """Replace the paths of the machine that built the wheels by this environment's."""
    program = "import numpy, sysconfig; print(numpy.get_include()); print(sysconfig.get_config_var('INCLUDEPY'))"
    found = subprocess.run([str(PYTHON), "-c", program], capture_output=True, text=True, check=True, env=environment())
    numpy_include, python_include = found.stdout.split("\n")[:2]
    for path in VENV.glob("share/*/cmake/*.cmake"):
        text = path.read_text()
        if "/opt/python/" in text:
            path.write_text(checks.without_foreign_paths(text, python_include, numpy_include))


def cmake(progress, source, *options):
    """Configure, build and install a package of messages."""
    build = BUILD / source.name
    shutil.rmtree(build, ignore_errors=True)
    run(["cmake", "-S", source, "-B", build, "-G", "Ninja", f"-DCMAKE_INSTALL_PREFIX={VENV}",
         f"-DPython3_EXECUTABLE={PYTHON}", "-DBUILD_TESTING=OFF", *options], progress, checks.diagnose_build)
    run(["cmake", "--build", build, "--target", "install"], progress, checks.diagnose_build)
    shutil.rmtree(build)


def install_command(progress):
    """Write the launcher and what it needs: the ROS environment, the finder of the generated messages."""
    packages = Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(VENV)}))
    shutil.copy(TOOLS / "egopose_ros_messages.py", packages)
    (packages / "egopose_ros_messages.pth").write_text("import egopose_ros_messages\n")
    script = (TOOLS / "ros_environment.sh").read_text()
    (VENV / "bin/ros_environment.sh").write_text(
        script.replace("@VENV@", shlex.quote(str(VENV))).replace("@ROOT@", shlex.quote(str(ROOT)))
    )
    launcher = VENV / "bin/egopose"
    launcher.write_text("#!/bin/sh\n"
                        f". {shlex.quote(str(VENV / 'bin/ros_environment.sh'))}\n"
                        f'exec {shlex.quote(str(PYTHON))} {shlex.quote(str(ROOT / "executables/egopose"))} "$@"\n')
    launcher.chmod(0o755)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", choices=("cpu", "cuda"), default=None, help="build of torch; default: keep, else cpu")
    asked = parser.parse_args().torch
    torch = chosen_torch(asked)
    lock_repository()
    todo = pending(steps(torch))
    if todo:
        checks.machine(ROOT, torch, installs=any(step.name == "packages" for step in todo))
    for number, step in enumerate(todo, 1):
        progress = Progress(f"[{number}/{len(todo)}] {step.title}")
        BUILD.mkdir(parents=True, exist_ok=True)
        step.make(progress)
        step.stamp()
        progress.finish()
    shutil.rmtree(BUILD, ignore_errors=True)


def lock_repository():
    """Wait for another set-up of the same repository; the lock ends with the process."""
    handle = os.open(str(ROOT), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another make setup in this folder", flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)


if __name__ == "__main__":
    try:
        main()
    except checks.SetupError as error:
        sys.exit(f"setup: {error}")
    except KeyboardInterrupt:
        sys.exit("setup: interrupted; run it again to go on")
    except OSError as error:
        sys.exit(f"setup: {checks.DISK_FULL if error.errno == errno.ENOSPC else error}")
