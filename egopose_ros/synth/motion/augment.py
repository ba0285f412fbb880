"""Changes of a motion that keep it a motion: mirror, retime, restyle, resample. Contacts and supports follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from egopose_ros.geometry.rigid import matrix_from_quaternion, quaternion_from_matrix, slerp
from egopose_ros.skeleton import SMPL22
from egopose_ros.synth.motion.body import INDEX, REFERENCE, REFERENCE_LEG, forward_kinematics, rotation_about
from egopose_ros.synth.motion.clip import Motion, Support
from egopose_ros.synth.motion.placement import SIDES, solve_legs

_FLIP = np.array([1.0, -1.0, 1.0], np.float32)


def mirror(motion: Motion) -> Motion:
    """Swap left and right."""
    swap = list(SMPL22.mirror)
    rotations = motion.rotations_world[:, swap] * _FLIP[:, None] * _FLIP
    return replace(
        motion,
        rotations_world=rotations,
        pelvis_world=motion.pelvis_world * _FLIP,
        foot_contact=motion.foot_contact[:, ::-1],
        supports=tuple(_mirrored(support) for support in motion.supports),
    )


def _mirrored(support: Support) -> Support:
    holder = SMPL22.joints[SMPL22.mirror[INDEX[support.holder]]] if support.holder else ""
    return replace(support, centre=support.centre * _FLIP, yaw=-support.yaw, holder=holder)


def resample(motion: Motion, times_s: np.ndarray, fps: float) -> Motion:
    """Return the motion at instants [s] within it, as a motion of `fps`."""
    position = np.clip(np.asarray(times_s, float) * motion.fps, 0.0, motion.frames - 1)
    left = np.minimum(position.astype(int), max(motion.frames - 2, 0))
    right = np.minimum(left + 1, motion.frames - 1)
    u = position - left
    quaternions = quaternion_from_matrix(motion.rotations_world)
    turned = slerp(quaternions[left], quaternions[right], np.repeat(u[:, None], SMPL22.size, 1))
    nearest = np.minimum(np.rint(position).astype(int), motion.frames - 1)
    supports = []
    for support in motion.supports:
        end = motion.frames - 1 if support.last < 0 else support.last
        inside = np.flatnonzero((nearest >= support.first) & (nearest <= end))
        if len(inside):
            supports.append(replace(support, first=int(inside[0]), last=int(inside[-1])))
    pelvis = motion.pelvis_world[left] + (motion.pelvis_world[right] - motion.pelvis_world[left]) * u[:, None]
    return replace(
        motion,
        fps=fps,
        rotations_world=matrix_from_quaternion(turned)[0].astype(np.float32),
        pelvis_world=pelvis.astype(np.float32),
        foot_contact=motion.foot_contact[nearest],
        action=tuple(motion.action[i] for i in nearest),
        supports=tuple(supports),
    )


def retime(motion: Motion, speed: float, fps: float | None = None) -> Motion:
    """Play a motion `speed` times as fast, at `fps` (its own by default)."""
    if not speed > 0:
        raise ValueError(f"speed: expected a positive factor, got {speed}")
    fps = motion.fps if fps is None else fps
    duration = (motion.frames - 1) / motion.fps / speed
    return resample(motion, np.arange(int(np.floor(duration * fps + 1e-6)) + 1) / fps * speed, fps)


def turn(motion: Motion, yaw: float, origin: np.ndarray | None = None) -> Motion:
    """Turn a whole motion, with its furniture, about the vertical through `origin` (3,), then move that to zero."""
    R = rotation_about("z", yaw)
    origin = np.zeros(3) if origin is None else np.asarray(origin, float)
    supports = tuple(
        support if support.holder else replace(support, centre=R @ (support.centre - origin), yaw=support.yaw + yaw)
        for support in motion.supports
    )
    return replace(
        motion,
        rotations_world=(R @ motion.rotations_world).astype(np.float32),
        pelvis_world=((motion.pelvis_world - origin) @ R.T).astype(np.float32),
        supports=supports,
    )


_UPPER = [INDEX[j] for j in ("spine3", "neck", "head")]
_ARMS = [[INDEX[f"{side}_{j}"] for j in ("collar", "shoulder", "elbow", "wrist")] for side in SIDES]


def restyle(
    motion: Motion, *, arm_swing: float = 1.0, trunk_lean: float = 0.0, stance: float = 0.0, crouch: float = 0.0
) -> Motion:
    """Change the style: arm swing about its mean by a factor, forward lean [rad], wider feet and lower pelvis [m].

    Legs are solved again on the reference body; planted feet stay planted.
    """
    rotations = motion.rotations_world.astype(float)
    pelvis = motion.pelvis_world.astype(float)
    if arm_swing != 1.0:
        for collar, *arm in _ARMS:
            for joint in arm[:2]:
                local = np.swapaxes(rotations[:, INDEX["spine3"]], -1, -2) @ rotations[:, joint]
                mean = Rotation.from_matrix(local).mean()
                deviation = (mean.inv() * Rotation.from_matrix(local)).as_rotvec() * arm_swing
                changed = (mean * Rotation.from_rotvec(deviation)).as_matrix()
                turned = rotations[:, INDEX["spine3"]] @ changed @ np.swapaxes(rotations[:, joint], -1, -2)
                for follower in arm[arm.index(joint) :]:
                    rotations[:, follower] = turned @ rotations[:, follower]
    if trunk_lean != 0.0:
        side = rotations[:, 0, :, 1]
        shares = {"spine1": 0.35, "spine2": 0.7}
        upper = _UPPER[:1] + [joint for arm in _ARMS for joint in arm]
        shares_by_joint = {INDEX[k]: v for k, v in shares.items()} | {j: 1.0 for j in upper} | {_UPPER[1]: 0.6}
        for joint, share in shares_by_joint.items():  # the head stays level, the neck half follows
            R = Rotation.from_rotvec(side * trunk_lean * share).as_matrix()
            rotations[:, joint] = R @ rotations[:, joint]
    if stance != 0.0 or crouch != 0.0:
        rest = REFERENCE * (motion.leg_length / REFERENCE_LEG)
        joints = forward_kinematics(rotations, pelvis, rest)
        left = rotations[:, 0, :, 1] * [1.0, 1.0, 0.0]
        left /= np.maximum(np.linalg.norm(left, axis=-1, keepdims=True), 1e-6)
        ankles = np.stack(
            [joints[:, INDEX[f"{side}_ankle"]] + sign * stance * left for side, sign in zip(SIDES, (1.0, -1.0))], 1
        )
        pelvis[:, 2] -= crouch
        rotations = solve_legs(rotations, pelvis, ankles, rest)
    return replace(motion, rotations_world=rotations.astype(np.float32), pelvis_world=pelvis.astype(np.float32))
