"""Memory of evaluating bags of growing length: `python benchmarks/evaluation_memory.py --times 1 10 30`.

The sample bag is written over and over into one, its stamps going on, and `egopose evaluate` takes it in a process of its
own. What counts is memory that only the process can give back (RssAnon); pages of the poses' temporary files are the
kernel's to drop.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from tqdm import tqdm

from egopose_ros.evaluation.rows import temporary_directory
from egopose_ros.synth.sample import sample_bag

_HEADLESS = ("tf2_msgs/msg/TFMessage", "egopose_ros/msg/Skeleton")
"""types that do not begin with a stamp: said once"""


def repeat(bag: Path, times: int, output: Path) -> None:
    """Write a bag several times into one, one after the other."""
    with Reader(bag) as reader, Writer(output, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            c.id: writer.add_connection(
                c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest, offered_qos_profiles=c.ext.offered_qos_profiles
            )
            for c in reader.connections
        }  # fmt: skip
        length_ns = reader.duration + 33_333_333
        for turn in tqdm(range(times), "bag", unit="time", leave=False):
            for connection, stamp_ns, data in reader.messages():
                if connection.msgtype in _HEADLESS:
                    if turn:
                        continue
                else:
                    seconds, nanoseconds = struct.unpack_from("<iI", data, 4)
                    header_ns = seconds * 10**9 + nanoseconds + turn * length_ns
                    data = bytearray(data)
                    struct.pack_into("<iI", data, 4, *divmod(header_ns, 10**9))
                writer.write(connections[connection.id], stamp_ns + turn * length_ns, bytes(data))
    shutil.copy(bag / "calibration.yaml", output)


def evaluate(bag: Path, output: Path, settings: list[str]) -> tuple[float, float, int]:
    """Return the largest anonymous and resident memory [MB] of evaluating a bag, and its frames."""
    command = [sys.executable, "-m", "egopose_ros.cli", "evaluate", str(bag), "--output", str(output), *settings]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        anonymous = resident = 0
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                entries = dict(line.split(":", 1) for line in status.read_text().splitlines())
                anonymous = max(anonymous, int(entries["RssAnon"].split()[0]))
                resident = max(resident, int(entries["VmHWM"].split()[0]))
            except (OSError, KeyError):  # it has just ended
                pass
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(process.returncode)
    frames = json.loads((output / "metrics.json").read_text())["runs"][0]["frames"]
    return anonymous / 1024.0, resident / 1024.0, frames


def main() -> int:
    """Print a line for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bag", type=Path, help="bag to repeat (default: the sample bag)")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 30], help="lengths, default %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the estimator")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bag = arguments.bag or sample_bag()
    settings = [part for item in arguments.set for part in ("--set", item)]
    rows = []
    for times in arguments.times:
        with tempfile.TemporaryDirectory(dir=temporary_directory()) as folder:
            repeat(bag, times, Path(folder) / "bag")
            anonymous_mb, resident_mb, frames = evaluate(Path(folder) / "bag", Path(folder) / "out", settings)
        print(f"{frames:8d} frames {anonymous_mb:8.0f} MB anonymous {resident_mb:8.0f} MB with pages of files", flush=True)
        rows.append({"frames": frames, "anonymous_mb": anonymous_mb, "resident_mb": resident_mb})
    a_frame_kb = 1024.0 * (rows[-1]["anonymous_mb"] - rows[0]["anonymous_mb"]) / max(rows[-1]["frames"] - rows[0]["frames"], 1)
    print(f"{a_frame_kb:.2f} kB a frame")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"lengths": rows, "kb_a_frame": a_frame_kb}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
