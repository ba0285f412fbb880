"""The evaluation protocol of each data set, by its name: which joints, relative to what, aligned how.

Numbers are comparable with published ones only under the protocol they were published with; see `docs/evaluation.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np

from egopose_ros.evaluation import metrics
from egopose_ros.evaluation.motion import Joints, ground_penetration, jitter, measurable, mpjve
from egopose_ros.evaluation.rows import Derived, mean, slices
from egopose_ros.skeleton import skeleton

_ARMS = ("collar", "shoulder", "elbow", "wrist", "finger")
_FEET = ("ankle", "foot", "talocrural", "subtalar", "transversetarsal", "foot_twist")
_LEGS = ("hip", "knee", *_FEET)


@dataclass(frozen=True)
class Protocol:
    """What a data set's numbers mean."""

    name: str
    skeleton: str
    ignored: tuple[str, ...] = ()
    """joints that are not evaluated"""
    root: tuple[str, ...] = ()
    """joints whose mean both poses are moved to before MPJPE; none: absolute positions"""
    absolute: bool = True
    """whether MPJPE without alignment is defined"""
    bone_alignment: bool = False
    """whether BA-MPJPE is defined (only for the 15 joints of the MPI family)"""
    motion: bool = False
    """whether velocity error, jitter and ground penetration are reported; joints are in a global frame, z up"""
    regions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(name, joints without their side) of the regions that are reported"""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("unrealego", "unrealego16", root=("left_hip", "right_hip")),
        Protocol("unrealego2", "unrealego2_16", root=("left_hip", "right_hip")),
        Protocol("egocap", "egocap18", ignored=("camera",)),
        Protocol("sceneego", "mpi15", bone_alignment=True),
        Protocol("egopw", "mpi15", absolute=False),
        Protocol(
            "emhi",
            "smpl22",
            motion=True,
            regions=(
                ("upper", ("spine1", "spine2", "spine3", "neck", "head", *_ARMS)),
                ("lower", _LEGS),
                ("foot", ("ankle", "foot")),
                ("hand", ("wrist",)),
            ),
        ),
        Protocol("hmd_poser", "smpl22", motion=True),
        Protocol(
            "egobody3m",
            "egobody3m26",
            regions=(("wrist", ("wrist",)), ("shoulder", ("shoulder",)), ("leg", _LEGS), ("foot", _FEET)),
        ),
        Protocol(
            "egopose",
            "smpl22",
            regions=(("upper", ("neck", "head", *_ARMS)), ("lower", _LEGS), ("hand", ("wrist",)), ("foot", _FEET)),
        ),
    )
}
"""`egopose` is this project's own benchmark: absolute positions in the camera frame, 22 joints, per frame."""


@dataclass(frozen=True)
class Scores:
    """What a protocol reports [m]; None where it does not define a number."""

    protocol: str
    frames: int
    mpjpe: float | None
    pa_mpjpe: float
    ba_mpjpe: float | None
    per_joint: tuple[tuple[str, float], ...]
    regions: tuple[tuple[str, float], ...]
    mpjve: float | None
    """[m/s]"""
    jitter: float | None
    """[m/s^3]"""
    ground: float | None


def score(
    name: str,
    predicted: Joints,
    truth: Joints,
    fps: float | None = None,
    stretches: Sequence[slice] = (slice(None),),
) -> Scores:
    """Evaluate (T, J, 3) poses in metres under a protocol; a NaN joint of the truth is left out.

    Poses are arrays, or what gives one for a slice of its rows, of which never all are asked for at once. Every frame
    counts once. `fps` is needed where the protocol reports motion, which is that within each of the `stretches`, rows
    without a jump in time. ValueError for shapes that do not fit, and for a prediction that is not finite where there is
    truth: left out, it would make the numbers better.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{name}'; expected one of {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    body = skeleton(protocol.skeleton)
    if predicted.shape != truth.shape or predicted.shape[1:] != (body.size, 3):
        raise ValueError(f"{name}: expected (T, {body.size}, 3) twice, got {predicted.shape} and {truth.shape}")
    if protocol.motion and fps is None:
        raise ValueError(f"{name}: expected fps, for it reports motion")
    keep = [row for row, joint in enumerate(body.joints) if joint not in protocol.ignored]
    names = [body.joints[row] for row in keep]
    roots = tuple(names.index(joint) for joint in protocol.root)

    def pair(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        compared = predicted[rows][:, keep], truth[rows][:, keep]
        return metrics.root_aligned(*compared, roots) if roots else compared

    totals, counts = np.zeros(len(names)), np.zeros(len(names), np.int64)
    for rows in slices(len(truth)):
        own, true = pair(rows)
        wrong = np.argwhere(np.isfinite(true).all(-1) & ~np.isfinite(own).all(-1))
        if len(wrong):
            frame, joint = wrong[0]
            raise ValueError(f"{name}: expected finite predictions, got {own[frame, joint].tolist()} of {names[joint]}")
        errors = metrics.joint_errors(own, true)
        totals += np.nansum(errors, 0)
        counts += (~np.isnan(errors)).sum(0)

    def over_frames(metric: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
        return mean(metric(*pair(rows)) for rows in slices(len(truth)))

    def over_joints(rows: Sequence[int]) -> float:
        count = counts[rows].sum()
        return float(totals[rows].sum() / count) if count else float("nan")

    shape = (len(truth), len(names), 3)
    own, true = Derived(shape, lambda rows: pair(rows)[0]), Derived(shape, lambda rows: pair(rows)[1])
    parts = [(own.part(rows), true.part(rows)) for rows in stretches] if protocol.motion else []
    parts = [(p, t) for p, t in parts if measurable(t)]
    weights = [len(t) for _, t in parts]
    bare = [joint.removeprefix("left_").removeprefix("right_") for joint in names]
    members = {region: [row for row, joint in enumerate(bare) if joint in joints] for region, joints in protocol.regions}
    return Scores(
        name,
        len(truth),
        over_frames(metrics.mpjpe) if protocol.absolute else None,
        over_frames(metrics.pa_mpjpe),
        over_frames(metrics.ba_mpjpe) if protocol.bone_alignment else None,
        tuple((joint, over_joints([row])) for row, joint in enumerate(names)) if protocol.absolute else (),
        tuple((region, over_joints(rows)) for region, rows in members.items()),
        _weighted([mpjve(p, t, fps) for p, t in parts], weights),
        _weighted([jitter(p, fps) for p, _ in parts], weights),
        ground_penetration(own) if protocol.motion else None,
    )


def _weighted(values: list[float], weights: list[int]) -> float | None:
    """Average over those that are known; None without any."""
    known = [(value, weight) for value, weight in zip(values, weights) if np.isfinite(value)]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None
