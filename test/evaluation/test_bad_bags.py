"""What is wrong with a bag is one clear line; a damaged one is used as far as it goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bag_maker import HEAD, IMAGE, TRUTH, Maker, stamp_at, unfinished, write_bag, write_rig
from evaluations import UNTRAINED, evaluate, numbers
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from egopose_ros import cli
from egopose_ros.ros.bag_reader import BagError, BagReader, is_bag, typestore
from egopose_ros.skeleton import SMPL22


def no_images(path: Path) -> tuple[object, ...]:
    with Maker(path) as maker:
        maker.truth(0)
    write_rig(path)
    return (path,)


def other_topic(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2), "--topics", "/front/image_raw")


def two_cameras(path: Path) -> tuple[object, ...]:
    with Maker(path) as maker:
        maker.image(0, "/a/image_raw")
        maker.image(0, "/b/image_raw")
    return (path,)


def no_calibration(path: Path) -> tuple[object, ...]:
    write_bag(path, 2)
    (path / "calibration.yaml").unlink()
    return (path,)


def no_truth(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2, truth=False),)


def two_truths(path: Path) -> tuple[object, ...]:
    with Maker(path) as maker:
        maker.image(0)
        maker.truth(0, "/mocap/a")
        maker.truth(0, "/mocap/b")
    write_rig(path)
    return (path,)


def truth_of_another_hour(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2), "--truth-offset", "3600")


def truth_of_unknown_type(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2), "--truth", HEAD)


def zero_frames(path: Path) -> tuple[object, ...]:
    with Maker(path) as maker:
        maker.image(0)
        maker.truth(0)
    write_rig(path)
    # A stamp of zero is no time at all: no frame is left.
    with Maker(path.parent / "zero") as maker:
        message = maker.make("sensor_msgs/msg/Image", maker.header(0, "eye"), 64, 64, "mono8", 0, 64, np.zeros(4096, np.uint8))
        maker.write(IMAGE, message, stamp_at(0))
        maker.truth(0)
    write_rig(path.parent / "zero")
    return (path.parent / "zero",)


def other_size(path: Path) -> tuple[object, ...]:
    with Maker(path) as maker:
        header = maker.header(stamp_at(0), "eye")
        maker.write(IMAGE, maker.make("sensor_msgs/msg/Image", header, 32, 32, "mono8", 0, 32, np.zeros(1024, np.uint8)), stamp_at(0))
        maker.truth(0)
    write_rig(path)
    return (path,)


def nothing_there(path: Path) -> tuple[object, ...]:
    return (path / "missing",)


def no_bag(path: Path) -> tuple[object, ...]:
    path.with_suffix(".mcap").write_bytes(b"this is not a bag")
    return (path.with_suffix(".mcap"),)


def bad_csv(path: Path) -> tuple[object, ...]:
    (path.parent / "truth.csv").write_text("time,a_x,a_y,a_z\n0,1,2,3\n")
    return (write_bag(path, 2), "--truth", path.parent / "truth.csv")


def bad_baseline(path: Path) -> tuple[object, ...]:
    (path.parent / "base.json").write_text("{}")
    return (write_bag(path, 2), "--gate", path.parent / "base.json")


def live_bag(path: Path, positions: float) -> Path:
    """Write a recorded pose whose joints are all at a number."""
    with Maker(path) as maker:
        empty = np.zeros(0, np.float32)
        message = maker.make(
            "egopose_ros/msg/BodyPose", header=maker.header(stamp_at(0), "eye"), skeleton="smpl22",
            joint_names=list(SMPL22.joints), positions=np.full(66, positions, np.float32), orientations=empty,
            covariance=empty, confidence=empty, tracking_state=1, globally_refined=False, window_length=1,
            frames_dropped=0, age=0.0, network="live", weights_trained=True,
        )  # fmt: skip
        maker.write("/estimator/pose", message, stamp_at(0), "egopose_ros/msg/BodyPose")
    return path


def live_poses_that_are_not_finite(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2), "--predictions", live_bag(path.parent / "live", np.nan))


def live_poses_of_another_hour(path: Path) -> tuple[object, ...]:
    bag = write_bag(path, 2)
    with Maker(path.parent / "live") as maker:
        maker.truth(108_000, "/estimator/pose")
    return (bag, "--predictions", path.parent / "live")


def unknown_type(path: Path) -> tuple[object, ...]:
    """A topic of a type that neither we nor the bag define, asked for as truth and as images."""
    with Maker(path) as maker:
        maker.image(0)
        maker.types.register(get_types_from_msg("uint8 x", "lab_msgs/msg/Mocap"))
        maker.write("/mocap", maker.make("lab_msgs/msg/Mocap", 1), stamp_at(0), "lab_msgs/msg/Mocap")
    write_rig(path)
    return (path, "--truth", "/mocap")


def unfinished_without_a_message(path: Path) -> tuple[object, ...]:
    """What a recorder leaves that was killed at once."""
    whole = write_bag(path.parent / "whole", 1)
    path.with_suffix(".mcap").write_bytes(next(whole.glob("*.mcap")).read_bytes()[:60])
    return (path.with_suffix(".mcap"),)


def empty_bag(path: Path) -> tuple[object, ...]:
    with Maker(path):
        pass
    return (path,)


def a_network_that_does_not_fit(path: Path) -> tuple[object, ...]:
    (path.parent / "weights.safetensors").write_bytes(b"nothing")
    return (write_bag(path, 2), "--checkpoint", path.parent / "weights.safetensors")


def a_damaged_truth_beside_the_bag(path: Path) -> tuple[object, ...]:
    write_bag(path, 2)
    (path / "truth.npz").write_bytes(b"PK\x03\x04 cut off")
    return (path,)


def a_setting_that_is_no_yaml(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2), "--set", "window.max_gap_s=[")


def a_setting_that_does_not_fit(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2), "--set", "runtime.precision=bogus")


def no_calibration_there(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2), "--calibration", path.parent / "none.yaml")


def a_file_for_a_folder(path: Path) -> tuple[object, ...]:
    return (write_bag(path, 2), "--output", path.parent / "good.json")


def poses_that_are_no_truth(path: Path) -> tuple[object, ...]:
    """The estimator's own output, the only poses of the bag."""
    with Maker(path) as maker:
        maker.image(0)
        maker.truth(0, "/estimator/pose")
    write_rig(path)
    return (path,)


