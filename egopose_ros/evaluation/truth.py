"""Ground truth over time, from wherever: named joints, resampled at the stamps of poses, with a time offset."""

from __future__ import annotations

import csv
import json
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Sequence

import numpy as np

from egopose_ros.evaluation.motion import Joints
from egopose_ros.evaluation.rows import gathered, slices
from egopose_ros.skeleton import SKELETONS, Skeleton, skeleton

MAX_GAP_S = 0.1
"""Neighbours further apart than this are not interpolated."""
OFFSET_LIMIT_S = 2.0
"""largest time offset that is looked for"""
_GRID_S = 0.005
_MIN_CORRELATION = 0.5
_MIN_OVERLAP_S = 1.0
_SIDES = (("left", ("left", "l")), ("right", ("right", "r")))
_ALIASES = {
    "hips": "pelvis", "root": "pelvis", "hand": "wrist", "upperarm": "shoulder", "arm": "shoulder", "lowerarm": "elbow",
    "forearm": "elbow", "thigh": "hip", "upleg": "hip", "calf": "knee", "shin": "knee", "leg": "knee", "toe": "foot",
    "toes": "foot", "toebase": "foot", "ball": "foot", "clavicle": "collar",
}  # fmt: skip
"""names that others give the joints -> ours"""
_TOES, _ARMS, _COLLARS = {"toe", "toes", "toebase", "ball"}, {"arm", "upperarm"}, {"collar", "clavicle"}
_UNREADABLE = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, csv.Error,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""what the decoders of a damaged file or one of another kind meet"""


class TruthError(ValueError):
    """Ground truth that cannot be used: says what was expected and what came."""


class AmbiguousNames(TruthError):
    """Names of which several mean one joint."""


@dataclass(frozen=True)
class Truth:
    """Joints of one skeleton at stamps of their own."""

    source: str
    """for the report: file, or bag and topic"""
    stamps_ns: np.ndarray
    """(T,) int64, strictly increasing"""
    joints: np.ndarray
    """(T, J, 3) float32 [m], NaN where a joint is unknown"""
    skeleton: str
    frame: str
    """frame_id of the joints; 'camera' for the optical frame of the first camera, 'world' for the head pose's frame"""
    visible: np.ndarray | None = None
    """(T, J) uint8, values of `structs.Visibility`, the best of all views"""

    def __post_init__(self) -> None:
        if not len(self.stamps_ns):
            raise TruthError(f"{self.source}: expected ground truth, got none")
        if np.any(np.diff(self.stamps_ns) <= 0):
            raise TruthError(f"{self.source}: expected strictly increasing stamps")

    def at(self, stamps_ns: np.ndarray, offset_s: float = 0.0) -> tuple[np.ndarray, np.ndarray | None]:
        """Return joints (N, J, 3) and visibility (N, J) at stamps, of truth whose clock is ahead by an offset.

        Positions are interpolated linearly between neighbours up to MAX_GAP_S apart, elsewhere NaN; visibility is that
        of the nearest neighbour.
        """
        wanted = stamps_ns + round(offset_s * 1e9)
        after = np.clip(np.searchsorted(self.stamps_ns, wanted), 0, len(self.stamps_ns) - 1)
        exact = self.stamps_ns[after] == wanted
        before = np.where(exact, after, np.maximum(after - 1, 0))
        gap = (self.stamps_ns[after] - self.stamps_ns[before]).astype(np.float64)
        inside = exact | ((self.stamps_ns[before] < wanted) & (wanted < self.stamps_ns[after]) & (gap <= MAX_GAP_S * 1e9))
        share = np.where(gap > 0, (wanted - self.stamps_ns[before]) / np.where(gap > 0, gap, 1.0), 0.0)[:, None, None]
        joints = self.joints[before] + share * (self.joints[after] - self.joints[before])
        nearest = np.where(share[:, 0, 0] < 0.5, before, after)
        visible = None if self.visible is None else self.visible[nearest]
        return np.where(inside[:, None, None], joints, np.nan), visible


def require_overlap(truth: Truth, stamps_ns: np.ndarray, offset_s: float) -> None:
    """Raise TruthError unless the truth, moved by its offset, and the poses share some time."""
    first, last = truth.stamps_ns[[0, -1]] - round(offset_s * 1e9)
    if last < stamps_ns[0] or stamps_ns[-1] < first:
        spans = [f"{a / 1e9:.3f} to {b / 1e9:.3f} s" for a, b in ((first, last), stamps_ns[[0, -1]])]
        raise TruthError(
            f"{truth.source}: expected ground truth that overlaps the poses in time, got {spans[0]} (offset "
            f"{offset_s:g} s) and poses from {spans[1]}; give --truth-offset"
        )


