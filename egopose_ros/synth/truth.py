"""What is exactly known of a rendered frame: visibility, limb heatmaps, inertial sensors."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from egopose_ros.skeleton import SMPL22, Skeleton
from egopose_ros.structs import Visibility

GRAVITY = 9.81
IMU_PLACES = ("head", "left_wrist", "right_wrist", "left_knee", "right_knee")
"""smpl22 segments that carry a sensor; a segment named by the knee is the lower leg"""

_BEHIND_M = 0.25
"""A surface of an adjacent part that lies farther before a joint than this is another stretch of the limb."""


class ImuTrack(NamedTuple):
    """Readings of body-worn inertial sensors, each in its own segment's axes (those of the T-pose, turned along)."""

    places: tuple[str, ...]
    """S names of segments"""
    angular_velocity: np.ndarray
    """(T, S, 3) float32 [rad/s]"""
    specific_force: np.ndarray
    """(T, S, 3) float32 [m/s^2], +9.81 upwards at rest"""
    R_world_sensor: np.ndarray
    """(T, S, 3, 3) float32, orientation as such a sensor reports it: slow drift in heading"""


@lru_cache(maxsize=4)
def adjacency(device: str = "cpu") -> Tensor:
    """Return (22, 23) bool: which parts touch a joint; the last column answers for pixels without a part.

    A joint lies between its own segment and its parent's; the trunk's joints are so close that their neighbours count.
    """
    touch = torch.zeros(SMPL22.size, SMPL22.size + 1, dtype=torch.bool)
    for joint, parent in enumerate(SMPL22.parents):
        touch[joint, joint] = True
        if parent >= 0:
            touch[joint, parent] = True
    for child, parent in enumerate(SMPL22.parents):
        if parent >= 0:
            touch[parent, child] = True
    trunk = [SMPL22.index(name) for name in ("pelvis", "spine1", "spine2", "spine3", "left_hip", "right_hip")]
    for joint in trunk[:4]:
        touch[joint, trunk] = True
    for side in ("left", "right"):
        touch[SMPL22.index(f"{side}_shoulder"), SMPL22.index("spine3")] = True
        touch[SMPL22.index(f"{side}_hip"), SMPL22.index("spine1")] = True
        touch[SMPL22.index("neck"), SMPL22.index(f"{side}_collar")] = True
    return touch.to(device)


def joint_visibility(
    joints_camera: Tensor, joints_px: Tensor, seen: Tensor, size: tuple[int, int], part: Tensor, depth: Tensor
) -> Tensor:
    """Return (N, 22) uint8 values of `Visibility` from the pictures' parts and depths (N, P).

    A joint is inside its limb: it is visible where the surface at its pixel is of an adjacent part, and not far before
    the joint.
    """
    width, height = size
    pixel = joints_px.round().long()
    on_picture = (pixel[..., 0] >= 0) & (pixel[..., 0] < width) & (pixel[..., 1] >= 0) & (pixel[..., 1] < height)
    index = pixel[..., 1].clamp(0, height - 1) * width + pixel[..., 0].clamp(0, width - 1)
    in_view = on_picture & seen[index]
    found = part.gather(1, index).long()
    found = torch.where(found < 0, SMPL22.size, found)
    touch = adjacency(str(part.device))[torch.arange(SMPL22.size, device=part.device)[None], found]
    near = joints_camera.norm(dim=-1) - depth.gather(1, index) < _BEHIND_M
    value = torch.where(touch & near, int(Visibility.VISIBLE), int(Visibility.OCCLUDED))
    return torch.where(in_view, value, int(Visibility.OUT_OF_VIEW)).to(torch.uint8)


def limb_heatmaps(
    joints_px: Tensor, joints_camera: Tensor, skeleton: Skeleton, size: tuple[int, int], resolution: int = 64
) -> Tensor:
    """Return (..., L, 2, R, R): limbs as lines, times cos and sin of their slant (EgoTAP's limb heatmaps).

    joints_px (..., J, 2) in a picture of `size`, joints_camera (..., J, 3) [m]. Each parent-to-child line is drawn with
    a Gaussian profile of one heatmap pixel, times two, cut at one; the slant is atan(dz / |dxy|) of the limb in 3D.
    """
    bones = torch.tensor(skeleton.bones, device=joints_px.device)
    scale = torch.tensor([resolution / size[0], resolution / size[1]], device=joints_px.device)
    points = (joints_px + 0.5) * scale - 0.5
    start, end = points[..., bones[:, 0], :], points[..., bones[:, 1], :]
    axis = torch.arange(resolution, device=joints_px.device, dtype=points.dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x, y], -1).reshape(-1, 2)
    line = (end - start)[..., None, :]
    offset = grid - start[..., None, :]
    along = ((offset * line).sum(-1) / line.square().sum(-1).clamp(min=1e-6)).clamp(0, 1)
    distance = (offset - along[..., None] * line).square().sum(-1)
    drawn = (2.0 * torch.exp(-0.5 * distance)).clamp(max=1.0).unflatten(-1, (resolution, resolution))
    limb = joints_camera[..., bones[:, 1], :] - joints_camera[..., bones[:, 0], :]
    slant = torch.atan(limb[..., 2] / limb[..., :2].norm(dim=-1).clamp(min=1e-6))
    return torch.stack([slant.cos()[..., None, None] * drawn, slant.sin()[..., None, None] * drawn], -3)


