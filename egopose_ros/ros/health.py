"""What `egopose doctor` looks at in ROS: client library, messages, middleware, transport, and the live graph."""

from __future__ import annotations

import importlib
import os
import re
import struct
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egopose_ros.installation import Finding, Status
from egopose_ros.resources import share_directory, share_file
from egopose_ros.ros.graph import profile_variable

PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
SEGMENT_BYTES = 4 << 20
"""A shared-memory segment below this loses whole images."""
LEFT_BEHIND_BYTES = 500_000_000
DISCOVERY_S = 3.0
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
POSE_TYPE = "egopose_ros/msg/BodyPose"
REBUILD = "make setup, or colcon build and source install/setup.bash"


def client_library() -> Finding:
    """Look whether rclpy imports, and from where."""
    try:
        rclpy = importlib.import_module("rclpy")
        importlib.import_module("rclpy.node")
    except (ImportError, OSError) as error:
        mend = "make setup, or source /opt/ros/<distribution>/setup.bash; without ROS only offline commands work"
        return Finding("ROS", Status.WRONG, f"rclpy does not import: {error}", mend)
    distribution = os.environ.get("ROS_DISTRO")
    return Finding("ROS", Status.OK, f"rclpy of {distribution or 'wheels'} in {Path(rclpy.__file__).parent}")


def middleware() -> Finding:
    """Look which DDS carries the messages, and how far they go."""
    import rclpy

    try:
        name = rclpy.get_rmw_implementation_identifier()
    except Exception as error:  # RCLError has no public home: it is rclpy's own, or its extension's.
        return Finding("RMW", Status.WRONG, str(error), "unset RMW_IMPLEMENTATION, or install the one that it names")
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    text = f"{name}, domain {os.environ.get('ROS_DOMAIN_ID', '0')}, discovery {reach}"
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    if not re.fullmatch(r"\d+", domain) or not 0 <= int(domain) <= 232:
        return Finding("RMW", Status.WRONG, text, "expected ROS_DOMAIN_ID in 0..232; 0..101 is safe on Linux")
    return Finding("RMW", Status.OK, text)


def interfaces() -> Finding:
    """Look whether the messages are built, and from the files that ship."""
    mend = f"build them: {REBUILD}"
    try:
        module = importlib.import_module("egopose_ros.msg")
        importlib.import_module("tf2_msgs.msg")
    except (ImportError, OSError) as error:
        return Finding("interfaces", Status.WRONG, f"not built: {error}", mend)
    for path in sorted((share_directory() / "msg").glob("*.msg")):
        kind = getattr(module, path.stem, None)
        if kind is None:
            return Finding("interfaces", Status.WRONG, f"{path.stem} is not built", mend)
        declared = {name: _written_type(text) for name, text in _fields(path.read_text())}
        built = {name: text.split("/")[-1] for name, text in kind.get_fields_and_field_types().items()}
        if declared != built:
            differing = sorted({name for name, _ in declared.items() ^ built.items()})
            return Finding("interfaces", Status.WRONG, f"{path.stem} is out of date: {', '.join(differing)}", mend)
        type(kind).__import_type_support__()
    return Finding("interfaces", Status.OK, "messages built, with the fields of msg/")


def _fields(definition: str) -> Iterator[tuple[str, str]]:
    """Yield name and type of each field of a .msg file; constants have a value and are left out."""
    for line in definition.splitlines():
        match = re.match(r"\s*([\w/\[\]<=]+)\s+([a-z]\w*)\s*(?:#.*)?$", line)
        if match:
            yield match.group(2), match.group(1)


def _written_type(text: str) -> str:
    """Write a type of a .msg file as rosidl's Python does, without the package."""
    base, bracket, _ = text.split("/")[-1].partition("[")
    base = {"float32": "float", "float64": "double", "bool": "boolean", "byte": "octet"}.get(base, base)
    return f"sequence<{base}>" if bracket else base


