"""Every skeleton of the field: names, parents, mirrors, and the maps between them. The only home of joint numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """Joint names and topology."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    """index of each joint's parent, -1 for a root"""

    @property
    def size(self) -> int:
        return len(self.joints)

    @property
    def mirror(self) -> tuple[int, ...]:
        """Index of each joint's left-right counterpart, its own on the midline."""
        return tuple(self.joints.index(_swap_side(joint)) for joint in self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) of every bone."""
        return tuple((parent, child) for child, parent in enumerate(self.parents) if parent >= 0)

    def index(self, joint: str) -> int:
        """Return the number of a joint; ValueError names the joints there are."""
        if joint not in self.joints:
            raise ValueError(f"skeleton {self.name} has no joint '{joint}'; it has {', '.join(self.joints)}")
        return self.joints.index(joint)


def _swap_side(joint: str) -> str:
    if joint.startswith("left_"):
        return "right_" + joint[len("left_") :]
    if joint.startswith("right_"):
        return "left_" + joint[len("right_") :]
    return joint


def _tree(name: str, *rows: str) -> Skeleton:
    """Build a skeleton from 'joint parent' rows; 'joint -' is a root."""
    pairs = [row.split() for row in rows]
    joints = tuple(joint for joint, _ in pairs)
    parents = tuple(-1 if parent == "-" else joints.index(parent) for _, parent in pairs)
    return Skeleton(name, joints, parents)


def _sided(*rows: str, order: tuple[str, ...] = ("left", "right")) -> tuple[str, ...]:
    """Write rows once a side: '*' becomes 'left_' in all of them, then 'right_'."""
    return tuple(row.replace("*", side + "_") for side in order for row in rows)


SMPL22 = _tree(
    "smpl22",
    "pelvis -",
    "left_hip pelvis",
    "right_hip pelvis",
    "spine1 pelvis",
    "left_knee left_hip",
    "right_knee right_hip",
    "spine2 spine1",
    "left_ankle left_knee",
    "right_ankle right_knee",
    "spine3 spine2",
    "left_foot left_ankle",
    "right_foot right_ankle",
    "neck spine3",
    "left_collar spine3",
    "right_collar spine3",
    "head neck",
    "left_shoulder left_collar",
    "right_shoulder right_collar",
    "left_elbow left_shoulder",
    "right_elbow right_shoulder",
    "left_wrist left_elbow",
    "right_wrist right_elbow",
)
"""The skeleton of the project's own networks; 'foot' is the ball of the foot (toe base)."""

MPI15 = _tree(
    "mpi15",
    "neck -",
    "right_shoulder neck",
    "right_elbow right_shoulder",
    "right_wrist right_elbow",
    "left_shoulder neck",
    "left_elbow left_shoulder",
    "left_wrist left_elbow",
    "right_hip right_shoulder",
    "right_knee right_hip",
    "right_ankle right_knee",
    "right_foot right_ankle",
    "left_hip left_shoulder",
    "left_knee left_hip",
    "left_ankle left_knee",
    "left_foot left_ankle",
)

MPI15_MEAN = np.array(
    [
        [0.00612, 0.23391, 0.17625],
        [0.14598, 0.23261, 0.22073],
        [0.25872, 0.18818, 0.40440],
        [0.28128, 0.07279, 0.48838],
        [-0.13059, 0.23917, 0.23202],
        [-0.21764, 0.20369, 0.43615],
        [-0.23448, 0.09106, 0.52922],
        [0.12257, 0.23996, 0.67505],
        [0.15799, 0.13301, 1.01918],
        [0.17210, 0.17620, 1.33195],
        [0.21533, 0.03742, 1.39175],
        [-0.05216, 0.24305, 0.68368],
        [-0.05910, 0.14938, 1.03758],
        [-0.03619, 0.18044, 1.35301],
        [-0.08010, 0.04480, 1.40787],
    ]
)
"""(15, 3) [m], optical frame: the mean skeleton of the MPI data sets, for bone-length alignment."""

_UNREALEGO = (
    "head -",
    "neck head",
    "left_shoulder neck",
    "right_shoulder neck",
    "left_elbow left_shoulder",
    "right_elbow right_shoulder",
    "left_wrist left_elbow",
    "right_wrist right_elbow",
    "left_hip left_shoulder",
    "right_hip right_shoulder",
    "left_knee left_hip",
    "right_knee right_hip",
    "left_ankle left_knee",
    "right_ankle right_knee",
    "left_foot left_ankle",
    "right_foot right_ankle",
)
UNREALEGO16 = _tree("unrealego16", *_UNREALEGO)
"""upperarm, lowerarm, hand, thigh, calf, foot, ball are shoulder, elbow, wrist, hip, knee, ankle, foot here."""

UNREALEGO2_16 = _tree(
    "unrealego2_16",
    "head -",
    "neck head",
    *_sided("*shoulder neck", "*elbow *shoulder", "*wrist *elbow"),
    *_sided("*hip *shoulder", "*knee *hip", "*ankle *knee", "*foot *ankle"),
)

