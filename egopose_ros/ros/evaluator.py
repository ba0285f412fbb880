"""The node `evaluator`: compares poses with ground truth on the live graph and writes the numbers when it ends."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from egopose_ros import msg
from egopose_ros.config import ConfigError, EvaluatorConfig, options, replace
from egopose_ros.evaluation import results, scores
from egopose_ros.evaluation.protocols import PROTOCOLS
from egopose_ros.evaluation.runs import RunBuilder
from egopose_ros.evaluation.truth import Truth, require_overlap
from egopose_ros.files import require_folder, write_whole
from egopose_ros.ros import qos
from egopose_ros.ros.messages import pose_from_message
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.session import POLL_S
from egopose_ros.ros.topics import Topic
from egopose_ros.structs import DEGREES_OF_FREEDOM

MAX_GAP_S = 0.5
"""Poses further apart are no neighbours."""


class Evaluator(Node):
    """Collects while it runs; `write` scores what has come."""

    def __init__(self) -> None:
        """Declare the parameters; ConfigError for one that does not fit."""
        super().__init__("evaluator")
        given = {item.name: self.declare_parameter(item.name, item.default).value for item in options(EvaluatorConfig)}
        self._config = replace(EvaluatorConfig(), given)
        if self._config.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got '{self._config.protocol}'")
        require_folder(Path(self._config.json), "json")
        self._builder = RunBuilder()
        self._newest: msg.BodyPose | None = None
        self._truth: dict[int, np.ndarray] = {}
        self._truth_frame = self._truth_skeleton = ""
        self._segment = 0
        self.create_subscription(msg.BodyPose, self._config.pose, self._on_pose, qos.EVERY_POSE)
        # As its publisher offers it: a motion capture system may be best effort, and a bag must not lose a message.
        notices, steady = Notices(self.get_logger()), Clock(clock_type=ClockType.STEADY_TIME)
        truth = Topic(self, [(self._config.truth, msg.BodyPose)], self._on_truth, notices, depth=1000)
        self.create_timer(POLL_S, truth.poll, clock=steady)

    def _on_pose(self, message: msg.BodyPose) -> None:
        pose = pose_from_message(message)
        if self._builder.stamps_ns and not 0 < pose.stamp_ns - self._builder.stamps_ns[-1] <= MAX_GAP_S * 1e9:
            self._segment += 1
        self._builder.add(pose, self._segment, age_s=message.age)
        self._newest = message

    def _on_truth(self, message: msg.BodyPose) -> None:
        pose = pose_from_message(message)
        self._truth[pose.stamp_ns] = pose.joints_camera
        self._truth_frame, self._truth_skeleton = message.header.frame_id, message.skeleton

    def write(self) -> None:
        """Score and write; ValueError says what has not come."""
        newest, config = self._newest, self._config
        if newest is None or not self._truth:
            raise ValueError(
                f"expected poses on {config.pose} and ground truth on {config.truth}, got {len(self._builder.stamps_ns)} "
                f"and {len(self._truth)}"
            )
        if newest.header.frame_id != self._truth_frame:
            raise ValueError(
                f"{config.truth}: expected ground truth in the poses' frame '{newest.header.frame_id}', got "
                f"'{self._truth_frame}'"
            )
        run = self._builder.build(
            "live", newest.network, newest.weights_trained, newest.frames_dropped, DEGREES_OF_FREEDOM
        )
        stamps_ns = np.array(sorted(self._truth), np.int64)
        joints = np.stack([self._truth[stamp] for stamp in stamps_ns.tolist()])
        truth = Truth(config.truth, stamps_ns, joints, self._truth_skeleton, "camera")
        require_overlap(truth, run.stamps_ns, config.truth_offset_s)
        comparison = scores.compare(run, truth, config.protocol, config.truth_offset_s)
        numbers = {
            "version": results.VERSION,
            "protocol": config.protocol,
            "bags": [],
            "runs": [results.run_json(comparison, scores.score(comparison))],
            "live": [],
            "timing": [results.timing_json(run)],
        }
        write_whole(Path(config.json), json.dumps(numbers, indent=2) + "\n")
        mpjpe_mm = numbers["runs"][0]["metrics"]["mpjpe_mm"]["value"]
        print(f"evaluator: {run.size} poses, MPJPE {mpjpe_mm:.1f} mm: {config.json}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Spin until SIGINT or SIGTERM, then write; exit status 1 where there is nothing to write."""
    signal.signal(signal.SIGINT, lambda number, frame: None)  # rclpy ends the spinning on its own
    rclpy.init(args=arguments)
    try:
        node = Evaluator()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        node.write()
    except (ValueError, OSError) as error:
        print(f"evaluator: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
