"""The managed node `estimator`: loads in configure, subscribes in activate, publishes the pose of the wearer.

Diagnostics are published in every state. Every transition that fails logs its own reason and leaves the node in the
state before it, ready for another try.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
from functools import partial
from typing import Any, Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from egopose_ros import resources
from egopose_ros.config import MAX_THREADS, Config, ConfigError, replace
from egopose_ros.ros import diagnostics, qos
from egopose_ros.ros.notices import Notices
from egopose_ros.ros.params import Parameters
from egopose_ros.ros.publishers import Publishers
from egopose_ros.ros.session import Session
from egopose_ros.ros.spinning import spin


def load_pipeline(config: Config) -> Any:
    """Load the pipeline of a configuration; canonical cameras stand in for those that CameraInfo will describe."""
    from egopose_ros import pipeline

    # The core's own log says once more what the node says by `pipeline.warnings`.
    logging.getLogger(pipeline.__name__).addHandler(logging.NullHandler())
    rig = pipeline.configured_rig(config) or pipeline.canonical_rig(len(config.camera.topics))
    if not config.runtime.threads:
        # Camera, DDS and page want a core: on two cores a second thread of the network would wait for them all the time.
        cores = resources.cores() - 1
        config = replace(config, {"runtime.threads": min(max(1, cores), MAX_THREADS)})
    return pipeline.load(config, rig)


def rig_from_camera_info(cameras: list[dict[str, Any]]) -> Any:
    from egopose_ros import pipeline

    return pipeline.rig_from_camera_info(cameras)


class Estimator(LifecycleNode):
    """Thin: parameters, transitions, diagnostics."""

    def __init__(
        self, load: Callable[[Config], Any] = load_pipeline, *, strict: bool = False, **node_arguments: Any
    ) -> None:
        """Declare the parameters; ConfigError for one that does not fit. `load` makes the pipeline in configure.

        Where an autostart fails, a `strict` node shuts its context down.
        """
        super().__init__("estimator", **node_arguments)
        self._load = load
        self._strict = strict
        self._pipeline: Any = None
        self._outputs: Publishers | None = None
        self._session: Session | None = None
        self._failure = ""
        self._statistics = diagnostics.Statistics()
        self._notices = Notices(self.get_logger())
        self._settings = Parameters(self, lambda: self._pipeline is None)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period_s = self._settings.config.diagnostics_period_s
        self._diagnostics_timer = self.create_timer(period_s, self._publish_diagnostics, clock=steady)
        if self._settings.config.autostart:
            # From the executor, so that whoever hosts the node gets it.
            self._start_timer = self.create_timer(0.0, self._start, clock=steady)

    def _config(self) -> Config:
        return self._settings.config

    def _start(self) -> None:
        self.destroy_timer(self._start_timer)
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        if self._failure and self._strict:
            self.context.try_shutdown()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("configure", self._configure, partial(super().on_configure, state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        silence = partial(super().on_deactivate, state)
        return self._transition("activate", partial(super().on_activate, state), self._activate, undo=silence)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("deactivate", self._deactivate, partial(super().on_deactivate, state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("clean up", self._release, partial(super().on_cleanup, state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("shut down", self._release, partial(super().on_shutdown, state))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _transition(
        self, name: str, *parts: Callable[[], Any], undo: Callable[[], Any] = lambda: None
    ) -> TransitionCallbackReturn:
        """Run our part and rclpy's; a failure is logged here, because rclpy says nothing of exceptions, and undone."""
        try:
            for part in parts:
                part()
            self._failure = ""
            return TransitionCallbackReturn.SUCCESS
        except Exception as error:  # the shell: torch, OpenCV and files fail in many ways, and the node must live on
            self._failure = f"{name} failed: {error}" if str(error) else f"{name} failed: {type(error).__name__}"
            self.get_logger().error(self._failure)
            self._release() if name == "configure" else self._deactivate()
            undo()
            return TransitionCallbackReturn.FAILURE

    def _configure(self) -> None:
        config = self._config()
        self._pipeline = self._load(config)
        for warning in self._pipeline.warnings:
            self.get_logger().warning(warning)
        self._outputs = Publishers(self, self._config, self._pipeline.skeleton)
        self.get_logger().info(
            f"{self._pipeline.network_name} on {self._pipeline.device} in {self._pipeline.precision}, "
            f"window of {self._pipeline.window} frames; cameras on {', '.join(map(self.resolve_topic_name, config.camera.topics))}"
        )

    def _activate(self) -> None:
        self._statistics.reset()
        self._notices.clear()
        self._outputs.latch_skeleton()
        self._session = Session(
            self,
            self._config,
            self._pipeline,
            rig_from_camera_info,
            self._outputs,
            self._statistics,
            self._notices,
        )

    def _deactivate(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _release(self) -> None:
        self._deactivate()
        if self._outputs is not None:
            self._outputs.destroy()
        self._outputs = self._pipeline = None
        # What was closed still refers to itself in circles, with a network among them; and rclpy keeps a dead
        # reference to every entity that was ever in a group.
        gc.collect()
        group = self.default_callback_group
        group.entities = {entity for entity in group.entities if entity() is not None}

    def _summary(self) -> tuple[bytes, str, dict[str, str]]:
        return diagnostics.summarize(self._statistics, self._notices, self._pipeline, self._session, self._failure)

    def shortfall(self) -> str:
        """Say why no pose was published since the activation; '' where one was."""
        _, message, values = self._summary()
        return diagnostics.shortfall(message, values)

    def _publish_diagnostics(self) -> None:
        level, message, values = self._summary()
        status = diagnostics.status(f"{self.get_fully_qualified_name()}: pose", level, message, values)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def close(self) -> None:
        """Stop the worker and let go of everything, in whatever state the node is."""
        self._release()
        self.destroy_node()


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a ROS executable, `estimator [--strict] [--ros-args ...]`, until SIGINT or SIGTERM.

    Exit status 1 for parameters that do not fit.
    """
    parser = argparse.ArgumentParser(prog="estimator", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--strict", action="store_true", help="end with status 1 where the start fails, or where no pose was published"
    )
    own, _ = parser.parse_known_args(arguments)
    # rclpy ends the spinning on its own; a KeyboardInterrupt besides would break into whatever runs.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    # The worker asks for the interpreter at each of some hundred operations of a network: 5 ms, Python's default, is
    # too long to wait for it behind a busy executor.
    sys.setswitchinterval(0.0005)
    rclpy.init(args=arguments)
    try:
        node = Estimator(strict=own.strict)
    except ConfigError as error:
        print(f"estimator: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    shortfall = ""
    try:
        spin(executor)
        shortfall = node.shortfall() if own.strict else ""
    finally:
        node.close()
        executor.shutdown()
        rclpy.try_shutdown()
    if shortfall:
        print(f"estimator: {shortfall}", file=sys.stderr)
    return 1 if shortfall else 0


if __name__ == "__main__":
    sys.exit(main())
