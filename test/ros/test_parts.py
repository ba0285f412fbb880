"""Parts of the node that need no graph: stamps, senders, notices, rates, messages, the TF tree."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="messages need rclpy")
pytest.importorskip("egopose_ros.msg", reason="messages need to be built: make setup")

import rclpy
from graph_probe import transforms
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image

from egopose_ros.config import Config, replace
from egopose_ros.geometry import rigid
from egopose_ros.ros import head_pose, imu, rig_source, topics
from egopose_ros.ros.diagnostics import RATE_WINDOW_S, Rate
from egopose_ros.ros.messages import PoseStatus, in_global_frame, pose_from_message, pose_message, to_ns, to_stamp
from egopose_ros.ros.notices import LASTING_S, REPEAT_S, Notices
from egopose_ros.ros.publishers import RateLimit
from egopose_ros.ros.spinning import spin
from egopose_ros.ros.stamps import FrameLock, StampGate, Verdict
from egopose_ros.ros.tf_tree import TfTree
from egopose_ros.ros.topics import FIRST_SILENCE_S, SILENCE_S
from egopose_ros.ros.tracks import ALIVE_S
from egopose_ros.skeleton import SKELETONS
from egopose_ros.structs import BodyPose, TrackingState
from egopose_ros.window.ring import Lookup

GAP = 100
EVER = 10**18


@given(st.lists(st.integers(-5, 3000), max_size=60))
def test_accepted_stamps_rise_but_for_jumps(stamps: list[int]) -> None:
    gate, last, back = StampGate(), None, 0
    for stamp in stamps:
        verdict = gate.judge(stamp, GAP)
        assert (verdict is Verdict.ZERO) is (stamp <= 0)
        assert (verdict is Verdict.REPEATED) is (stamp > 0 and stamp == last)
        slips = last is not None and 0 < stamp and last - GAP <= stamp < last
        back = back + 1 if slips else back
        if verdict is Verdict.BACK:
            assert slips and back < StampGate.BACK_IN_A_ROW
        if verdict is Verdict.GOOD:
            assert not slips or back == StampGate.BACK_IN_A_ROW
            last, back = stamp, 0


def test_a_stream_belongs_to_one_sender_until_that_is_silent() -> None:
    lock, silence = FrameLock(), FrameLock.SILENCE_S
    assert lock.admits("left", 0.0)
    assert not lock.admits("right", 0.5 * silence)
    assert lock.admits("left", 0.9 * silence)
    assert not lock.admits("right", 1.8 * silence), "refused messages do not prolong the silence, accepted ones do"
    assert lock.admits("right", 1.95 * silence) and not lock.admits("left", 2.0 * silence)


def test_a_notice_is_said_once_and_again_when_it_changes() -> None:
    now, logger = [0.0], mock.Mock()
    notices = Notices(logger, lambda: now[0])
    for _ in range(100):
        notices.fault("image", "empty", "first")
    notices.fault("image", "step", "second")
    notices.well("image")
    notices.fault("image", "empty", "too soon after the first")
    assert [call.args[0] for call in logger.warning.call_args_list] == ["image: first", "image: second"]
    assert notices.faults == {"image": "empty"}
    now[0] = LASTING_S
    assert notices.faults == {}, "nobody repeats it"
    now[0] = REPEAT_S
    notices.fault("image", "empty", "later")
    assert logger.warning.call_args.args[0] == "image: later"
    assert [call.args[0] for call in logger.info.call_args_list] == ["image: well again"]
    assert notices.told == {"image": "later"}
    notices.well("image")
    for _ in range(200):  # it comes back at once, and stays
        now[0] += 0.1
        notices.fault("image", "empty", "for good")
    assert logger.warning.call_args.args[0] == "image: for good", "the log must not end with 'well again'"
    notices.well("image")
    now[0] += REPEAT_S
    notices.fault("image", "empty", "once more")
    for _ in range(100):  # a fault that comes and goes at 30 Hz
        notices.well("image")
        notices.fault("image", "empty", "again")
    assert logger.warning.call_count == 5 and logger.info.call_count == 4


@given(st.floats(0.5, 200.0), st.floats(0.5, 200.0), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_a_rate_limit_keeps_its_rate_whatever_comes(source_hz: float, limit_hz: float, random) -> None:
    limit, count = RateLimit(), 300
    stamps = [round((i + random.uniform(-0.3, 0.3)) * 1e9 / source_hz) for i in range(count)]
    passed = [limit.admits(stamp, limit_hz) for stamp in stamps]
    expected = min(count, count * limit_hz / source_hz)
    assert expected - 2 - 0.01 * count <= sum(passed) <= expected + 2
    assert limit.admits(-(10**12), limit_hz), "a bag that loops is let through"


def test_rates_of_events() -> None:
    rate = Rate()
    assert rate.hz(0.0) == 0.0
    for index in range(100):
        rate.add(index / 10.0)
    assert rate.hz(9.95) == pytest.approx(10.0, rel=0.02)
    assert rate.hz(9.9 + RATE_WINDOW_S / 2) < 8.0
    assert rate.hz(100.0) == 0.0


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_cross_unchanged(stamp_ns: int) -> None:
    assert to_ns(to_stamp(stamp_ns)) == stamp_ns


@pytest.mark.parametrize("module, kind", [(head_pose, head_pose.HeadPose), (imu, imu.HeadImu)])
def test_even_the_first_frame_waits_for_what_belongs_to_it(monkeypatch, module, kind) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "time", mock.Mock(monotonic=lambda: now[0]))
    settings = replace(Config(), {"head_pose.source": "pose", "imu.enabled": True})
    source = kind(mock.Mock(), lambda: settings, None, mock.Mock(), mock.Mock())
    assert source.may_come(10**15), "nothing was heard yet: it may lie in the queue behind the image"
    now[0] += ALIVE_S + 0.1
    assert not source.may_come(10**15), "nobody is there"


def test_camera_info_is_missed_only_once_images_have_come(monkeypatch) -> None:
    now, logger = [100.0], mock.Mock()
    monkeypatch.setattr(rig_source, "time", mock.Mock(monotonic=lambda: now[0]))
    topic = mock.Mock(publishers=1)
    topic.name = "camera_info"
    cameras = mock.Mock(infos=[None], info_topics=[topic], topics=[topic], first_image_s=None)
    rigs = rig_source.RigSource(Config, cameras, None, Notices(logger), None, mock.Mock())
    now[0] += 60.0
    assert rigs.poll() is None
    assert not logger.warning.called, "a camera that is still silent lacks no CameraInfo"
    cameras.first_image_s = now[0]
    for waited_s, said in ((0.5 * SILENCE_S, False), (SILENCE_S, True)):
        now[0] += waited_s
        assert rigs.poll() is None
        assert logger.warning.called is said
    assert "images come, but no CameraInfo on camera_info" in logger.warning.call_args.args[0]


def test_a_silent_publisher_is_reported_later_where_it_was_never_heard(monkeypatch) -> None:
    now, notices, node = [100.0], Notices(mock.Mock()), mock.Mock()
    monkeypatch.setattr(topics, "time", mock.Mock(monotonic=lambda: now[0]))
    node.resolve_topic_name = lambda name: name
    publisher = mock.Mock(topic_type="sensor_msgs/msg/Image")
    publisher.qos_profile = QoSProfile(depth=1)
    node.get_publishers_info_by_topic.return_value = [publisher]
    topic = topics.Topic(node, [("image", Image)], lambda message: None, notices, silence_hint="Hint.")

    def said(waited_s: float) -> bool:
        now[0] += waited_s
        topic.poll()
        return notices.faults.get("image publishers") == "silent"

    assert not said(0.0) and not said(0.9 * FIRST_SILENCE_S) and said(0.2 * FIRST_SILENCE_S)
    topic._on_message(None)
    assert not said(0.9 * SILENCE_S) and said(0.2 * SILENCE_S)


def test_spinning_ends_with_the_context_under_whatever_callback() -> None:
    """A signal falls into a callback that asks the graph; an error of a live context is raised."""
    context = Context()
    rclpy.init(context=context)
    node, executor = rclpy.create_node("asks", context=context), SingleThreadedExecutor(context=context)
    executor.add_node(node)
    broken = node.create_timer(0.01, lambda: node.get_publishers_info_by_topic("not a topic"))
    with pytest.raises(Exception, match="not a topic"):
        spin(executor)
    node.destroy_timer(broken)

    def asked() -> None:
        context.handle.shutdown()  # as rclpy does on a signal
        node.get_publishers_info_by_topic("image")

    node.create_timer(0.01, asked)
    spin(executor)
    assert not context.ok()


def body_pose(name: str, *, full: bool) -> BodyPose:
    random, count = np.random.default_rng(5), SKELETONS[name].size
    root = random.normal(size=(count, 3, 3)) * 0.1
    return BodyPose(
        stamp_ns=1_700_000_000_123_456_789,
        skeleton=name,
        joints_camera=random.normal(size=(count, 3)).astype(np.float32),
        rotations_camera=Rotation.random(count, random_state=5).as_matrix().astype(np.float32) if full else None,
        covariance_camera=(root @ root.transpose(0, 2, 1)).astype(np.float32) if full else None,
        confidence=random.random(count).astype(np.float32) if full else None,
        T_world_camera=rigid.transform(Rotation.random(random_state=6).as_matrix(), random.normal(size=3)),
        window_length=3,
        window_full=False,
    )


STATUS = PoseStatus(TrackingState.INITIALIZING, 7, 0.25, "some_network", True)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", SKELETONS)
def test_a_pose_crosses_a_message_unchanged(name: str, full: bool) -> None:
    pose = body_pose(name, full=full)
    message = pose_message(pose, "eye", STATUS)
    back = pose_from_message(message)
    assert (back.stamp_ns, back.skeleton, back.window_length) == (pose.stamp_ns, name, 3) and not back.window_full
    np.testing.assert_array_equal(back.joints_camera, pose.joints_camera)
    for field in ("rotations_camera", "covariance_camera", "confidence"):
        if full:
            np.testing.assert_allclose(getattr(back, field), getattr(pose, field), atol=1e-6)
        else:
            assert getattr(back, field) is None
    message.confidence = message.positions
    with pytest.raises(ValueError, match="confidence: expected"):
        pose_from_message(message)


def test_the_global_frame_moves_points_axes_and_ellipsoids_alike() -> None:
    pose = body_pose("smpl22", full=True)
    moved = in_global_frame(pose)
    T = pose.T_world_camera
    np.testing.assert_allclose(moved.joints_camera, pose.joints_camera @ T[:3, :3].T + T[:3, 3], atol=1e-5)
    # The Mahalanobis length of a displacement does not depend on the frame.
    offset = np.array([0.1, -0.2, 0.3])
    before = np.einsum("i,jik,k->j", offset, np.linalg.inv(pose.covariance_camera), offset)
    after = np.einsum("i,jik,k->j", T[:3, :3] @ offset, np.linalg.inv(moved.covariance_camera), T[:3, :3] @ offset)
    np.testing.assert_allclose(after, before, rtol=1e-2)
    np.testing.assert_allclose(moved.rotations_camera[4], T[:3, :3] @ pose.rotations_camera[4], atol=1e-6)


def test_the_tree_agrees_with_products_of_its_transforms() -> None:
    refused = []
    tree = TfTree(mock.Mock(), "wearer/", lambda reason, text: refused.append(reason))
    random = np.random.default_rng(3)
    parents = dict(odom="map", base="odom", head="base", camera="head", arm="base")
    rotations = Rotation.random(len(parents), random_state=3).as_matrix()
    T = {frame: rigid.transform(R, random.normal(size=3)) for frame, R in zip(parents, rotations)}

    def row(child: str, stamp_ns: int, parent: str | None = None) -> tuple:
        quaternion = rigid.quaternion_from_matrix(T[child][:3, :3]).tolist()
        return parent or parents[child], child, stamp_ns, T[child][:3, 3].tolist(), quaternion

    for child in ("head", "arm"):
        tree._on_tf_static(transforms(row(child, 0)))
    for child in ("odom", "base", "camera"):
        tree._on_tf(transforms(row(child, 100), row(child, 200)))
    expected = rigid.invert(T["base"] @ T["arm"]) @ T["base"] @ T["head"] @ T["camera"]
    found, lookup = tree.lookup("arm", "camera", 150, EVER)
    assert lookup is Lookup.FOUND
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(tree.lookup("map", "base", 200, EVER)[0], T["odom"] @ T["base"], atol=1e-9)
    assert tree.lookup("map", "map", 5, EVER)[1] is Lookup.FOUND
    np.testing.assert_array_equal(tree.lookup("/map", "/base", 200, EVER)[0], tree.lookup("map", "base", 200, EVER)[0])
    assert tree.lookup("base", "head", 5, EVER)[1] is Lookup.FOUND, "static transforms hold at any time"
    for stamp, gap, expected_lookup in ((99, EVER, Lookup.TOO_OLD), (201, EVER, Lookup.NOT_YET), (150, 50, Lookup.GAP)):
        assert tree.lookup("map", "camera", stamp, gap)[1] is expected_lookup
    assert tree.lookup("map", "camera", None, 0)[1] is Lookup.FOUND
    assert tree.lookup("map", "elsewhere", 150, EVER)[1] is Lookup.UNCONNECTED

    tree._on_tf(transforms(row("odom", 300, "camera")))
    assert tree.lookup("map", "camera", 150, EVER)[1] is Lookup.LOOP
    tree._on_tf(transforms(row("odom", 300), row("odom", 400)))
    tree._on_tf(transforms(row("base", 300), row("camera", 300)))
    assert tree.lookup("map", "camera", 300, EVER)[1] is Lookup.FOUND

    tree._on_tf(transforms(row("base", 300, "base"), ("map", "x", 1, [0.0] * 3, [0.0] * 4)))
    tree._on_tf(transforms(("map", "wearer/head", 1, [0.0] * 3, [0.0, 0.0, 0.0, 1.0])))
    assert refused == ["bad_transform"] * 2 and tree.lookup("map", "wearer/head", 1, EVER)[1] is Lookup.UNCONNECTED
    tree.clear()
    assert tree.lookup("map", "base", 150, EVER)[1] is Lookup.EMPTY
    assert tree.lookup("base", "head", None, EVER)[1] is Lookup.FOUND
