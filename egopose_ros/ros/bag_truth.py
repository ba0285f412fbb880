"""Ground truth out of a bag: our pose message, TF frames, or marker arrays."""

from __future__ import annotations

from functools import partial
from typing import Callable, Iterator

import numpy as np

from egopose_ros.evaluation.rows import Rows, blank, gathered, slices
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
    named = partial(_transforms, bag, topic) if kind == TF else partial(_markers, bag, topic, source, wanted)
    return _table(named, source, wanted)


def _poses(bag: BagReader, topic: str, source: str) -> Truth:
    kinds, frames = set(), set()
    stamps_ns, joints = Rows((), np.int64), None
    for recorded in bag.messages([topic]):
        message = recorded.message
        pose = pose_from_message(message)
        kinds.add(message.skeleton)
        frames.add(message.header.frame_id)
        if len(kinds) > 1 or len(frames) > 1:
            continue  # to say which
        expected = (skeleton(message.skeleton).size, 3)
        if pose.joints_camera.shape != expected:
            got = len(pose.joints_camera)
            raise TruthError(f"{source}: expected {expected[0]} joints of {message.skeleton}, got {got}")
        joints = Rows(expected, np.float32) if joints is None else joints
        joints.append(pose.joints_camera)
        stamps_ns.append(pose.stamp_ns)
    if len(kinds) != 1 or len(frames) != 1 or joints is None:
        got = ", ".join(sorted(kinds | frames))
        raise TruthError(f"{source}: expected poses of one skeleton in one frame, got {got or 'none'}")
    ordered_ns, values = _in_order(stamps_ns.array(), joints.array())
    return Truth(source, ordered_ns, values, kinds.pop(), frames.pop(), _visible(bag, ordered_ns, values.shape[1]))


def _in_order(stamps_ns: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows by their stamps, the first of each."""
    if (np.diff(stamps_ns) > 0).all():
        return stamps_ns, values
    ordered_ns, places = np.unique(stamps_ns, return_index=True)
    return ordered_ns, gathered(values[places[rows]] for rows in slices(len(places)))


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
    # Whatever clock they are of: those of older bags count from the start of the recording.
    same = len(of_archive) >= len(stamps_ns) and np.array_equal(
        of_archive[: len(stamps_ns)] - of_archive[0], stamps_ns - stamps_ns[0]
    )
    return visible[: len(stamps_ns)].max(1) if same and visible.shape[-1] == joints else None


def _table(named: Callable[[], Iterator[_Named]], source: str, wanted: str) -> Truth:
    """Make a truth of what is read of (stamp, frame, joint, position), in the frame that has the most joints.

    It is read twice, for names and stamps and for positions; what is said first of a joint at a stamp counts.
    """
    names_in: dict[str, set[str]] = {}
    stamps_in: dict[str, Rows] = {}
    for stamp_ns, frame, name, _ in named():
        names_in.setdefault(frame, set()).add(name)
        stamps_in.setdefault(frame, Rows((), np.int64)).append(stamp_ns)
    if not names_in:
        raise TruthError(f"{source}: expected joints, got none")
    fits = {}
    for frame, names in names_in.items():
        try:
            fits[frame] = match_names(sorted(names), source, wanted)
        except AmbiguousNames:
            raise
        except TruthError:
            continue
    if not fits:
        every = sorted(name for names in names_in.values() for name in names)
        match_names(every, source, wanted)
        raise TruthError(f"{source}: expected joints in one frame, got them in {', '.join(sorted(names_in))}")
    chosen = max(fits, key=lambda f: sum(row >= 0 for row in fits[f][1]))
    body, places = fits[chosen]
    column = {name: number for number, name in enumerate(sorted(names_in[chosen]))}
    stamps_ns = np.unique(stamps_in[chosen].array())
    values = blank((len(stamps_ns), len(column), 3))
    for stamp_ns, frame, name, position in named():
        if frame == chosen:
            cell = values[np.searchsorted(stamps_ns, stamp_ns), column[name]]
            if np.isnan(cell).all():
                cell[:] = position
    joints = gathered(select(values[rows], places) for rows in slices(len(values)))
    return Truth(source, stamps_ns, joints, body.name, chosen)


_Named = tuple[int, str, str, np.ndarray]
"""stamp [ns], frame, name and position of a joint"""


def _transforms(bag: BagReader, topic: str) -> Iterator[_Named]:
    for recorded in bag.messages([topic]):
        for stamped in recorded.message.transforms:
            frame, name = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            yield to_ns(stamped.header.stamp), frame, name, numbers(stamped.transform)[:3]


def _markers(bag: BagReader, topic: str, source: str, wanted: str) -> Iterator[_Named]:
    """Read a marker a joint, named by text or namespace, or one list of all joints in the order of a skeleton."""
    for recorded in bag.messages([topic]):
        message = recorded.message
        for marker in getattr(message, "markers", None) or [message]:
            if marker.action != 0:
                continue
            stamp_ns, frame = to_ns(marker.header.stamp), marker.header.frame_id
            p, q = marker.pose.position, marker.pose.orientation
            if marker.type in _LISTS:
                rotation, valid = rigid.matrix_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
                T = rigid.transform(rotation if valid else np.eye(3), np.array([p.x, p.y, p.z]))
                points = rigid.apply(T, np.array([[o.x, o.y, o.z] for o in marker.points]).reshape(-1, 3))
                for name, point in zip(_order(len(points), source, wanted), points):
                    yield stamp_ns, frame, name, point
            elif marker.text or marker.ns:
                yield stamp_ns, frame, marker.text or marker.ns, np.array([p.x, p.y, p.z])


def _order(points: int, source: str, wanted: str) -> tuple[str, ...]:
    if not wanted:
        raise TruthError(f"{source}: markers without names: name the skeleton of their order with --truth-skeleton")
    joints = skeleton(wanted).joints
    if points != len(joints):
        raise TruthError(f"{source}: expected {len(joints)} points in the order of {wanted}, got {points}")
    return joints
