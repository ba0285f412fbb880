"""Live poses against offline ones: poses whose windows are known to differ are named, and not compared."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from egopose_ros.evaluation import results
from egopose_ros.evaluation.report_data import Report
from egopose_ros.evaluation.runs import Run, RunBuilder, agreement
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import BodyPose
from egopose_ros.window.smoothing import MEMORY

WINDOW, FRAMES, STEP_NS = 4, 24, 33_333_333
REACH = WINDOW + MEMORY - 1
"""frames that what differs in one can be felt in: those of its window, and the poses smoothed with theirs"""


def run(lengths: dict[int, int], without_head: set[int], error_m: dict[int, float]) -> Run:
    """Return poses of some frames with the length of each window."""
    builder = RunBuilder()
    for index, length in lengths.items():
        joints = np.full((SMPL22.size, 3), 1.0 + error_m.get(index, 0.0), np.float32)
        head = None if index in without_head else np.eye(4)
        pose = BodyPose(1 + index * STEP_NS, "smpl22", joints, None, None, None, head, length, length == WINDOW)
        builder.add(pose, 0)
    return builder.build("", "", True)


def full(frames: range, first: int = 0) -> dict[int, int]:
    return {index: min(index - first + 1, WINDOW) for index in frames}


OFFLINE = run(full(range(FRAMES)), set(), {})


def stamps(*indices: int) -> tuple[int, ...]:
    return tuple(1 + index * STEP_NS for index in indices)


def test_a_frame_lost_on_its_way_shows_in_the_length_of_the_window() -> None:
    found = agreement(OFFLINE, run(full(range(1, FRAMES), first=1), set(), {2: 0.5, 2 + REACH: 0.001}))
    # Frames 1 to 3 lack frame 0; it has left the window of frame 4, and nobody knows that of 5.
    assert found.unlike_ns == stamps(*range(1, 3 + REACH)) and np.isclose(found.largest_m, 0.0)
    assert found.missing_ns == stamps(0) and found.common == FRAMES - 1


def test_a_missing_head_pose_stays_in_the_window() -> None:
    skipping = {index: length for index, length in full(range(FRAMES)).items() if index != 6}
    found = agreement(OFFLINE, run(skipping, {5}, {4 + REACH: 0.5, 5 + REACH: 0.001}))
    assert found.unlike_ns == stamps(5, *range(7, 5 + REACH)) and np.isclose(found.largest_m, 0.001 * 3**0.5, atol=1e-6)
    nowhere = run(skipping, set(range(FRAMES)), {})
    assert agreement(OFFLINE, nowhere).unlike_ns == (), "recorded without poses in the global frame"


def test_windows_that_all_differ_leave_nothing_to_compare() -> None:
    found = agreement(OFFLINE, run({0: 2, 1: 3}, set(), {}))
    assert found.unlike_ns == stamps(0, 1) and np.isnan(found.largest_m)


def test_frames_dropped_live_are_at_times_of_their_own_recording() -> None:
    report = pytest.importorskip("egopose_ros.evaluation.report")
    later = dataclasses.replace(OFFLINE, stamps_ns=OFFLINE.stamps_ns + 3_600_000_000_000)
    lossy = (run(full(range(FRAMES - 1)), set(), {}), OFFLINE), (run({0: 1}, set(), {}), later)
    live = [results.agreement_json(Path("live"), one, complete, "") for one, complete in lossy]
    said = report._live(Report({"live": live}, [], [], []))
    assert "at 0.77 s" in said and "at 0.00, 0.03, " in said and "3600" not in said
