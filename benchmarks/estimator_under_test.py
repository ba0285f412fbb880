"""The estimator with a network of a known cost in place of the trained one, as a process of its own.

Everything else is real: subscriptions, decoding, remapping to the canonical camera, the window, all publishers. When it
is stopped it writes what it measured.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

from egopose_ros import pipeline, skeleton
from egopose_ros.config import Config
from egopose_ros.networks.interface import NetworkInput, Prediction
from egopose_ros.ros import estimator
from egopose_ros.ros.messages import PoseStatus
from egopose_ros.ros.publishers import Publishers
from egopose_ros.structs import BodyPose


class ConstantNetwork(nn.Module):
    """Says the same of every frame, after a time that one chooses."""

    skeleton = "smpl22"
    views = 1
    attention_window = 16
    lookahead = 0

    def __init__(self, inference_s: float, stamps_ns: list[int] | None) -> None:
        """`stamps_ns` takes the stamps of all frames that enter the window."""
        super().__init__()
        self.encoder = nn.Linear(1, 1)
        self._inference_s = inference_s
        self._stamps_ns = stamps_ns
        joints = skeleton.skeleton(self.skeleton).size
        eye = torch.eye(3).expand(joints, 3, 3)
        self._frame = (torch.rand(joints, 3), eye, eye * 1e-3, torch.full((joints,), 0.9))

    def init_state(self, batch: int = 1) -> tuple[()]:
        return ()

    def step(self, state: tuple[()], new: NetworkInput) -> tuple[tuple[()], Prediction]:
        if self._stamps_ns is not None:
            self._stamps_ns += new.stamps_ns[0].tolist()
        # Waiting and not computing: as on a GPU, and the two cores stay with what is measured.
        time.sleep(self._inference_s)
        frames = new.stamps_ns.shape[1]
        return state, Prediction(*(value.expand(1, frames, *value.shape) for value in self._frame))


def time_publishing(seconds: list[float]) -> None:
    """Note for every pose how long it took from the arrival of its newest image to the end of publishing."""
    publish = Publishers.publish

    def timed(self: Publishers, pose: BodyPose, camera_frame: str, global_frame: str, status: PoseStatus) -> None:
        began = time.monotonic()
        publish(self, pose, camera_frame, global_frame, status)
        seconds.append(status.age_s + time.monotonic() - began)

    Publishers.publish = timed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inference-ms", type=float, default=0.0)
    parser.add_argument("--report", type=Path, help="JSON file: every stamp that entered the window, and all times")
    arguments, ros_arguments = parser.parse_known_args()
    # What a soak test would take for a leak is kept only where it is asked for.
    entered_ns: list[int] = []
    seconds: list[float] = []
    network = ConstantNetwork(arguments.inference_ms / 1e3, entered_ns if arguments.report else None)
    if arguments.report:
        time_publishing(seconds)

    def load(config: Config) -> pipeline.Pipeline:
        rig = pipeline.load_rig(config.camera.calibration)
        return pipeline.Pipeline(network, "constant", rig, config, checkpoint="", device=torch.device("cpu"))

    estimator.Estimator = functools.partial(estimator.Estimator, load)
    status = estimator.main([sys.argv[0], *ros_arguments])
    if arguments.report:
        arguments.report.write_text(json.dumps({"entered_ns": entered_ns, "seconds": seconds}))
    return status


if __name__ == "__main__":
    sys.exit(main())
