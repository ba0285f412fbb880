"""The scripts in executables/: programs when they are run, nothing when they are imported."""

import os
import runpy
import signal
import subprocess
import sys

import pytest

from egopose_ros.resources import share_directory

EXECUTABLES = share_directory() / "executables"


@pytest.mark.parametrize("path", sorted(EXECUTABLES.iterdir()), ids=lambda path: path.name)
def test_a_spawned_worker_may_import_the_main_script(path):
    """As multiprocessing does in every worker, under this very name."""
    if path.name != "egopose":
        pytest.importorskip("rclpy", reason="nodes need rclpy")
    assert callable(runpy.run_path(str(path), run_name="__mp_main__")["main"])


def test_clips_are_rendered_by_workers_of_the_command(tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text("data: {clips: 1, validation_clips: 1, clip_frames: 4}\nstills: {clips: 0}\nsequences: {steps: 0}\n")
    cache = tmp_path / "cache"
    command = [sys.executable, str(EXECUTABLES / "egopose"), "train", str(config), "--render-only", "--cache", str(cache)]
    # In a session of its own: workers that fail are made anew without end, and end with it.
    child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output = child.communicate(timeout=150)[0]
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode == 0, output
    assert len(list(cache.rglob("*.npz"))) == 2
