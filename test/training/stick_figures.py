"""Clips that cost nothing to make."""

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.networks.body import BodyHead
from egopose_ros.skeleton import SMPL22
from egopose_ros.training import cache


def draw_clip(seed: int, frames: int = 6, views: int = 1) -> cache.CachedClip:
    """Draw a wearer whose limbs swing, below cameras that look down."""
    rng = np.random.default_rng(seed)
    head = BodyHead(32)
    start = head.initial().double()
    base = Rotation.from_matrix([[0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    swing = rng.normal(0, 0.3, (SMPL22.size, 3)) * np.sin(np.arange(frames) / 3 + rng.uniform(0, 6))[:, None, None]
    rotations = (base * Rotation.from_rotvec(swing.reshape(-1, 3))).as_matrix().reshape(frames, SMPL22.size, 3, 3)
    parameters = start.repeat(frames, 1)
    parameters[:, 3 : 3 + 6 * SMPL22.size] = torch.from_numpy(rotations[..., :2]).transpose(-1, -2).flatten(1)
    joints = head.double().joints(parameters)[0]
    extrinsics = np.stack([np.eye(4)] * views)
    extrinsics[:, 0, 3] = 0.1 * np.arange(views)
    pixels, valid = CANONICAL.project(joints[:, None] - torch.from_numpy(extrinsics[:, None, :3, 3]))
    images = np.full((frames, views, 256, 256, 3), rng.integers(0, 90, 3), np.uint8)
    for frame in range(frames):
        for view in range(views):
            for child, parent in enumerate(SMPL22.parents):
                if parent >= 0 and valid[frame, view, child] and valid[frame, view, parent]:
                    ends = [tuple(int(v) for v in pixels[frame, view, j].round()) for j in (parent, child)]
                    colour = (40 + 9 * child, 250 - 9 * child, 160 if "left" in SMPL22.joints[child] else 60)
                    cv2.line(images[frame, view], *ends, colour, 5)
    jpeg, ends = cache.compress(images)
    return cache.CachedClip(
        jpeg, ends, np.arange(frames) * 33_333_333 + 10**18, joints.float().numpy(), rotations.astype(np.float32),
        pixels.float().numpy(), valid.to(torch.uint8).numpy() * 2, extrinsics, np.stack([np.eye(4)] * frames),
    )  # fmt: skip
