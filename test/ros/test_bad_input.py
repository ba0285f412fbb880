"""Bad input on the live graph: the node lives, counts, says why, and estimates again within one window."""

from __future__ import annotations

import array
import struct
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the live graph needs rclpy")

import cv2
from geometry_msgs.msg import PoseStamped
from graph_probe import HEIGHT, K, WIDTH, Feed, camera_info, image, pictures, transforms, wait
from sensor_msgs.msg import CompressedImage, Image

from egopose_ros.ros.messages import header, to_ns

WINDOW = 16
HOUR_NS = 3600 * 10**9


def data(length: int) -> array.array:
    return array.array("B", bytes(length))


BAD_IMAGES = {
    "empty data": (dict(data=data(0)), "no_data"),
    "width 0": (dict(width=0), "no_size"),
    "height 0": (dict(height=0), "no_size"),
    "everything 0": (dict(width=0, height=0, step=0, data=data(0), encoding=""), "no_size"),
    "step too small": (dict(step=WIDTH - 1, data=data((WIDTH - 1) * HEIGHT)), "step_too_small"),
    "step 0": (dict(step=0), "step_too_small"),
    "step of one channel, encoding of three": (dict(encoding="rgb8"), "step_too_small"),
    "data shorter than declared": (dict(data=data(WIDTH * HEIGHT - 1)), "wrong_data_length"),
    "data longer than declared": (dict(data=data(WIDTH * HEIGHT + 1)), "wrong_data_length"),
    "a size that overflows": (dict(height=2**32 - 1, step=2**32 - 1), "wrong_data_length"),
    "unknown encoding": (dict(encoding="mono12packed"), "unknown_encoding"),
    "byte order that is none": (
        dict(encoding="mono16", is_bigendian=7, step=2 * WIDTH, data=data(2 * WIDTH * HEIGHT)),
        "byte_order",
    ),
    "size of another camera": (
        dict(width=WIDTH + 2, step=WIDTH + 2, data=data((WIDTH + 2) * HEIGHT)),
        "size_not_calibrated",
    ),
}


def test_every_bad_image_is_counted_and_does_not_disturb_the_window(feed: Feed) -> None:
    feed.start()
    length = feed.pose().window_length
    for name, (fields, reason) in BAD_IMAGES.items():
        feed.refuses(feed.next_image(step_ns=1_000_000, **fields), reason)
        assert f"fault.{feed.topic}" in feed.probe.status, name
        length += 1
        pose = feed.pose()
        assert pose.window_length == min(length, WINDOW), name
        assert pose.frames_dropped == 0
    wait(lambda: f"fault.{feed.topic}" not in feed.probe.status, "the fault to be over")
    assert feed.probe.state() == "active"


def test_16_bits_in_either_byte_order_show_the_same_picture_as_8(feed: Feed) -> None:
    feed.start()
    picture = pictures(1, 3)[0]
    poses = []
    for encoding, pixels, big in (
        ("mono8", picture, 0),
        ("mono16", picture.astype("<u2") * 257, 0),
        ("16UC1", (picture.astype("<u2") * 257).astype(">u2"), 1),
    ):
        feed.stamp_ns += 10**12  # the window begins anew
        message = image(feed.stamp_ns, pixels, encoding)
        message.is_bigendian = big
        feed.send(message)
        poses.append(feed.probe.pose_at(feed.stamp_ns))
        assert poses[-1].window_length == 1
    assert poses[0].positions == poses[1].positions == poses[2].positions


