"""A graph for the doctor: `healthy`, or `broken` in every way that it can find. Prints "ready"; SIGINT ends it."""

import sys
from array import array

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from egopose_ros.msg import BodyPose

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
PERIOD_S = 0.05


def camera(node: Node, topic: str, qos: QoSProfile) -> None:
    """Publish images of 3 MB for as long as the node spins."""
    publisher = node.create_publisher(Image, topic, qos)
    message = Image(width=1280, height=800, step=3840, encoding="bgr8")
    message.data = array("B", bytes(1280 * 800 * 3))
    machine = Clock(clock_type=ClockType.SYSTEM_TIME)

    def publish() -> None:
        message.header.stamp = machine.now().to_msg()
        publisher.publish(message)

    node.create_timer(PERIOD_S, publish, clock=Clock(clock_type=ClockType.STEADY_TIME))


def main(kind: str) -> None:
    rclpy.init()
    broken = kind == "broken"
    # With use_sim_time and a pose, an estimator that waits for a /clock that nobody publishes.
    node = Node("doctor_graph", parameter_overrides=[Parameter("use_sim_time", value=broken)])
    if broken:
        # Silent, asked for more than it offers, and one topic with two publishers.
        for topic in ("/front/image_raw", "/twice/image_raw", "/twice/image_raw"):
            node.create_publisher(Image, topic, BEST_EFFORT)
    else:
        camera(node, "/front/image_raw", BEST_EFFORT)
    node.create_subscription(Image, "/front/image_raw", lambda _: None, RELIABLE if broken else BEST_EFFORT)
    node.create_publisher(BodyPose, "~/pose", RELIABLE)
    print("ready", flush=True)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass


if __name__ == "__main__":
    main(sys.argv[1])
