"""Captures to frames, frames through the pipeline, poses to the publishers: what the worker thread does."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from egopose_ros.config import Config
from egopose_ros.ros import images
from egopose_ros.ros.cameras import Cameras, Capture, size_text
from egopose_ros.ros.diagnostics import Statistics
from egopose_ros.ros.head_pose import HeadPose
from egopose_ros.ros.images import ImageError, Reason
from egopose_ros.ros.imu import HeadImu
from egopose_ros.ros.messages import PoseStatus
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.publishers import Publishers
from egopose_ros.structs import BodyPose, Frame, TrackingState


class Inference:
    """Runs on one thread; another may exchange the pipeline."""

    def __init__(
        self,
        config: Callable[[], Config],
        cameras: Cameras,
        head_pose: HeadPose,
        imu: HeadImu,
        publishers: Publishers,
        statistics: Statistics,
        notices: Notices,
    ) -> None:
        self._config = config
        self._cameras = cameras
        self._head_pose = head_pose
        self._imu = imu
        self._publishers = publishers
        self._statistics = statistics
        self._notices = notices
        self._next: Any = None
        self._pipeline: Any = None
        self._state: Any = None
        self._settings: Config | None = None
        self._epoch: int | None = None
        self._awaited: list[Capture] = []  # those whose poses may still come: one, but for networks that look ahead
        self._published_ns: int | None = None
        self._lost = 0
        self._frames_since_loss: int | None = None
        self.newest: BodyPose | None = None
        self.tracking_state: TrackingState | None = None

    def use(self, pipeline: Any) -> None:
        """Change to another pipeline with the next captures."""
        self._next = pipeline

    def process(self, captures: list[Capture]) -> None:
        """Let every capture into the window and publish the pose of the newest."""
        at_stake = len(captures)
        try:
            frames = [(capture, frame) for capture in captures if (frame := self._frame(capture)) is not None]
            self._statistics.dropped(len(captures) - len(frames))
            at_stake = len(frames)
            if frames:
                self._infer(frames)
            self._notices.well("inference")
        except Exception as error:  # the shell: whatever fails in the network must not end the node
            self._state = None
            self._statistics.rejected("inference.failed")
            self._statistics.dropped(at_stake)
            self._notices.fault("inference", type(error).__name__, f"{type(error).__name__}: {error}")

    def _infer(self, frames: list[tuple[Capture, Frame]]) -> None:
        self._prepare(frames[-1][0].epoch)
        for _, frame in frames[:-1]:
            self._state = self._pipeline.observe(self._state, frame)
        self._state, pose = self._pipeline.step(self._state, frames[-1][1])
        for name in ("joints_camera", "rotations_camera", "covariance_camera", "confidence"):
            value = getattr(pose, name)
            if value is not None and not np.isfinite(value).all():
                raise FloatingPointError(f"expected finite {name} of the network, got NaN or infinity")
        self._awaited += [capture for capture, _ in frames]
        while self._awaited[0].stamp_ns != pose.stamp_ns:
            del self._awaited[0]
        # A network that looks ahead stays with the first frame at first.
        if pose.stamp_ns == frames[-1][1].stamp_ns or pose.stamp_ns != self._published_ns:
            self._publish(self._awaited[0], pose, len(frames))
            self._published_ns = pose.stamp_ns

    def _prepare(self, epoch: int) -> None:
        """Begin a window where the pipeline, the epoch or an error calls for it."""
        if self._next is not self._pipeline:
            self._pipeline, self._state, self._settings = self._next, None, None
        if self._state is None or epoch != self._epoch:
            self._state, self._epoch = self._pipeline.init_state(), epoch
            self._awaited, self._published_ns = [], None
        settings = self._config()
        if settings != self._settings:
            self._pipeline.configure(settings)
            self._settings = settings

    def _frame(self, capture: Capture) -> Frame | None:
        """Decode the images and look up head pose and IMU; None where an image cannot be decoded."""
        pixels = []
        for topic, size, message in zip(self._cameras.topics, self._cameras.sizes or (), capture.images):
            try:
                image = images.decode(message)
                if image.shape[1::-1] != size:
                    raise ImageError(Reason.SIZE, size_text(size, image.shape[1::-1]))
            except ImageError as error:
                self._statistics.rejected(error.reason.value)
                # Not the topic's own fault: that is over with each image that looks well on arrival.
                self._notices.fault(f"{topic.name} decoding", error.reason.value, str(error))
                return None
            self._notices.well(f"{topic.name} decoding")
            pixels.append(image)
        T_world_head, lookup = self._head_pose.at(capture.stamp_ns)
        self._head_pose.report(lookup)
        imu = self._imu.at(capture.stamp_ns)
        self._imu.report(imu)
        return Frame(capture.stamp_ns, tuple(pixels), T_world_head, imu)

    def _publish(self, capture: Capture, pose: BodyPose, frames: int) -> None:
        self.newest, self.tracking_state = pose, self._track(pose, frames)
        status = PoseStatus(
            tracking_state=self.tracking_state,
            frames_dropped=self._statistics.frames_dropped,
            age_s=self._statistics.published(capture.arrival_s),
            network=self._pipeline.network_name,
            weights_trained=self._pipeline.weights_trained,
        )
        camera_frame = self._cameras.frame_id(capture)
        self._publishers.publish(pose, camera_frame, self._head_pose.global_frame, status)

    def _track(self, pose: BodyPose, frames: int) -> TrackingState:
        """Judge the pose by its window, the frames lost from it, and its confidence."""
        lost = self._statistics.frames_lost
        if lost != self._lost:
            self._lost, self._frames_since_loss = lost, 0
        elif self._frames_since_loss is not None:
            self._frames_since_loss += frames
        gappy = self._frames_since_loss is not None and self._frames_since_loss < self._pipeline.window
        unsure = pose.confidence is not None and pose.confidence.mean() < self._config().degraded_confidence
        if not pose.window_full:
            return TrackingState.INITIALIZING
        return TrackingState.DEGRADED if gappy or unsure else TrackingState.TRACKING