def shared_memory() -> Finding:
    """Look whether Fast DDS has a segment that holds whole images, and what dead processes left behind."""
    import rclpy

    if "fastrtps" not in rclpy.get_rmw_implementation_identifier():
        return Finding("shared memory", Status.NOTE, "not Fast DDS: its own settings decide whether large images arrive")
    left = [path.stat() for path in Path("/dev/shm").glob("*fast*_*")]
    occupied = sum(stat.st_blocks * 512 for stat in left)
    if occupied > LEFT_BEHIND_BYTES:
        text = f"{occupied / 1e9:.1f} GB of Fast DDS's in /dev/shm, some of it perhaps of processes that were killed"
        return Finding("shared memory", Status.NOTE, text, "end every ROS process, then: fastdds shm clean")
    profile = share_file("config/fastdds_shm.xml")
    mend = f"export {profile_variable()}={profile}, on both sides"
    named = next((os.environ[name] for name in PROFILE_VARIABLES if os.environ.get(name)), "")
    if not named:
        text = "no Fast DDS profile: best-effort images above 0.5 MB are lost"
        return Finding("shared memory", Status.WRONG, text, mend)
    try:
        sizes = [int(item.text or 0) for item in ET.parse(named).iter() if item.tag.endswith("segment_size")]
    except (OSError, ET.ParseError, ValueError) as error:
        return Finding("shared memory", Status.WRONG, f"profile {named}: {error}", mend)
    if max(sizes, default=0) < SEGMENT_BYTES:
        text = f"profile {named}: expected a shared-memory segment_size of {SEGMENT_BYTES} or more, got {sizes or 'none'}"
        return Finding("shared memory", Status.WRONG, text, mend)
    return Finding("shared memory", Status.OK, f"segments of {max(sizes) >> 20} MB by {named}")


@dataclass(frozen=True)
class Camera:
    """What a calibration says of the images of a camera."""

    name: str
    size: tuple[int, int]
    """width, height [px]"""


def graph(topics: Sequence[str], seconds: float, cameras: Sequence[Camera] = ()) -> Iterator[Finding]:
    """Yield what is found on the live graph, as a node of our own sees it; `cameras` are those of a calibration."""
    import rclpy

    from egopose_ros.ros import probe

    rclpy.init(args=[])
    node = rclpy.create_node("egopose_doctor")
    try:
        yield probe.large_images(node)
        yield from Graph(node, topics, seconds, cameras).look()
    finally:
        node.destroy_node()
        rclpy.shutdown()


