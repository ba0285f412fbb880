"""The other side of the graph: publishes what cameras, SLAM and users would, and hears what the estimator says."""

from __future__ import annotations

import array
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from egopose_ros.msg import BodyPose, Skeleton
from egopose_ros.ros.messages import to_ns, to_stamp

PATIENCE_S = 60.0
"""How long anything may take before a test fails: generous, because it is only spent on failures."""
WIDTH, HEIGHT = 160, 120
K = [60.0, 0.0, 79.5, 0.0, 60.0, 59.5, 0.0, 0.0, 1.0]
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Executor:
    """A node that spins on a thread of its own, in a context of its own."""

    def __init__(self, make: Callable[[Any], Node]) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = make(self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._stopping = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopping:
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        self.node.close() if hasattr(self.node, "close") else self.node.destroy_node()
        self._executor.shutdown()
        rclpy.try_shutdown(context=self.context)


class Probe:
    """Talks to an estimator by name."""

    def __init__(self, estimator: str = "/estimator", namespace: str = "") -> None:
        self._estimator = estimator
        self._spinning = Executor(lambda context: Node("probe", namespace=namespace, context=context))
        self.node = self._spinning.node
        self.poses: deque[BodyPose] = deque(maxlen=1000)
        self.poses_global: deque[BodyPose] = deque(maxlen=1000)
        self.skeletons: deque[Skeleton] = deque(maxlen=10)
        self.status: dict[str, str] = {}
        self.message = ""
        self.keep(BodyPose, f"{estimator}/pose", self.poses)
        self.keep(BodyPose, f"{estimator}/pose_global", self.poses_global)
        self.keep(Skeleton, f"{estimator}/skeleton", self.skeletons, LATCHED)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._publishers: dict[tuple[type, str], Any] = {}

    def close(self) -> None:
        self._spinning.close()

    def keep(self, kind: type, topic: str, messages: deque, qos: Any = 100) -> None:
        """Collect what is published; rclpy takes no built-in as a callback."""
        self.node.create_subscription(kind, topic, lambda message: messages.append(message), qos)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self._estimator + ":"):
                self.message = status.message
                self.status = {pair.key: pair.value for pair in status.values}

    def count(self, key: str) -> int:
        return int(self.status.get(key, 0))

    def advertise(self, topic: str, kind: type = Image, qos: Any = 10) -> Any:
        """Return a publisher that somebody hears."""
        publisher = self._publishers.get((kind, topic))
        if publisher is None:
            publisher = self._publishers[kind, topic] = self.node.create_publisher(kind, topic, qos)
        wait(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        return publisher

    def advertise_latched(self, kind: type, topic: str) -> Any:
        """Return a publisher whose last message also reaches those who come later."""
        key = kind, topic
        if key not in self._publishers:
            self._publishers[key] = self.node.create_publisher(kind, topic, LATCHED)
        return self._publishers[key]

    def withdraw(self, topic: str, kind: type = Image) -> None:
        self.node.destroy_publisher(self._publishers.pop((kind, topic)))

    def call(self, kind: type, service: str, **fields: Any) -> Any:
        client = self.node.create_client(kind, f"{self._estimator}/{service}")
        try:
            wait(client.service_is_ready, f"service {service}")
            future = client.call_async(kind.Request(**fields))
            wait(future.done, f"an answer of {service}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change_state(self, transition: str) -> bool:
        number = getattr(Transition, "TRANSITION_" + transition.upper())
        return self.call(ChangeState, "change_state", transition=Transition(id=number)).success

    def state(self) -> str:
        return self.call(GetState, "get_state").current_state.label

    def set_parameters(self, **values: Any) -> Any:
        """Set dotted names, written with two underscores for each dot."""
        parameters = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        messages = [parameter.to_parameter_msg() for parameter in parameters]
        return self.call(SetParametersAtomically, "set_parameters_atomically", parameters=messages).result

    def describe(self, *names: str) -> list[Any]:
        return self.call(DescribeParameters, "describe_parameters", names=list(names)).descriptors

    def get(self, *names: str) -> list[Any]:
        return self.call(GetParameters, "get_parameters", names=list(names)).values

    def names(self) -> list[str]:
        return self.call(ListParameters, "list_parameters").result.names

    def pose_at(self, stamp_ns: int) -> BodyPose:
        """Wait for the pose of a stamp."""

        def find() -> BodyPose | None:
            return next((pose for pose in list(self.poses) if to_ns(pose.header.stamp) == stamp_ns), None)

        return wait(find, f"the pose of {stamp_ns}")


def wait(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Return the first true answer; fail the test when there is none."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.005)
    raise AssertionError(f"waited {patience_s:g} s for {what}")


def image(stamp_ns: int, pixels: np.ndarray, encoding: str = "mono8", frame_id: str = "eye") -> Image:
    """Return the message of (H, W) or (H, W, C) uint8."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=pixels[0].nbytes)
    message.header.stamp, message.header.frame_id = to_stamp(stamp_ns), frame_id
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    return message


def camera_info(frame_id: str = "eye", k: list[float] = K) -> CameraInfo:
    info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="equidistant", d=[0.0] * 4, k=np.array(k))
    info.header.frame_id = frame_id
    return info


def transforms(*rows: tuple[str, str, int, list[float], list[float]]) -> TFMessage:
    """Return transforms of (parent, child, stamp_ns, translation, quaternion xyzw)."""
    message = TFMessage()
    for parent, child, stamp_ns, translation, quaternion in rows:
        stamped = TransformStamped(child_frame_id=child)
        stamped.header.frame_id, stamped.header.stamp = parent, to_stamp(stamp_ns)
        t, q = stamped.transform.translation, stamped.transform.rotation
        t.x, t.y, t.z = translation
        q.x, q.y, q.z, q.w = quaternion
        message.transforms.append(stamped)
    return message


def pictures(count: int, seed: int = 0, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Return smooth random pictures (count, ...) uint8, each unlike the others."""
    import cv2

    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 6, 8, *shape[2:]), np.uint8)
    return np.stack([cv2.resize(c, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC) for c in coarse])


@contextmanager
def spinning(make: Callable[[Any], Node]) -> Iterator[Node]:
    executor = Executor(make)
    try:
        yield executor.node
    finally:
        executor.close()


class Feed:
    """One camera's images and CameraInfo in front of an estimator that is brought up anew for each test."""

    _uses = 0

    def __init__(self, probe: Probe) -> None:
        Feed._uses += 1
        self.probe = probe
        self.topic = f"/rig{Feed._uses}/image_raw"
        self.stamp_ns = Feed._uses * 10**15
        self._pixels = pictures(64, seed=Feed._uses)
        self._sent = 0

    def start(self, info: CameraInfo | None = None, kind: type = Image, **parameters: Any) -> None:
        """Bring the estimator up with these parameters, and defaults for the rest, calibrated."""
        self.reset(**parameters)
        assert self.probe.change_state("configure"), self.probe.message
        assert self.probe.change_state("activate"), self.probe.message
        self.topic += "/compressed" if kind is CompressedImage else ""
        self.calibrate(info or camera_info())
        self.probe.advertise(self.topic, kind)
        wait(self.calibrated, "the calibration")

    def deactivate(self) -> None:
        assert self.probe.change_state("deactivate")
        wait(lambda: self.probe.status.get("state") != "active", "the diagnostics to follow")

    def activate(self) -> None:
        assert self.probe.change_state("activate"), self.probe.message
        wait(self.calibrated, "the calibration")
        self.probe.advertise(self.topic)

    def calibrated(self) -> bool:
        status = self.probe.status
        return status.get("calibrated") == "true" and status["publishers"].startswith(self.topic + ":1")

    def reset(self, **parameters: Any) -> None:
        """Leave the estimator unconfigured with these parameters, and defaults for the rest."""
        if self.probe.state() == "active":
            self.deactivate()
        if self.probe.state() == "inactive":
            assert self.probe.change_state("cleanup")
        wanted = {**_DEFAULTS, "camera__topics": [self.topic], **parameters}
        result = self.probe.set_parameters(**wanted)
        assert result.successful, result.reason

    def calibrate(self, info: CameraInfo) -> None:
        self.probe.advertise(self.topic.split("/image_raw")[0] + "/camera_info", CameraInfo, LATCHED).publish(info)

    def next_image(self, step_ns: int = 33_333_333, **fields: Any) -> Image:
        """Return the next good image, with fields replaced."""
        self.stamp_ns += step_ns
        message = image(self.stamp_ns, self._pixels[self._sent % len(self._pixels)])
        self._sent += 1
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def send(self, message: Any, topic: str | None = None) -> Any:
        self.probe.advertise(topic or self.topic, type(message)).publish(message)
        return message

    def pose(self, step_ns: int = 33_333_333) -> BodyPose:
        """Send a good image and wait for its pose."""
        return self.probe.pose_at(to_ns(self.send(self.next_image(step_ns)).header.stamp))

    def rejected(self, reason: str) -> int:
        return self.probe.count(f"rejected.{reason}")

    def refuses(self, message: Any, reason: str, topic: str | None = None) -> None:
        """Send a message and wait until it is counted under a reason."""
        before = self.rejected(reason)
        self.send(message, topic)
        wait(lambda: self.rejected(reason) == before + 1, f"rejected.{reason}")


_DEFAULTS: dict[str, Any] = {
    "camera__transport": "auto",
    "camera__calibration": "",
    "camera__frame_id": "",
    "network__checkpoint": "",
    "runtime__device": "cpu",
    "runtime__require_gpu": False,
    "head_pose__source": "none",
    "head_pose__topic": "head_pose",
    "head_pose__global_frame": "",
    "tf__head_pose": "none",
    "imu__enabled": False,
    "imu__topic": "imu",
    "window__max_gap_s": 0.5,
    "head_pose__wait_s": 0.05,
}
