"""A body that walks in a circle below a head camera, drawn by hand: what the viewer's tests look at."""

import cv2
import numpy as np

from egopose_ros.geometry import rigid
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import BodyPose
from egopose_ros.viewer.overlay import DOWNWARD, View

SIZE_PX = 320
FOCAL_PX = float(SIZE_PX / np.radians(200.0))

_REST = {  # x forward, y left, z up, from the ground [m]
    "pelvis": (0, 0, 0.95), "spine1": (-0.01, 0, 1.06), "spine2": (0, 0, 1.19), "spine3": (0, 0, 1.25),
    "neck": (-0.02, 0, 1.46), "head": (0, 0, 1.56), "left_hip": (0, 0.09, 0.88), "left_knee": (0.01, 0.1, 0.48),
    "left_ankle": (-0.02, 0.1, 0.08), "left_foot": (0.12, 0.11, 0.03), "left_collar": (0, 0.08, 1.4),
    "left_shoulder": (-0.01, 0.19, 1.41), "left_elbow": (-0.03, 0.24, 1.14), "left_wrist": (0.05, 0.25, 0.9),
}  # fmt: skip


def walking_pose(index: int, noise: float = 0.02) -> BodyPose:
    """Return the pose of frame `index` at 30 Hz; the errors of `noise` [m] are those of its covariance."""
    phase = index / 30.0 * 2 * np.pi * 0.9
    joints = np.array([_rest(joint) for joint in SMPL22.joints], float)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        _swing(joints, f"{side}_hip", (f"{side}_knee", f"{side}_ankle", f"{side}_foot"), sign * 0.45 * np.sin(phase))
        _swing(joints, f"{side}_knee", (f"{side}_ankle", f"{side}_foot"), -0.4 - 0.4 * np.sin(phase + 1.2 * sign))
        _swing(joints, f"{side}_shoulder", (f"{side}_elbow", f"{side}_wrist"), -sign * 0.5 * np.sin(phase))
    heading = index / 30.0 * 0.5
    R = np.array([[np.cos(heading), -np.sin(heading), 0], [np.sin(heading), np.cos(heading), 0], [0, 0, 1]])
    place = np.array([1.8 * np.sin(heading), -1.8 * np.cos(heading), 0.02 * np.sin(2 * phase)])
    T_world_body = rigid.transform(R, place)
    T_body_camera = rigid.transform(np.eye(3), np.array([0.05, 0.0, 1.62])) @ DOWNWARD
    spread = np.full((SMPL22.size, 3), 0.02) + 0.04 * (1.2 - joints[:, 2:]).clip(0) * np.array([1.0, 0.5, 1.5])
    joints_camera = rigid.apply(rigid.invert(T_body_camera), joints)
    joints_camera += noise * np.random.default_rng(index).normal(size=joints.shape)
    return BodyPose(
        stamp_ns=1_000_000_000 + index * 33_333_333,
        skeleton="smpl22",
        joints_camera=joints_camera.astype(np.float32),
        rotations_camera=None,
        covariance_camera=(spread[..., None] ** 2 * np.eye(3)).astype(np.float32),
        confidence=np.full(SMPL22.size, 0.9, np.float32),
        T_world_camera=T_world_body @ T_body_camera,
        window_length=64,
        window_full=True,
    )


def _rest(joint: str) -> np.ndarray:
    """Return where a joint is at rest: the right side mirrors the left."""
    if joint in _REST:
        return np.array(_REST[joint], float)
    return np.array(_REST[joint.replace("right_", "left_")], float) * (1, -1, 1)


def _swing(joints: np.ndarray, pivot: str, moved: tuple[str, ...], angle: float) -> None:
    """Turn joints about the sideways axis through a pivot; positive forwards."""
    centre, rows = joints[SMPL22.index(pivot)].copy(), [SMPL22.index(joint) for joint in moved]
    cosine, sine = np.cos(angle), np.sin(angle)
    R = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    joints[rows] = (joints[rows] - centre) @ R.T + centre


def project(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project (N, 3) by an equidistant fisheye of 200 degrees."""
    radius = np.linalg.norm(points[:, :2], axis=-1)
    angle = np.arctan2(radius, points[:, 2])
    direction = points[:, :2] / np.maximum(radius, 1e-9)[:, None]
    return FOCAL_PX * angle[:, None] * direction + (SIZE_PX - 1) / 2, angle < np.radians(100.0)


VIEW = View("camera", DOWNWARD, project)


def drawn_image(pose: BodyPose) -> np.ndarray:
    """Return an RGB picture (H, W, 3) of a lens circle with thick limbs, as the camera might see them."""
    image = np.full((SIZE_PX, SIZE_PX, 3), (12, 12, 14), np.uint8)
    cv2.circle(image, (SIZE_PX // 2, SIZE_PX // 2), SIZE_PX // 2 - 4, (146, 128, 108), -1, cv2.LINE_AA)
    pixels, valid = project(pose.joints_camera)
    for parent, child in SMPL22.bones:
        if valid[parent] and valid[child]:
            ends = [np.round(pixels[joint]).astype(int).tolist() for joint in (parent, child)]
            cv2.line(image, *ends, (70, 84, 120), 16, cv2.LINE_AA)
    return image
