"""A bag through the live graph at real time and through the evaluator: the same poses for the frames both processed."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
pytest.importorskip("egopose_ros.msg", reason="the live graph needs the built messages: make setup")

from bag_maker import HEAD, IMAGE, stamp_at, write_bag  # noqa: E402

from egopose_ros import cli, msg  # noqa: E402
from egopose_ros.ros.bag_poses import PoseBag  # noqa: E402
from egopose_ros.ros.messages import PoseStatus, pose_from_message, to_ns  # noqa: E402

FRAMES = 20

pytestmark = pytest.mark.timeout(480)  # four processes beside this one, on a machine that may have much else to do


def test_online_poses_equal_offline_ones(live: Any, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", FRAMES)
    heard = live.subscribe(msg.BodyPose, "/estimator/pose")
    settings = {
        "camera.topics": f"[{IMAGE}]", "camera.calibration": bag / "calibration.yaml", "head_pose.source": "pose",
        "head_pose.topic": HEAD, "network.allow_untrained": "true", "runtime.device": "cpu", "window.max_pending": 64,
        "window.thin_out": "false", "head_pose.wait_s": 1.0,
    }  # fmt: skip
    parameters = [part for name, value in settings.items() for part in ("-p", f"{name}:={value}")]
    live.start("egopose_ros.ros.estimator", "--ros-args", *parameters)
    evaluator = live.start("egopose_ros.ros.evaluator", "--ros-args", "-p", f"json:={tmp_path / 'live.json'}")
    live.until(lambda: live.node.count_subscribers("/estimator/pose") == 2, 60)
    wait = ("--wait-s", "150", "--await-topics", "/ground_truth/pose")
    player = live.start("egopose_ros.ros.bag_player", str(bag), *wait)
    live.until(lambda: heard and to_ns(heard[-1].header.stamp) == stamp_at(FRAMES - 1), 170)
    assert live.finish(player)[0] == 0
    evaluator.send_signal(signal.SIGINT)
    status, said = live.finish(evaluator)
    assert status == 0, said
    with PoseBag(tmp_path / "live") as recorded:
        for message in heard:
            status = PoseStatus(message.tracking_state, message.frames_dropped, message.age, message.network, False)
            recorded.write(pose_from_message(message), message.header.frame_id, "", status)
    flags = ["--predictions", tmp_path / "live", "--json", tmp_path / "m.json", "--set", "network.allow_untrained=true"]
    assert cli.main(["evaluate", str(bag), *map(str, flags), "--set", "runtime.device=cpu"]) == 0
    content = json.loads((tmp_path / "m.json").read_text())
    (found,) = content["live"]
    stamps = {to_ns(message.header.stamp) for message in heard}
    assert heard[-1].frames_dropped == 0
    assert found["common"] == len(stamps) >= 2 and found["unknown_ns"] == found["unlike_ns"] == []
    assert found["dropped_ns"] == [stamp_at(index) for index in range(FRAMES) if stamp_at(index) not in stamps]
    assert found["largest_mm"] <= 0.01  # 1e-5 m
    offline, online = content["runs"]
    by_node = json.loads((tmp_path / "live.json").read_text())["runs"][0]
    assert by_node["frames"] == len(stamps)
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "pck_150", "in_90_percent_region"):
        assert by_node["metrics"][name] == online["metrics"][name]
    assert by_node["per_joint_mm"] == online["per_joint_mm"]
    assert (offline["frames"], online["frames"]) == (FRAMES, len(stamps))
