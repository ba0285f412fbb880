"""A bag as the frames that the live node would see: every one of them, judged, paired and posed by the same code.

The clock is that of the recording, so a frame waits for its head pose as it would have waited live.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Iterator

import numpy as np

from egopose_ros.config import Config
from egopose_ros.ros import images
from egopose_ros.ros.bag_reader import BagError, BagReader, Recorded
from egopose_ros.ros.bag_settings import HEAD_POSES, IMAGE_TYPES, IMU_TYPE
from egopose_ros.ros.images import ImageError, Reason
from egopose_ros.ros.stamps import FrameLock, StampGate, Verdict, to_ns
from egopose_ros.ros.tracks import ALIVE_S, HeadTrack, ImuTrack, mounting
from egopose_ros.ros.transform_tree import TransformTree
from egopose_ros.structs import Frame
from egopose_ros.window.ring import Lookup, Matcher

AHEAD = 4
"""Frames whose images are decoded while the one before them is inferred."""
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
TF_TYPE = "tf2_msgs/msg/TFMessage"
_REASONS = {
    Verdict.ZERO: Reason.STAMP_ZERO, Verdict.REPEATED: Reason.STAMP_REPEATED, Verdict.BACK: Reason.STAMP_BACK
}


@dataclass(frozen=True)
class BagFrame:
    """A frame and what belongs to it in the bag."""

    frame: Frame
    frame_id: str
    """optical frame of the first camera"""
    epoch: int
    """rises at every jump of time: frames of different epochs never share a window"""
    messages: tuple[Any, ...]
    """the images as they were recorded"""
    recorded_s: float
    """when the last of them was recorded"""


class BagFrames:
    """The frames of one rig in a bag."""

    def __init__(self, bag: BagReader, config: Config, *, decode: bool = True) -> None:
        """Find the topics that the configuration names; BagError lists what the bag has where one is missing.

        Without `decode` the frames have no images: an index of the bag.
        """
        self.bag = bag
        self.title = f"bag {bag.path}"
        self._config = config
        self._decode = decode
        self.topics = tuple(_image_topic(bag, topic, config.camera.transport) for topic in config.camera.topics)
        self.rejected: Counter[str] = Counter()
        """messages that were not used, by reason"""
        self.notes: dict[str, str] = {}
        """what had to be assumed or refused, the first text of each kind"""
        self._tf = [t for t, kind in bag.kinds.items() if kind == TF_TYPE and t.lstrip("/") in ("tf", "tf_static")]
        static = [topic for topic in self._tf if topic.lstrip("/") == "tf_static"]
        self._static = [recorded.message for recorded in bag.messages(static)]
        self.head_topic = self._imu_topic = ""
        source = config.head_pose.source
        if source in HEAD_POSES.values():
            self.head_topic = _resolved(bag, config.head_pose.topic)
            bag.require(self.head_topic, *(kind for kind, name in HEAD_POSES.items() if name == source))
        if config.imu.enabled:
            self._imu_topic = _resolved(bag, config.imu.topic)
            bag.require(self._imu_topic, IMU_TYPE)
        self._start()

    def _start(self) -> None:
        """Forget all of an earlier pass, so that each begins as the first did."""
        views = len(self.topics)
        self._gates = [StampGate() for _ in range(views)]
        self._locks = [FrameLock() for _ in range(views)]
        self._matcher = Matcher(views, round(self._config.camera.sync_tolerance_s * 1e9))
        self._waiting: deque[tuple[int, tuple[Any, ...], float, int]] = deque()
        self._epoch, self._newest_ns = 0, None
        # A bag tells at once what its sources are: the first frame waits for them as the others do.
        self._heard_s = {self.head_topic: self.bag.start_s, self._imu_topic: self.bag.start_s}
        self.tree = TransformTree("", lambda reason, text: self.rejected.update(["tf." + reason]))
        for message in self._static:
            self.tree.take(message, static=True)
        self.head = HeadTrack(self._config.head_pose, self.tree)
        self._imu = ImuTrack(self._config.head_pose.head_frame, self.tree)

    @property
    def global_frame(self) -> str:
        """The frame that head poses are in, empty while it is not known."""
        settings = self._config.head_pose
        return settings.global_frame or ("map" if settings.source == "tf" else self.head.global_frame)

    def T_head_camera(self) -> np.ndarray | None:
        """Return where static TF has the first camera on the head (4, 4); None where nobody asks or TF does not know."""
        settings = self._config.head_pose
        if settings.source == "none" and not self._config.imu.enabled:
            return None
        first = self.bag.first(self.topics[0])
        frame = self._config.camera.frame_id or (first.header.frame_id if first is not None else "") or "camera"
        T_head_camera, assumption = mounting(self.tree, settings.head_frame, frame)
        if assumption is not None:
            self.notes["extrinsics"] = assumption.text
        return T_head_camera

    def camera_infos(self) -> list[dict[str, Any]]:
        """Return the first CameraInfo of each camera as the arguments of `pipeline.rig_from_camera_info`.

        BagError where a camera has none: it lists the calibrations there are.
        """
        result = []
        for topic in self.topics:
            name = _info_topic(topic)
            info = self.bag.first(name) if self.bag.kinds.get(name) == CAMERA_INFO else None
            if info is None:
                there = ", ".join(self.bag.candidates(CAMERA_INFO)) or "none"
                raise BagError(
                    f"bag {self.bag.path}: expected the calibration of {topic} in a file (--calibration, or "
                    f"calibration.yaml in the bag's folder) or as CameraInfo on {name}, got neither; CameraInfo in the "
                    f"bag: {there}"
                )
            T, lookup = self.tree.lookup(self._config.head_pose.head_frame, info.header.frame_id, None, 0)
            if lookup is not Lookup.FOUND and len(self.topics) > 1:
                raise BagError(
                    f"bag {self.bag.path}: expected TF {self._config.head_pose.head_frame} -> '{info.header.frame_id}', "
                    f"for a rig of several cameras, got none: {lookup.value}"
                )
            result.append(_info_values(info, name, T if lookup is Lookup.FOUND else None))
        return result

    def __iter__(self) -> Iterator[BagFrame]:
        """Yield every frame in order; images that the live node would refuse are counted in `rejected`.

        A thread, which ends with the iteration, decodes some frames ahead.
        """
        if not self._decode:
            yield from self._frames()
            return
        ahead: deque[tuple[BagFrame, Future[tuple[np.ndarray, ...]]]] = deque()
        with ThreadPoolExecutor(1, "decode") as decoder:
            for item in self._frames():
                ahead.append((item, decoder.submit(_decoded, item.messages)))
                if len(ahead) > AHEAD:
                    yield from self._with_images(*ahead.popleft())
            while ahead:
                yield from self._with_images(*ahead.popleft())

    def _with_images(self, item: BagFrame, decoding: Future[tuple[np.ndarray, ...]]) -> Iterator[BagFrame]:
        """Yield the frame with its images; nothing for a capture whose images cannot be decoded."""
        try:
            pixels = decoding.result()
        except ImageError as error:
            self.rejected[error.reason.value] += 1
            return
        yield replace(item, frame=replace(item.frame, images=pixels))

    def _frames(self) -> Iterator[BagFrame]:
        """Yield every frame in order, without its images."""
        self._start()
        self.rejected.clear()
        topics = [*self.topics, *self._tf, *filter(None, (self.head_topic, self._imu_topic))]
        for recorded in self.bag.messages(topics):
            now_s = recorded.stamp_ns / 1e9
            self._take(recorded, now_s)
            while self._waiting and self._ready(self._waiting[0], now_s):
                yield self._frame(*self._waiting.popleft())
        while self._waiting:
            yield self._frame(*self._waiting.popleft())

    def _take(self, recorded: Recorded, now_s: float) -> None:
        topic, message = recorded.topic, recorded.message
        if topic in self.topics:
            self._on_image(self.topics.index(topic), message, now_s)
        elif topic in self._tf:
            self.tree.take(message, static=topic.lstrip("/") == "tf_static")
        elif topic == self.head_topic:
            problem = self.head.take(message, now_s)
            self._judge("head_pose", topic, problem, self.head.assumption, now_s)
        elif self._imu.admits(to_ns(message.header.stamp)):
            self._judge("imu", topic, self._imu.take(message), self._imu.assumption, now_s)

    def _judge(self, kind: str, topic: str, problem: Any, assumption: Any, now_s: float) -> None:
        if assumption is not None:
            self.notes[assumption.text] = assumption.text
        if problem is not None:
            self.rejected[f"{kind}.{problem.reason}"] += 1
            self.notes.setdefault(f"{topic} {problem.reason}", f"{topic}: {problem.text}"[:300])
        else:
            self._heard_s[topic] = now_s

    def _on_image(self, view: int, message: Any, now_s: float) -> None:
        try:
            images.check(message)
            if not self._locks[view].admits(message.header.frame_id, now_s):
                raise ImageError(Reason.CAMERA, f"got an image of '{message.header.frame_id}'")
            verdict = self._gates[view].judge(to_ns(message.header.stamp), round(self._config.window.max_gap_s * 1e9))
            if verdict in _REASONS:
                raise ImageError(_REASONS[verdict], verdict.value)
        except ImageError as error:
            self.rejected[error.reason.value] += 1
            return
        lost = self._matcher.unmatched
        match = self._matcher.push(view, to_ns(message.header.stamp), message)
        self.rejected["unmatched"] += self._matcher.unmatched - lost
        if match is not None:
            self._follow(match[0])
            self._waiting.append((*match, now_s, self._epoch))

    def _follow(self, stamp_ns: int) -> None:
        step_s = 0.0 if self._newest_ns is None else (stamp_ns - self._newest_ns) / 1e9
        self._newest_ns = stamp_ns
        self._epoch += not 0.0 <= step_s <= self._config.window.max_gap_s

    def _ready(self, waiting: tuple[int, tuple[Any, ...], float, int], now_s: float) -> bool:
        stamp_ns, _, arrival_s, _ = waiting
        if now_s - arrival_s > self._config.head_pose.wait_s:
            return True
        newest_ns = self._imu.newest_ns
        if self._alive(self._imu_topic, now_s) and (newest_ns is None or newest_ns < stamp_ns):
            return False
        if self._config.head_pose.source != "tf" and not self._alive(self.head_topic, now_s):
            return True
        return self._head_at(stamp_ns)[1] not in (Lookup.EMPTY, Lookup.NOT_YET)

    def _alive(self, topic: str, now_s: float) -> bool:
        return bool(topic) and now_s - self._heard_s[topic] <= ALIVE_S

    def _head_at(self, stamp_ns: int) -> tuple[np.ndarray, Lookup]:
        settings = self._config.head_pose
        max_gap_ns = round(settings.max_age_s * 1e9)
        if settings.source == "tf":
            return self.tree.lookup(self.global_frame, settings.head_frame, stamp_ns, max_gap_ns)
        return self.head.at(stamp_ns, max_gap_ns)

    def _frame(self, stamp_ns: int, messages: tuple[Any, ...], recorded_s: float, epoch: int) -> BagFrame:
        T_world_head = None
        if self._config.head_pose.source != "none":
            T, lookup = self._head_at(stamp_ns)
            T_world_head = T if lookup is Lookup.FOUND else None
            if T_world_head is None:
                self.rejected["head_pose." + lookup.name.lower()] += 1
        sample = self._imu.at(stamp_ns, round(self._config.imu.max_age_s * 1e9)) if self._imu_topic else None
        frame_id = self._config.camera.frame_id or messages[0].header.frame_id or "camera"
        return BagFrame(Frame(stamp_ns, (), T_world_head, sample), frame_id, epoch, messages, recorded_s)


def _decoded(messages: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    return tuple(images.decode(message) for message in messages)


def _resolved(bag: BagReader, topic: str) -> str:
    """Return a topic's name in the bag, where relative names lie below the root."""
    return topic if topic in bag.kinds else "/" + topic.lstrip("/")


