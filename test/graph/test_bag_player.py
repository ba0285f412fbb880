"""Bags of every kind onto a live graph: whole, in order, with their stamps; damaged ones end in one clear line."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from geometry_msgs.msg import Vector3Stamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from egopose_ros.msg import BodyPose
from egopose_ros.ros.bag_reader import BagError
from egopose_ros.ros.bag_source import BagSource

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_333_333
FRAMES = 20
# Above what the default shared-memory segment of Fast DDS holds.
WIDTH, HEIGHT = 1024, 768
KINDS = ("db3", "mcap", "ros1")
BROKEN = "expected a whole db3, mcap or ROS 1 bag|damaged or truncated, breaks off after"
MESSAGES = Path(__file__).parents[2] / "msg"

_FOREVER = QosTime(2147483647, 4294967295)


def qos(reliability: QosReliability, durability: QosDurability) -> Qos:
    return Qos(
        QosHistory.KEEP_LAST, 5, reliability, durability, _FOREVER, _FOREVER, QosLiveliness.AUTOMATIC, _FOREVER, False
    )


RELIABLE = qos(QosReliability.RELIABLE, QosDurability.VOLATILE)
BEST_EFFORT = qos(QosReliability.BEST_EFFORT, QosDurability.VOLATILE)
LATCHED = qos(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL)


class BagWriter:
    """One way to write the three kinds of bag."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.ros1 = kind == "ros1"
        self.store = get_typestore(Stores.ROS1_NOETIC if self.ros1 else Stores.ROS2_JAZZY)
        self.path = folder / ("bag.bag" if self.ros1 else "bag")
        storage = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
        self._writer: Any = Writer1(self.path) if self.ros1 else Writer2(self.path, version=9, storage_plugin=storage)
        self._connections: dict[str, Any] = {}
        self._writer.open()
        if self.ros1:
            self.types({"tf2_msgs/msg/TFMessage": "geometry_msgs/TransformStamped[] transforms"})

    def close(self) -> Path:
        self._writer.close()
        return self.path

    def types(self, definitions: dict[str, str]) -> None:
        for name, definition in definitions.items():
            self.store.register(get_types_from_msg(definition, name))

    def topic(self, topic: str, kind: str, offered: Qos = RELIABLE) -> None:
        options = {"latching": 1 if offered is LATCHED else 0} if self.ros1 else {"offered_qos_profiles": [offered]}
        self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self.store, **options)

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        connection = self._connections[topic]
        serialize = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        self._writer.write(connection, stamp_ns, serialize(message, connection.msgtype))

    def make(self, kind: str, **fields: Any) -> Any:
        return self.store.types[kind](**fields)

    def header(self, stamp_ns: int, frame: str) -> Any:
        time = self.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return self.make(
            "std_msgs/msg/Header", stamp=time, frame_id=frame, **({"seq": 7} if self.ros1 else {})
        )


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, HEIGHT * WIDTH, np.uint8)


def record(writer: BagWriter, *, image_qos: Qos = RELIABLE) -> Path:
    """Record a camera, two latched transforms of two broadcasters, and a type that no machine has."""
    writer.types({"nowhere_msgs/msg/Thing": "int32 value"})
    writer.topic("/camera/image_raw", "sensor_msgs/msg/Image", image_qos)
    writer.topic("/tf_static", "tf2_msgs/msg/TFMessage", LATCHED)
    writer.topic("/thing", "nowhere_msgs/msg/Thing")
    for child in ("left", "right"):
        writer.write("/tf_static", START_NS, writer.make("tf2_msgs/msg/TFMessage", transforms=[transform(writer, child)]))
    writer.write("/thing", START_NS, writer.make("nowhere_msgs/msg/Thing", value=1))
    for index in range(FRAMES):
        stamp_ns = START_NS + index * PERIOD_NS
        image = writer.make(
            "sensor_msgs/msg/Image", header=writer.header(stamp_ns - 5_000_000, "camera"), height=HEIGHT, width=WIDTH,
            encoding="mono8", is_bigendian=0, step=WIDTH, data=picture(index),
        )
        writer.write("/camera/image_raw", stamp_ns, image)
    return writer.close()


