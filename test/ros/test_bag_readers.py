"""Readers of bags: damage of any kind is the reader's own error, and a second pass sees what the first one saw."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from bag_maker import Maker, head_at, stamp_at, write_bag  # noqa: E402

from egopose_ros.camera import calibration  # noqa: E402
from egopose_ros.camera.canonical import CANONICAL  # noqa: E402
from egopose_ros.camera.rig import Rig, RigCamera  # noqa: E402
from egopose_ros.config import Config, replace  # noqa: E402
from egopose_ros.files import topic_part  # noqa: E402
from egopose_ros.ros.bag_frames import BagFrames  # noqa: E402
from egopose_ros.ros.bag_reader import BagError, BagReader  # noqa: E402
from egopose_ros.ros.bag_settings import estimator_settings  # noqa: E402

LENGTHS = (b"\xff" * 8, b"\xff\xff\xff\x7f" * 2, b"\0\0\0\0\xff\xff\xff\x7f", b"\0" * 8)
"""bytes that make a length too large for any file, or nothing"""
DAMAGES = 24


@pytest.fixture(scope="module", params=["mcap", "db3", "ros1"])
def intact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    path = write_bag(folder / ("bag.bag" if request.param == "ros1" else "bag"), 3, request.param)
    return path if path.is_file() else next(file for file in path.iterdir() if file.suffix in (".mcap", ".db3"))


def damaged(whole: bytes, index: int) -> bytes:
    """Return a bag with some bytes changed, most near its start and end, and every second one cut off."""
    choose = random.Random(index)
    data = bytearray(whole[: choose.randrange(len(whole) // 4, len(whole))] if index % 2 else whole)
    for _ in range(choose.choice((1, 4, 16))):
        near = min(len(data), choose.choice((300, 3000, len(data))))
        at = choose.choice((choose.randrange(near), len(data) - 1 - choose.randrange(near)))
        new = choose.choice((choose.randbytes(choose.randint(1, 8)), choose.choice(LENGTHS)))
        data[at : at + len(new)] = new
    return bytes(data[: len(whole)])


def read_all(path: Path) -> None:
    with BagReader(path) as reader:
        for topic in reader.kinds:
            try:
                for _ in reader.messages([topic]):
                    pass
            except BagError:
                continue


def test_no_damage_is_another_error_than_the_readers_own(intact: Path, tmp_path: Path) -> None:
    whole = intact.read_bytes()
    for index in range(DAMAGES):
        path = tmp_path / f"damage_{index}{intact.suffix}"
        path.write_bytes(damaged(whole, index))
        try:
            read_all(path)
        except BagError:
            pass
        except Exception as error:
            raise AssertionError(f"damage {index}: {type(error).__name__}: {error}") from error
        path.unlink()


def test_a_second_pass_is_as_the_first(tmp_path: Path) -> None:
    """The first image comes before the first transform: no pass knows where the head is."""
    with Maker(tmp_path / "bag") as maker:
        for index in range(20):
            moved = maker.transform(stamp_at(index), "map", "head", head_at(index))
            maker.image(index)
            maker.write("/tf", maker.make("tf2_msgs/msg/TFMessage", [moved]), stamp_at(index) + 1)
    settings = {"camera.topics": ("/camera/image_raw",), "head_pose.source": "tf", "head_pose.head_frame": "head"}
    with BagReader(tmp_path / "bag") as reader:
        source = BagFrames(reader, replace(Config(), settings), decode=False)
        for _ in range(2):
            first, *found = [item.frame.T_world_head for item in source]
            assert first is None and +source.rejected == {"head_pose.unconnected": 1}
            np.testing.assert_allclose(found, [head_at(index) for index in range(1, 20)], atol=1e-4)


@pytest.mark.parametrize(
    ("names", "topics"),
    [
        (("right", "left"), ("/camera/right/image_raw", "/camera/left/image_raw")),
        (("Left eye", "right eye"), ("/camera/left/image_raw", "/camera/right/image_raw")),
        (("cam1", "cam0"), ("/rig/cam1/image_raw", "/rig/cam0/image_raw")),
        (("camera-slam-right", "camera-slam-left"), ("/camera/camera_slam_right/image", "/camera/camera_slam_left/image")),
        (("2nd", "1st", "3rd"), ("/rig/_2nd/image_raw", "/rig/_1st/image_raw", "/rig/_3rd/image_raw")),
    ],
)
def test_cameras_come_in_the_order_of_their_calibration(
    tmp_path: Path, names: tuple[str, ...], topics: tuple[str, ...]
) -> None:
    """Else each image would be taken for one of the other lens."""
    cameras = tuple(RigCamera(name, CANONICAL, T_head_camera=np.eye(4)) for name in names)
    calibration.save(Rig(cameras), tmp_path / "calibration.yaml")
    bag = SimpleNamespace(path=tmp_path, kinds={topic: "sensor_msgs/msg/Image" for topic in sorted(topics)})
    assert estimator_settings(bag)["camera.topics"] == topics
    assert estimator_settings(bag, topics[::-1])["camera.topics"] == topics[::-1]
    (tmp_path / "calibration.yaml").rename(tmp_path / "mine.yaml")
    assert estimator_settings(bag, calibration=str(tmp_path / "mine.yaml"))["camera.topics"] == topics
    assert all(topic_part(name) in topic.split("/") or "eye" in name for name, topic in zip(names, topics))


@pytest.mark.parametrize(
    ("tf", "published"), [((), "camera"), (("/tf_static",), "head"), (("/tf",), "none"), (("/tf", "/tf_static"), "none")]
)
def test_a_head_pose_without_tf_becomes_tf(tmp_path: Path, tf: tuple[str, ...], published: str) -> None:
    """Else RViz could not place the body and its trail in one picture; who has a moving tree keeps it as it is."""
    with Maker(tmp_path / "bag") as maker:
        maker.image(0)
        maker.head(0)
        for topic in tf:
            maker.tf(0, "map", "base", head_at(0), topic)
    with BagReader(tmp_path / "bag") as reader:
        config = replace(Config(), estimator_settings(reader))
    assert (config.head_pose.source, config.tf.head_pose) == ("pose", published)