@dataclass
class _Heard:
    """What arrived on a topic."""

    count: int = 0
    raw: bool = True
    """whether images are uncompressed"""
    largest_bytes: int = 0
    stamp_s: float = 0.0
    size: tuple[int, int] = (0, 0)
    """width, height [px] of the newest image; of raw ones only"""
    newest: bytes = b""
    """the newest image; of compressed ones only"""

    def take(self, message: bytes) -> None:
        self.count += 1
        self.largest_bytes = max(self.largest_bytes, len(message))
        # CDR: four bytes of header, the second of which tells the byte order; then header.stamp, header.frame_id.
        order = "<" if message[1] & 1 else ">"
        seconds, nanoseconds, length = struct.unpack_from(order + "iII", message, 4)
        self.stamp_s = seconds + nanoseconds * 1e-9
        if self.raw:
            height, width = struct.unpack_from(order + "II", message, (16 + length + 3) // 4 * 4)
            self.size = width, height
        else:
            self.newest = message


def _compressed_size(message: bytes) -> tuple[int, int]:
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import CompressedImage

    from egopose_ros.ros import images

    return images.size_of(deserialize_message(message, CompressedImage))


@dataclass
class Graph:
    """The live graph as a node of ours sees it."""

    node: Any
    topics: Sequence[str]
    """image topics to look at"""
    seconds: float
    """for which to listen"""
    cameras: Sequence[Camera] = ()
    """those of the calibration, in the order of the topics; empty without one"""
    heard: dict[str, _Heard] = field(default_factory=dict)

    def look(self) -> Iterator[Finding]:
        """Yield what is found about topics, QoS and clock."""
        self._discover()
        if not self.topics:
            yield self._offered_topics()
        for topic in self.topics:
            yield from self._image_topic(topic)
        if self.topics and self.cameras:
            yield from self._calibration()
        yield from self._incompatible_endpoints()
        yield from self._clock()

    def _spin(self, seconds: float, until: Any = lambda: False) -> None:
        import rclpy

        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def _discover(self) -> None:
        def offered(topic: str) -> bool:
            return any(map(self.node.count_publishers, self._names(topic)))

        self._spin(DISCOVERY_S, lambda: self.topics and all(map(offered, self.topics)))

    def _names(self, topic: str) -> list[str]:
        """Return the topics that the estimator takes for one that it is told, the preferred ones first."""
        from egopose_ros.ros.cameras import candidates

        return list(dict.fromkeys(name for name, _ in candidates(self.node.resolve_topic_name(topic), "auto")))

    def _found(self, topic: str) -> str:
        names = self._names(topic)
        return next((name for name in names if self.node.count_publishers(name)), names[0])

    def _offered_topics(self) -> Finding:
        found = [name for name, kinds in self.node.get_topic_names_and_types() if set(kinds) & set(IMAGE_TYPES)]
        text = f"image topics on the graph: {', '.join(found) or 'none'}"
        return Finding("topics", Status.NOTE, text, "name those to look at with --topics")

    def _image_topic(self, topic: str) -> Iterator[Finding]:
        """Look at type, publishers, QoS and arrival of an image topic."""
        from egopose_ros.ros import qos

        name = self._found(topic)
        publishers = self.node.get_publishers_info_by_topic(name)
        if not publishers:
            mend = "start the camera or the bag; compare ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE on both sides"
            yield Finding("topics", Status.WRONG, f"{name}: nobody publishes it", mend)
            return
        kinds = {publisher.topic_type for publisher in publishers}
        if len(kinds) > 1 or not kinds <= set(IMAGE_TYPES):
            text = f"{name}: expected {' or '.join(IMAGE_TYPES)}, got {', '.join(sorted(kinds))}"
            yield Finding("topics", Status.WRONG, text, "name the topic that carries the images in camera.topics")
            return
        profile = qos.matching(publishers, 10)
        package, _, kind = kinds.pop().split("/")
        message = getattr(importlib.import_module(f"{package}.msg"), kind)
        heard = self.heard[name] = _Heard(raw=kind == "Image")
        subscription = self.node.create_subscription(message, name, heard.take, profile, raw=True)
        self._spin(self.seconds)
        self.node.destroy_subscription(subscription)
        if len(publishers) > 1:
            text = f"{name}: expected one publisher, found {len(publishers)}: their images would mix"
            yield Finding("topics", Status.WRONG, text, "end all but one")
        reliability = profile.reliability.name.lower().replace("_", " ")
        text = f"{name}: {kind}, {reliability}, {heard.count / self.seconds:.1f} Hz"
        if heard.count:
            yield Finding("topics", Status.OK, f"{text}, {heard.largest_bytes / 1e6:.2f} MB; we subscribe as {reliability}")
        else:
            mend = "paused? If not, large images are lost: give the publisher the profile config/fastdds_shm.xml as well"
            yield Finding("topics", Status.WRONG, f"{text}: published, and nothing arrives", mend)

    def _calibration(self) -> Iterator[Finding]:
        """Look whether the images that came are those of the calibration's cameras."""
        if len(self.topics) != len(self.cameras):
            names = ", ".join(camera.name for camera in self.cameras)
            text = f"expected an image topic for each camera of the calibration ({names}), got {', '.join(self.topics)}"
            yield Finding("calibration", Status.WRONG, text, "name the topics in the order of the calibration's cameras")
            return
        for topic, camera in zip(self.topics, self.cameras):
            name = self._found(topic)
            heard = self.heard.get(name)
            if heard is None or not heard.count:
                continue
            expected = f"{'x'.join(map(str, camera.size))} images of camera '{camera.name}'"
            size = heard.size if heard.raw else _compressed_size(heard.newest)
            if size != camera.size:
                text = f"{name}: expected {expected}, got {'x'.join(map(str, size))}"
                mend = "calibrate the camera at the size that it publishes, or have it publish the calibrated one"
                yield Finding("calibration", Status.WRONG, text, mend)
            else:
                yield Finding("calibration", Status.OK, f"{name}: {expected}, as calibrated")

    def _incompatible_endpoints(self) -> Iterator[Finding]:
        """Look for publishers and subscribers, of images and of poses, whose QoS keeps them apart."""
        from rclpy.qos import QoSCompatibility, qos_check_compatible

        pairs, apart = 0, []
        for name, kinds in self.node.get_topic_names_and_types():
            if not set(kinds) & {*IMAGE_TYPES, POSE_TYPE, "egopose_ros/msg/Skeleton", "visualization_msgs/msg/MarkerArray"}:
                continue
            for publisher in self.node.get_publishers_info_by_topic(name):
                for subscriber in self.node.get_subscriptions_info_by_topic(name):
                    pairs += 1
                    verdict, reason = qos_check_compatible(publisher.qos_profile, subscriber.qos_profile)
                    if verdict == QoSCompatibility.ERROR:
                        apart.append(f"{name}, {publisher.node_name} to {subscriber.node_name}: {reason.strip()}")
        if apart:
            mend = "let the subscriber ask for no more than the publisher offers"
            yield Finding("QoS", Status.WRONG, "; ".join(apart), mend)
        else:
            yield Finding("QoS", Status.OK, f"{pairs} pairs of publisher and subscriber, none kept apart")

    def _clock(self) -> Iterator[Finding]:
        """Look whether the estimators' clock runs, and whether images are stamped by the same one."""
        clocks = self.node.count_publishers("/clock")
        if clocks > 1:
            yield Finding("clock", Status.WRONG, f"/clock has {clocks} publishers: time jumps", "end all but one bag")
            return
        for name in self._estimators():
            simulated = self._uses_sim_time(name)
            if simulated and not clocks:
                mend = "play the bag with /clock (ros2 bag play --clock), or set use_sim_time to false"
                yield Finding("clock", Status.WRONG, f"{name} has use_sim_time, and nobody publishes /clock", mend)
                return
            if simulated is False and clocks:
                text = f"/clock is published, and {name} takes the machine's time"
                yield Finding("clock", Status.NOTE, text, "set use_sim_time to true while a bag plays")
                return
        for topic, heard in self.heard.items():
            behind = time.time() - heard.stamp_s
            if heard.count and not clocks and abs(behind) > 10.0:
                mend = "play a bag with /clock and use_sim_time; else set the camera's clock (chrony, PTP)"
                yield Finding("clock", Status.NOTE, f"images of {topic} are stamped {behind:.0f} s before now", mend)
                return
        yield Finding("clock", Status.OK, "/clock is published" if clocks else "the machine's own")

    def _estimators(self) -> list[str]:
        topics = [name for name, kinds in self.node.get_topic_names_and_types() if POSE_TYPE in kinds]
        endpoints = [endpoint for topic in topics for endpoint in self.node.get_publishers_info_by_topic(topic)]
        return sorted({f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}" for endpoint in endpoints})

    def _uses_sim_time(self, name: str) -> bool | None:
        """Ask a node; None where it does not answer."""
        from rcl_interfaces.srv import GetParameters

        client = self.node.create_client(GetParameters, f"{name}/get_parameters")
        try:
            if not client.wait_for_service(timeout_sec=1.0):
                return None
            answer = client.call_async(GetParameters.Request(names=["use_sim_time"]))
            self._spin(1.0, answer.done)
            return answer.result().values[0].bool_value if answer.done() and answer.result().values else None
        finally:
            self.node.destroy_client(client)
