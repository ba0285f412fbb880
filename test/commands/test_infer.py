"""`egopose infer` on every kind of input: the pipeline's poses, under the right names, with the right pixels."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from bag_maker import FOCAL, IMAGE, SIZE, Maker, image_at, stamp_at, write_bag, write_rig  # noqa: E402

from egopose_ros import checkpoint, cli, pipeline  # noqa: E402
from egopose_ros.commands import infer as command  # noqa: E402
from egopose_ros.config import Config, replace  # noqa: E402
from egopose_ros.datasets import footage  # noqa: E402
from egopose_ros.evaluation import truth  # noqa: E402
from egopose_ros.networks.table import build  # noqa: E402
from egopose_ros.structs import Frame  # noqa: E402

FRAMES = 3


def infer(source: object, folder: Path, *arguments: object) -> dict:
    fixed = ["infer", str(source), "--out", str(folder / "poses.json"), "--set", "network.allow_untrained=true"]
    assert cli.main([*fixed, *map(str, arguments)]) == 0
    return json.loads((folder / "poses.json").read_text())


def pictures(folder: Path) -> Path:
    folder.mkdir()
    write_rig(folder)
    for index in range(FRAMES):
        cv2.imwrite(str(folder / f"{index:03d}.png"), image_at(index)[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Pipeline:
    folder = tmp_path_factory.mktemp("rig")
    write_rig(folder)
    config = replace(Config(), {"network.allow_untrained": True})
    return pipeline.load(config, pipeline.load_rig(str(folder / "calibration.yaml")))


def test_numbers_of_images_are_counted_not_spelt(tmp_path: Path) -> None:
    for name in ("final_10.png", "final_2.png", "final_1.png", "b_3.jpg"):
        (tmp_path / name).touch()
    assert [path.name for path in footage.images(tmp_path)] == ["b_3.jpg", "final_1.png", "final_2.png", "final_10.png"]


@pytest.mark.parametrize("independent", [False, True])
def test_a_folder_as_one_stream_or_as_many(core: pipeline.Pipeline, tmp_path: Path, independent: bool) -> None:
    folder = pictures(tmp_path / "images")
    flags = ["--independent"] if independent else []
    found = infer(folder, tmp_path, "--calibration", folder / "calibration.yaml", "--draw", tmp_path / "drawn", *flags)
    state = core.init_state()
    for index, entry in enumerate(found["frames"]):
        state = core.init_state() if independent else state
        state, pose = core.step(state, Frame(1 + round(index * 1e9 / 30), (image_at(index),)))
        assert entry["name"] == f"{index:03d}.png" and entry["window_length"] == (1 if independent else index + 1)
        np.testing.assert_allclose(entry["joints_m"], pose.joints_camera, atol=1e-5)
        np.testing.assert_allclose(entry["covariance_m2"], pose.covariance_camera, atol=1e-6)
        for joint, pixel in zip(entry["joints_m"], entry["pixels"]):
            angle = np.arctan2(np.hypot(*joint[:2]), joint[2])
            expected = FOCAL * angle * np.array(joint[:2]) / np.hypot(*joint[:2]) + (SIZE - 1) / 2
            assert pixel is None or np.allclose(pixel, expected, atol=0.05)
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert len(found["frames"]) == len(drawn) == FRAMES
    assert np.abs(cv2.imread(str(drawn[0])).astype(int)).sum() > 0


def test_a_network_that_looks_ahead_has_each_frame_once_under_its_own_name(tmp_path: Path) -> None:
    small = {"spatial_backbone": "mobilenetv4_s", "temporal_backbone": "shared", "window": 8, "temporal_width": 32}
    checkpoint.save(tmp_path / "ahead.safetensors", build("ag_egopose", {**small, "lookahead": 1}), {})
    folder = pictures(tmp_path / "images")
    flags = ["--network", "ag_egopose", "--checkpoint", tmp_path / "ahead.safetensors"]
    found = infer(folder, tmp_path, "--calibration", folder / "calibration.yaml", *flags)
    assert [entry["name"] for entry in found["frames"]] == [f"{index:03d}.png" for index in range(FRAMES)]
    assert [entry["stamp_ns"] for entry in found["frames"]] == [1 + round(index * 1e9 / 30) for index in range(FRAMES)]


def test_a_video_has_the_poses_of_its_frames(tmp_path: Path) -> None:
    write_rig(tmp_path)
    writer = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (SIZE, SIZE))
    for index in range(FRAMES):
        writer.write(image_at(index)[..., ::-1])
    writer.release()
    found = infer(tmp_path / "video.avi", tmp_path, "--calibration", tmp_path / "calibration.yaml", "--frames", 2)
    assert [entry["stamp_ns"] for entry in found["frames"]] == [1, 40_000_001]


def test_poses_of_a_bag_serve_as_ground_truth_of_the_same_bag(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", FRAMES, truth=False)
    found = infer(bag, tmp_path)
    assert [entry["stamp_ns"] for entry in found["frames"]] == [stamp_at(index) for index in range(FRAMES)]
    assert truth.load(tmp_path / "poses.json").joints.shape == (FRAMES, 22, 3)
    flags = ["--truth", tmp_path / "poses.json", "--json", tmp_path / "m.json", "--set", "network.allow_untrained=true"]
    assert cli.main(["evaluate", str(bag), *map(str, flags)]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["runs"][0]["metrics"]["mpjpe_mm"]["value"] < 0.02


@pytest.mark.parametrize(
    ("source", "flags", "expected"),
    [
        ("missing.mp4", "", "nothing there"), ("empty", "", "expected images"), ("text.mp4", "", "can be decoded"),
        ("images", "--calibration=", "calibration"), ("images", "--topics /a", "--topics: expected a bag, got"),
        ("images", "--frames -3", "--frames: expected a number above 0"), ("images", "--fps inf", "--fps: expected"),
        ("images", "--draw text.mp4", "--draw text.mp4: expected a folder"),
        ("images", "--calibration broken.yaml", "broken.yaml: expected JSON, YAML or OCamCalib text"),
        ("images", "--calibration empty", "empty: expected a calibration file, got a folder"),
        ("images", "--set network.checkpoint=nothing", "nothing"),
        ("images", "--set network.name=nothing", "network.name: expected one of"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    source: str, flags: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text.mp4").write_text("no video")
    Path("broken.yaml").write_text("a: [1,\nb: {\n")
    Path("poses.json").write_text("good")
    pictures(Path("images"))
    calibrated = ["--calibration", "images/calibration.yaml", *flags.split()]
    assert cli.main(["infer", source, "--out", "poses.json", *calibrated]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("egopose infer: ") and expected in said[0], said
    assert Path("poses.json").read_text() == "good"


def test_a_damaged_bag_is_done_as_far_as_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(write_bag(tmp_path / "whole", 12).glob("*.mcap"))
    write_rig(tmp_path)
    (tmp_path / "cut.mcap").write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.6)])
    flags = ["--out", str(tmp_path / "poses.json"), "--set", "network.allow_untrained=true"]
    assert cli.main(["infer", str(tmp_path / "cut.mcap"), *flags]) == 3
    assert 3 <= len(json.loads((tmp_path / "poses.json").read_text())["frames"]) < 12
    assert "whole messages are used" in capsys.readouterr().err


class Interrupted:
    """A capture, or a function of a frame, at whose third call somebody presses Ctrl-C."""

    def __init__(self, act: Callable[..., Any] = lambda *_: (True, image_at(0))) -> None:
        self.act, self.calls = act, 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return self.act(*arguments)


def test_an_interrupted_recording_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "images")
    (tmp_path / "poses.json").write_text("good")
    monkeypatch.setattr(command, "_entry", Interrupted(command._entry))
    flags = ["--calibration", str(folder / "calibration.yaml"), "--set", "network.allow_untrained=true"]
    assert cli.main(["infer", str(folder), "--out", str(tmp_path / "poses.json"), *flags]) == 130
    assert (tmp_path / "poses.json").read_text() == "good"


def test_an_interrupt_ends_a_camera_and_keeps_its_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rig(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command.cv2, "VideoCapture", lambda device: mock.Mock(read=Interrupted()))
    assert len(infer(0, tmp_path, "--calibration", tmp_path / "calibration.yaml")["frames"]) == 2


@pytest.mark.parametrize("good", [2, 0])
def test_images_of_a_bag_that_cannot_be_used_are_told(
    good: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some are told and left out; without any good one that is the reason why there is nothing."""
    topic = IMAGE + "/compressed"
    with Maker(tmp_path / "bag") as maker:
        for index in range(3):
            if index < good:
                maker.image(index, topic)
            else:
                data = np.frombuffer(b"\xff\xd8 no jpeg", np.uint8)
                broken = maker.make("sensor_msgs/msg/CompressedImage", maker.header(stamp_at(index), "eye"), "jpeg", data)
                maker.write(topic, broken, stamp_at(index), "sensor_msgs/msg/CompressedImage")
    write_rig(tmp_path / "bag")
    flags = ["--out", str(tmp_path / "poses.json"), "--set", "network.allow_untrained=true"]
    assert cli.main(["infer", str(tmp_path / "bag"), *flags]) == (0 if good else 1)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("egopose infer: ")]
    assert len(said) == 1 and f"{3 - good} " in said[0] and ("not used" in said[0]) is bool(good), said
    assert good or "expected frames" in said[0]