def test_damaged_compressed_images(feed: Feed) -> None:
    feed.start(kind=CompressedImage)

    def compressed(name: str, content: bytes) -> CompressedImage:
        feed.stamp_ns += 33_000_000
        message = CompressedImage(header=header(feed.stamp_ns, "eye"), format=name)
        message.data.frombytes(content)
        return message

    jpeg, png = (cv2.imencode(suffix, pictures(1, 5)[0])[1].tobytes() for suffix in (".jpg", ".png"))
    small = cv2.imencode(".jpg", pictures(1, 5, (30, 40))[0])[1].tobytes()
    bad = {
        "truncated": [compressed("jpeg", jpeg[: len(jpeg) // 2]), compressed("png", png[:-20])],
        "no_data": [compressed("jpeg", b"")],
        "unknown_encoding": [compressed("jpeg", b"GIF89a" + bytes(100))],
        "undecodable": [compressed("jpeg", jpeg[:20] + jpeg[-2:]), compressed("png", _claim(png, 60_000))],
        "size_not_calibrated": [compressed("jpeg", small)],
    }
    for reason, messages in bad.items():
        for message in messages:
            # One that only the decoder can judge has its place in the order of stamps all the same.
            message.header.stamp = compressed("", b"").header.stamp
            feed.refuses(message, reason)
            feed.send(compressed("jpeg", jpeg + bytes(8)))
            assert feed.probe.pose_at(feed.stamp_ns).header.frame_id == "eye"


def _claim(png: bytes, size: int) -> bytes:
    """Return a PNG whose header claims to be size x size."""
    return png[:16] + struct.pack(">II", size, size) + png[24:]


def test_bad_stamps_are_refused_and_jumps_begin_a_new_window(feed: Feed) -> None:
    feed.start()
    feed.pose()
    assert feed.pose().window_length == 2
    newest = feed.stamp_ns
    feed.refuses(image(0, pictures(1)[0]), "stamp_zero")
    feed.refuses(image(newest, pictures(1)[0]), "stamp_repeated")
    feed.refuses(image(newest - 20_000_000, pictures(1)[0]), "stamp_back")
    assert feed.pose().window_length == 3
    # An hour ahead for one image, and back: each time the window begins anew, and nothing is refused.
    assert feed.pose(HOUR_NS).window_length == 1
    assert feed.pose(-HOUR_NS + 33_000_000).window_length == 1
    assert feed.pose().window_length == 2
    # A bag that loops, then one so short that its loop looks like images out of order.
    assert feed.pose(-(10**9)).window_length == 1
    for _ in range(4):
        feed.pose()
    feed.stamp_ns -= 400_000_000
    before = feed.rejected("stamp_back")
    lengths = []
    while not lengths:
        sent = to_ns(feed.send(feed.next_image()).header.stamp)

        def of_sent() -> list[int]:
            return [p.window_length for p in list(feed.probe.poses)[-1:] if to_ns(p.header.stamp) == sent]

        wait(lambda: feed.rejected("stamp_back") > before or of_sent(), "a verdict")
        before = feed.rejected("stamp_back")
        lengths = of_sent()
    assert lengths == [1] and feed.pose().window_length == 2
    assert feed.probe.status["frames_dropped"] == "0"


def test_two_publishers_interleaved(feed: Feed) -> None:
    feed.start()
    other = feed.probe.node.create_publisher(Image, feed.topic, 10)
    wait(lambda: other.get_subscription_count() > 0, "a subscriber")
    for expected in range(1, 6):
        assert feed.pose().window_length == expected
        before = feed.rejected("other_camera")
        other.publish(image(feed.stamp_ns + 5_000_000, pictures(1)[0], frame_id="stranger"))
        wait(lambda: feed.rejected("other_camera") == before + 1, "the stranger to be refused")
    wait(lambda: feed.probe.status.get(f"fault.{feed.topic} publishers") == "several", "two publishers to be said")
    feed.probe.node.destroy_publisher(other)
    assert feed.pose().window_length == 6
    wait(lambda: f"fault.{feed.topic} publishers" not in feed.probe.status, "one publisher")


def test_nan_in_camera_info_is_waited_out(feed: Feed) -> None:
    feed.reset()
    assert feed.probe.change_state("configure") and feed.probe.change_state("activate")
    feed.calibrate(camera_info(k=[float("nan"), *K[1:]]))
    wait(lambda: "k" in feed.probe.status.get("fault.calibration", ""), "the reason")
    feed.send(feed.next_image())
    feed.calibrate(camera_info())
    wait(feed.calibrated, "the calibration")
    feed.pose()
    # Once there is a good one, a bad one changes nothing.
    feed.calibrate(camera_info(k=[float("nan"), *K[1:]]))
    wait(lambda: feed.probe.status.get("fault.calibration") == "changed", "the change to be said")
    assert feed.pose().window_length == 2


def test_bad_head_poses_leave_the_camera_frame_and_come_back(feed: Feed) -> None:
    topic = feed.topic.replace("image_raw", "slam")
    feed.start(head_pose__source="pose", head_pose__topic=topic)

    def head(w: float = 1.0, x: float = 0.0, frame: str = "map", stamp_ns: int | None = None) -> PoseStamped:
        message = PoseStamped(header=header(feed.stamp_ns if stamp_ns is None else stamp_ns, frame))
        message.pose.position.x, message.pose.orientation.w = x, w
        return message

    def pose() -> bool:
        """Send an image at the stamp of the newest head pose; return whether it was brought to the global frame."""
        return feed.pose(0).globally_refined

    def send_head(**fields) -> None:
        before = feed.probe.count("head_poses_in")
        feed.send(head(**fields), topic)
        wait(lambda: feed.probe.count("head_poses_in") == before + 1, "the head pose to be heard")

    feed.stamp_ns += 10**8
    send_head()
    assert pose()
    for message, reason in (
        (dict(w=0.0), "head_pose.bad_quaternion"),
        (dict(w=float("nan")), "head_pose.not_finite"),
        (dict(x=float("inf")), "head_pose.not_finite"),
        (dict(frame=""), "head_pose.no_frame"),
        (dict(frame="elsewhere"), "head_pose.other_frame"),
        (dict(stamp_ns=0), "head_pose.stamp_zero"),
    ):
        feed.stamp_ns += 50_000_000
        feed.refuses(head(**message), reason, topic)
        assert not pose()
        feed.stamp_ns += 50_000_000
        send_head()
        assert pose()
    # A gap in the head pose: the image within it goes without.
    send_head(stamp_ns=feed.stamp_ns + 10**9)
    feed.stamp_ns += 4 * 10**8
    assert not pose()
    wait(lambda: feed.probe.status.get("fault.head pose") == "gap", "the gap to be said")


def test_a_loop_in_tf_is_survived(feed: Feed) -> None:
    feed.start(head_pose__source="tf", head_pose__global_frame="world")
    world, odom = "world", "odom"
    unit = [0.0, 0.0, 0.0, 1.0]

    def send(*rows: tuple[str, str], quaternion: list[float] = unit) -> None:
        stamps = (feed.stamp_ns - 10_000_000, feed.stamp_ns + 10_000_000)
        feed.send(transforms(*((p, c, ns, [0.0] * 3, quaternion) for p, c in rows for ns in stamps)), "/tf")

    wait(lambda: _attempt(feed, send, (world, odom), (odom, "head")), "a global pose")
    wait(lambda: not _attempt(feed, send, ("head", odom), (odom, "head")), "a pose without")
    wait(lambda: feed.probe.status.get("fault.head pose") == "loop", "the loop to be said")
    before = feed.rejected("tf.bad_transform")
    send((odom, "head"), quaternion=[0.0] * 4)
    wait(lambda: feed.rejected("tf.bad_transform") == before + 2, "zero quaternions to be refused")
    wait(lambda: _attempt(feed, send, (world, odom), (odom, "head")), "a global pose again")


def _attempt(feed: Feed, send, *rows: tuple[str, str]) -> bool:
    feed.stamp_ns += 50_000_000
    send(*rows)
    return feed.pose(0).globally_refined


def test_10_khz_of_imu_starves_nothing(feed: Feed) -> None:
    topic = feed.topic.replace("image_raw", "imu")
    feed.start(imu__enabled=True, imu__topic=topic)
    flood = subprocess.Popen([sys.executable, str(Path(__file__).with_name("imu_flood.py")), topic])
    try:
        wait(lambda: feed.probe.count("imu_in") > 1000, "the flood")
        for expected in range(1, 31):
            assert feed.pose().window_length == min(expected, WINDOW)
        assert flood.poll() is None, "the poses came while the flood went on"
    finally:
        flood.terminate()
        flood.wait(10)
    assert feed.pose().frames_dropped == 0
