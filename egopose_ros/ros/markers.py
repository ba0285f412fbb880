"""RViz markers with fixed ids: joints, bones, uncertainty ellipsoids, field of view, status as text; and the trail."""

from __future__ import annotations

from collections import deque

import numpy as np
from geometry_msgs.msg import Point, PoseStamped
from nav_msgs.msg import Path
from rclpy.duration import Duration
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from egopose_ros.config import MarkerConfig
from egopose_ros.geometry import rigid
from egopose_ros.ros import messages
from egopose_ros.ros.messages import PoseStatus
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import BodyPose, TrackingState

JOINTS, BONES, FRUSTUM, STATUS, ELLIPSOIDS = 0, 1, 2, 3, 100
"""marker ids; the ellipsoid of joint j has ELLIPSOIDS + j"""
TRAIL_PERIOD_S = 0.1
STATUS_SIZE, STATUS_BEHIND_M = 0.06, 0.3
"""height of the text, and how far behind the camera it is: above a wearer whose camera looks down"""


class BodyMarkers:
    """The marker array of one skeleton, built once and filled anew for every pose."""

    def __init__(self, skeleton_name: str, camera_frustum: np.ndarray) -> None:
        """`camera_frustum` (N, 3) are points around the field of view, in the camera frame."""
        joints = skeleton(skeleton_name)
        self._bones = joints.bones
        self._points = [Point() for _ in joints.joints]
        self._colors = [ColorRGBA(a=1.0) for _ in joints.joints]
        self._joints = _marker("joints", JOINTS, Marker.SPHERE_LIST, 0.05)
        self._joints.points, self._joints.colors = self._points, self._colors
        self._lines = _marker("bones", BONES, Marker.LINE_LIST, 0.02)
        self._lines.points = [self._points[end] for bone in self._bones for end in bone]
        self._lines.colors = [self._colors[end] for bone in self._bones for end in bone]
        self._frustum = _marker("camera", FRUSTUM, Marker.LINE_LIST, 0.003)
        self._frustum.points = _frustum_lines(camera_frustum)
        self._frustum.color = ColorRGBA(r=0.6, g=0.6, b=0.6, a=1.0)
        self._status = _marker("status", STATUS, Marker.TEXT_VIEW_FACING, STATUS_SIZE)
        self._status.pose.position.z = -STATUS_BEHIND_M
        self._ellipsoids = []
        for index, color in enumerate(self._colors):
            marker = _marker("uncertainty", ELLIPSOIDS + index, Marker.SPHERE, 0.0)
            marker.color = ColorRGBA(a=0.25)
            self._ellipsoids.append(marker)

    def message(
        self, pose: BodyPose, frame_id: str, config: MarkerConfig, status: PoseStatus, output_hz: float
    ) -> MarkerArray:
        """Return the markers of a pose, valid until the next call."""
        self._status.text, self._status.color = _status(status, output_hz)
        for point, position in zip(self._points, pose.joints_camera.tolist()):
            point.x, point.y, point.z = position
        confidence = np.ones(len(self._points)) if pose.confidence is None else pose.confidence
        for color, value in zip(self._colors, np.clip(confidence, 0.0, 1.0).tolist()):
            color.r, color.g, color.b = 1.0 - value, value, 0.2
        markers = [self._joints, self._lines, self._frustum, self._status]
        if pose.covariance_camera is not None:
            self._shape_ellipsoids(pose.covariance_camera, config.ellipsoid_sigma)
            markers += self._ellipsoids
        header = messages.header(pose.stamp_ns, frame_id)
        lifetime = Duration(seconds=config.lifetime_s).to_msg()
        for marker in markers:
            marker.header, marker.lifetime = header, lifetime
        return MarkerArray(markers=markers)

    def _shape_ellipsoids(self, covariance: np.ndarray, sigma: float) -> None:
        """Turn each sphere into the ellipsoid of its joint's covariance (J, 3, 3)."""
        variances, axes = np.linalg.eigh(covariance.astype(np.float64))
        axes[..., 0] *= np.linalg.det(axes)[..., None]  # a rotation, not a reflection
        diameters = 2.0 * sigma * np.sqrt(np.maximum(variances, 1e-8))
        quaternions = rigid.quaternion_from_matrix(axes).tolist()
        for marker, point, color, size, q in zip(
            self._ellipsoids, self._points, self._colors, diameters.tolist(), quaternions
        ):
            marker.pose.position = point
            orientation, scale = marker.pose.orientation, marker.scale
            orientation.x, orientation.y, orientation.z, orientation.w = q
            scale.x, scale.y, scale.z = size
            marker.color.r, marker.color.g, marker.color.b = color.r, color.g, color.b


class Trail:
    """Where the root of the body went in the global frame."""

    def __init__(self, skeleton_name: str) -> None:
        names = skeleton(skeleton_name).joints
        self._root = next(names.index(name) for name in ("pelvis", "head", names[0]) if name in names)
        self._poses: deque[PoseStamped] = deque()

    def extend(self, pose_global: BodyPose, frame_id: str, length_s: float) -> Path | None:
        """Add the root; return the path when it has grown."""
        stamp_ns = pose_global.stamp_ns
        if self._poses:
            since_s = (stamp_ns - messages.to_ns(self._poses[-1].header.stamp)) / 1e9
            if 0.0 <= since_s < TRAIL_PERIOD_S:
                return None
            if since_s < 0.0 or self._poses[-1].header.frame_id != frame_id:
                self._poses.clear()
        stamped = PoseStamped(header=messages.header(stamp_ns, frame_id))
        position = stamped.pose.position
        position.x, position.y, position.z = pose_global.joints_camera[self._root].tolist()
        self._poses.append(stamped)
        while (stamp_ns - messages.to_ns(self._poses[0].header.stamp)) / 1e9 > length_s:
            self._poses.popleft()
        return Path(header=stamped.header, poses=list(self._poses))


def _status(status: PoseStatus, output_hz: float) -> tuple[str, ColorRGBA]:
    """Return the node's state in two lines, and its colour: RViz has no display of diagnostics of its own."""
    state = TrackingState(status.tracking_state)
    if not status.weights_trained:
        color = ColorRGBA(r=1.0, g=0.3, b=0.2, a=1.0)
    elif state is TrackingState.TRACKING:
        color = ColorRGBA(r=0.3, g=0.9, b=0.4, a=1.0)
    else:
        color = ColorRGBA(r=1.0, g=0.7, b=0.2, a=1.0)
    network = status.network if status.weights_trained else f"{status.network}, random weights"
    numbers = f"{output_hz:.1f} Hz, {status.age_s * 1e3:.0f} ms, {status.frames_dropped} dropped"
    return f"{state.name.lower()}: {network}\n{numbers}", color


def _marker(namespace: str, number: int, kind: int, size: float) -> Marker:
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.scale.x = marker.scale.y = marker.scale.z = size
    marker.pose.orientation.w = 1.0
    return marker


def _frustum_lines(outline: np.ndarray) -> list[Point]:
    """Join neighbours of the closed outline (N, 3), and every fourth point to the camera."""
    points = [Point(x=x, y=y, z=z) for x, y, z in outline.astype(np.float64).tolist()]
    lines = [end for pair in zip(points, points[1:] + points[:1]) for end in pair]
    for point in points[::4]:
        lines += [Point(), point]
    return lines
