"""The one home of QoS: what we publish with, and how a subscription is matched to its publishers."""

from __future__ import annotations

from typing import Sequence

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

POSE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# Of a listener that must not miss one, however busy the machine is.
EVERY_POSE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
MARKERS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
DIAGNOSTICS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Those of tf2_ros.
TF = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
TF_STATIC = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def matching(publishers: Sequence[TopicEndpointInfo], depth: int) -> QoSProfile:
    """Return the strongest QoS that every publisher offers: whatever is best effort or volatile at one makes it so."""
    offered = [publisher.qos_profile for publisher in publishers]
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched and offered else DurabilityPolicy.VOLATILE,
    )
