"""Publish 10,000 IMU readings a second, or as many as the machine can, until it is ended: imu_flood.py TOPIC."""

import struct
import sys
import time

import rclpy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Imu

rclpy.init()
node = rclpy.create_node("imu_flood")
publisher = node.create_publisher(Imu, sys.argv[1], 100)
while publisher.get_subscription_count() == 0:
    time.sleep(0.01)
message = Imu()
message.header.frame_id = "head"
message.linear_acceleration.z = 9.81
serialized = bytearray(serialize_message(message))
begin, sent = time.monotonic(), 0
while rclpy.ok():
    for _ in range(10):
        sent += 1
        # The stamp lies behind the four bytes that name the encoding.
        struct.pack_into("<iI", serialized, 4, 10**6 + sent // 10_000, sent % 10_000 * 100_000)
        publisher.publish(bytes(serialized))
    time.sleep(max(0.0, begin + sent / 10_000 - time.monotonic()))
