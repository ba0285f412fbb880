"""Find out whether large images cross from one process to another: this module is both of them."""

from __future__ import annotations

import subprocess
import sys
import time
from array import array

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from egopose_ros.installation import Finding, Status

COUNT = 15
PERIOD_S = 1 / 30
WIDTH, HEIGHT = 1280, 1024
PATIENCE_S = 10.0
# What cameras publish with; reliable delivery would hide a segment that is too small.
_QOS = QoSProfile(depth=COUNT, reliability=ReliabilityPolicy.BEST_EFFORT)


def large_images(node: Node) -> Finding:
    """Let another process publish images of 1.3 MB, and count what arrives."""
    topic = f"/egopose_doctor_{time.monotonic_ns()}"
    received: list[int] = []
    subscription = node.create_subscription(Image, topic, lambda message: received.append(len(message)), _QOS, raw=True)
    child = subprocess.Popen([sys.executable, "-m", __name__, topic], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and child.poll() is None:
        rclpy.spin_once(node, timeout_sec=0.05)
    # The last images may still be on their way.
    for _ in range(COUNT):
        rclpy.spin_once(node, timeout_sec=0.02)
    child.kill()
    _, error = child.communicate()
    node.destroy_subscription(subscription)
    text = f"{len(received)} of {COUNT} best-effort images of 1.3 MB crossed to another process"
    if len(received) == COUNT:
        return Finding("transport", Status.OK, text)
    if child.returncode:
        text += f" ({error.strip().splitlines()[-1] if error.strip() else 'its node found no subscriber'})"
    return Finding("transport", Status.WRONG, text, "mend 'shared memory'; leave room in /dev/shm (docker: --shm-size=256m)")


def main(topic: str) -> int:
    """Publish the images as soon as somebody subscribes; 1 where nobody does."""
    rclpy.init(args=[])
    node = rclpy.create_node("egopose_doctor_publisher")
    publisher = node.create_publisher(Image, topic, _QOS)
    message = Image(width=WIDTH, height=HEIGHT, step=WIDTH, encoding="mono8")
    message.data = array("B", bytes(WIDTH * HEIGHT))
    end = time.monotonic() + PATIENCE_S / 2
    while not publisher.get_subscription_count():
        if time.monotonic() > end:
            return 1
        time.sleep(0.02)
    # The subscriber learns of us a little later than we of it.
    time.sleep(0.3)
    for _ in range(COUNT):
        publisher.publish(message)
        time.sleep(PERIOD_S)
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
