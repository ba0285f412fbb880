"""Joints drawn on the cameras' images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Sequence

import cv2
import numpy as np

from egopose_ros.geometry import rigid
from egopose_ros.skeleton import skeleton
from egopose_ros.structs import BodyPose
from egopose_ros.viewer.shapes import TRUTH, side_colours

Projection = Callable[[np.ndarray], "tuple[np.ndarray, np.ndarray]"]

DOWNWARD = rigid.transform(
    np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]), np.array([0.12, 0.0, 0.12])
)
"""T_head_camera of a camera before the forehead that looks down: stands in until the rig is known."""
TILE_PX = 480
"""Height of a drawn image; what is smaller is enlarged, so that lines keep their width on the page."""
SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class View:
    """A camera of the rig as the viewer knows it."""

    name: str
    T_head_camera: np.ndarray
    """(4, 4)"""
    project: Projection | None = None
    """points (N, 3) in this camera's optical frame [m] to pixels (N, 2) and whether they are in view (N,)"""


@dataclass(frozen=True)
class Shot:
    """What to draw."""

    pose: BodyPose
    truth: BodyPose | None = None
    images: Callable[[], Sequence[np.ndarray]] | None = None
    """gives the images behind the pose, one a view; called in one thread of the page, and only when they are drawn"""
    path: np.ndarray | None = None
    """(N, 3) where the camera has been in the global frame, oldest first; None: it is gathered from pose to pose"""


def draw(images: Sequence[np.ndarray], views: Sequence[View], pose: BodyPose, truth: BodyPose | None) -> np.ndarray:
    """Return the images (H, W) or (H, W, 3), one a view, side by side with the joints on them, RGB uint8."""
    tiles = []
    for image, view in zip(images, views):
        scale = TILE_PX / image.shape[0]
        filtering = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        tile = cv2.resize(image, None, fx=scale, fy=scale, interpolation=filtering)
        tile = np.repeat(tile[..., None], 3, -1) if tile.ndim == 2 else tile.copy()
        if view.project is not None:
            T_view_first = rigid.invert(view.T_head_camera) @ views[0].T_head_camera
            if truth is not None:
                _draw_body(tile, scale, view, T_view_first, truth, TRUTH)
            _draw_body(tile, scale, view, T_view_first, pose, None)
        tiles.append(tile)
    return np.concatenate(tiles, 1)


def _draw_body(
    tile: np.ndarray,
    scale: float,
    view: View,
    T_view_first: np.ndarray,
    pose: BodyPose,
    colour: tuple[int, int, int] | None,
) -> None:
    """Draw bones and joints by side, or thin and in one colour; what is out of view is left out."""
    body = skeleton(pose.skeleton)
    joints = rigid.apply(T_view_first, pose.joints_camera)
    pixels, valid = view.project(np.nan_to_num(joints))
    valid = valid & np.isfinite(joints).all(-1) & np.isfinite(pixels).all(-1)
    height, width = tile.shape[:2]
    # Pixel centres are at integers on both grids.
    pixels = (np.where(valid[:, None], pixels, 0.0) + 0.5) * scale - 0.5
    valid &= ((pixels > (-width, -height)) & (pixels < (2 * width, 2 * height))).all(-1)
    points = np.round(np.where(valid[:, None], pixels, 0.0) * (1 << SUBPIXEL_BITS)).astype(int)
    colours = side_colours(body.joints) if colour is None else np.tile(np.array(colour, np.uint8), (body.size, 1))
    bones = [(parent, child) for parent, child in body.bones if valid[parent] and valid[child]]
    strokes = [(2, None)] if colour else [(5, (16, 18, 24)), (3, None)]  # a dark rim makes the body stand out
    for thickness, rim in strokes:
        for parent, child in bones:
            stroke = rim or colours[child].tolist()
            cv2.line(tile, points[parent], points[child], stroke, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    for joint in np.flatnonzero(valid) if colour is None else ():
        for radius, fill in ((6, (16, 18, 24)), (4, colours[joint].tolist())):
            cv2.circle(tile, points[joint], radius << SUBPIXEL_BITS, fill, -1, cv2.LINE_AA, SUBPIXEL_BITS)
