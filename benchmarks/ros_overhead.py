"""Everything but the network at 1280x1024 and 30 Hz: decode, remap, window, publish; and frames lost from the bag player.

`python benchmarks/ros_overhead.py [--seconds 10]`. The overhead runs from the arrival of an image in the estimator to
the end of publishing its pose, markers and TF; end to end adds both ways through DDS, from one process to another.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import live_graph
from live_graph import Bench, Camera, Child
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from visualization_msgs.msg import MarkerArray

WIDTH, HEIGHT, RATE_HZ = 1280, 1024, 30.0
PERIOD_NS = round(1e9 / RATE_HZ)
START_NS = 1_700_000_000_000_000_000
RIG = Path(__file__).resolve().parents[1] / "config" / "cameras" / "cap_equidistant.yaml"
TARGET_MS = 5.0


def main() -> int:
    parser = live_graph.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each run")
    parser.add_argument("--encodings", nargs="+", default=list(live_graph.CHANNELS), choices=live_graph.CHANNELS)
    arguments = parser.parse_args()
    live_graph.isolate()
    frames = round(arguments.seconds * RATE_HZ)
    bench = Bench()
    # Markers are made only where somebody looks: count them in.
    bench.node.create_subscription(MarkerArray, "/estimator/markers", lambda _: None, 2)
    rows = []
    try:
        with tempfile.TemporaryDirectory(prefix="egopose_") as folder:
            for encoding in arguments.encodings:
                row = {"encoding": encoding, "load": round(os.getloadavg()[0], 1)}
                row |= measure_time(bench, Path(folder), encoding, frames)
                rows.append(row | measure_loss(bench, Path(folder) / encoding, encoding, frames))
    finally:
        bench.close()
    live_graph.report(rows, arguments.json)
    return int(any(row["overhead p50"] > TARGET_MS or row["lost"] for row in rows))


def measure_time(bench: Bench, folder: Path, encoding: str, frames: int) -> dict[str, Any]:
    """Return milliseconds in the estimator and from end to end."""
    camera = Camera(bench, WIDTH, HEIGHT, encoding)
    with live_graph.estimator(RIG, folder / "times.json") as under_test:
        camera.warm_up(under_test)
        before_s = under_test.usage()["cpu_s"]
        camera.run(frames, RATE_HZ)
        cpu_s = under_test.usage()["cpu_s"] - before_s
    camera.close()
    seconds = json.loads((folder / "times.json").read_text())["seconds"]
    inside = live_graph.percentiles_ms(seconds[-len(bench.received) :])
    across = live_graph.percentiles_ms(came - camera.published[stamp] for stamp, came in bench.received.items())
    return {
        **{f"overhead {name}": value for name, value in inside.items()},
        **{f"end to end {name}": value for name, value in across.items()},
        "estimator % of a core": round(100 * cpu_s * RATE_HZ / frames),
    }


def measure_loss(bench: Bench, bag: Path, encoding: str, frames: int) -> dict[str, Any]:
    """Return how many frames of a bag never came to the window, and how many poses came back."""
    write_bag(bag, encoding, frames)
    bench.forget()
    with live_graph.estimator(RIG, bag / "report.json"):
        with Child("-m", "egopose_ros.ros.bag_player", str(bag), "--wait-s", "60") as player:
            bench.spin_while(lambda: player.process.poll() is None, 120.0 + frames / RATE_HZ)
        bench.spin(time.monotonic() + 1.0)
    entered = json.loads((bag / "report.json").read_text())["entered_ns"]
    expected = [START_NS + index * PERIOD_NS for index in range(frames)]
    return {"played": frames, "poses": len(bench.received), "lost": len(set(expected) - set(entered))}


def write_bag(path: Path, encoding: str, frames: int) -> None:
    """Write a bag of one camera at 30 Hz."""
    message = live_graph.image(WIDTH, HEIGHT, encoding)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        store = get_typestore(Stores.ROS2_JAZZY)
        connection = writer.add_connection("/image_raw", "sensor_msgs/msg/Image", typestore=store)
        for index in range(frames):
            stamp_ns = START_NS + index * PERIOD_NS
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
            writer.write(connection, stamp_ns, serialize_message(message))


if __name__ == "__main__":
    sys.exit(main())
