"""Everything that the estimator publishes of a pose."""

from __future__ import annotations

import time
from typing import Callable

import numpy as np
from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Path
from rclpy.lifecycle import LifecycleNode
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from egopose_ros import msg
from egopose_ros.config import Config
from egopose_ros.geometry import rigid
from egopose_ros.ros import messages, qos
from egopose_ros.ros.diagnostics import Rate
from egopose_ros.ros.markers import BodyMarkers, Trail
from egopose_ros.ros.messages import PoseStatus
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import BodyPose


class RateLimit:
    """Holds a mean rate; a jitter below one period costs nothing."""

    def __init__(self) -> None:
        self._due_ns: int | None = None

    def admits(self, stamp_ns: int, rate_hz: float) -> bool:
        """Say whether the message of this stamp may go out."""
        period_ns = round(1e9 / rate_hz)
        if self._due_ns is None or stamp_ns < self._due_ns - 2 * period_ns:
            self._due_ns = stamp_ns - period_ns
        if stamp_ns < self._due_ns:
            return False
        self._due_ns = max(self._due_ns, stamp_ns - period_ns) + period_ns
        return True


class Publishers:
    """Lifecycle publishers: silent until the node is active."""

    def __init__(self, node: LifecycleNode, config: Callable[[], Config], skeleton_name: str) -> None:
        self._node = node
        self._config = config
        self._skeleton = skeleton(skeleton_name)
        create = node.create_lifecycle_publisher
        self._pose = create(msg.BodyPose, "~/pose", qos.POSE)
        self._pose_global = create(msg.BodyPose, "~/pose_global", qos.POSE)
        self._skeleton_latched = create(msg.Skeleton, "~/skeleton", qos.LATCHED)
        self._markers = create(MarkerArray, "~/markers", qos.MARKERS)
        self._trail = create(Path, "~/trail", qos.MARKERS)
        self._tf = create(TFMessage, "/tf", qos.TF)
        self._all = (self._pose, self._pose_global, self._skeleton_latched, self._markers, self._trail, self._tf)
        self._body: BodyMarkers | None = None
        self._T_camera_head = np.eye(4)
        self._path = Trail(skeleton_name)
        self._tf_limit = RateLimit()
        self._rate = Rate()

    def destroy(self) -> None:
        for publisher in self._all:
            self._node.destroy_lifecycle_publisher(publisher)

    def set_camera(self, T_head_camera: np.ndarray, camera_frustum: np.ndarray) -> None:
        """Take where the first camera sits, and its field of view to draw, (N, 3) in the camera frame."""
        self._T_camera_head = rigid.invert(T_head_camera)
        self._body = BodyMarkers(self._skeleton.name, camera_frustum)

    def latch_skeleton(self) -> None:
        """Publish the skeleton for all who come later."""
        stamp_ns = self._node.get_clock().now().nanoseconds
        self._skeleton_latched.publish(messages.skeleton_message(self._skeleton, stamp_ns, ""))

    def clear(self) -> None:
        """Forget what was before a jump of time, which another thread may be publishing just now."""
        self._path = Trail(self._skeleton.name)
        self._tf_limit = RateLimit()

    def publish(self, pose: BodyPose, camera_frame: str, global_frame: str, status: PoseStatus) -> None:
        """Publish a pose in the camera frame and, where there is a head pose, in the global one."""
        if not self._node.context.ok():  # shutting down while an inference was in progress
            return
        now_s = time.monotonic()
        self._rate.add(now_s)
        config = self._config()
        globally = pose.T_world_camera is not None and bool(global_frame)
        self._pose.publish(messages.pose_message(pose, camera_frame, status, globally_refined=globally))
        if globally:
            pose_global = messages.in_global_frame(pose)
            self._pose_global.publish(
                messages.pose_message(pose_global, global_frame, status, globally_refined=True)
            )
            trail = self._path.extend(pose_global, global_frame, config.markers.trail_s)
            if trail is not None and config.markers.enabled and self._trail.get_subscription_count():
                self._trail.publish(trail)
        if config.tf.enabled and self._tf_limit.admits(pose.stamp_ns, config.tf.rate_hz):
            transforms = messages.transform_messages(pose, camera_frame, config.tf.prefix)
            transforms += self._head_transforms(pose, camera_frame, global_frame) if globally else []
            self._tf.publish(TFMessage(transforms=transforms))
        if self._body is not None and config.markers.enabled and self._markers.get_subscription_count():
            output_hz = self._rate.hz(now_s)
            self._markers.publish(self._body.message(pose, camera_frame, config.markers, status, output_hz))

    def _head_transforms(self, pose: BodyPose, camera_frame: str, global_frame: str) -> list[TransformStamped]:
        """Return what `tf.head_pose` asks for of a pose that has T_world_camera."""
        settings = self._config()
        if settings.tf.head_pose == "none" or settings.head_pose.source == "tf":
            return []
        if settings.tf.head_pose == "camera":
            return [messages.transform_message(pose.stamp_ns, global_frame, camera_frame, pose.T_world_camera)]
        T = pose.T_world_camera @ self._T_camera_head
        return [messages.transform_message(pose.stamp_ns, global_frame, settings.head_pose.head_frame, T)]
