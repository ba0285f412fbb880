"""The node `evaluator`: compares poses with ground truth on the live graph and writes the numbers when it ends."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from dataclasses import replace as replace_fields
from pathlib import Path

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from egopose_ros import msg
from egopose_ros.config import ConfigError, EvaluatorConfig, options, replace
from egopose_ros.evaluation import results, scores
from egopose_ros.evaluation.protocols import PROTOCOLS
from egopose_ros.evaluation.runs import Run, RunBuilder
from egopose_ros.evaluation.truth import Truth, require_overlap
from egopose_ros.files import require_folder, write_whole
from egopose_ros.ros import qos
from egopose_ros.ros.bag_poses import placed
from egopose_ros.ros.messages import named_pose
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.session import POLL_S
from egopose_ros.ros.spinning import spin
from egopose_ros.ros.topics import Topic
from egopose_ros.structs import DEGREES_OF_FREEDOM, BodyPose

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
        self._poses: list[tuple[BodyPose, float]] = []
        self._stamps: set[int] = set()
        self._newest: msg.BodyPose | None = None
        self._globals: dict[int, np.ndarray] = {}
        self._truth: dict[int, np.ndarray] = {}
        self._kinds: dict[str, tuple[str, str]] = {}
        self._refused: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._beside = f"{self._config.pose}_global"
        self._notices = Notices(self.get_logger())
        self.create_subscription(msg.BodyPose, self._config.pose, self._on_pose, qos.EVERY_POSE)
        self.create_subscription(msg.BodyPose, self._beside, self._on_pose_global, qos.EVERY_POSE)
        # As its publisher offers it: a motion capture system may be best effort, and a bag must not lose a message.
        truth = Topic(self, [(self._config.truth, msg.BodyPose)], self._on_truth, self._notices, depth=1000)
        self.create_timer(POLL_S, truth.poll, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_pose(self, message: msg.BodyPose) -> None:
        pose = self._read(message, self._config.pose)
        if pose is not None and pose.stamp_ns in self._stamps:
            self._refuse(self._config.pose, "expected one pose of a stamp, got another: two publishers, or a bag that loops?")
        elif pose is not None:
            self._stamps.add(pose.stamp_ns)
            # Nothing here is measured on rotations, and an hour of them weighs.
            self._poses.append((replace_fields(pose, rotations_camera=None), message.age))
            self._newest = message

    def _on_pose_global(self, message: msg.BodyPose) -> None:
        pose = self._read(message, self._beside)
        if pose is not None:
            self._globals[pose.stamp_ns] = pose.joints_camera

    def _on_truth(self, message: msg.BodyPose) -> None:
        pose = self._read(message, self._config.truth, finite=False)
        if pose is not None:
            self._truth[pose.stamp_ns] = pose.joints_camera

    def _read(self, message: msg.BodyPose, topic: str, finite: bool = True) -> BodyPose | None:
        """Return the pose of a message that is like the first of its topic; None for another, with a word about it."""
        try:
            pose = named_pose(message)
            if finite and not np.isfinite(pose.joints_camera).all():
                raise ValueError("expected finite joints, got NaN or infinity")
            kind = pose.skeleton, message.header.frame_id
            body, frame = self._kinds.setdefault(topic, kind)
            if kind != (body, frame):
                raise ValueError(f"expected poses of {body} in '{frame}', got {kind[0]} in '{kind[1]}'")
        except ValueError as error:
            self._refuse(topic, str(error))
            return None
        self._notices.well(topic)
        return pose

    def _refuse(self, topic: str, reason: str) -> None:
        self._refused[topic] += 1
        self._reasons[topic] = reason
        self._notices.fault(topic, reason, reason)

    def refused(self) -> list[str]:
        """Return a line for each topic of which messages were not used."""
        return [f"{topic}: {n} not used, the last: {self._reasons[topic]}" for topic, n in self._refused.items()]

    def _run(self, newest: msg.BodyPose) -> Run:
        """Return the poses so far, with T_world_camera where the global one came too."""
        builder, segment = RunBuilder(), 0
        for pose, age_s in self._poses:
            if builder.last_stamp_ns is not None and not 0 < pose.stamp_ns - builder.last_stamp_ns <= MAX_GAP_S * 1e9:
                segment += 1
            builder.add(placed(pose, self._globals.get(pose.stamp_ns)), segment, age_s=age_s)
        return builder.build("live", newest.network, newest.weights_trained, newest.frames_dropped, DEGREES_OF_FREEDOM)

    def write(self) -> None:
        """Score and write; ValueError says what has not come."""
        newest, config = self._newest, self._config
        if newest is None or not self._truth:
            raise ValueError(
                f"expected poses on {config.pose} and ground truth on {config.truth}, got {len(self._poses)} "
                f"and {len(self._truth)}"
            )
        truth_skeleton, truth_frame = self._kinds[config.truth]
        if newest.header.frame_id != truth_frame:
            raise ValueError(
                f"{config.truth}: expected ground truth in the poses' frame '{newest.header.frame_id}', got "
                f"'{truth_frame}'"
            )
        run = self._run(newest)
        stamps_ns = np.array(sorted(self._truth), np.int64)
        joints = np.stack([self._truth[stamp] for stamp in stamps_ns.tolist()])
        truth = Truth(config.truth, stamps_ns, joints, truth_skeleton, "camera")
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
        said = "unknown" if mpjpe_mm is None else f"{mpjpe_mm:.1f} mm"
        print(f"evaluator: {run.size} poses, MPJPE {said}: {config.json}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Spin until SIGINT or SIGTERM, then write; exit status 1 where there is nothing to write."""
    signal.signal(signal.SIGINT, lambda number, frame: None)  # rclpy ends the spinning on its own
    rclpy.init(args=arguments)
    try:
        node = Evaluator()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        spin(executor)
        for line in node.refused():
            print(f"evaluator: {line}", file=sys.stderr)
        node.write()
    except (ValueError, OSError) as error:
        print(f"evaluator: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
