"""The monitor's numbers against streams whose rates, latencies, drops and errors are known."""

import dataclasses
import json
import sys
import threading

import numpy as np
import pytest
from walker import walking_pose

from egopose_ros.skeleton import skeleton_map
from egopose_ros.structs import TrackingState
from egopose_ros.viewer import report
from egopose_ros.viewer.monitor import UNMATCHED, GraphMonitor, PoseReport


def pose_report(index, latency_s=0.02, dropped=0, offset_m=0.0, trained=True):
    pose = walking_pose(index, noise=0.0)
    pose = dataclasses.replace(pose, joints_camera=pose.joints_camera + np.float32([offset_m, 0, 0]))
    return PoseReport(pose, latency_s, dropped, "network", trained, TrackingState.TRACKING)


def test_a_summary_is_that_of_the_stream():
    monitor = GraphMonitor()
    for index in range(101):
        now = 5.0 + index / 20.0
        monitor.observe_image(now)
        if index % 2 == 0:
            monitor.observe_pose(pose_report(index, latency_s=index * 1e-3, dropped=index // 25, offset_m=0.05), now)
            monitor.observe_truth(walking_pose(index, noise=0.0), now)
    summary = monitor.summary()
    assert (summary["frames_in"], summary["poses_out"], summary["frames_dropped"]) == (101, 51, 4)
    assert summary["input_hz"] == pytest.approx(20.0) and summary["output_hz"] == pytest.approx(10.0)
    assert summary["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert summary["mpjpe_mm"] == pytest.approx(50.0) and summary["pa_mpjpe_mm"] == pytest.approx(0.0, abs=1e-3)
    assert json.loads(json.dumps(summary)) == summary


def test_without_ground_truth_there_is_no_error_and_without_poses_no_latency():
    monitor = GraphMonitor()
    assert monitor.summary()["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    monitor.observe_pose(pose_report(0), 0.0)
    assert not {"mpjpe_mm", "pa_mpjpe_mm"} & set(monitor.summary())
    assert "NaN" not in json.dumps(monitor.summary())


def test_only_equal_stamps_are_compared_in_either_order():
    monitor = GraphMonitor()
    monitor.observe_truth(walking_pose(1, noise=0.0), 0.0)
    monitor.observe_pose(pose_report(0, offset_m=9.0), 0.1)
    assert "mpjpe_mm" not in monitor.summary()
    monitor.observe_pose(pose_report(1, offset_m=0.01), 0.2)
    assert monitor.summary()["mpjpe_mm"] == pytest.approx(10.0)


def test_skeletons_are_mapped_and_what_only_one_has_does_not_count():
    monitor = GraphMonitor()
    truth = walking_pose(0, noise=0.0)
    joints = skeleton_map("smpl22", "mpi15")(truth.joints_camera)
    monitor.observe_truth(dataclasses.replace(truth, skeleton="mpi15", joints_camera=joints), 0.0)
    monitor.observe_pose(pose_report(0, offset_m=0.02), 0.0)
    assert monitor.summary()["mpjpe_mm"] == pytest.approx(20.0, rel=1e-4)


def test_drops_add_up_over_a_restart_and_a_loop_keeps_memory_bounded():
    monitor = GraphMonitor()
    for loop in range(3):
        for index in range(UNMATCHED + 10):
            monitor.observe_pose(pose_report(index, dropped=5 if index else 0), float(loop))
            monitor.observe_truth(walking_pose(index, noise=0.0), float(loop))
    assert monitor.summary()["frames_dropped"] == 15
    assert len(monitor._truths) <= UNMATCHED and len(monitor._poses) <= UNMATCHED
    assert monitor.truth_at(walking_pose(UNMATCHED, noise=0.0).stamp_ns) is not None


def test_the_table_says_what_is_wrong():
    monitor = GraphMonitor()
    assert "waiting for the first pose" in report.line(monitor.status(0.0))
    monitor.observe_pose(pose_report(0, trained=False), 1.0)
    assert report.UNTRAINED in report.table(monitor.status(1.1))
    assert "no pose for 4 s" in report.line(monitor.status(5.0))
    curves = monitor.curves(2.0)
    np.testing.assert_allclose(curves.pose_s, [-1.0])
    np.testing.assert_allclose(curves.latency_ms, [20.0])
    assert len(monitor.curves(1e3).pose_s) == 0
    name = PoseReport(**{**vars(pose_report(1)), "network": "<script>"})
    monitor.observe_pose(name, 6.0)
    assert "<script>" not in report.table(monitor.status(6.0))


class Gauge:
    """A lock that counts the Python calls made while it is held."""

    def __init__(self):
        self._lock = threading.Lock()
        self.calls = 0

    def __enter__(self):
        self._lock.acquire()
        sys.setprofile(self._count)

    def __exit__(self, *_):
        sys.setprofile(None)
        self._lock.release()

    def _count(self, frame, event, argument):
        self.calls += event == "call"


@pytest.mark.parametrize("read", ["status", "curves", "summary"])
def test_readers_do_not_hold_up_the_poses(read):
    monitor = GraphMonitor()
    for index in range(1000):
        now = index / 100.0
        monitor.observe_image(now)
        monitor.observe_pose(pose_report(index), now)
        monitor.observe_truth(walking_pose(index, noise=0.0), now)
    monitor._lock = gauge = Gauge()
    getattr(monitor, read)(*() if read == "summary" else (now,))
    assert gauge.calls < 50, "work of a reader under the lock, where the graph waits"


def test_the_recent_values_are_those_of_their_span():
    monitor = GraphMonitor()
    for index in range(400):
        monitor.observe_pose(pose_report(index, latency_s=1e-3 * index, offset_m=1e-3 * index), index / 10.0)
        monitor.observe_truth(walking_pose(index, noise=0.0), index / 10.0)
    status, curves = monitor.status(39.95), monitor.curves(39.95)
    assert status.latency_ms[0] == pytest.approx(384.5) and status.output_hz == pytest.approx(10.0)
    np.testing.assert_allclose(curves.pose_s, np.arange(100, 400) / 10.0 - 39.95)
    np.testing.assert_allclose(curves.error_mm, np.arange(100, 400), atol=0.01)
    np.testing.assert_allclose(curves.error_s, curves.pose_s)