def estimate_offset(
    truth_ns: np.ndarray, truth: Joints, poses_ns: np.ndarray, poses: Joints
) -> tuple[float, float]:
    """Return by how much the truth's clock is ahead [s] and the correlation, from the speeds of joints (T, J, 3).

    Mean speeds on one grid, normalised cross-correlation, its peak refined by a parabola. TruthError without a clear
    peak within OFFSET_LIMIT_S.
    """
    apart_s = (max(truth_ns[0], poses_ns[0]) - min(truth_ns[-1], poses_ns[-1])) / 1e9
    if apart_s > OFFSET_LIMIT_S - _MIN_OVERLAP_S:
        raise TruthError(
            f"time offset: expected truth and poses that an offset of up to {OFFSET_LIMIT_S:g} s makes overlap, got "
            f"them {apart_s:.1f} s apart; give --truth-offset in seconds"
        )
    start, end = max(truth_ns[0], poses_ns[0]) - OFFSET_LIMIT_S * 1e9, min(truth_ns[-1], poses_ns[-1]) + OFFSET_LIMIT_S * 1e9
    grid_ns = np.arange(start, end, _GRID_S * 1e9)
    (speed, known), (own, own_known) = (_speed_on(grid_ns, *track) for track in ((truth_ns, truth), (poses_ns, poses)))
    limit = round(OFFSET_LIMIT_S / _GRID_S)
    lags = np.arange(-limit, limit + 1)
    scores = np.array([_correlation(speed, known, own, own_known, lag) for lag in lags])
    best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else -1
    if best < 0 or scores[best] < _MIN_CORRELATION or best in (0, len(lags) - 1):
        got = "none" if best < 0 else f"{scores[best]:.2f} at {lags[best] * _GRID_S:.2f} s"
        raise TruthError(
            f"time offset: expected speeds that correlate by {_MIN_CORRELATION} or more within {OFFSET_LIMIT_S:g} s, "
            f"got {got}; give --truth-offset in seconds"
        )
    a, b, c = scores[best - 1 : best + 2]
    shift = 0.5 * (a - c) / (a - 2 * b + c) if np.isfinite(a + c) and a - 2 * b + c < 0 else 0.0
    return float((lags[best] + shift) * _GRID_S), float(scores[best])


