"""What every network takes, gives and remembers. B batch, T time, V view, J joint, H W canonical image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

CONFIDENCE_RADIUS = 0.1
"""[m], of Prediction.confidence"""


@dataclass(frozen=True)
class NetworkInput:
    """A batch of clips in the canonical camera; a live frame is a clip of one."""

    images: Tensor
    """(B, T, V, 3, H, W) uint8 or float in 0..255, RGB, already in the canonical camera"""
    T_reference_camera: Tensor
    """(B, V, 4, 4) from each canonical camera to the first one, whose optical frame is the reference frame"""
    stamps_ns: Tensor
    """(B, T) int64"""
    T_world_reference: Tensor
    """(B, T, 4, 4) pose of the first canonical camera in a gravity-aligned world; identity where not valid"""
    head_pose_valid: Tensor
    """(B, T) bool"""
    gravity_reference: Tensor
    """(B, T, 3) unit vector downwards, from the head pose or the IMU; zero where not valid"""
    gravity_valid: Tensor
    """(B, T) bool"""


@dataclass(frozen=True)
class Prediction:
    """What a network says after every frame of its input."""

    joints: Tensor
    """(B, T, J, 3) [m], reference frame"""
    rotations: Tensor | None
    """(B, T, J, 3, 3) from T-pose axes (x forward, y left, z up) to the reference frame"""
    covariance: Tensor | None
    """(B, T, J, 3, 3) [m^2]"""
    confidence: Tensor | None
    """(B, T, J) probability that the joint lies within 0.1 m"""


class Network(Protocol):
    """One interface for live, offline and training use; `step` frame by frame equals `forward` over the clip."""

    skeleton: str
    """a name in `skeleton.SKELETONS`"""
    views: int
    window: int
    """frames that a pose can depend on, its own included"""
    attention_window: int
    """frames after which the temporal window is full"""
    lookahead: int
    """frames that a pose waits for: what `step` says after a frame is of the one so many before it, or of the first"""
    encoder: nn.Module
    """all that is done to images alone, which is nearly all of the cost"""

    def init_state(self, batch: int = 1) -> Any: ...

    def step(self, state: Any, new: NetworkInput) -> tuple[Any, Prediction]:
        """Take T >= 1 new frames; the state is bounded, not written in place, and returned anew."""
        ...

    def finish(self, state: Any) -> Prediction:
        """Return the poses of the last `lookahead` frames of a stream that ends; only networks that look ahead have it."""
        ...

    def forward(self, clip: NetworkInput) -> Prediction: ...
