"""Topics to the viewer: the estimator's inputs and its poses, joined by stamp, to the monitor and the page."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, Iterator, Sequence

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from egopose_ros import config as settings
from egopose_ros import msg
from egopose_ros.config import Config, ViewerConfig
from egopose_ros.geometry.alignment import procrustes
from egopose_ros.ros import images, messages, qos
from egopose_ros.ros.cameras import Cameras, Capture
from egopose_ros.ros.diagnostics import Statistics
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.rig_source import RigSource
from egopose_ros.ros.session import POLL_S
from egopose_ros.ros.spinning import spin
from egopose_ros.ros.tf_tree import listen
from egopose_ros.ros.topics import Topic
from egopose_ros.structs import BodyPose, TrackingState
from egopose_ros.viewer.monitor import GraphMonitor, PoseReport
from egopose_ros.viewer.overlay import Shot, View

if TYPE_CHECKING:
    from egopose_ros.viewer.page import Page  # only with a page is viser needed

KEPT_CAPTURES, KEPT_BYTES = 64, 256 * 2**20
"""Images that wait for their pose."""


class ViewerBridge:
    """Subscriptions of a node that somebody else spins. Images are decoded only when the page draws them."""

    def __init__(self, node: Node, viewer: ViewerConfig, monitor: GraphMonitor, page: Page | None) -> None:
        """Subscribe. ValueError for a calibration file that does not fit; without a page only numbers are kept."""
        self._node = node
        self._monitor = monitor
        self._page = page
        self._captures: OrderedDict[int, Capture] = OrderedDict()
        self._waiting: BodyPose | None = None
        self._frame: str | None = None
        self._early: deque[msg.BodyPose] = deque(maxlen=KEPT_CAPTURES)
        """truth that came before the first pose, which says in which frame it has to be"""
        self._notices = Notices(node.get_logger())
        overrides = {"camera.topics": viewer.topics, "camera.calibration": viewer.calibration}
        config = settings.replace(Config(), overrides)
        self._open_cameras(config)
        self._truth = Topic(node, [(viewer.truth, msg.BodyPose)], self._on_truth, self._notices)
        self._subscriptions = [
            node.create_subscription(msg.BodyPose, viewer.pose, self._guarded(self._on_pose), qos.POSE),
            node.create_subscription(msg.BodyPose, f"{viewer.pose}_global", self._guarded(self._on_pose_global), qos.POSE),
        ]
        self._timer = node.create_timer(POLL_S, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._poll()

    def close(self) -> None:
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._truth.close()
        self._cameras.close()
        if self._tree is not None:
            self._tree.close()

    def _open_cameras(self, config: Config) -> None:
        """Take images as the estimator does: matched by stamp, with the rig of a file, or of CameraInfo and TF."""
        from egopose_ros import pipeline  # brings torch, which a camera's projection is written in

        path = config.camera.calibration
        rig = pipeline.load_rig(path) if path else None
        topics = config.camera.topics
        if rig is not None and len(rig.cameras) != len(topics):
            raise ValueError(f"{path}: expected {len(topics)} cameras for {', '.join(topics)}, got {len(rig.cameras)}")
        self._make_projection = pipeline.projection
        needs_tf = len(topics) > 1 and not path
        self._tree = listen(self._node, config.tf.prefix, self._refuse_transform) if needs_tf else None
        self._cameras = Cameras(
            self._node, lambda: config, Statistics(), self._notices, self._on_capture, self._captures.clear
        )
        self._rigs = RigSource(
            lambda: config, self._cameras, self._tree, self._notices, rig, pipeline.rig_from_camera_info
        )

    def _guarded(self, callback: Callable[[msg.BodyPose], None]) -> Callable[[msg.BodyPose], None]:
        """Let no message end the thread that hears them."""

        def call(message: msg.BodyPose) -> None:
            with self._notices.guard(callback.__name__.removeprefix("_on_")):
                callback(message)

        return call

    def _poll(self) -> None:
        self._monitor.problems = tuple(f"{topic}: {text}" for topic, text in self._notices.told.items())
        with self._notices.guard("viewer"):
            self._cameras.poll()
            self._truth.poll()
            rig = self._rigs.poll()
            if rig is not None:
                self._cameras.sizes = [tuple(camera.model.size) for camera in rig.cameras]
                if self._page is not None:
                    self._page.set_views(
                        [View(camera.name, camera.T_head_camera, self._make_projection(camera)) for camera in rig.cameras]
                    )

    def _refuse_transform(self, reason: str, text: str) -> None:
        self._notices.fault("/tf", reason, text)

    def _on_capture(self, capture: Capture) -> None:
        self._monitor.observe_image(capture.arrival_s)
        if self._page is None:
            return
        self._captures[capture.stamp_ns] = capture
        size = sum(len(image.data) for image in capture.images)
        while len(self._captures) > min(KEPT_CAPTURES, max(1, KEPT_BYTES // max(size, 1))):
            self._captures.popitem(last=False)

    def _on_truth(self, message: msg.BodyPose) -> None:
        if self._frame is None:
            self._early.append(message)
            return
        frame = message.header.frame_id
        if frame != self._frame:
            text = f"expected ground truth in the poses' frame '{self._frame}', got it in '{frame}'; no error is shown"
            self._notices.fault(f"{self._truth.name} frame", frame, text)
            return
        truth = self._read(message, self._truth.name)
        if truth is not None:
            self._monitor.observe_truth(truth, time.monotonic())

    def _on_pose(self, message: msg.BodyPose) -> None:
        pose = self._read(message, "pose")
        if pose is None:
            return
        report = PoseReport(
            pose=pose,
            latency_s=message.age,
            frames_dropped=message.frames_dropped,
            network=message.network,
            weights_trained=message.weights_trained,
            tracking_state=TrackingState(message.tracking_state),
        )
        self._monitor.observe_pose(report, time.monotonic())
        self._frame = message.header.frame_id
        while self._early:
            self._on_truth(self._early.popleft())
        if self._waiting is not None:
            self._show(self._waiting)
        self._waiting = pose if message.globally_refined else None
        if self._waiting is None:
            self._show(pose)

    def _on_pose_global(self, message: msg.BodyPose) -> None:
        """Show the pose that waits for its twin; what takes one to the other is where the camera is."""
        pose, self._waiting = self._waiting, None
        if pose is None or messages.to_ns(message.header.stamp) != pose.stamp_ns:
            return
        twin = self._read(message, "pose in the global frame")
        if twin is not None:
            moved = procrustes(pose.joints_camera, twin.joints_camera, scale=False)
            self._show(replace(pose, T_world_camera=moved.T_target_source))

    def _read(self, message: msg.BodyPose, name: str) -> BodyPose | None:
        """Return the pose of a message whose skeleton is known; None for another, with a word about it."""
        try:
            pose = messages.named_pose(message)
            TrackingState(message.tracking_state)
        except ValueError as error:
            self._notices.fault(name, str(error), str(error))
            return None
        self._notices.well(name)
        return pose

    def _show(self, pose: BodyPose) -> None:
        if self._page is not None:
            capture = self._captures.get(pose.stamp_ns)
            decode = None if capture is None else _decoder(capture)
            self._page.show(Shot(pose, self._monitor.truth_at(pose.stamp_ns), decode))


def _decoder(capture: Capture) -> Callable[[], Sequence[np.ndarray]]:
    return lambda: [images.decode(image) for image in capture.images]


@contextlib.contextmanager
def watching(viewer: ViewerConfig, monitor: GraphMonitor, page: Page | None) -> Iterator[Node]:
    """Take part in the graph on a thread of its own; signals stay with the caller."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node("egopose_viewer", start_parameter_services=False)
        bridge = ViewerBridge(node, viewer, monitor, page)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        spinner = threading.Thread(target=spin, args=(executor,), name="viewer_ros", daemon=True)
        spinner.start()
        try:
            yield node
        finally:
            executor.shutdown()
            spinner.join()
            bridge.close()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