EGOCAP18 = _tree(
    "egocap18",
    "camera -",
    "neck camera",
    *_sided("*shoulder neck", "*elbow *shoulder", "*wrist *elbow", "*finger *wrist"),
    *_sided("*hip *shoulder", "*knee *hip", "*ankle *knee", "*foot *ankle"),
)
"""'camera' is the head-mounted camera itself and is not evaluated; 'foot' is the toe."""

EGOBODY3M26 = _tree(
    "egobody3m26",
    "head neck",
    *_sided("*collar spine3", "*shoulder *collar", "*elbow *shoulder", "*wrist *elbow"),
    "neck spine3",
    "pelvis -",
    "spine1 pelvis",
    "spine2 spine1",
    "spine3 spine2",
    *_sided(
        "*hip pelvis",
        "*knee *hip",
        "*foot_twist *knee",
        "*talocrural *foot_twist",
        "*subtalar *talocrural",
        "*transversetarsal *subtalar",
        order=("right", "left"),
    ),
)
"""l_shoulder, l_arm, l_forearm, l_wrist are collar, shoulder, elbow, wrist here; foot_twist equals talocrural."""

SKELETONS = {s.name: s for s in (SMPL22, MPI15, UNREALEGO16, UNREALEGO2_16, EGOCAP18, EGOBODY3M26)}


def skeleton(name: str) -> Skeleton:
    """Return a skeleton by name; ValueError names those there are."""
    if name not in SKELETONS:
        raise ValueError(f"unknown skeleton '{name}'; expected one of {', '.join(SKELETONS)}")
    return SKELETONS[name]


_BETWEEN: dict[str, tuple[tuple[str, float], ...]] = {
    "pelvis": (("left_hip", 0.5), ("right_hip", 0.5)),
    "neck": (("left_shoulder", 0.5), ("right_shoulder", 0.5)),
    "spine1": (("pelvis", 0.75), ("neck", 0.25)),
    "spine2": (("pelvis", 0.5), ("neck", 0.5)),
    "spine3": (("pelvis", 0.25), ("neck", 0.75)),
    "*collar": (("neck", 0.75), ("*shoulder", 0.25)),
    "*ankle": (("*talocrural", 1.0),),
    "*foot": (("*transversetarsal", 1.0),),
    "*foot_twist": (("*ankle", 1.0),),
    "*talocrural": (("*ankle", 1.0),),
    "*subtalar": (("*ankle", 1.0),),
    "*transversetarsal": (("*foot", 1.0),),
}
"""target joint -> weighted joints it is interpolated from where the source skeleton lacks it; '*' is either side.

The foot of EgoBody3M differs in kind: talocrural is the ankle, transversetarsal lies between it and the ball of the
foot, which stands in for it."""


@dataclass(frozen=True)
class SkeletonMap:
    """How the joints of one skeleton follow from another's."""

    weights: np.ndarray
    """(J_target, J_source) float64, rows sum to one, zero rows where a joint cannot be had"""
    interpolated: tuple[str, ...]
    """target joints that no source joint equals by name"""
    missing: tuple[str, ...]
    """target joints that cannot be had"""

    def __call__(self, joints: np.ndarray) -> np.ndarray:
        """Map joints (..., J_source, 3) to (..., J_target, 3), NaN where a joint cannot be had."""
        mapped = np.einsum("ts,...sc->...tc", self.weights, np.nan_to_num(joints))
        unknown = np.isnan(joints).any(-1).astype(np.float64)  # (..., J_source)
        tainted = np.einsum("ts,...s->...t", (self.weights > 0).astype(np.float64), unknown) > 0
        tainted |= self.weights.sum(-1) == 0
        return np.where(tainted[..., None], np.nan, mapped).astype(joints.dtype)


def skeleton_map(source: str, target: str) -> SkeletonMap:
    """Return the map between two skeletons: equal names first, then the interpolations of the table above."""
    origin, goal = skeleton(source), skeleton(target)
    weights = np.zeros((goal.size, origin.size))
    for row, joint in enumerate(goal.joints):
        for name, weight in _resolve(joint, origin, frozenset()).items():
            weights[row, origin.index(name)] += weight
    missing = tuple(joint for joint, row in zip(goal.joints, weights) if not row.any())
    interpolated = tuple(j for j in goal.joints if j not in origin.joints and j not in missing)
    return SkeletonMap(weights, interpolated, missing)


def _resolve(joint: str, origin: Skeleton, pending: frozenset[str]) -> dict[str, float]:
    """Express a joint by weighted joints of the source; empty where that cannot be done."""
    if joint in origin.joints:
        return {joint: 1.0}
    side = next((s for s in ("left_", "right_") if joint.startswith(s)), "")
    rule = _BETWEEN.get("*" + joint[len(side) :] if side else joint, ())
    total: dict[str, float] = {}
    for part, weight in rule:
        name = part.replace("*", side)
        found = {} if name in pending else _resolve(name, origin, pending | {joint})
        if not found:
            return {}
        for source, share in found.items():
            total[source] = total.get(source, 0.0) + weight * share
    return total
