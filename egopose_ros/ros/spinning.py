"""Spinning until a signal or a shutdown ends it."""

from __future__ import annotations

from rclpy.executors import Executor, ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation


def spin(executor: Executor) -> None:
    """Spin until the context ends, whatever callback that falls into; other errors are raised."""
    try:
        executor.spin()
    except (ExternalShutdownException, rclpy_implementation.RCLError):
        # The signal invalidates the context at once, under a callback that is publishing or asking the graph as well.
        if executor.context.ok():
            raise
