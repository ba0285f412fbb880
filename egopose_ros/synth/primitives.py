"""Boxes, cylinders and ellipsoids against rays: everything in a room that is not the wearer.

Each is convex, so a ray meets it in one interval; it is found at the near end. Candidates come from tiles of pixels:
a tile's cone of rays against a primitive's bounding sphere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.synth.raster import View

BOX, CYLINDER, ELLIPSOID = 0, 1, 2
_TILE = 8
_NEVER = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Primitives:
    """K primitives in the world over T frames. A cylinder stands along its own z."""

    kind: Tensor
    """(K,) int64"""
    half: Tensor
    """(K, 3) half extents [m]"""
    centre: Tensor
    """(T or 1, K, 3) [m]"""
    R_world_own: Tensor
    """(T or 1, K, 3, 3)"""
    material: Tensor
    """(K,) int64"""
    there: Tensor
    """(T or 1, K) bool"""

    def frames(self, index: Tensor) -> Primitives:
        """Return the primitives at some frames (N,)."""

        def pick(value: Tensor) -> Tensor:
            return value.expand(len(index), *value.shape[1:]) if len(value) == 1 else value[index]

        return Primitives(
            self.kind, self.half, pick(self.centre), pick(self.R_world_own), self.material, pick(self.there)
        )


@dataclass(frozen=True)
class PrimitiveHits:
    """Where rays met primitives."""

    pixel: Tensor
    """(M,) int64 into N * P"""
    distance: Tensor
    """(M,) [m]"""
    primitive: Tensor
    """(M,) int64"""
    point: Tensor
    """(M, 3) in the primitive's own axes [m]"""
    normal: Tensor
    """(M, 3) in the primitive's own axes"""


@dataclass(frozen=True)
class Tiles:
    """The pixels of a view in square tiles, with a cone around each tile's rays."""

    pixel: Tensor
    """(Q, 64) int64"""
    rays: Tensor
    """(Q, 64, 3) camera frame"""
    axis: Tensor
    """(Q, 3)"""
    angle: Tensor
    """(Q,) half angle of the cone [rad]"""


def tiles_of_view(view: View) -> Tiles:
    """Cut a view into tiles; those without a ray are left out. Pixels past the border repeat the last ones."""
    width, height = view.size
    device = view.rays.device
    columns, rows = math.ceil(width / _TILE), math.ceil(height / _TILE)
    x = torch.arange(columns * _TILE, device=device).clamp(max=width - 1).view(columns, _TILE)
    y = torch.arange(rows * _TILE, device=device).clamp(max=height - 1).view(rows, _TILE)
    pixel = (y[:, None, :, None] * width + x[None, :, None, :]).reshape(rows * columns, _TILE * _TILE)
    pixel = pixel[view.seen[pixel].any(1)]
    rays, seen = view.rays[pixel], view.seen[pixel]
    axis = torch.nn.functional.normalize((rays * seen[..., None]).sum(1), dim=-1)
    cosine = torch.where(seen, (rays * axis[:, None]).sum(-1), 1.0).amin(1)
    return Tiles(pixel, rays, axis, torch.acos(cosine.clamp(-1, 1)) + 1e-3)


