"""Ground truth out of a bag: our pose message, TF frames, or marker arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from egopose_ros.evaluation.truth import AmbiguousNames, Truth, TruthError, match_names, read_arrays, select
from egopose_ros.geometry import rigid
from egopose_ros.ros.bag_poses import is_truth
from egopose_ros.ros.bag_reader import POSE_TYPE, BagError, BagReader
from egopose_ros.ros.pose_fields import pose_from_message
from egopose_ros.ros.stamps import to_ns
from egopose_ros.ros.transform_tree import numbers
from egopose_ros.skeleton import skeleton

TRUTH_TOPIC = "/ground_truth/pose"
"""of our own bags"""
SIDECAR = "truth.npz"
"""of our own bags, in their folder: what their messages do not say"""
MARKERS = ("visualization_msgs/msg/MarkerArray", "visualization_msgs/msg/Marker")
TF = "tf2_msgs/msg/TFMessage"
_LISTS = (6, 7, 8)
"""CUBE_LIST, SPHERE_LIST, POINTS of visualization_msgs/Marker"""


def find_topic(bag: BagReader) -> str:
    """Return the topic of the ground truth; '' where the bag has no poses.

    BagError where several could be meant, or poses that nothing calls ground truth: they may be an estimator's.
    """
    there = bag.candidates(POSE_TYPE)
    named = [topic for topic in there if is_truth(topic)]
    if TRUTH_TOPIC in there:
        return TRUTH_TOPIC
    if there and len(named) != 1:
        kind = "one topic of ground truth" if named else "ground truth, named by its topic or by --truth"
        raise BagError(f"bag {bag.path}: expected {kind}, got poses on {', '.join(there)}; choose with --truth")
    return named[0] if named else ""


def read(bag: BagReader, topic: str, wanted: str = "") -> Truth:
    """Return the ground truth on a topic; `wanted` names the skeleton where names or their absence leave it open.

    BagError for a topic that is not there or of another type; TruthError for joints that cannot be named.
    """
    bag.require(topic, POSE_TYPE, *MARKERS, TF)
    source = f"{bag.path}: {topic}"
    kind = bag.kinds[topic]
    if kind == POSE_TYPE:
        return _poses(bag, topic, source)
    rows = _transforms(bag, topic) if kind == TF else _markers(bag, topic, source, wanted)
    return _table(rows, source, wanted)


def _poses(bag: BagReader, topic: str, source: str) -> Truth:
    poses: dict[int, Any] = {}
    kinds, frames = set(), set()
    for recorded in bag.messages([topic]):
        message = recorded.message
        pose = pose_from_message(message)
        poses.setdefault(pose.stamp_ns, pose.joints_camera)
        kinds.add(message.skeleton)
        frames.add(message.header.frame_id)
    if len(kinds) != 1 or len(frames) != 1:
        got = ", ".join(sorted(kinds | frames))
        raise TruthError(f"{source}: expected poses of one skeleton in one frame, got {got or 'none'}")
    expected = (skeleton(next(iter(kinds))).size, 3)
    wrong = next((joints.shape for joints in poses.values() if joints.shape != expected), None)
    if wrong is not None:
        raise TruthError(f"{source}: expected {expected[0]} joints of {next(iter(kinds))}, got {wrong[0]}")
    stamps_ns = np.array(sorted(poses), np.int64)
    joints = np.stack([poses[stamp] for stamp in stamps_ns.tolist()])
    return Truth(source, stamps_ns, joints, kinds.pop(), frames.pop(), _visible(bag, stamps_ns, joints.shape[1]))


def _visible(bag: BagReader, stamps_ns: np.ndarray, joints: int) -> np.ndarray | None:
    """Return what our own bags keep beside the messages: the best visibility (T, J) in any view; None without it."""
    path = (bag.path if bag.path.is_dir() else bag.path.parent) / SIDECAR
    if not path.is_file():
        return None
    content = read_arrays(path, ("visible", "stamps_ns"))
    if len(content) < 2:
        return None
    visible, of_archive = content["visible"], content["stamps_ns"]
    if visible.ndim != 3 or of_archive.shape != visible.shape[:1]:
        got = f"{visible.shape}, {of_archive.shape}"
        raise TruthError(f"{path}: expected visible (T, V, J) and stamps_ns (T,), got {got}")
    # Its stamps count from the start of the recording.
    same = len(of_archive) >= len(stamps_ns) and np.array_equal(
        of_archive[: len(stamps_ns)] - of_archive[0], stamps_ns - stamps_ns[0]
    )
    return visible[: len(stamps_ns)].max(1) if same and visible.shape[-1] == joints else None


def _table(rows: dict[int, dict[tuple[str, str], np.ndarray]], source: str, wanted: str) -> Truth:
    """Make a truth of stamp -> (frame, joint) -> position, in the frame that has the most joints."""
    counts: dict[str, set[str]] = {}
    for row in rows.values():
        for frame, name in row:
            counts.setdefault(frame, set()).add(name)
    if not counts:
        raise TruthError(f"{source}: expected joints, got none")
    fits = {}
    for frame, names in counts.items():
        try:
            fits[frame] = match_names(sorted(names), source, wanted)
        except AmbiguousNames:
            raise
        except TruthError:
            continue
    if not fits:
        every = sorted(name for names in counts.values() for name in names)
        match_names(every, source, wanted)
        raise TruthError(f"{source}: expected joints in one frame, got them in {', '.join(sorted(counts))}")
    frame = max(fits, key=lambda f: sum(row >= 0 for row in fits[f][1]))
    body, places = fits[frame]
    names = sorted(counts[frame])
    stamps_ns = np.array(sorted(stamp for stamp, row in rows.items() if any(f == frame for f, _ in row)), np.int64)
    unknown = np.full(3, np.nan)
    values = np.array([[rows[stamp].get((frame, name), unknown) for name in names] for stamp in stamps_ns.tolist()])
    return Truth(source, stamps_ns, select(values, places), body.name, frame)


def _transforms(bag: BagReader, topic: str) -> dict[int, dict[tuple[str, str], np.ndarray]]:
    rows: dict[int, dict[tuple[str, str], np.ndarray]] = {}
    for recorded in bag.messages([topic]):
        for stamped in recorded.message.transforms:
            key = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            rows.setdefault(to_ns(stamped.header.stamp), {})[key] = numbers(stamped.transform)[:3]
    return rows


def _markers(bag: BagReader, topic: str, source: str, wanted: str) -> dict[int, dict[tuple[str, str], np.ndarray]]:
    """Read a marker a joint, named by text or namespace, or one list of all joints in the order of a skeleton."""
    rows: dict[int, dict[tuple[str, str], np.ndarray]] = {}
    for recorded in bag.messages([topic]):
        message = recorded.message
        for marker in getattr(message, "markers", None) or [message]:
            if marker.action != 0:
                continue
            row = rows.setdefault(to_ns(marker.header.stamp), {})
            frame = marker.header.frame_id
            p, q = marker.pose.position, marker.pose.orientation
            if marker.type in _LISTS:
                rotation, valid = rigid.matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
                T = rigid.transform(rotation if valid else np.eye(3), np.array([p.x, p.y, p.z]))
                points = rigid.apply(T, np.array([[o.x, o.y, o.z] for o in marker.points]).reshape(-1, 3))
                row.update({(frame, name): point for name, point in zip(_order(len(points), source, wanted), points)})
            elif marker.text or marker.ns:
                row.setdefault((frame, marker.text or marker.ns), np.array([p.x, p.y, p.z]))
    return {stamp: row for stamp, row in rows.items() if row}


def _order(points: int, source: str, wanted: str) -> tuple[str, ...]:
    if not wanted:
        raise TruthError(f"{source}: markers without names: name the skeleton of their order with --truth-skeleton")
    joints = skeleton(wanted).joints
    if points != len(joints):
        raise TruthError(f"{source}: expected {len(joints)} points in the order of {wanted}, got {points}")
    return joints
