"""The cameras: images judged as they arrive, joined to captures of the whole rig, and their CameraInfo."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from egopose_ros.config import Config
from egopose_ros.ros import images, messages
from egopose_ros.ros.diagnostics import Statistics
from egopose_ros.ros.images import ImageError, Reason
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.stamps import FrameLock, StampGate, Verdict
from egopose_ros.ros.topics import Topic
from egopose_ros.window.ring import Matcher

_REFUSED = {
    Verdict.ZERO: (Reason.STAMP_ZERO, "expected the time of the exposure in header.stamp, got 0"),
    Verdict.REPEATED: (Reason.STAMP_REPEATED, "expected a new stamp, got that of the image before"),
    Verdict.BACK: (Reason.STAMP_BACK, "expected a stamp after that of the image before, got an earlier one"),
}
_LOST = (
    "It may be paused; or images above 0.5 MB are lost on Fast DDS's default shared memory: give both sides the "
    "profile config/fastdds_shm.xml (FASTDDS_DEFAULT_PROFILES_FILE), or publish compressed images"
)

DEFAULT_FRAME = "camera"


@dataclass(frozen=True)
class Capture:
    """The images of every camera at one instant, not yet decoded."""

    stamp_ns: int
    """of its newest image"""
    images: tuple[Any, ...]
    """one message a camera, in the order of the rig"""
    arrival_s: float
    """of its last image, on the steady clock"""
    epoch: int
    """rises at every jump of time: frames of different epochs never share a window"""


class Cameras:
    """Stores and judges; what to do with a capture is up to `deliver`, which must return at once."""

    def __init__(
        self,
        node: Node,
        config: Callable[[], Config],
        statistics: Statistics,
        notices: Notices,
        deliver: Callable[[Capture], None],
        on_rewind: Callable[[], None],
    ) -> None:
        self._config = config
        self._statistics = statistics
        self._notices = notices
        self._deliver = deliver
        self._on_rewind = on_rewind
        camera = config().camera
        self._epoch = 0
        self._newest_ns: int | None = None
        self.first_image_s: float | None = None
        """when the first image came, good or bad, on the steady clock"""
        self.infos: list[CameraInfo | None] = [None] * len(camera.topics)
        """the newest valid-looking CameraInfo of each camera"""
        self.sizes: list[tuple[int, int]] | None = None
        """(width, height) that the calibration is for, once it is known; no capture is delivered before"""
        self._gates = [StampGate() for _ in camera.topics]
        self._locks = [FrameLock() for _ in camera.topics]
        self._matcher = Matcher(len(camera.topics), round(camera.sync_tolerance_s * 1e9))
        # The queue before the executor holds no fewer than may wait behind it.
        depth = max(10, config().window.max_pending)
        # What lies beside a renamed topic lies beside its new name, as with image_transport.
        names = [node.resolve_topic_name(name) for name in camera.topics]
        self.topics = [
            Topic(node, candidates(name, camera.transport), self._image_callback(view), notices, depth, _LOST)
            for view, name in enumerate(names)
        ]
        self.info_topics = [] if camera.calibration else [
            Topic(node, [(_info_topic(name), CameraInfo)], self._info_callback(view), notices)
            for view, name in enumerate(names)
        ]

    def poll(self) -> None:
        """Look for publishers; call it a few times a second."""
        for topic in self.topics + self.info_topics:
            topic.poll()

    def close(self) -> None:
        for topic in self.topics + self.info_topics:
            topic.close()

    def clear(self) -> None:
        """Begin anew: nothing that was heard so far belongs to what follows."""
        self._epoch += 1
        self._newest_ns = None
        self._matcher.clear()
        for gate in self._gates:
            gate.clear()

    def frame_id(self, capture: Capture | None = None) -> str | None:
        """Return the optical frame of the first camera, as told or as in its images; None before the first one."""
        told = self._config().camera.frame_id
        heard = capture.images[0].header.frame_id if capture is not None else self._locks[0].identity
        if told or heard is None:
            return told or None
        if not heard:
            text = f"expected frame_id in the images' headers, got none; poses are in '{DEFAULT_FRAME}'"
            self._notices.fault("frame_id", "empty", text)
        return str(heard).lstrip("/") or DEFAULT_FRAME

    def _image_callback(self, view: int) -> Callable[[Any], None]:
        return lambda message: self._on_image(view, message)

    def _info_callback(self, view: int) -> Callable[[CameraInfo], None]:
        def on_info(message: CameraInfo) -> None:
            self.infos[view] = message

        return on_info

    def _on_image(self, view: int, message: Any) -> None:
        arrival_s = time.monotonic()
        if self.first_image_s is None:
            self.first_image_s = arrival_s
        self._statistics.received("images")
        name = self.topics[view].name
        try:
            self._check(view, message, arrival_s)
        except ImageError as error:
            self._statistics.rejected(error.reason.value)
            self._notices.fault(name, error.reason.value, str(error))
            return
        self._notices.well(name)
        if self.sizes is None:
            return
        lost = self._matcher.unmatched
        match = self._matcher.push(view, messages.to_ns(message.header.stamp), message)
        self._statistics.unmatched(self._matcher.unmatched - lost)
        if self._matcher.unmatched > lost:
            tolerance_s = self._config().camera.sync_tolerance_s
            text = f"images of one camera find none of the others within {tolerance_s:g} s: camera.sync_tolerance_s"
            self._notices.fault("cameras", "unmatched", text)
        if match is not None:
            if self._matcher.unmatched == lost:
                self._notices.well("cameras")
            self._statistics.captured(arrival_s)
            self._follow(match[0])
            self._deliver(Capture(*match, arrival_s, self._epoch))

    def _follow(self, stamp_ns: int) -> None:
        """Begin a new epoch where a capture does not continue the one before."""
        step_s = 0.0 if self._newest_ns is None else (stamp_ns - self._newest_ns) / 1e9
        self._newest_ns = stamp_ns
        if 0.0 <= step_s <= self._config().window.max_gap_s:
            self._notices.well("time")
            return
        self._epoch += 1
        if step_s < 0.0:
            self._notices.fault("time", "rewind", f"images went back by {-step_s:.3f} s: everything begins anew")
            self._on_rewind()
        else:
            self._notices.fault("time", "gap", f"{step_s:.3f} s without an image: the window begins anew")

    def _check(self, view: int, message: Any, arrival_s: float) -> None:
        """Raise ImageError for an image that must not enter the window. Its stamp is judged last, and kept."""
        images.check(message)
        size = images.size_of(message)
        if self.sizes is not None and size != self.sizes[view]:
            raise ImageError(Reason.SIZE, size_text(self.sizes[view], size))
        if not self._locks[view].admits(message.header.frame_id, arrival_s):
            expected, got = self._locks[view].identity, message.header.frame_id
            raise ImageError(Reason.CAMERA, f"expected images of '{expected}', got one of '{got}': two publishers?")
        max_gap_ns = round(self._config().window.max_gap_s * 1e9)
        verdict = self._gates[view].judge(messages.to_ns(message.header.stamp), max_gap_ns)
        if verdict in _REFUSED:
            raise ImageError(*_REFUSED[verdict])


def size_text(expected: tuple[int, int], got: tuple[int, int]) -> str:
    return "expected the calibrated size {}x{}, got {}x{}".format(*expected, *got)


def candidates(topic: str, transport: str) -> list[tuple[str, type]]:
    """Return the topics and types that a camera's images may come by, the preferred ones first."""
    raw, compressed = [(topic, Image)], [(topic, CompressedImage), (topic + "/compressed", CompressedImage)]
    return {"raw": raw, "compressed": compressed, "auto": raw + compressed}[transport]


def _info_topic(image_topic: str) -> str:
    """Return camera_info beside an image topic; image_transport's /compressed is part of the image's name."""
    base = image_topic[: -len("/compressed")] if image_topic.endswith("/compressed") else image_topic
    parent, slash, _ = base.rpartition("/")
    return parent + slash + "camera_info"