def _speed_on(grid_ns: np.ndarray, stamps_ns: np.ndarray, joints: Joints) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean speed of the joints on a grid, smoothed over 50 ms, and where it is known."""
    seconds = np.diff(stamps_ns) / 1e9
    distance = gathered(_mean_distance(joints[rows]) for rows in slices(len(joints), 1))
    known = np.isfinite(distance) & (seconds <= MAX_GAP_S * 3)
    speed = distance / seconds
    middle = (stamps_ns[1:] + stamps_ns[:-1]) / 2.0
    if not known.any():
        return np.zeros(len(grid_ns)), np.zeros(len(grid_ns), bool)
    there = (grid_ns >= middle[known][0]) & (grid_ns <= middle[known][-1])
    values = np.interp(grid_ns, middle[known], speed[known])
    width = max(1, round(0.05 / _GRID_S))
    return np.convolve(values, np.ones(width) / width, "same"), there


def _mean_distance(joints: np.ndarray) -> np.ndarray:
    """Return how far the joints (T, J, 3) move from each frame to the next (T - 1,), NaN where no joint is known."""
    distance = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    known = np.isfinite(distance)
    return np.where(known.any(-1), np.where(known, distance, 0.0).sum(-1) / np.maximum(known.sum(-1), 1), np.nan)


def _correlation(truth: np.ndarray, known: np.ndarray, own: np.ndarray, own_known: np.ndarray, lag: int) -> float:
    """Return the correlation of own(t) with truth(t + lag); NaN where they overlap too little."""
    a = slice(max(lag, 0), len(truth) + min(lag, 0))
    b = slice(max(-lag, 0), len(own) + min(-lag, 0))
    both = known[a] & own_known[b]
    if both.sum() < _MIN_OVERLAP_S / _GRID_S:
        return np.nan
    x, y = truth[a][both] - truth[a][both].mean(), own[b][both] - own[b][both].mean()
    norm = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / norm) if norm > 0 else np.nan


def match_names(names: Sequence[str], source: str, wanted: str = "") -> tuple[Skeleton, list[int]]:
    """Return the skeleton (the one `wanted`, else the best fit) and for each of its joints its place in names, or -1.

    Case, separators, prefixes up to a slash or of all names, and common other names are understood. TruthError where none
    fits, AmbiguousNames where several mean one of its joints.
    """
    plain = _canonical(names)
    bodies = [skeleton(wanted)] if wanted else list(SKELETONS.values())
    body = max(bodies, key=lambda b: (sum(joint in plain for joint in b.joints), -b.size))
    rows = [plain.index(joint) if joint in plain else -1 for joint in body.joints]
    if sum(row >= 0 for row in rows) < 3:
        raise TruthError(
            f"{source}: expected at least 3 joints named as in {body.name} ({', '.join(body.joints)}), got "
            f"{', '.join(list(names)[:20]) or 'none'}"
        )
    twice = [joint for joint in body.joints if plain.count(joint) > 1]
    if twice:
        theirs = {joint: ", ".join(name for name, own in zip(names, plain) if own == joint) for joint in twice}
        got = "; ".join(f"{joint} from {same}" for joint, same in theirs.items())
        raise AmbiguousNames(f"{source}: expected one name for each joint of {body.name}, got {got}")
    return body, rows


def select(values: np.ndarray, rows: list[int]) -> np.ndarray:
    """Return columns of (T, N, ...) by place, NaN where the place is -1."""
    picked = values[:, [max(row, 0) for row in rows]].astype(np.float32)
    picked[:, [row < 0 for row in rows]] = np.nan
    return picked


def _canonical(names: Sequence[str]) -> list[str]:
    """Return the names of a body's joints in our spelling, where some mean what those beside them leave over.

    A foot beside a toe is the ankle, a shoulder beside an arm the collar, a bare spine the one before the numbered.
    """
    parts = [_side_and_stem(words) for words in _own_words(names)]
    there = {side: {stem for other, stem in parts if other == side} for side, _ in parts}
    return [f"{side}_{_joint(stem, there[side])}" if side else _joint(stem, there[side]) for side, stem in parts]


def _joint(stem: str, beside: set[str]) -> str:
    """Return what a joint is called here, by its name and those of its side of the body."""
    if stem == "foot" and beside & _TOES and "ankle" not in beside:
        return "ankle"
    if stem == "shoulder" and beside & _ARMS and not beside & _COLLARS:
        return "collar"
    if (stem == "hand" and "wrist" in beside) or (stem == "root" and beside & {"pelvis", "hips"}):
        return stem
    spine = re.fullmatch(r"spine(\d*)", stem)
    if spine and "spine" in beside and beside & {"spine1", "spine2"}:
        return f"spine{int(spine[1] or 0) + 1}"
    return _ALIASES.get(stem, stem)


def _own_words(names: Sequence[str]) -> list[list[str]]:
    """Return each name's words without what all names begin with, as mixamorig or bip01: 'left', 'fore', 'arm'."""
    spaced = [re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition("/")[2]) for name in names]
    split = [[word for word in re.split(r"[\s_.\-:]+", text.lower()) if word] for text in spaced]
    sides = {word for _, spellings in _SIDES for word in spellings}
    while split and min(map(len, split)) > 1 and len({words[0] for words in split}) == 1 and split[0][0] not in sides:
        split = [words[1:] for words in split]
    return split


def _side_and_stem(words: list[str]) -> tuple[str, str]:
    """Return 'left', 'right' or '' and the rest: left, fore, arm and l, forearm are both 'left' and 'forearm'."""
    side = next((s for s, spellings in _SIDES if words and any(w in spellings for w in (words[0], words[-1]))), "")
    spellings = dict(_SIDES).get(side, ())
    stem = "".join(word for word in words if word not in spellings)
    return side, {"foottwist": "foot_twist"}.get(stem, stem)


def load(path: Path, frame: str = "", wanted: str = "") -> Truth:
    """Read ground truth from .csv, .json or .npz; `frame` overrides that of the file.

    CSV: a column of stamps (stamp_ns, or time/timestamp/t in seconds) and three a joint (NAME_x, NAME_y, NAME_z, or
    with a dot). JSON: {"frames": [{"stamp_ns", "joints_m"}], "joint_names"}, as `egopose infer` writes. NPZ: stamps_ns,
    joints (T, J, 3), joint_names or skeleton, and optionally frame, visible (T, J) or (T, V, J). Metres.
    """
    kinds = {
        ".csv": (_read_csv, "a header with stamp_ns or time and NAME_x, NAME_y, NAME_z, and a row of numbers a frame"),
        ".json": (_read_json, '{"frames": [{"stamp_ns", "joints_m"}, ...], "joint_names": [...]}'),
        ".npz": (_read_npz, "arrays stamps_ns (T,), joints (T, J, 3), and joint_names (J,) or skeleton"),
    }
    if path.suffix.lower() not in kinds:
        raise TruthError(f"{path}: expected {', '.join(kinds)} or a topic of the bag, got '{path.suffix}'")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of ground truth, got nothing there")
    read, expected = kinds[path.suffix.lower()]
    try:
        truth = read(path, wanted)
    except TruthError:
        raise
    except _UNREADABLE as error:
        raise TruthError(f"{path}: expected {expected}, got {_line(error)}") from error
    return replace(truth, frame=frame) if frame else truth