def _image_topic(bag: BagReader, topic: str, transport: str) -> str:
    """Return the topic of a camera in the bag, raw before compressed as live."""
    topic = _resolved(bag, topic)
    raw, compressed = IMAGE_TYPES
    wanted = {"raw": [(topic, raw)], "compressed": []}.get(transport, [(topic, raw)])
    if transport != "raw":
        wanted += [(topic, compressed), (topic + "/compressed", compressed)]
    for name, kind in wanted:
        if bag.kinds.get(name) == kind and bag.counts[name]:
            return name
    present = bag.kinds.get(topic)
    if present is not None and present not in IMAGE_TYPES:
        raise BagError(f"bag {bag.path}: {topic}: expected {' or '.join(IMAGE_TYPES)}, got {present}")
    if present is not None and not bag.counts[topic]:
        raise BagError(f"bag {bag.path}: {topic}: expected frames, got none")
    raise BagError(f"bag {bag.path}: expected images on {topic}; the bag has {bag.contents()}")


def _info_topic(image_topic: str) -> str:
    parent, slash, _ = image_topic.removesuffix("/compressed").rpartition("/")
    return parent + slash + "camera_info"


def _info_values(info: Any, name: str, T_head_camera: np.ndarray | None) -> dict[str, Any]:
    """Return the numbers of a CameraInfo, whose matrices have capital names in ROS 1."""
    return dict(
        width=info.width,
        height=info.height,
        distortion_model=info.distortion_model,
        d=np.asarray(info.d if hasattr(info, "d") else info.D).tolist(),
        k=np.asarray(info.k if hasattr(info, "k") else info.K).tolist(),
        binning=(info.binning_x, info.binning_y),
        roi=(info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height),
        name=name,
        T_head_camera=T_head_camera,
    )
