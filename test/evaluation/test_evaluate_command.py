"""`egopose evaluate` on bags: the same numbers from every storage, right ones, and a clear line for whatever is wrong."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from bag_maker import HEAD, IMAGE, TRUTH, Maker, head_at, image_at, stamp_at, truth_at, write_bag, write_rig
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from egopose_ros import checkpoint, cli, pipeline
from egopose_ros.config import Config, replace
from egopose_ros.evaluation.contenders import contenders
from egopose_ros.networks.table import NETWORKS, build
from egopose_ros.ros.bag_frames import BagFrames
from egopose_ros.ros.bag_poses import read_poses
from egopose_ros.ros.bag_reader import BagError, BagReader, is_bag, typestore
from egopose_ros.skeleton import SMPL22, UNREALEGO16
from egopose_ros.structs import Frame
from egopose_ros.viewer.overlay import TILE_PX

FRAMES = 6
UNTRAINED = ("--set", "network.allow_untrained=true", "--set", "runtime.device=cpu")


def evaluate(*arguments: object) -> int:
    return cli.main(["evaluate", *map(str, arguments), *UNTRAINED])


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "walk", FRAMES)


@pytest.fixture(scope="module")
def result(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation of the bag."""
    output = tmp_path_factory.mktemp("results") / "out"
    assert evaluate(bag, "--output", output, "--sheet", output.with_suffix(".png")) == 0
    return output


def numbers(path: Path) -> dict:
    """Return what is the same each time."""
    content = json.loads(path.read_text())
    return {name: content[name] for name in ("protocol", "runs")}


def test_poses_and_errors_are_those_of_the_pipeline(bag: Path, result: Path) -> None:
    config = replace(Config(), {"network.allow_untrained": True, "runtime.device": "cpu"})
    core = pipeline.load(config, pipeline.load_rig(str(bag / "calibration.yaml")))
    state, poses = core.init_state(), []
    for index in range(FRAMES):
        state, pose = core.step(state, Frame(stamp_at(index), (image_at(index),), head_at(index)))
        poses.append(pose)
    errors = [np.linalg.norm(p.joints_camera - truth_at(i), axis=-1).mean() * 1000 for i, p in enumerate(poses)]
    run = numbers(result / "metrics.json")["runs"][0]
    assert run["metrics"]["mpjpe_mm"]["value"] == pytest.approx(np.mean(errors), abs=1e-3)
    assert run["frames"] == run["frames_with_truth"] == FRAMES
    with BagReader(result / "poses_walk") as written:
        found = [pose for pose, _ in read_poses(written, "/estimator/pose")]
    assert [pose.stamp_ns for pose in found] == [stamp_at(index) for index in range(FRAMES)]
    for pose, expected in zip(found, poses):
        np.testing.assert_allclose(pose.joints_camera, expected.joints_camera, atol=1e-6)
        np.testing.assert_allclose(pose.covariance_camera, expected.covariance_camera, atol=1e-6)
        np.testing.assert_allclose(pose.T_world_camera, expected.T_world_camera, atol=1e-4)


@pytest.mark.parametrize(("storage", "compressed"), [("db3", False), ("ros1", False), ("mcap", True), ("mcap", False)])
def test_every_storage_and_every_repetition_gives_the_same_numbers(
    storage: str, compressed: bool, result: Path, tmp_path: Path
) -> None:
    path = write_bag(tmp_path / ("walk.bag" if storage == "ros1" else "walk"), FRAMES, storage, compressed)
    assert evaluate(path, "--json", tmp_path / "m.json") == 0
    assert numbers(tmp_path / "m.json") == numbers(result / "metrics.json")


def test_the_report_needs_nothing_else_and_says_what_the_numbers_say(result: Path) -> None:
    text = (result / "report.html").read_text()
    value = numbers(result / "metrics.json")["runs"][0]["metrics"]["mpjpe_mm"]["value"]
    assert f"{value:.1f}" in text and len(text) < 5_000_000
    assert text.count("<svg") >= 6 and text.count("data:image/jpeg;base64,") >= 2
    assert not any(sign in text for sign in ('src="http', "src='http", "<script", "<link", "url(http"))
    for section in ("Error over time", "Joints", "Uncertainty", "From above", "Time", "Recordings"):
        assert f"<h2>{section}</h2>" in text


def test_the_sheet_has_a_line_for_each_kind_of_frame(result: Path) -> None:
    sheet = cv2.imread(str(result.with_suffix(".png")))
    lines = np.split(sheet, 3)  # as high as each other
    tiles = [line[:TILE_PX, :TILE_PX] for line in lines]  # a bag of less than a second gives one frame of each kind
    assert sheet.shape[1] < 2 * TILE_PX
    assert not np.array_equal(tiles[0], tiles[2])
    assert evaluate(result, "--sheet", result / "sheet.gif") == 1 and not (result / "sheet.gif").exists()


def unfinished(bag: Path, path: Path) -> Path:
    """Write an mcap as of a recorder that was killed: all messages, no index."""
    data = next(bag.glob("*.mcap")).read_bytes()
    footer = data.rindex(b"\x02\x14\x00\x00\x00\x00\x00\x00\x00")
    path.write_bytes(data[: int.from_bytes(data[footer + 9 : footer + 17], "little")])
    return path


