"""Messages on a live graph become shots: pose, camera in the world, ground truth and image of one stamp."""

import dataclasses
import time

import cv2
import numpy as np
import pytest
from drawn_bag import write_bag
from walker import drawn_image, walking_pose

from egopose_ros.structs import TrackingState
from egopose_ros.viewer.monitor import GraphMonitor

rclpy = pytest.importorskip("rclpy", reason="the live graph needs rclpy")
pytest.importorskip("egopose_ros.msg", reason="the live graph needs the built messages: make setup")

from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402

from egopose_ros import msg  # noqa: E402
from egopose_ros.config import ViewerConfig  # noqa: E402
from egopose_ros.ros import messages, qos  # noqa: E402
from egopose_ros.ros.messages import PoseStatus  # noqa: E402
from egopose_ros.ros.viewer_bridge import ViewerBridge  # noqa: E402

STATUS = PoseStatus(TrackingState.TRACKING, frames_dropped=3, age_s=0.04, network="network", weights_trained=True)


class RecordingPage:
    """What the bridge hands to a page."""

    def __init__(self):
        self.shots, self.views = [], []

    def show(self, shot):
        self.shots.append(shot)

    def set_views(self, views):
        self.views = views


class Graph:
    """An estimator and a camera, and the bridge that listens to them."""

    def __init__(self, calibration, domain):
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node("stand", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        create = self.node.create_publisher
        self.image = create(CompressedImage, "image_raw/compressed", 10)
        self.truth = create(msg.BodyPose, "/ground_truth/pose", qos.POSE)
        self.pose = create(msg.BodyPose, "estimator/pose", qos.POSE)
        self.pose_global = create(msg.BodyPose, "estimator/pose_global", qos.POSE)
        self.monitor, self.page = GraphMonitor(), RecordingPage()
        viewer = ViewerConfig(calibration=str(calibration))
        self.bridge = ViewerBridge(self.node, viewer, self.monitor, self.page)
        topics = (self.image, self.truth, self.pose, self.pose_global)
        self.until(lambda: all(topic.get_subscription_count() for topic in topics))

    def until(self, condition, timeout_s=20.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"did not come within {timeout_s:g} s"
            self._executor.spin_once(timeout_sec=0.02)

    def close(self):
        self.bridge.close()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def live(tmp_path, domain):
    write_bag(tmp_path / "bag", 1)
    graph = Graph(tmp_path / "bag" / "calibration.yaml", domain)
    yield graph
    graph.close()


def publish_image(live, pose):
    data = cv2.imencode(".jpg", drawn_image(pose)[..., ::-1])[1].tobytes()
    live.image.publish(CompressedImage(header=messages.header(pose.stamp_ns, "camera"), format="jpeg", data=data))


def test_a_pose_is_shown_with_image_truth_and_the_camera_in_the_world(live):
    pose, truth = walking_pose(3), walking_pose(3, noise=0.0)
    live.pose.publish(messages.pose_message(walking_pose(2), "camera", STATUS))  # says in which frame poses are
    live.until(lambda: live.page.shots)
    live.page.shots.clear()
    publish_image(live, pose)
    live.truth.publish(messages.pose_message(truth, "camera", STATUS))
    live.until(lambda: live.monitor.status(0.0).frames_in == 1 and live.monitor.truth_at(pose.stamp_ns))
    live.pose.publish(messages.pose_message(pose, "camera", STATUS, globally_refined=True))
    live.pose_global.publish(messages.pose_message(messages.in_global_frame(pose), "world", STATUS))
    live.until(lambda: live.page.shots)
    (shot,) = live.page.shots
    np.testing.assert_allclose(shot.pose.T_world_camera, pose.T_world_camera, atol=1e-5)
    np.testing.assert_allclose(shot.pose.joints_camera, pose.joints_camera)
    np.testing.assert_allclose(shot.pose.covariance_camera, pose.covariance_camera)
    np.testing.assert_allclose(shot.truth.joints_camera, truth.joints_camera)
    assert np.abs(shot.images()[0].astype(int) - drawn_image(pose)).mean() < 4
    assert [view.name for view in live.page.views] == ["camera"]
    summary = live.monitor.summary()
    assert summary["latency_ms"]["p50"] == pytest.approx(40.0) and summary["frames_dropped"] == 3
    assert 0 < summary["pa_mpjpe_mm"] < summary["mpjpe_mm"] < 60


def test_truth_of_another_frame_is_said_and_not_compared(live):
    pose, truth = walking_pose(3), walking_pose(3, noise=0.0)
    live.truth.publish(messages.pose_message(truth, "world", STATUS))
    live.pose.publish(messages.pose_message(pose, "camera", STATUS))
    live.until(lambda: any("got it in 'world'" in line for line in live.monitor.status(0.0).problems))
    assert "mpjpe_mm" not in live.monitor.summary() and live.monitor.truth_at(pose.stamp_ns) is None


def test_a_pose_that_cannot_be_placed_does_not_end_the_viewer(live):
    pose = walking_pose(3)
    live.pose.publish(messages.pose_message(pose, "camera", STATUS, globally_refined=True))
    lost = dataclasses.replace(messages.in_global_frame(pose), joints_camera=np.full_like(pose.joints_camera, np.nan))
    live.pose_global.publish(messages.pose_message(lost, "world", STATUS))
    live.until(lambda: any("pose_global" in line for line in live.monitor.status(0.0).problems))
    live.pose.publish(messages.pose_message(walking_pose(4), "camera", STATUS))
    live.until(lambda: live.page.shots)


def test_a_pose_whose_global_twin_is_lost_is_shown_all_the_same(live):
    first, second = walking_pose(0), walking_pose(1)
    live.pose.publish(messages.pose_message(first, "camera", STATUS, globally_refined=True))
    live.pose.publish(messages.pose_message(second, "camera", STATUS))
    live.until(lambda: len(live.page.shots) == 2)
    assert [shot.pose.stamp_ns for shot in live.page.shots] == [first.stamp_ns, second.stamp_ns]
    assert all(shot.pose.T_world_camera is None and shot.images is None for shot in live.page.shots)


def test_a_rig_that_fails_later_does_not_freeze_the_page(live, monkeypatch):
    asked = []

    def broken():
        asked.append(time.monotonic())
        raise RuntimeError("no rig")

    monkeypatch.setattr(live.bridge._rigs, "poll", broken)
    live.until(lambda: len(asked) > 1)
    live.pose.publish(messages.pose_message(walking_pose(0), "camera", STATUS))
    live.until(lambda: live.page.shots)


def test_a_message_that_contradicts_itself_is_not_shown(live):
    message = messages.pose_message(walking_pose(0), "camera", STATUS)
    message.positions = message.positions[:-3]
    live.pose.publish(message)
    other = messages.pose_message(walking_pose(1), "camera", STATUS)
    other.skeleton = "mpi15"
    live.pose.publish(other)
    live.pose.publish(messages.pose_message(walking_pose(2), "camera", STATUS))
    live.until(lambda: live.page.shots)
    assert [shot.pose.stamp_ns for shot in live.page.shots] == [walking_pose(2).stamp_ns]


def test_a_rig_that_does_not_fit_the_topics_is_refused(live, tmp_path):
    calibration = str(tmp_path / "bag" / "calibration.yaml")
    viewer = ViewerConfig(topics=("left/image_raw", "right/image_raw"), calibration=calibration)
    with pytest.raises(ValueError, match="expected 2 cameras"):
        ViewerBridge(live.node, viewer, live.monitor, None)
