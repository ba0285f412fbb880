"""The evaluator node on poses of its own test: world values in the world, and bad messages counted and left out."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: `make setup`, or source a distribution")
pytest.importorskip("egopose_ros.msg", reason="the live graph needs the built messages: make setup")

from bag_maker import T_HEAD_CAMERA, head_at, stamp_at, truth_at  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402

from egopose_ros import msg  # noqa: E402
from egopose_ros.evaluation import scores  # noqa: E402
from egopose_ros.evaluation.runs import RunBuilder  # noqa: E402
from egopose_ros.evaluation.truth import Truth  # noqa: E402
from egopose_ros.ros.evaluator import Evaluator  # noqa: E402
from egopose_ros.ros.messages import PoseStatus, in_global_frame, pose_message  # noqa: E402
from egopose_ros.structs import BodyPose, TrackingState  # noqa: E402

FRAMES = 20
STATUS = PoseStatus(TrackingState.TRACKING, 0, 0.01, "drawn", True)
POSE, POSE_GLOBAL, TRUTH = "/estimator/pose", "/estimator/pose_global", "/ground_truth/pose"


def pose_at(index: int, joints: np.ndarray) -> BodyPose:
    T = head_at(60 * np.sin(index)) @ T_HEAD_CAMERA  # a head that turns so fast that errors turn with it
    return BodyPose(stamp_at(index), "smpl22", joints, None, None, None, T, 1, True)


def bad_messages() -> list[tuple[str, Any]]:
    good = pose_at(FRAMES, truth_at(FRAMES))
    short, other = (pose_message(good, "eye", STATUS) for _ in range(2))
    short.positions = short.positions[:-3]
    other.joint_names = list(reversed(other.joint_names))
    unknown = pose_message(replace(good, joints_camera=np.full((22, 3), np.nan, np.float32)), "eye", STATUS)
    nothing = msg.BodyPose(header=short.header, skeleton="smpl22")
    elsewhere = pose_message(good, "other_eye", STATUS)
    again = pose_message(pose_at(3, truth_at(9)), "eye", STATUS)  # a second publisher
    bad = [(POSE, message) for message in (short, other, unknown, nothing, elsewhere, again)]
    return [*bad, (POSE_GLOBAL, unknown), (TRUTH, other)]


def test_values_of_the_world_are_those_of_the_offline_evaluation(live: Any, tmp_path: Path) -> None:
    poses = [pose_at(i, truth_at(i) + np.float32(0.03 * np.sin(i))) for i in range(FRAMES)]
    sent = []
    for index, pose in enumerate(poses):
        sent.append((TRUTH, pose_message(pose_at(index, truth_at(index)), "eye", STATUS)))
        sent.append((POSE, pose_message(pose, "eye", STATUS, globally_refined=True)))
        sent.append((POSE_GLOBAL, pose_message(in_global_frame(pose), "world", STATUS, globally_refined=True)))
    publishers = {topic: live.node.create_publisher(msg.BodyPose, topic, 1000) for topic in (POSE, POSE_GLOBAL, TRUTH)}
    rclpy.init(args=["--ros-args", "-p", f"json:={tmp_path / 'live.json'}"])
    try:
        node, executor = Evaluator(), SingleThreadedExecutor()
        executor.add_node(node)

        def spun(condition: Any) -> Any:
            return lambda: (executor.spin_once(timeout_sec=0.02), condition())[1]

        live.until(spun(lambda: all(publisher.get_subscription_count() for publisher in publishers.values())))
        for topic, message in [*sent, *bad_messages()]:
            publishers[topic].publish(message)
        live.until(spun(lambda: (len(node._poses), len(node._globals), len(node._truth)) == (FRAMES,) * 3))
        live.until(spun(lambda: sum(node._refused.values()) == len(bad_messages())))
        said = node.refused()
        node.write()
        executor.shutdown()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()
    assert [line.partition(", ")[0] for line in sorted(said)] == [
        f"{TRUTH}: 1 not used", "estimator/pose: 6 not used", "estimator/pose_global: 1 not used",
    ]  # fmt: skip
    builder = RunBuilder()
    for pose in poses:
        builder.add(pose, 0)
    stamps_ns = np.array([stamp_at(index) for index in range(FRAMES)])
    truth = Truth("drawn", stamps_ns, np.stack([truth_at(index) for index in range(FRAMES)]), "smpl22", "camera")
    expected = scores.score(scores.compare(builder.build("live", "drawn", True), truth, "egopose"))
    found = json.loads((tmp_path / "live.json").read_text())["runs"][0]
    assert found["frames"] == found["frames_with_truth"] == FRAMES
    for name in ("mpjpe_mm", "mpjve_mm_s", "acceleration_error_m_s2", "jitter_m_s3"):
        assert found["metrics"][name]["value"] == pytest.approx(expected[name].value, rel=1e-2), name
