"""A network slower than the camera: fewer poses, never older ones, and a window of all the frames there is time for."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="the live graph needs rclpy")

from geometry_msgs.msg import PoseStamped
from graph_probe import LATCHED, Executor, Probe, camera_info, image, pictures, wait
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo

from egopose_ros import checkpoint
from egopose_ros.networks.table import build
from egopose_ros.ros.cameras import Capture
from egopose_ros.ros.estimator import Estimator, load_pipeline
from egopose_ros.ros.head_pose import HeadPose
from egopose_ros.ros.messages import header, to_ns, to_stamp
from egopose_ros.ros.worker import Load, Worker, remaining_s

STEP_NS = 33_333_333


class SlowPipeline:
    """The real pipeline, whose step waits for a permit, and fails when told."""

    def __init__(self, pipeline, log) -> None:
        self._pipeline = pipeline
        self._log = log

    def __getattr__(self, name):
        return getattr(self._pipeline, name)

    def with_rig(self, rig) -> SlowPipeline:
        return SlowPipeline(self._pipeline.with_rig(rig), self._log)

    def observe(self, state, frame):
        self._log.observed.append(frame.stamp_ns)
        return self._pipeline.observe(state, frame)

    def step(self, state, frame):
        self._log.started.append(frame)
        assert self._log.permits.acquire(timeout=60)
        time.sleep(self._log.each_s * (1 + len(state.pending)))
        if self._log.fail:
            raise RuntimeError("out of memory")
        state, pose = self._pipeline.step(state, frame)
        return state, dataclasses.replace(pose, joints_camera=pose.joints_camera * self._log.scale)


class Log:
    def __init__(self) -> None:
        self.observed, self.started = [], []
        self.permits = threading.Semaphore(0)
        self.fail, self.scale, self.each_s = False, 1.0, 0.0


SMALL = {
    "spatial_backbone": "mobilenetv4_s", "temporal_backbone": "shared", "window": 8, "temporal_width": 32,
}  # fmt: skip


@pytest.fixture
def slow(request, tmp_path):
    """An estimator with a slow network, what it sees, and the probe of its graph; `lookahead` takes one that waits."""
    log = Log()
    parameters = {"network.allow_untrained": True, "camera.topics": ["image_raw"], "diagnostics_period_s": 0.1}
    parameters["window.thin_out"] = False
    parameters.update(getattr(request, "param", {}))
    if lookahead := parameters.pop("lookahead", 0):
        parameters["network.checkpoint"] = str(tmp_path / "ahead.safetensors")  # it says which network it is of
        checkpoint.save(tmp_path / "ahead.safetensors", build("ag_egopose", {**SMALL, "lookahead": lookahead}), {})
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    arguments = dict(namespace="/slow", parameter_overrides=overrides)
    estimator = Executor(
        lambda context: Estimator(lambda config: SlowPipeline(load_pipeline(config), log), context=context, **arguments)
    )
    probe = Probe("/slow/estimator", "/slow")
    try:
        probe.advertise("camera_info", CameraInfo, LATCHED).publish(camera_info())
        probe.advertise("image_raw")
        wait(lambda: probe.status.get("calibrated") == "true", "the calibration")
        yield log, probe
    finally:
        log.permits.release(1000)
        probe.close()
        estimator.close()


def test_a_slow_network_takes_the_newest_and_loses_nothing(slow) -> None:
    log, probe = slow
    pixels = pictures(64)
    sent, stepped = [], []
    for burst in (1, 3, 4, 2, 8, 3):
        # While a step is held up, a burst of frames comes in; the next step must take its last one.
        for _ in range(burst):
            sent.append(10**15 + len(sent) * STEP_NS)
            probe.advertise("image_raw").publish(image(sent[-1], pixels[len(sent)]))
        wait(lambda: probe.count("images_in") == len(sent), "the burst to be stored")
        if stepped:
            log.permits.release()
        wait(lambda: len(log.started) > len(stepped), "the next step")
        assert log.started[-1].stamp_ns == sent[-1], "not the newest"
        stepped.append(sent[-1])
    log.permits.release()
    wait(lambda: len(probe.poses) == len(stepped), "the last pose")
    assert [to_ns(pose.header.stamp) for pose in probe.poses] == stepped
    assert sorted(log.observed + stepped) == sent, "the window holds every frame, each once"
    assert log.observed == sorted(log.observed)
    assert [pose.window_length for pose in probe.poses] == [min(sent.index(s) + 1, 16) for s in stepped]
    assert {pose.frames_dropped for pose in probe.poses} == {0}


@pytest.mark.parametrize("slow", [{"window.max_pending": 3}], indirect=True)
def test_more_than_may_wait_is_dropped_oldest_first_and_counted(slow) -> None:
    log, probe = slow
    pixels = pictures(8)
    stamps = [10**15 + index * STEP_NS for index in range(8)]
    for index, stamp_ns in enumerate(stamps):
        probe.advertise("image_raw").publish(image(stamp_ns, pixels[index]))
        wait(lambda: probe.count("images_in") == index + 1, "the image to be stored")
        wait(lambda: log.started, "the first step")
    log.permits.release(2)
    wait(lambda: len(probe.poses) == 2, "two poses")
    assert log.observed == stamps[5:7] and log.started[1].stamp_ns == stamps[7]
    assert (probe.poses[0].frames_dropped, probe.poses[1].frames_dropped) == (4, 4)
    assert probe.poses[1].window_length == 4


@pytest.mark.parametrize("slow", [{"window.thin_out": True}], indirect=True)
def test_frames_that_there_is_no_time_for_are_left_out_and_told_from_lost_ones(slow) -> None:
    log, probe = slow
    log.permits.release(1000)
    log.each_s = 0.08  # a frame, with the network below it: more than the time to the next
    pixels = pictures(90)
    for index in range(90):
        probe.advertise("image_raw").publish(image(10**15 + index * STEP_NS, pixels[index]))
        time.sleep(STEP_NS / 1e9)
    wait(lambda: probe.poses[-1].header.stamp == to_stamp(10**15 + 89 * STEP_NS), "the newest")
    dropped = probe.poses[-1].frames_dropped
    assert dropped == 90 - len(log.started) - len(log.observed) > 0
    wait(lambda: probe.status["frames_dropped"] == str(dropped), "the diagnostics")
    # Until it is known what a frame costs, a backlog grows over the cap.
    assert 0 < int(probe.status["frames_thinned_out"]) <= dropped
    later = 10**15 + 45 * STEP_NS
    with_it, stepped = (sum(stamp > later for stamp in stamps) for stamps in (log.observed, stepped_ns(log)))
    assert with_it < stepped, f"{with_it} frames were encoded on the way to the newest, {stepped} were the newest"
    assert probe.status["tracking_state"] == "TRACKING" or int(probe.status["frames_thinned_out"]) < dropped


def stepped_ns(log: Log) -> list[int]:
    return [frame.stamp_ns for frame in log.started]


@given(
    st.floats(0.0, 0.1), st.floats(0.001, 0.2), st.sampled_from([10.0, 30.0, 60.0]), st.integers(0, 2**32 - 1)
)
@settings(deadline=None)
def test_frames_are_left_out_only_where_all_of_them_would_make_poses_late(fixed, each, rate_hz, seed) -> None:
    """A worker's loop on a clock of its own: fixed + n * each seconds for n frames, give or take a twentieth."""
    period, load, now, left_out, taken, durations = 1.0 / rate_hz, Load(), 0.0, 0, 0, []
    rng = np.random.default_rng(seed)
    came = 0
    while now < 20.0:
        pending = []
        while came * period <= now or not pending:
            load.came(came * period)
            pending.append(came * period)
            came += 1
        now = max(now, pending[-1])
        frames = load.room(min(len(pending), 8))
        duration = (fixed + frames * each) * rng.uniform(0.95, 1.05)
        now += duration
        load.ran(now, frames, duration)
        left_out, taken = left_out + min(len(pending), 8) - frames, taken + 1
        durations.append(duration)
    together = fixed * period / (period - each) if each < period else np.inf
    if fixed + each < 0.9 * period:
        assert left_out == 0
    elif together < 1.2 * (fixed + each):
        assert left_out < 0.1 * came, "what one frame costs is tried now and then"
    if together > 2.0 * (fixed + each):
        assert np.mean(durations[taken // 2 :]) < 1.5 * (fixed + each)


def test_frames_that_come_in_bursts_all_go_along_where_there_is_time() -> None:
    load, now = Load(), 0.0
    for _ in range(200):
        for _ in range(2):
            load.came(now)
        assert load.room(2) == 2
        load.ran(now + 0.02, 2, 0.02)
        now += 1 / 15


@pytest.mark.parametrize("slow", [{"lookahead": 2}], indirect=True)
def test_a_network_that_looks_ahead_has_each_frame_once_and_late(slow) -> None:
    log, probe = slow
    log.permits.release(1000)
    pixels = pictures(6)
    stamps = [10**15 + index * STEP_NS for index in range(6)]
    for index, stamp_ns in enumerate(stamps):
        probe.advertise("image_raw").publish(image(stamp_ns, pixels[index]))
        wait(lambda: len(log.started) + len(log.observed) == index + 1, "the frame to be stepped")
    wait(lambda: len(probe.poses) == 4, "the poses")
    assert [to_ns(pose.header.stamp) for pose in probe.poses] == stamps[:4]
    assert probe.poses[3].age > probe.poses[0].age, "the age is that of the frame, not of the one it waited for"
    assert probe.poses[0].skeleton == "mpi15"


def test_a_network_that_fails_is_said_and_comes_back(slow) -> None:
    log, probe = slow
    pixels = pictures(8)
    log.permits.release(100)

    def send(index: int) -> int:
        probe.advertise("image_raw").publish(image(10**15 + index * STEP_NS, pixels[index]))
        return 10**15 + index * STEP_NS

    assert probe.pose_at(send(0)).window_length == 1
    log.fail = True
    send(1)
    wait(lambda: probe.status.get("fault.inference") == "RuntimeError", "the failure to be said")
    log.fail, log.scale = False, float("nan")
    send(2)
    wait(lambda: probe.status.get("fault.inference") == "FloatingPointError", "NaN to be said")
    log.scale = 1.0
    pose = probe.pose_at(send(3))
    assert (pose.window_length, pose.frames_dropped) == (1, 2)
    assert [to_ns(p.header.stamp) for p in probe.poses] == [10**15, 10**15 + 3 * STEP_NS], "NaN was published"
    wait(lambda: "fault.inference" not in probe.status, "the failure to be over")


def test_a_look_up_that_fails_does_not_end_the_worker(slow, monkeypatch: pytest.MonkeyPatch) -> None:
    log, probe = slow
    log.permits.release(100)

    def broken(head_pose: HeadPose, stamp_ns: int) -> bool:
        raise RuntimeError("no tree")

    monkeypatch.setattr(HeadPose, "may_come", broken)
    for index, pixels in enumerate(pictures(2)):
        probe.advertise("image_raw").publish(image(10**15 + index * STEP_NS, pixels))
        probe.pose_at(10**15 + index * STEP_NS)
    wait(lambda: probe.status.get("fault.head_pose") == "RuntimeError", "the failure to be said")


@pytest.mark.parametrize("slow", [{"head_pose.source": "pose", "head_pose.topic": "slam"}], indirect=True)
def test_a_late_head_pose_is_waited_for_and_a_missing_one_is_not(slow) -> None:
    log, probe = slow
    log.permits.release(100)
    pixels = pictures(8)
    probe.set_parameters(head_pose__wait_s=1.0)

    def head(stamp_ns: int) -> None:
        message = PoseStamped(header=header(stamp_ns, "map"))
        message.pose.orientation.w = 1.0
        probe.advertise("slam", PoseStamped).publish(message)

    head(10**15)
    wait(lambda: probe.count("head_poses_in") == 1, "the first head pose")
    stamp_ns = 10**15 + STEP_NS
    probe.advertise("image_raw").publish(image(stamp_ns, pixels[0]))
    wait(lambda: probe.count("images_in") == 1, "the image")
    head(stamp_ns + STEP_NS)
    assert probe.pose_at(stamp_ns).globally_refined, "the head pose came after the image and was waited for"
    # Nothing newer comes: within its wait the frame goes on without.
    probe.set_parameters(head_pose__wait_s=0.02)
    stamp_ns += 2 * STEP_NS
    probe.advertise("image_raw").publish(image(stamp_ns, pixels[1]))
    assert not probe.pose_at(stamp_ns).globally_refined


@pytest.mark.parametrize("slow", [{"use_sim_time": True}], indirect=True)
def test_a_clock_that_jumps_back_begins_a_new_window(slow) -> None:
    log, probe = slow
    log.permits.release(100)
    pixels = pictures(8)
    for index, (seconds, length) in enumerate([(100, 1), (100, 2), (50, 1), (50, 2)]):
        probe.advertise("/clock", Clock).publish(Clock(clock=to_stamp(seconds * 10**9)))
        if length == 1 and index:
            wait(lambda: probe.status.get("fault.time") == "rewind", "the jump to be said")
        stamp_ns = 10**15 + index * STEP_NS  # the images' own stamps go on
        probe.advertise("image_raw").publish(image(stamp_ns, pixels[index]))
        pose = probe.pose_at(stamp_ns)
        assert pose.window_length == length
        assert 0.0 < pose.age < 20.0, "ages are on the steady clock"


def test_the_worker_takes_what_is_ready_and_drops_what_an_epoch_leaves_behind() -> None:
    taken, ready, dropped, thinned = [], set(), [], []
    worker = Worker(taken.append, lambda c: 0.0 if c.stamp_ns in ready else 0.005, lambda: 4, dropped.append, thinned.append, lambda: True)
    captures = [Capture(stamp, (), time.monotonic(), epoch) for stamp, epoch in ((1, 0), (2, 0), (3, 0), (4, 1))]
    for capture in captures[:3]:
        worker.put(capture)
    ready.add(2)
    worker.start()
    wait(lambda: taken, "the first two")
    assert taken == [captures[:2]], "what comes before a ready one goes with it, what comes after stays"
    worker.put(captures[3])
    ready.add(4)
    wait(lambda: len(taken) == 2, "the new epoch")
    assert taken[1] == [captures[3]] and dropped == [1] and thinned == []
    worker.stop()
    assert remaining_s(time.monotonic(), 0.0) == 0.0 < remaining_s(time.monotonic(), 9.0) <= 9.0
