"""Triangles to pixels, exact under every camera model, in plain torch operations.

Only the boxes of candidate pixels come from projected vertices (and are padded); whether a pixel's ray meets a
triangle, and how far away, is decided by the ray itself: d meets (a, b, c), seen from the origin, where d·(b x c),
d·(c x a) and d·(a x b) have one sign, at the distance a·(b x c) / (their sum). So there is no tessellation error and
no trouble with straight edges that a fisheye bends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor

from egopose_ros.camera.models import CameraModel, KannalaBrandt

_PAD_PX = 0.05
_PAD_FRACTION = 0.12
"""An edge bends by less than this fraction of its box for the triangles of a body (the test measures what is lost)."""


@dataclass(frozen=True)
class View:
    """The pixels of a camera as rays, and how to find the pixels near a point."""

    rays: Tensor
    """(H*W, 3) unit rays in the camera frame"""
    seen: Tensor
    """(H*W,) bool, pixels with a ray"""
    size: tuple[int, int]
    """(width, height)"""
    pixels: Callable[[Tensor], Tensor]
    """(..., 3) points in the camera frame -> (..., 2) pixels; anything finite for points out of view"""
    max_angle: float
    """[rad] from the optical axis: no pixel looks farther out"""


@dataclass(frozen=True)
class Hits:
    """The visible pixels of a batch of images, in order of (image, pixel)."""

    pixel: Tensor
    """(M,) int64 index into (N * H * W)"""
    face: Tensor
    """(M,) int64 index into the faces"""
    image: Tensor
    """(M,) int64 index of the image"""
    distance: Tensor
    """(M,) along the unit ray [m]"""
    weights: Tensor
    """(M, 3) barycentric"""

    def interpolate(self, attribute: Tensor, faces: Tensor) -> Tensor:
        """Return attributes at the hits: of vertices of all images (V, C), or of each image (N, V, C)."""
        corners = faces[self.face]  # (M, 3)
        if attribute.ndim == 3:
            corners = corners + (self.image * attribute.shape[1])[:, None]
            attribute = attribute.flatten(0, 1)
        a, b, c = (attribute.index_select(0, corners[:, k]) for k in range(3))
        w = self.weights
        return a * w[:, :1] + b * w[:, 1:2] + c * w[:, 2:]


def rasterise(points: Tensor, faces: Tensor, view: View) -> Hits:
    """Find the nearest front-facing triangle at every pixel of N images.

    points (N, V, 3) in the camera frame [m], faces (F, 3) int64, counter-clockwise from outside.
    """
    images, width, height = len(points), *view.size
    corner = [points.index_select(1, faces[:, k]) for k in range(3)]  # each (N, F, 3)
    a, b, c = corner
    ab = b - a
    normal_b_c = torch.linalg.cross(b, c - b)
    volume = (a * normal_b_c).sum(-1)  # a·(b x c), negative where the outside is seen
    facing = volume < 0

    pixels = view.pixels(points)  # (N, V, 2)
    box = torch.stack([pixels.index_select(1, faces[:, k]) for k in range(3)])  # (3, N, F, 2)
    low, high = box.amin(0), box.amax(0)
    pad = _PAD_PX + _PAD_FRACTION * (high - low).amax(-1, keepdim=True)
    limit = torch.tensor([width, height], device=points.device)
    first = (low - pad).ceil().clamp(min=0)
    count = torch.minimum((high + pad).floor() + 1, limit) - first
    in_view = _within(points, view.max_angle)
    near = torch.stack([in_view.index_select(1, faces[:, k]) for k in range(3)]).any(0)
    keep = (facing & near & (count > 0).all(-1)).flatten().nonzero()[:, 0]

    a, ab, normal_b_c, c = (t.flatten(0, 1).index_select(0, keep) for t in (a, ab, normal_b_c, c))
    volume = volume.flatten()[keep]
    edges = torch.stack([normal_b_c, torch.linalg.cross(c, a - c), torch.linalg.cross(a, ab)], -1)  # (K, 3, 3)
    # Over the volume all three are positive inside, and their sum is 1 / distance.
    edges = (edges / volume[:, None, None]).flatten(1)
    first, count = (t.flatten(0, 1).index_select(0, keep).int() for t in (first, count))
    span, area = count[:, 0], count[:, 0] * count[:, 1]
    owner = torch.repeat_interleave(torch.arange(len(keep), device=points.device, dtype=torch.int32), area)
    start = torch.cumsum(area, 0, dtype=torch.int32) - area
    offset = torch.arange(len(owner), device=points.device, dtype=torch.int32) - start.index_select(0, owner)
    wide = span.index_select(0, owner)
    row = torch.div(offset, wide, rounding_mode="floor")
    corner_pixel = first[:, 1] * width + first[:, 0]
    pixel = corner_pixel.index_select(0, owner) + row * width + (offset - row * wide)

    ray, edge = view.rays.index_select(0, pixel), edges.index_select(0, owner)
    value = ray[:, :1] * edge[:, :3] + ray[:, 1:2] * edge[:, 3:6] + ray[:, 2:] * edge[:, 6:]
    inside = ((value >= 0).all(-1) & view.seen.index_select(0, pixel)).nonzero()[:, 0]
    owner, pixel, value = (t.index_select(0, inside) for t in (owner, pixel, value))
    total = value.sum(-1)
    image = torch.div(keep, len(faces), rounding_mode="floor").index_select(0, owner)
    target = image * (width * height) + pixel
    # Positive floats order like their bits: one integer holds the distance and, below it, which candidate it was.
    key = (1.0 / total).view(torch.int32).long() << 32 | torch.arange(len(owner), device=points.device)
    buffer = torch.full((images * width * height,), torch.iinfo(torch.int64).max, device=points.device)
    buffer.scatter_reduce_(0, target, key, "amin")
    where = (buffer != torch.iinfo(torch.int64).max).nonzero()[:, 0]
    winner = buffer.index_select(0, where) & 0xFFFFFFFF
    total = total.index_select(0, winner)
    weights = value.index_select(0, winner) / total[:, None]
    index = keep.index_select(0, owner.index_select(0, winner))
    return Hits(where, index % len(faces), torch.div(index, len(faces), rounding_mode="floor"), 1.0 / total, weights)


def _within(points: Tensor, angle: float) -> Tensor:
    """Say which points lie within an angle of the optical axis, a little added for their triangles."""
    distance = points.square().sum(-1).sqrt()
    return points[..., 2] > distance * torch.cos(torch.tensor(min(angle + 0.15, torch.pi)))


def view_of_camera(model: CameraModel, device: torch.device | str = "cpu") -> View:
    """Return the view of a camera model of the library."""
    width, height = model.size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rays, seen = model.unproject(torch.stack([x, y], -1).reshape(-1, 2).double())
    rays, seen = torch.nan_to_num(rays).float().to(device), seen.to(device)
    limit = float(torch.acos(rays[seen][:, 2].clamp(-1, 1)).max()) + 1e-3

    def equidistant(points: Tensor) -> Tensor:
        radius = points[..., :2].square().sum(-1).sqrt().clamp_(min=1e-9)
        scale = torch.atan2(radius, points[..., 2]).div_(radius)
        return points[..., :2] * scale[..., None] * focal + centre

    if isinstance(model, KannalaBrandt) and not any(model.k):  # the canonical camera, many times faster like this
        focal, centre = (torch.tensor(pair, device=device) for pair in (model.focal, model.centre))
        return View(rays, seen, (width, height), equidistant, limit)

    def pixels(points: Tensor) -> Tensor:
        # A vertex out of view is pulled to the rim, so that its triangle's box still reaches as far as the picture.
        radius = points[..., :2].square().sum(-1).sqrt().clamp(min=1e-9)
        angle = torch.atan2(radius, points[..., 2]).clamp(max=min(limit, float(model.max_angle)) - 1e-4)
        inside = torch.cat([points[..., :2] * (angle.sin() / radius)[..., None], angle.cos()[..., None]], -1)
        return torch.nan_to_num(model.project(inside)[0], nan=-1e6)

    return View(rays, seen, (width, height), pixels, limit)


def pinhole_view(size: int, half_angle: float, device: torch.device | str = "cpu") -> View:
    """Return a square pinhole view that reaches `half_angle` [rad] from its axis at the middle of its edges."""
    focal, centre = 0.5 * size / float(torch.tan(torch.tensor(half_angle))), 0.5 * (size - 1)
    y, x = torch.meshgrid(torch.arange(size, device=device), torch.arange(size, device=device), indexing="ij")
    rays = torch.stack([(x - centre) / focal, (y - centre) / focal, torch.ones_like(x)], -1).reshape(-1, 3)
    rays = rays / rays.norm(dim=-1, keepdim=True)

    def pixels(points: Tensor) -> Tensor:
        return centre + focal * points[..., :2] / points[..., 2:].clamp(min=1e-3)

    return View(rays, torch.ones_like(rays[:, 0], dtype=torch.bool), (size, size), pixels, half_angle * 1.42)
