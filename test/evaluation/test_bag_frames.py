"""The frames of a bag as the pipeline gets them: paired, in order, few at a time."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from bag_maker import HEAD, IMAGE, Maker, head_at, image_at, stamp_at, write_bag, write_rig

from egopose_ros.camera import calibration
from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.config import Config, replace
from egopose_ros.ros import bag_runs
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_reader import BagReader


def test_memory_does_not_grow_with_the_bag(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        path = write_bag(tmp_path / str(frames), frames)
        with BagReader(path) as reader:
            source = BagFrames(reader, replace(Config(), {"camera.topics": (IMAGE,)}))
            tracemalloc.start()
            assert sum(1 for _ in source) == frames
            result = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return result

    peak(10)
    # Reading a chunk at a time: 12 kB an image would be 6 MB more.
    assert peak(600) - peak(120) < 2_000_000


def test_frames_decoded_ahead_come_in_order_and_the_thread_ends_with_them(tmp_path: Path) -> None:
    """An image that cannot be decoded is left out, and an iteration that is given up leaves nothing behind."""
    topic = IMAGE + "/compressed"
    with Maker(tmp_path / "bag") as maker:
        for index in range(12):
            if index == 5:
                data = np.frombuffer(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\x40\0\0\0\x40" + b"IEND" * 4, np.uint8)
                broken = maker.make("sensor_msgs/msg/CompressedImage", maker.header(stamp_at(5), "eye"), "png", data)
                maker.write(topic, broken, stamp_at(5))
            else:
                maker.image(index, topic)
    with BagReader(tmp_path / "bag") as reader:
        source = BagFrames(reader, replace(Config(), {"camera.topics": (IMAGE,)}))
        for _ in range(2):  # a second time counts anew
            frames = [item.frame for item in source]
            assert [frame.stamp_ns for frame in frames] == [stamp_at(index) for index in range(12) if index != 5]
            assert +source.rejected == {"undecodable": 1}
        np.testing.assert_array_equal(frames[3].images[0], image_at(3))
        given_up = iter(source)
        next(given_up)
        assert any(thread.name.startswith("decode") for thread in threading.enumerate())
        given_up.close()
    assert not any(thread.name.startswith("decode") for thread in threading.enumerate())


def test_two_cameras_are_paired_as_live(tmp_path: Path) -> None:
    names = ("/left/image_raw", "/right/image_raw")
    with Maker(tmp_path / "stereo") as maker:
        for index in range(6):
            for name in names:
                if (index, name) != (2, names[1]):  # one image is lost
                    maker.image(index, name)
    with BagReader(tmp_path / "stereo") as reader:
        source = BagFrames(reader, replace(Config(), {"camera.topics": names}))
        frames = [item.frame for item in source]
        found = bag_runs.images_at(source, {stamp_at(3), stamp_at(5) + 2_000_000, stamp_at(4) + 9_000_000}, 0.005)
    np.testing.assert_array_equal(found.pop(stamp_at(3)), image_at(3))
    np.testing.assert_array_equal(found.pop(stamp_at(5) + 2_000_000), image_at(5))
    assert not found, "an image further away than cameras are apart is of another frame"
    assert [frame.stamp_ns for frame in frames] == [stamp_at(index) for index in (0, 1, 3, 4, 5)]
    assert all(len(frame.images) == 2 for frame in frames) and source.rejected["unmatched"] == 1


@pytest.mark.parametrize("asked", [True, False])
def test_a_rig_sits_where_static_tf_has_it(tmp_path: Path, asked: bool) -> None:
    """As for the live node: else the network would get gravity and motion in another frame, or none at all."""
    T_head_eye = head_at(7)
    with Maker(tmp_path / "bag") as maker:
        maker.tf(0, "head", "eye", T_head_eye)
        maker.image(0)
        maker.head(0)
    calibration.save(Rig((RigCamera("eye", CANONICAL),), head_known=False), tmp_path / "rig.yaml")
    settings = {"camera.topics": (IMAGE,), "camera.calibration": str(tmp_path / "rig.yaml")}
    settings |= {"head_pose.source": "pose", "head_pose.topic": HEAD} if asked else {}
    with BagReader(tmp_path / "bag") as reader:
        config = replace(Config(), settings)
        rig = bag_runs.rig_of(BagFrames(reader, config), config)
        unplaced = replace(config, {"head_pose.head_frame": "skull"})
        frames = BagFrames(reader, unplaced)
        assert not bag_runs.rig_of(frames, unplaced).head_known
    assert rig.head_known == asked
    expected = T_head_eye if asked else RigCamera("eye", CANONICAL).T_head_camera
    np.testing.assert_allclose(rig.cameras[0].T_head_camera, expected, atol=1e-6)
    assert any("TF has no skull -> eye" in note for note in frames.notes.values()) == asked


def test_a_head_pose_is_brought_to_the_global_frame_that_is_asked_for(tmp_path: Path) -> None:
    T_map_world = head_at(30)
    with Maker(tmp_path / "bag") as maker:
        maker.tf(0, "map", "world", T_map_world)
        maker.image(0)
        maker.head(0)
        maker.image(1)
    settings = {"camera.topics": (IMAGE,), "head_pose.source": "pose", "head_pose.topic": HEAD}
    found = {}
    with BagReader(tmp_path / "bag") as reader:
        for wanted in ("", "world", "map", "elsewhere"):
            source = BagFrames(reader, replace(Config(), {**settings, "head_pose.global_frame": wanted}))
            found[wanted] = next(iter(source)).frame.T_world_head, list(source.notes.values())
            assert source.global_frame == (wanted or "world")
    for wanted, expected in (("", head_at(0)), ("world", head_at(0)), ("map", T_map_world @ head_at(0))):
        np.testing.assert_allclose(found[wanted][0], expected, atol=1e-5)
        assert not found[wanted][1]
    np.testing.assert_allclose(found["elsewhere"][0], head_at(0), atol=1e-5)
    assert any("TF has no elsewhere -> world" in note for note in found["elsewhere"][1])


def test_no_pose_lies_between_two_global_frames(tmp_path: Path) -> None:
    """What came before TF said where the head pose's frame is, is in another one than what came after."""
    T_map_world = np.eye(4)
    T_map_world[0, 3] = 10.0
    with Maker(tmp_path / "bag") as maker:
        maker.head(-0.5)
        for index in range(8):
            maker.image(index)
            if index == 4:
                maker.tf(4, "map", "world", T_map_world, "/tf")
            maker.head(index + 0.5)
    settings = {"camera.topics": (IMAGE,), "head_pose.source": "pose", "head_pose.topic": HEAD, "head_pose.global_frame": "map"}
    with BagReader(tmp_path / "bag") as reader:
        poses = [item.frame.T_world_head for item in BagFrames(reader, replace(Config(), settings))]
    shifts = [round(float(T[0, 3] - head_at(index)[0, 3]), 1) for index, T in enumerate(poses) if T is not None]
    assert shifts == [0.0] * 4 + [10.0] * 3, "the frame between the two has no pose"