BAD = {
    a_damaged_truth_beside_the_bag: "truth.npz: expected arrays", poses_that_are_no_truth: "got poses on /estimator/pose",
    a_setting_that_does_not_fit: "runtime.precision: expected one of", a_file_for_a_folder: "new one, got a file",
    no_calibration_there: "none.yaml: expected a calibration file, got nothing there",
    a_setting_that_is_no_yaml: "--set window.max_gap_s: expected a value in YAML, got '['",
    live_poses_that_are_not_finite: "/estimator/pose: expected finite joints, got NaN or infinity at",
    live_poses_of_another_hour: "at the stamps of some poses", unknown_type: "got lab_msgs/msg/Mocap",
    unfinished_without_a_message: "without a whole message", empty_bag: "expected topics, got none",
    a_network_that_does_not_fit: "not a complete safetensors file",
    no_images: "got /ground_truth/pose (egopose_ros/msg/BodyPose)",
    other_topic: "/camera/image_raw (sensor_msgs/msg/Image)", two_cameras: "/a/image_raw, /b/image_raw",
    no_calibration: "in a file (--calibration, or", no_truth: "sensor_msgs/msg/Image", two_truths: "/mocap/a, /mocap/b",
    truth_of_another_hour: "overlaps", truth_of_unknown_type: "geometry_msgs/msg/PoseStamped", zero_frames: "stamp_zero",
    other_size: "expected 64x64", nothing_there: "nothing there", no_bag: "expected a db3, mcap or ROS 1 bag",
    bad_csv: "expected at least 3 joints", bad_baseline: "expected the JSON of an earlier evaluation",
}  # fmt: skip


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_input_is_one_clear_line_and_leaves_good_files_alone(
    make: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.json").write_text("good")
    status = evaluate(*make(tmp_path / "bag"), "--json", tmp_path / "good.json")
    said = capsys.readouterr().err.strip().splitlines()
    line = said[-1]
    assert status == 1 and line.startswith("egopose evaluate: ") and BAD[make] in line, said
    assert not any("Traceback" in text for text in said) and (tmp_path / "good.json").read_text() == "good"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("command", ["infer", "view"])
@pytest.mark.parametrize(
    "make",
    [no_images, two_cameras, no_calibration, zero_frames, nothing_there, no_bag, unfinished_without_a_message, empty_bag],
    ids=lambda make: make.__name__,
)
def test_what_is_wrong_with_a_bag_is_told_by_every_command(
    command: str, make: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "good.json"
    good.write_text("good")
    flags = {"infer": ("--out", good), "view": ("--port", "0", "--network", "egoposeformer_v2")}[command]
    status = cli.main([command, *map(str, (*make(tmp_path / "bag"), *flags)), *UNTRAINED])
    said = capsys.readouterr().err.strip().splitlines()
    expected = "got none" if make is zero_frames else BAD[make]
    assert status == 1 and said[-1].startswith(f"egopose {command}: ") and expected in said[-1], said
    assert not any("Traceback" in text for text in said) and good.read_text() == "good"


@pytest.mark.parametrize("storage", ["mcap", "db3", "ros1"])
def test_a_bag_that_breaks_off_is_used_as_far_as_it_goes(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_bag(tmp_path / ("whole.bag" if storage == "ros1" else "whole"), 12, storage)
    file = whole if whole.is_file() else next(path for path in whole.iterdir() if path.suffix in (".mcap", ".db3"))
    cut = tmp_path / ("cut" + file.suffix)
    cut.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.6)])
    write_rig(tmp_path)
    with BagReader(cut) as reader:
        counts = reader.counts
        stamps = [r.stamp_ns for r in reader.messages([IMAGE])]
    assert 3 <= counts[IMAGE] < 12 and stamps == [stamp_at(index) for index in range(len(stamps))]
    if storage == "mcap":  # one evaluation is enough: the same copy is read in each case
        assert evaluate(cut, "--json", tmp_path / "m.json") == 3
        assert "whole messages are used" in capsys.readouterr().err
        assert numbers(tmp_path / "m.json")["runs"][0]["frames"] == counts[IMAGE]