def read_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz, or those of some names that it has; TruthError for a file that is none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive if not names or name in names}
    except _UNREADABLE as error:
        expected = ", ".join(names) or "stamps_ns, joints, and joint_names or skeleton"
        raise TruthError(f"{path}: expected arrays {expected} in an .npz, got {_line(error)}") from error


def _line(error: Exception) -> str:
    """Return an error in one line of 200 letters at most."""
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _read_csv(path: Path, wanted: str) -> Truth:
    with path.open(newline="") as stream:
        rows = [row for row in csv.reader(stream) if row]
    if len(rows) < 2:
        raise TruthError(f"{path}: expected a header and a row a frame, got {len(rows)} rows")
    head = [cell.strip() for cell in rows[0]]
    lower = [cell.lower() for cell in head]
    clock = next((c for c in ("stamp_ns", "timestamp_ns", "time", "timestamp", "stamp", "t") if c in lower), None)
    if clock is None:
        raise TruthError(f"{path}: expected a column stamp_ns or time, got {', '.join(head[:10])}")
    axes: dict[str, dict[str, int]] = {}
    for column, cell in enumerate(head):
        found = re.fullmatch(r"(.+)[_. ]([xyzXYZ])", cell)
        if found:
            axes.setdefault(found[1], {})[found[2].lower()] = column
    names = [name for name, columns in axes.items() if set(columns) == {"x", "y", "z"}]
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            raise TruthError(f"{path}: line {number}: expected {len(head)} cells, got {len(row)}")
    cells = [[cell.strip() for cell in row] for row in rows[1:]]
    try:
        places = [axes[name][axis] for name in names for axis in "xyz"]
        values = np.array([[float(row[place] or "nan") for place in places] for row in cells])
        stamps = [row[lower.index(clock)] for row in cells]
        # Nanoseconds do not fit a float.
        stamps_ns = [int(s) if clock.endswith("_ns") else round(Decimal(s) * 10**9) for s in stamps]
    except (ValueError, OverflowError, InvalidOperation) as error:
        raise TruthError(f"{path}: expected numbers, got {_line(error)}") from None
    return _named(str(path), np.array(stamps_ns, np.int64), values.reshape(len(cells), len(names), 3), names, "camera", wanted)


def _read_json(path: Path, wanted: str) -> Truth:
    content = json.loads(path.read_text())
    frames = [frame for frame in content["frames"] if frame.get("joints_m") is not None]
    joints = np.array([frame["joints_m"] for frame in frames], np.float64).reshape(len(frames), -1, 3)
    stamps_ns = np.array([frame["stamp_ns"] for frame in frames], np.int64)
    if joints.shape[1] != len(content["joint_names"]):
        raise TruthError(f"{path}: expected {len(content['joint_names'])} joints for its names, got {joints.shape[1]}")
    return _named(str(path), stamps_ns, joints, content["joint_names"], content.get("frame", "camera"), wanted)


def _read_npz(path: Path, wanted: str) -> Truth:
    content = read_arrays(path)
    names = list(skeleton(str(content["skeleton"])).joints) if "skeleton" in content else content["joint_names"].tolist()
    joints = content["joints"]
    if joints.shape != (len(content["stamps_ns"]), len(names), 3):
        raise TruthError(
            f"{path}: expected joints ({len(content['stamps_ns'])}, {len(names)}, 3) for its stamps and names, "
            f"got {joints.shape}"
        )
    visible = content.get("visible")
    if visible is not None and visible.ndim == 3:
        visible = visible.max(1)
    frame = str(content.get("frame", "camera"))
    return _named(str(path), content["stamps_ns"].astype(np.int64), joints, names, frame, wanted, visible)


def _named(
    source: str,
    stamps_ns: np.ndarray,
    values: np.ndarray,
    names: Sequence[str],
    frame: str,
    wanted: str,
    visible: np.ndarray | None = None,
) -> Truth:
    body, rows = match_names(names, source, wanted)
    seen = None
    if visible is not None:
        seen = np.where(np.array(rows) < 0, 0, visible[:, [max(row, 0) for row in rows]]).astype(np.uint8)
    return Truth(source, stamps_ns, select(values, rows), body.name, frame, seen)