def cast(
    primitives: Primitives, T_world_camera: Tensor, view: View, tiles: Tiles, open_pixels: Tensor
) -> PrimitiveHits:
    """Find the nearest primitive along the rays of N cameras (N, 4, 4), only at open pixels (N, P) bool."""
    R, origin = T_world_camera[:, :3, :3], T_world_camera[:, :3, 3]
    offset = primitives.centre - origin[:, None]  # (N, K, 3)
    distance = offset.norm(dim=-1)
    radius = torch.where(
        primitives.kind == CYLINDER,
        torch.hypot(primitives.half[:, :2].amax(-1), primitives.half[:, 2]),
        torch.where(primitives.kind == BOX, primitives.half.norm(dim=-1), primitives.half.amax(-1)),
    )
    reach = torch.asin((radius / distance.clamp(min=1e-6)).clamp(max=1.0))
    reach = torch.where(distance < radius, torch.pi, reach)  # (N, K)
    direction = torch.einsum("nij,nki->nkj", R, offset / distance[..., None].clamp(min=1e-6))
    cosine = torch.einsum("qj,nkj->nqk", tiles.axis, direction)
    near = cosine > torch.cos((reach[:, None] + tiles.angle[:, None]).clamp(max=torch.pi))
    open_tiles = open_pixels[:, tiles.pixel]  # (N, Q, 64)
    near = near & open_tiles.any(-1)[..., None] & primitives.there[:, None]
    image, tile, primitive = near.nonzero().unbind(1)

    own = primitives.R_world_own[image, primitive]  # (C, 3, 3)
    start = -(own.mT @ offset[image, primitive][..., None])[..., 0]  # camera in the primitive's axes
    rays = tiles.rays[tile] @ (own.mT @ R[image]).mT  # (C, 64, 3)
    enter, leave = _interval(primitives.kind[primitive], primitives.half[primitive], start, rays)
    hit = (enter < leave) & (enter > 0.02) & open_tiles[image, tile]
    pair, lane = hit.nonzero().unbind(1)
    depth = enter[pair, lane]
    target = image[pair] * view.rays.shape[0] + tiles.pixel[tile[pair], lane]
    key = depth.view(torch.int32).long() << 32 | torch.arange(len(pair), device=depth.device)
    buffer = torch.full((len(origin) * view.rays.shape[0],), _NEVER, device=depth.device)
    buffer.scatter_reduce_(0, target, key, "amin")
    pixel = (buffer != _NEVER).nonzero()[:, 0]
    winner = buffer[pixel] & 0xFFFFFFFF
    pair, lane, depth = pair[winner], lane[winner], depth[winner]
    point = start[pair] + depth[:, None] * rays[pair, lane]
    index = primitive[pair]
    normal = _normal(primitives.kind[index], primitives.half[index], point)
    return PrimitiveHits(pixel, depth, index, point, normal)


def _interval(kind: Tensor, half: Tensor, start: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays (C, L, 3) from (C, 3) enter and leave primitives (C,); enter >= leave for a miss."""
    enter, leave = rays.new_empty(rays.shape[:2]), rays.new_empty(rays.shape[:2])
    for value, solve in ((BOX, _box), (CYLINDER, _cylinder), (ELLIPSOID, _ellipsoid)):
        which = (kind == value).nonzero()[:, 0]
        if len(which):
            enter[which], leave[which] = solve(half[which, None], start[which, None], rays[which])
    return enter, leave


def _slabs(half: Tensor, start: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    inverse = 1.0 / torch.where(rays.abs() < 1e-9, 1e-9, rays)
    middle, reach = -start * inverse, half * inverse.abs()
    return (middle - reach).amax(-1), (middle + reach).amin(-1)


def _box(half: Tensor, start: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    return _slabs(half, start, rays)


def _ellipsoid(half: Tensor, start: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    return _sphere(start / half, rays / half)


def _sphere(start: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    a, b, c = rays.square().sum(-1), (start * rays).sum(-1), start.square().sum(-1) - 1.0
    root = b * b - a * c
    size = root.clamp(min=0).sqrt()
    a = a.clamp(min=1e-12)
    return torch.where(root > 0, (-b - size) / a, 1.0), torch.where(root > 0, (-b + size) / a, 0.0)


def _cylinder(half: Tensor, start: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    side_in, side_out = _sphere(start[..., :2] / half[..., :2], rays[..., :2] / half[..., :2])
    end_in, end_out = _slabs(half[..., 2:], start[..., 2:], rays[..., 2:])
    return torch.maximum(side_in, end_in), torch.minimum(side_out, end_out)


def _normal(kind: Tensor, half: Tensor, point: Tensor) -> Tensor:
    """Return outward unit normals (M, 3) at surface points."""
    share = point / half
    axis = share.abs().argmax(-1, keepdim=True)
    face = torch.zeros_like(point).scatter_(1, axis, share.gather(1, axis).sign())
    round_side = torch.cat([share[:, :2] / half[:, :2], torch.zeros_like(share[:, :1])], -1)
    cap = torch.cat([torch.zeros_like(share[:, :2]), share[:, 2:].sign()], -1)
    on_cap = share[:, 2:].abs() >= share[:, :2].norm(dim=-1, keepdim=True)
    tube = torch.where(on_cap, cap, round_side)
    normal = torch.where((kind == BOX)[:, None], face, torch.where((kind == CYLINDER)[:, None], tube, share / half))
    return torch.nn.functional.normalize(normal, dim=-1)