def test_an_unfinished_mcap_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """A recorder that was killed has written no index: only that is missing."""
    whole = write_bag(tmp_path / "whole", 4)
    with BagReader(whole) as reader, BagReader(unfinished(whole, tmp_path / "cut.mcap")) as cut:
        assert cut.counts == reader.counts and cut.loss and not reader.loss


@pytest.mark.parametrize("storage", ["mcap", "db3"])
def test_whole_files_without_metadata_are_no_damage(storage: str, tmp_path: Path) -> None:
    """Two parts of a recording whose metadata was lost, the second of them on its own."""
    folder = write_bag(tmp_path / "walk", 2, storage)
    with Maker(tmp_path / "more", storage) as maker:
        for index in range(2, 4):
            maker.image(index)
    (folder / "metadata.yaml").unlink()
    next((tmp_path / "more").glob("*." + storage)).rename(folder / f"walk_1.{storage}")
    with BagReader(folder) as reader:
        assert not reader.loss and reader.counts == {IMAGE: 4, HEAD: 2, TRUTH: 2}
        assert [found.stamp_ns for found in reader.messages([IMAGE])] == [stamp_at(index) for index in range(4)]
    (folder / f"walk_1.{storage}").rename(folder / f"run.{storage}")
    with pytest.raises(BagError, match=f"got run.{storage}, .*; name one of them"):
        BagReader(folder)


def test_a_bag_of_compressed_files_is_a_bag(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
    with writer:
        writer.write(writer.add_connection("/text", "std_msgs/msg/String", typestore=typestore()), 1, b"\0" * 9)
    assert {path.suffix for path in (tmp_path / "bag").iterdir()} == {".zstd", ".yaml"}
    assert is_bag(tmp_path / "bag") and not is_bag(Path(__file__))
    with BagReader(tmp_path / "bag") as reader:
        assert reader.counts == {"/text": 1} and not reader.loss
