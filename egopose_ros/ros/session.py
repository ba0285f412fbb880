"""What exists while the estimator is active: inputs, worker and the wiring between them."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Callable

from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node

from egopose_ros.config import Config
from egopose_ros.ros.cameras import Cameras, Capture
from egopose_ros.ros.diagnostics import Statistics
from egopose_ros.ros.head_pose import HeadPose
from egopose_ros.ros.imu import HeadImu
from egopose_ros.ros.inference import Inference
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.publishers import Publishers
from egopose_ros.ros.rig_source import RigSource
from egopose_ros.ros.tf_tree import listen
from egopose_ros.ros.worker import Worker, remaining_s

POLL_S = 0.2
"""how often publishers, calibration and TF extrinsics are looked for"""


class Session:
    """Made in activate, closed in deactivate."""

    def __init__(
        self,
        node: Node,
        config: Callable[[], Config],
        pipeline: Any,
        rig_from_camera_info: Callable[[list[dict[str, Any]]], Any],
        publishers: Publishers,
        statistics: Statistics,
        notices: Notices,
    ) -> None:
        """Subscribe; frames flow as soon as the rig is known. What was made is let go of where something fails."""
        with ExitStack() as made:
            self._node = node
            self._config = config
            self._pipeline = pipeline
            self._publishers = publishers
            self._statistics = statistics
            self._notices = notices
            settings = config()
            from_file = bool(settings.camera.calibration)
            needs_tf = (
                settings.head_pose.source != "none"
                or settings.imu.enabled
                or (not from_file and len(settings.camera.topics) > 1)
            )
            self._tree = listen(node, settings.tf.prefix, self._refuse_transform) if needs_tf else None
            if self._tree is not None:
                made.callback(self._tree.close)
            inputs = (config, self._tree, statistics, notices)
            self.head_pose = HeadPose(node, *inputs)
            made.callback(self.head_pose.close)
            self.imu = HeadImu(node, *inputs)
            made.callback(self.imu.close)
            self.cameras = Cameras(node, config, statistics, notices, self._deliver, self._rewind)
            made.callback(self.cameras.close)
            self._rigs = RigSource(
                config, self.cameras, self._tree, notices, pipeline.rig if from_file else None, rig_from_camera_info
            )
            self.inference = Inference(
                config, self.cameras, self.head_pose, self.imu, publishers, statistics, notices
            )
            self._worker = Worker(
                self.inference.process,
                self._must_wait_s,
                max_pending=lambda: config().window.max_pending,
                on_drop=statistics.dropped,
                on_thin_out=statistics.thinned_out,
                thin_out=lambda: config().window.thin_out,
            )
            made.callback(self._worker.stop)
            timer = node.create_timer(POLL_S, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME))
            made.callback(node.destroy_timer, timer)
            threshold = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-0.5), on_clock_change=True)
            made.callback(node.get_clock().create_jump_callback(threshold, post_callback=self._on_clock_jump).unregister)
            self._worker.start()
            self._poll()
            self._made = made.pop_all()

    def close(self) -> None:
        """Finish the inference in progress and let go of everything."""
        self._made.close()

    def _poll(self) -> None:
        with self._notices.guard("graph"):
            for source in (self.cameras, self.head_pose, self.imu):
                source.poll()
        with self._notices.guard("calibration"):
            rig = self._rigs.poll()
            if rig is not None:
                self._use(rig)

    def _use(self, rig: Any) -> None:
        """Let frames of a rig flow."""
        pipeline = self._pipeline if rig is self._pipeline.rig else self._pipeline.with_rig(rig)
        self._publishers.set_camera(rig.cameras[0].T_head_camera, pipeline.camera_frustum)
        self.inference.use(pipeline)
        self.cameras.sizes = [tuple(camera.model.size) for camera in rig.cameras]

    def _deliver(self, capture: Capture) -> None:
        self._worker.put(capture)

    def _must_wait_s(self, capture: Capture) -> float:
        """Return how long a capture may still wait for the head pose and IMU reading at its stamp."""
        may_come = False
        with self._notices.guard("head_pose"):
            may_come = self.head_pose.may_come(capture.stamp_ns) or self.imu.may_come(capture.stamp_ns)
        if not may_come:
            return 0.0
        return remaining_s(capture.arrival_s, self._config().head_pose.wait_s)

    def _rewind(self) -> None:
        """Forget what was heard before time went back. The rings see to themselves: what is new in them stays."""
        self._publishers.clear()
        if self._tree is not None:
            self._tree.rewind()

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self._notices.fault("time", "rewind", "the clock jumped: everything begins anew")
        for source in (self.cameras, self.head_pose, self.imu, self._publishers):
            source.clear()
        if self._tree is not None:
            self._tree.clear()

    def _refuse_transform(self, reason: str, text: str) -> None:
        self._statistics.rejected("tf." + reason)
        self._notices.fault("/tf", reason, text)