def joint_heatmaps(joints_px: Tensor, size: tuple[int, int], resolution: int = 64, sigma: float = 2.0) -> Tensor:
    """Return Gaussians (..., J, R, R) of `sigma` heatmap pixels at joints (..., J, 2) of a picture of `size`."""
    scale = torch.tensor([resolution / size[0], resolution / size[1]], device=joints_px.device)
    points = (joints_px + 0.5) * scale - 0.5
    axis = torch.arange(resolution, device=joints_px.device, dtype=points.dtype)
    x = torch.exp(-0.5 * ((axis - points[..., :1]) / sigma) ** 2)
    y = torch.exp(-0.5 * ((axis - points[..., 1:]) / sigma) ** 2)
    return y[..., :, None] * x[..., None, :]


def inertial_sensors(
    R_world_sensor: np.ndarray, places_world: np.ndarray, fps: float, generator: np.random.Generator
) -> ImuTrack:
    """Return what sensors with orientations (T, S, 3, 3) at places (T, S, 3) read.

    Noise as of consumer sensors: gyroscope 0.3 deg/s with a bias of up to 1 deg/s, accelerometer 0.05 m/s^2 with a bias
    of up to 0.1 m/s^2, biases that wander, and a heading that drifts by about a degree in ten seconds.
    """
    frames, sensors = places_world.shape[:2]
    acceleration = np.zeros_like(places_world)
    rate = np.zeros_like(places_world)
    if frames > 2:
        acceleration = np.gradient(np.gradient(places_world, axis=0), axis=0) * fps**2
        ahead = np.concatenate([R_world_sensor[1:], R_world_sensor[-1:]])
        behind = np.concatenate([R_world_sensor[:1], R_world_sensor[:-1]])
        span = np.full((frames, 1, 1), 2.0)
        span[[0, -1]] = 1.0
        rate = _rotation_vector(np.swapaxes(behind, -1, -2) @ ahead) * fps / span
        # From the axes of the frame before to the sensor's own.
        rate = np.einsum("tsji,tsjk,tsk->tsi", R_world_sensor, behind, rate)
    force = acceleration + np.array([0.0, 0.0, GRAVITY])
    force = np.einsum("tsji,tsj->tsi", R_world_sensor, force)
    rate = rate + _bias(generator, frames, sensors, math.radians(1.0), fps)
    rate = rate + math.radians(0.3) * generator.standard_normal(rate.shape)
    force = force + _bias(generator, frames, sensors, 0.1, fps) + 0.05 * generator.standard_normal(force.shape)
    drift = np.cumsum(generator.standard_normal((frames, sensors)), axis=0) * math.radians(1.0) / math.sqrt(10 * fps)
    c, s, o, one = np.cos(drift), np.sin(drift), np.zeros_like(drift), np.ones_like(drift)
    heading = np.stack([c, -s, o, s, c, o, o, o, one], -1).reshape(frames, sensors, 3, 3)
    return ImuTrack(
        IMU_PLACES, rate.astype(np.float32), force.astype(np.float32), (heading @ R_world_sensor).astype(np.float32)
    )


def _bias(generator: np.random.Generator, frames: int, sensors: int, size: float, fps: float) -> np.ndarray:
    start = generator.uniform(-size, size, (1, sensors, 3))
    walk = np.cumsum(generator.standard_normal((frames, sensors, 3)), axis=0)
    return start + walk * size / math.sqrt(600.0 * fps)


def _rotation_vector(R: np.ndarray) -> np.ndarray:
    """Return the rotation vectors (..., 3) of rotations (..., 3, 3) below half a turn."""
    axis = np.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1)
    sine = 0.5 * np.linalg.norm(axis, axis=-1, keepdims=True)
    cosine = 0.5 * (np.trace(R, axis1=-2, axis2=-1)[..., None] - 1.0)
    angle = np.arctan2(sine, cosine)
    return np.where(sine > 1e-9, axis * (0.5 * angle / np.maximum(sine, 1e-9)), 0.5 * axis)