def test_a_note_of_a_kind_comes_once(tmp_path: Path) -> None:
    with Maker(tmp_path / "bag") as maker:
        maker.image(0)
        for index in range(20):
            T = head_at(index)
            T[:3, 3] = np.nan if index % 2 else np.inf
            pose = maker.make("geometry_msgs/msg/Pose", maker.make("geometry_msgs/msg/Point", *T[:3, 3].tolist()),
                              maker.make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.1 * index, 1.0))  # fmt: skip
            message = maker.make("geometry_msgs/msg/PoseStamped", maker.header(stamp_at(index), "world"), pose)
            maker.write(HEAD, message, stamp_at(index))
    with BagReader(tmp_path / "bag") as reader:
        settings = {"camera.topics": (IMAGE,), "head_pose.source": "pose", "head_pose.topic": HEAD}
        source = BagFrames(reader, replace(Config(), settings))
        list(source)
    assert source.rejected["head_pose.not_finite"] == 20 and len(source.notes) == 1


def test_head_poses_between_frames_are_interpolated(tmp_path: Path) -> None:
    with Maker(tmp_path / "bag") as maker:
        maker.head(-0.5)
        for index in range(4):
            maker.image(index)
            maker.head(index + 0.5)
    write_rig(tmp_path / "bag")
    settings = {"camera.topics": (IMAGE,), "head_pose.source": "pose", "head_pose.topic": HEAD}
    with BagReader(tmp_path / "bag") as reader:
        source = BagFrames(reader, replace(Config(), settings))
        frames = [item.frame for item in source]
        assert source.global_frame == "world"
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.T_world_head, head_at(index), atol=1e-4)
    assert len(frames) == 4