def transform(writer: BagWriter, child: str) -> Any:
    vector = writer.make("geometry_msgs/msg/Vector3", x=1.0, y=2.0, z=3.0)
    rotation = writer.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
    return writer.make(
        "geometry_msgs/msg/TransformStamped", header=writer.header(START_NS, "head"), child_frame_id=child,
        transform=writer.make("geometry_msgs/msg/Transform", translation=vector, rotation=rotation),
    )


def to_ns(stamp: Any) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


def play(live: Any, path: Path, *flags: str) -> Any:
    return live.start("egopose_ros.ros.bag_player", str(path), *flags)


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_arrives_whole_and_in_order(live: Any, tmp_path: Path, kind: str) -> None:
    path = record(BagWriter(tmp_path, kind))
    images = live.subscribe(Image, "/camera/image_raw")
    clock = live.subscribe(Clock, "/clock")
    player = play(live, path, "--rate", "2", "--topics", "/camera/image_raw", "/tf_static", "/thing")
    late = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    live.until(lambda: len(images) > FRAMES // 4)
    latched = live.subscribe(TFMessage, "/tf_static", late)
    live.until(lambda: len(images) == FRAMES and len(latched) == 2)
    # What has arrived is acknowledged to the player only after seconds: one kind waits for that, the others do not.
    status, said = live.finish(player) if kind == "mcap" else live.interrupt(player)

    assert status == 0, said
    assert [to_ns(image.header.stamp) for image in images] == [
        START_NS + index * PERIOD_NS - 5_000_000 for index in range(FRAMES)
    ]
    for index, image in enumerate(images):
        assert (image.width, image.height, image.step, image.encoding) == (WIDTH, HEIGHT, WIDTH, "mono8")
        assert np.array_equal(np.frombuffer(image.data, np.uint8), picture(index))
    assert [message.transforms[0].child_frame_id for message in latched] == ["left", "right"]
    times = [to_ns(message.clock) for message in clock]
    assert times == sorted(times) and times[0] == START_NS
    assert "/thing is left out: its type nowhere_msgs/msg/Thing is not installed" in said


def test_own_messages_cross_unchanged(live: Any, tmp_path: Path) -> None:
    writer = BagWriter(tmp_path, "mcap")
    writer.types({"egopose_ros/msg/BodyPose": (MESSAGES / "BodyPose.msg").read_text()})
    writer.topic("/egopose/pose", "egopose_ros/msg/BodyPose")
    empty = np.zeros(0, np.float32)
    positions = np.arange(6, dtype=np.float32) / 3
    pose = writer.make(
        "egopose_ros/msg/BodyPose", header=writer.header(START_NS, "camera"), skeleton="smpl22", joint_names=["a", "b"],
        positions=positions, orientations=empty, covariance=empty, confidence=empty, tracking_state=1,
        globally_refined=True, window_length=27, frames_dropped=3, age=0.25, network="network", weights_trained=True,
    )
    for index in range(5):
        writer.write("/egopose/pose", START_NS + index, pose)
    poses = live.subscribe(BodyPose, "/renamed")
    player = play(live, writer.close(), "--remap", "/egopose/pose:=/renamed")
    live.until(lambda: len(poses) == 5)
    status, said = live.interrupt(player)
    assert status == 0, said
    assert list(poses[-1].positions) == positions.tolist() and poses[-1].joint_names == ["a", "b"]
    assert (poses[-1].window_length, poses[-1].age, poses[-1].weights_trained) == (27, 0.25, True)


def test_what_an_estimator_said_then_is_left_out_where_one_speaks_now(live: Any, tmp_path: Path) -> None:
    writer = BagWriter(tmp_path, "mcap")
    writer.types({"egopose_ros/msg/BodyPose": (MESSAGES / "BodyPose.msg").read_text()})
    empty = np.zeros(0, np.float32)
    poses = ("/mine/pose", "/mine/pose_global", "/ground_truth/pose", "/mocap/pose")
    for topic in poses:
        writer.topic(topic, "egopose_ros/msg/BodyPose")
    strings = ("/mine/markers", "/diagnostics", "/mine/image_raw", "/other")
    for topic in strings:
        writer.topic(topic, "std_msgs/msg/String")
    writer.topic("/tf", "tf2_msgs/msg/TFMessage")
    for index in range(5):
        stamp_ns = START_NS + index * PERIOD_NS
        for topic in poses:
            writer.write(topic, stamp_ns, writer.make(
                "egopose_ros/msg/BodyPose", header=writer.header(stamp_ns, "camera"), skeleton="smpl22", joint_names=[],
                positions=empty, orientations=empty, covariance=empty, confidence=empty, tracking_state=1,
                globally_refined=True, window_length=1, frames_dropped=0, age=0.0, network="network", weights_trained=True,
            ))  # fmt: skip
        for topic in strings:
            writer.write(topic, stamp_ns, writer.make("std_msgs/msg/String", data="x"))
        moving = [transform(writer, child) for child in ("wearer/head", "base", "wearer/pelvis")]
        writer.write("/tf", stamp_ns, writer.make("tf2_msgs/msg/TFMessage", transforms=moving))
    path = writer.close()
    heard = {topic: live.subscribe(BodyPose, topic) for topic in poses}
    heard |= {topic: live.subscribe(String, topic) for topic in strings}
    transforms = live.subscribe(TFMessage, "/tf")
    status, said = live.finish(play(live, path, "--no-estimates", "--await-topics", "/mocap/pose"))
    assert status == 0, said
    live.until(lambda: len(transforms) == len(heard["/other"]) == len(heard["/ground_truth/pose"]) == 5)
    assert {topic for topic, messages in heard.items() if not messages} == {
        "/mine/pose", "/mine/pose_global", "/mine/markers", "/diagnostics",
    }  # fmt: skip
    assert {t.child_frame_id for message in transforms for t in message.transforms} == {"base"}
    assert "left out, of an estimator that ran then: /diagnostics, /mine/markers" in said


def test_recorded_qos_is_offered(live: Any, tmp_path: Path) -> None:
    path = record(BagWriter(tmp_path, "mcap"), image_qos=BEST_EFFORT)
    play(live, path, "--wait-s", "30")
    images, static = (
        live.until(lambda topic=topic: live.node.get_publishers_info_by_topic(topic))[0].qos_profile
        for topic in ("/camera/image_raw", "/tf_static")
    )
    assert images.reliability == ReliabilityPolicy.BEST_EFFORT
    assert images.durability == DurabilityPolicy.VOLATILE
    assert static.reliability == ReliabilityPolicy.RELIABLE
    assert static.durability == DurabilityPolicy.TRANSIENT_LOCAL


def test_a_topic_that_is_awaited_loses_nothing_however_late_it_is_heard(live: Any, tmp_path: Path) -> None:
    images = live.subscribe(Image, "/camera/image_raw")
    path = record(BagWriter(tmp_path, "mcap"))
    player = play(live, path, "--wait-s", "60", "--rate", "20", "--await-topics", "/tf_static", "/not_in_the_bag")
    live.until(lambda: live.node.count_publishers("/camera/image_raw"))
    with pytest.raises(AssertionError, match="did not come"):  # a second of the images' subscriber alone is enough
        live.until(lambda: images, 4.0)
    live.subscribe(TFMessage, "/tf_static", QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    live.until(lambda: len(images) == FRAMES)
    status, said = live.interrupt(player)
    assert status == 0, said


def test_start_offset_keeps_what_was_latched(live: Any, tmp_path: Path) -> None:
    path = record(BagWriter(tmp_path, "mcap"))
    images = live.subscribe(Image, "/camera/image_raw")
    latched = live.subscribe(TFMessage, "/tf_static", QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    clock = live.subscribe(Clock, "/clock")
    skipped_ns = FRAMES // 2 * PERIOD_NS
    player = play(live, path, "--start-s", repr(skipped_ns / 1e9))
    live.until(lambda: len(images) == FRAMES - FRAMES // 2 and len(latched) == 2)
    status, said = live.interrupt(player)
    assert status == 0, said
    assert (len(images), len(latched)) == (FRAMES - FRAMES // 2, 2)
    assert min(to_ns(message.clock) for message in clock) >= START_NS + skipped_ns - 1000


def test_loop_sends_clock_and_stamps_back_and_ends_on_sigint(live: Any, tmp_path: Path) -> None:
    path = record(BagWriter(tmp_path, "db3"))
    images = live.subscribe(Image, "/camera/image_raw")
    clock = live.subscribe(Clock, "/clock")
    player = play(live, path, "--loop", "--rate", "4")
    live.until(lambda: len(images) > 2.5 * FRAMES)
    status, said = live.interrupt(player)
    assert status == 0, said
    stamps = [to_ns(image.header.stamp) for image in images]
    assert stamps[:FRAMES] == stamps[FRAMES : 2 * FRAMES]
    assert any(np.diff([to_ns(message.clock) for message in clock]) < 0)


def test_nobody_listens_and_it_ends_all_the_same(live: Any, tmp_path: Path) -> None:
    path = record(BagWriter(tmp_path, "mcap"))
    status, said = live.finish(live.start("egopose_ros.cli", "play", str(path), "--wait-s", "0.2", "--rate", "20"))
    assert status == 0
    assert "no subscriber of /camera/image_raw after 0.2 s" in said


def test_differing_type_is_left_out(live: Any, tmp_path: Path) -> None:
    writer = BagWriter(tmp_path, "mcap")
    # The installed type has a vector of float64: these bytes would be read as something else.
    del writer.store.fielddefs["geometry_msgs/msg/Vector3"]
    writer.types({"geometry_msgs/msg/Vector3": "float32 x\nfloat32 y\nfloat32 z"})
    writer.topic("/vector", "geometry_msgs/msg/Vector3Stamped")
    writer.topic("/clock_of_camera", "builtin_interfaces/msg/Time")
    vector = writer.make("geometry_msgs/msg/Vector3", x=1.0, y=2.0, z=3.0)
    header = writer.header(START_NS, "camera")
    writer.write("/vector", START_NS, writer.make("geometry_msgs/msg/Vector3Stamped", header=header, vector=vector))
    writer.write("/clock_of_camera", START_NS, header.stamp)
    path = writer.close()
    heard = live.subscribe(Vector3Stamped, "/vector")
    status, said = live.finish(play(live, path, "--wait-s", "0.2"))
    assert status == 0 and not heard
    assert "/vector is left out: its geometry_msgs/msg/Vector3Stamped differs from the installed one: vector:" in said
    assert "x (float) in the bag, x (double) here" in said


def halve(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def without_metadata(path: Path) -> Path:
    (path / "metadata.yaml").unlink()
    return path


def damage_pages(path: Path) -> Path:
    """Overwrite the middle of the database file: its index is whole, its messages are not."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = b"\xff" * (len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    return path


def emptied(path: Path) -> Path:
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM messages")
    return path


@pytest.mark.parametrize(
    ("kind", "spoil", "expected"),
    [
        ("mcap", lambda path: halve(next(path.glob("*.mcap"))), "expected a whole db3, mcap or ROS 1 bag"),
        ("mcap", without_metadata, "metadata"),
        ("db3", lambda path: halve(next(path.glob("*.db3"))), BROKEN),
        ("db3", lambda path: damage_pages(next(path.glob("*.db3"))), BROKEN),
        ("db3", lambda path: emptied(next(path.glob("*.db3"))), "expected messages, got none"),
        ("ros1", halve, BROKEN),
        ("ros1", lambda path: path.with_name("other.bag"), "expected a bag folder or a .mcap, .db3 or .bag file"),
    ],
)
def test_damaged_bag_is_refused(tmp_path: Path, kind: str, spoil: Callable[[Path], Path], expected: str) -> None:
    path = spoil(record(BagWriter(tmp_path, kind)))
    with pytest.raises((BagError, FileNotFoundError), match=expected) as error:
        with BagSource(path) as bag:
            list(bag.messages())
    assert str(path) in str(error.value) or str(path.parent) in str(error.value)


def test_damage_ends_the_player_in_one_line(live: Any, tmp_path: Path) -> None:
    path = damage_pages(next(record(BagWriter(tmp_path, "db3")).glob("*.db3")))
    status, said = live.finish(play(live, path, "--wait-s", "0.1", "--rate", "50"))
    assert status == 1 and "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith(f"player: bag {path}: ")


def test_topic_that_is_not_there_is_named(live: Any, tmp_path: Path) -> None:
    path = record(BagWriter(tmp_path, "mcap"))
    status, said = live.finish(play(live, path, "--topics", "/camera/image"))
    assert status == 1
    assert "no topic /camera/image; it has /camera/image_raw, /tf_static, /thing" in said
