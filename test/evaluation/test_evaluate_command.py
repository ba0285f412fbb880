"""`egopose evaluate` on bags: the same numbers from every storage, and right ones; runs side by side."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from bag_maker import Maker, head_at, image_at, stamp_at, truth_at, unfinished, write_bag
from evaluations import evaluate, numbers

from egopose_ros import checkpoint, pipeline
from egopose_ros.config import Config, replace
from egopose_ros.evaluation.contenders import contenders
from egopose_ros.networks.table import NETWORKS, build
from egopose_ros.ros.bag_poses import read_poses
from egopose_ros.ros.bag_reader import POSE_TYPE, BagReader
from egopose_ros.skeleton import MPI15, SMPL22, UNREALEGO16
from egopose_ros.structs import Frame
from egopose_ros.viewer.overlay import TILE_PX

FRAMES = 6


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "walk", FRAMES)


@pytest.fixture(scope="module")
def result(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation of the bag."""
    output = tmp_path_factory.mktemp("results") / "out"
    assert evaluate(bag, "--output", output, "--sheet", output.with_suffix(".png")) == 0
    return output


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


def test_live_poses_are_compared_with_those_of_the_same_network(bag: Path, result: Path, tmp_path: Path) -> None:
    """Of another network, here with fewer joints, they are scored alone."""
    other = tmp_path / "other"
    with BagReader(result / "poses_walk") as source, Maker(other) as maker:
        for recorded in source.messages(["/estimator/pose"]):
            message, rows = recorded.message, [SMPL22.index(joint) for joint in MPI15.joints]
            empty = np.zeros(0, np.float32)
            moved = message.positions.reshape(-1, 3)[rows].ravel() + np.float32(0.01)
            few = dataclasses.replace(
                message, skeleton="mpi15", joint_names=list(MPI15.joints), network="another", positions=moved,
                orientations=empty, covariance=empty, confidence=empty,
            )  # fmt: skip
            maker.write("/estimator/pose", few, recorded.stamp_ns, POSE_TYPE)
    flags = [part for path in (other, result / "poses_walk") for part in ("--predictions", path)]
    assert evaluate(bag, *flags, "--output", tmp_path / "out") == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    apart, same = content["live"]
    assert apart["not_compared"] == "another network (another)" and apart["compared_with"] is None
    assert apart["largest_mm"] is None and apart["dropped_ns"] == []
    assert same["compared_with"] == "egoposeformer_v2" and same["largest_mm"] == pytest.approx(0.0, abs=1e-3)
    assert [run["frames"] for run in content["runs"]] == [FRAMES] * 3
    assert content["runs"][1]["metrics"]["mpjpe_mm"]["value"] > 0.0
    assert f"{other}: not compared: another network (another)" in (tmp_path / "out" / "report.html").read_text()


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
    assert evaluate(bag, "--output", output, "--truth-offset", "1") == 1
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


@pytest.mark.parametrize("offset", ["auto", "3600"])
def test_truth_of_another_time_is_told_before_the_work(
    offset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("egopose_ros.ros.bag_runs.load", lambda *_: pytest.fail("the work began"))
    path, away_ns = write_bag(tmp_path / "walk", 2), 3_600_000_000_000 if offset == "auto" else 0
    stamps, joints = np.array([stamp_at(i) + away_ns for i in range(2)]), np.stack([truth_at(i) for i in range(2)])
    np.savez(tmp_path / "truth.npz", stamps_ns=stamps, joints=joints, skeleton="smpl22")
    assert evaluate(path, "--truth", tmp_path / "truth.npz", "--truth-offset", offset) == 1
    assert "expected ground truth that overlaps" in capsys.readouterr().err


def test_tolerances_that_nothing_uses_are_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("egopose_ros.commands.evaluate.evaluate", lambda *_: pytest.fail("the work began"))
    assert evaluate(tmp_path, "--tolerance", "mpjpe_mm=2") == 1
    assert "--tolerance: expected --gate with it" in capsys.readouterr().err
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps({"runs": [{"metrics": {"mpjpe_mm": {"value": 1.0}}}]}))
    assert evaluate(tmp_path, "--gate", baseline, "--tolerance", "mpjpe=2") == 1
    assert "expected metrics of the baseline, mpjpe_mm, got mpjpe" in capsys.readouterr().err


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