def test_live_poses_are_held_against_offline_ones(
    bag: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Poses with two frames missing and one joint moved, and beside them all poses in a bag that breaks off."""
    live = tmp_path / "live"
    with BagReader(result / "poses_walk") as source, Maker(live) as maker:
        for index, recorded in enumerate(source.messages(["/estimator/pose"])):
            if index in (1, 4):
                continue
            message = recorded.message
            if index == 3:
                message.positions = message.positions.copy()
                message.positions[2] += np.float32(0.004)
            maker.write("/estimator/pose", message, recorded.stamp_ns, "egopose_ros/msg/BodyPose")
    (tmp_path / "other").mkdir()
    cut = unfinished(result / "poses_walk", tmp_path / "other" / "live.mcap")
    flags = ("--predictions", live, "--predictions", cut, "--output", tmp_path / "out")
    assert evaluate(bag, *flags) == 3
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("egopose evaluate: ")]
    assert len(said) == 1 and f"bag {cut}: truncated or unfinished" in said[0]
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    found, whole = content["live"]
    assert found["common"] == FRAMES - 2 and found["dropped_ns"] == [stamp_at(1), stamp_at(4)]
    assert found["largest_mm"] == pytest.approx(4.0, abs=1e-3) and found["unknown_ns"] == []
    assert whole["common"] == FRAMES and "truncated or unfinished" in whole["loss"] and not found["loss"]
    labels = ["egoposeformer_v2", f"live: {tmp_path.name}/live", "live: other/live"]
    assert [run["label"] for run in content["runs"]] == labels
    first, moved, same = (run["metrics"]["mpjpe_mm"]["value"] for run in content["runs"])
    assert content["runs"][1]["mpjpe_difference_mm"]["value"] != 0.0 and moved != first
    assert content["runs"][2]["mpjpe_difference_mm"]["value"] == pytest.approx(0.0, abs=1e-3) and same == pytest.approx(first)
    report = (tmp_path / "out" / "report.html").read_text()
    assert all(f"<th>{label}</th>" in report for label in labels) and f'"warning">{cut}: truncated' in report


def test_of_several_bags_each_has_one_recorded_run(bag: Path, result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = result / "poses_walk"
    assert evaluate(bag, bag, *("--predictions", live) * 3) == 1
    assert "--predictions: expected one for each of 2 bags, got 3" in capsys.readouterr().err
    assert evaluate(bag, bag, *("--predictions", live) * 2, "--json", result.parent / "two.json") == 0
    content = json.loads((result.parent / "two.json").read_text())
    assert [run["frames"] for run in content["runs"]] == [2 * FRAMES] * 2
    assert [live["common"] for live in content["live"]] == [FRAMES] * 2


def test_what_fails_leaves_the_earlier_results_together(bag: Path, result: Path, tmp_path: Path) -> None:
    output = shutil.copytree(result, tmp_path / "out")
    (output / "poses_walk" / "earlier").touch()
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert evaluate(bag, "--output", output, "--truth-offset", "3600") == 1
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path != output} == before
    assert evaluate(bag, "--output", output) == 0
    assert not (output / "poses_walk" / "earlier").exists()


def test_a_report_that_cannot_be_drawn_is_told_before_the_work(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "egopose_ros.evaluation.report", None)
    monkeypatch.setattr("egopose_ros.commands.evaluate.evaluate", lambda *_: pytest.fail("the work began"))
    assert evaluate(bag, "--output", tmp_path / "out") == 1
    assert "the report needs matplotlib" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_gate_fails_only_for_what_is_worse_than_tolerated(
    bag: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((result / "metrics.json").read_text())
    metrics = content["runs"][0]["metrics"]
    metrics["mpjpe_mm"]["value"] -= 5.0
    metrics["pck_150"]["value"] += 3.0
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(content))
    assert evaluate(bag, "--gate", result / "metrics.json") == 0
    assert evaluate(bag, "--gate", baseline) == 1
    failures = [line for line in capsys.readouterr().err.splitlines() if "gate:" in line]
    assert len(failures) == 2 and "mpjpe_mm" in failures[0] and "pck_150" in failures[1]
    assert evaluate(bag, "--gate", baseline, "--tolerance", "mpjpe_mm=5.1", "--tolerance", "pck_150=100%") == 0
    assert evaluate(bag, "--gate", baseline, "--tolerance", "mpjpe_mm=4.9", "--tolerance", "pck_150=100%") == 1


def test_a_protocol_reports_what_its_papers_do(bag: Path, result: Path, tmp_path: Path) -> None:
    """UnrealEgo: 16 joints, relative to the middle of the hips."""
    assert evaluate(bag, "--protocol", "unrealego", "--json", tmp_path / "m.json") == 0
    with BagReader(result / "poses_walk") as written:
        joints = np.stack([pose.joints_camera for pose, _ in read_poses(written, "/estimator/pose")])
    rows = [SMPL22.index(joint) for joint in UNREALEGO16.joints]
    hips = [UNREALEGO16.index("left_hip"), UNREALEGO16.index("right_hip")]
    both = [x[:, rows] - x[:, rows][:, hips].mean(1, keepdims=True) for x in (joints, np.stack([truth_at(i) for i in range(FRAMES)]))]
    expected = np.linalg.norm(both[0] - both[1], axis=-1).mean() * 1000
    found = numbers(tmp_path / "m.json")["runs"][0]["as_published"]
    assert found["mpjpe_mm"] == pytest.approx(expected, abs=0.01)


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
    assert [frame.stamp_ns for frame in frames] == [stamp_at(index) for index in (0, 1, 3, 4, 5)]
    assert all(len(frame.images) == 2 for frame in frames) and source.rejected["unmatched"] == 1


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


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small networks with weights of their own, in files of the same name."""
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        path = tmp_path_factory.mktemp("weights") / "small.safetensors"
        checkpoint.save(path, build("egoposeformer_v2", {"width": 32, "heads": 2, "layers": 1}), {})
        paths.append(path)
    return paths


def test_two_bags_and_two_networks_are_set_side_by_side(networks: list[Path], tmp_path: Path) -> None:
    """Together they give what each gives alone: frames of bags with the same stamps are not mixed up."""
    bags = [write_bag(tmp_path / name, frames) for name, frames in (("a", 4), ("b", 6))]
    alone = {}
    for path in bags:
        for number, file in enumerate(networks):
            assert evaluate(path, "--checkpoint", file, "--json", tmp_path / "m.json") == 0
            alone[path, number] = numbers(tmp_path / "m.json")["runs"][0]["metrics"]["mpjpe_mm"]["value"]
    output = tmp_path / "out"
    flags = [part for file in networks for part in ("--checkpoint", file)]
    assert evaluate(*bags, *flags, "--output", output) == 0
    content = json.loads((output / "metrics.json").read_text())
    assert [bag["frames"] for bag in content["bags"]] == [4, 6] and not any(bag["rejected"] for bag in content["bags"])
    runs = content["runs"]
    assert [run["checkpoint"] for run in runs] == [str(file) for file in networks]
    assert [run["label"] for run in runs] == [f"{file.parent.name}/small" for file in networks]
    values = [np.dot([0.4, 0.6], [alone[path, number] for path in bags]) for number in range(2)]
    assert [run["metrics"]["mpjpe_mm"]["value"] for run in runs] == pytest.approx(values, abs=1e-3)
    assert runs[1]["mpjpe_difference_mm"]["value"] == pytest.approx(values[1] - values[0], abs=1e-3)
    assert abs(values[1] - values[0]) > 1.0
    names = {path.name for path in output.iterdir()}
    assert names == {"metrics.json", "report.html", "poses_a_0_0", "poses_b_1_0", "poses_a_0_1", "poses_b_1_1"}
    text = (output / "report.html").read_text()
    assert all(f"<th>{run['label']}</th>" in text for run in runs) and "10 frames of 2 recording(s)" in text


def test_different_networks_are_compared(bag: Path, tmp_path: Path) -> None:
    flags = [part for name in NETWORKS for part in ("--network", name)]
    assert evaluate(bag, "--set", "network.name=ag_egopose", "--json", tmp_path / "m.json") == 0
    assert numbers(tmp_path / "m.json")["runs"][0]["network"] == "ag_egopose"
    assert evaluate(bag, *flags, "--json", tmp_path / "m.json") == 0
    runs = numbers(tmp_path / "m.json")["runs"]
    assert [run["network"] for run in runs] == [run["label"] for run in runs] == list(NETWORKS)
    first, *others = (run["metrics"]["mpjpe_mm"]["value"] for run in runs)
    for run, value in zip(runs[1:], others):
        assert run["frames"] == FRAMES
        assert run["mpjpe_difference_mm"]["value"] == pytest.approx(value - first, abs=1e-3)


def test_networks_and_checkpoints_are_paired() -> None:
    def pairs(networks: list[str], checkpoints: list[str]) -> list[tuple[str, str, str]]:
        return [(c.label, c.network, c.checkpoint) for c in contenders(networks, checkpoints)]

    assert pairs([], []) == [("egoposeformer_v2", "egoposeformer_v2", "")]
    names = ["ag_egopose_mono", "egoposeformer_v2_mono"]  # each says its own network
    assert pairs([], names) == [(names[0], "ag_egopose", names[0]), (names[1], "egoposeformer_v2", names[1])]
    assert pairs(["one"], ["x/a.st", "x/b.st"]) == [("a", "one", "x/a.st"), ("b", "one", "x/b.st")]
    assert pairs(["one", "two"], []) == [("one", "one", ""), ("two", "two", "")]
    assert [label for label, _, _ in pairs(["one", "two"], ["x/a.st", "x/a.st"])] == ["x/a (1)", "x/a (2)"]
    with pytest.raises(ValueError, match="--network: expected one, or one for each of 3 checkpoints, got 2"):
        contenders(["one", "two"], ["a", "b", "c"])
