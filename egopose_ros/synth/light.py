"""Light on surfaces: a lamp or the sun with shadows, a soft second light, light from all around."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.synth.primitives import cast, tiles_of_view
from egopose_ros.synth.raster import pinhole_view, rasterise
from egopose_ros.synth.room import Room

FAR = 100.0
"""[m] Nothing is farther."""

_SHADOW_SIZE = 112
_ROOM_SHADOW_SIZE = 192
_BODY_RADIUS = 1.15
_LIGHT_ANGLE = 0.5
"""[rad] half width of the view in which the wearer's shadow is rendered, [m] what it must hold"""
_CELLS, _CELL = 32, 0.07
"""Grid [m] of the contact shadow about the wearer"""


@dataclass(frozen=True)
class Surface:
    """What M rays met."""

    image: Tensor
    pixel: Tensor
    """(M,) int64 into N * P"""
    point: Tensor
    """(M, 3) world"""
    normal: Tensor
    """(M, 3) world"""
    distance: Tensor
    previous: Tensor
    """(M, 3) world, where the point was one frame ago"""
    albedo: Tensor
    gloss: Tensor
    emission: Tensor
    occlusion: Tensor
    """(M,) share of ambient light that arrives"""
    is_body: bool


@dataclass(frozen=True)
class BodyShadow:
    """How the wearer stands in the light, in N frames."""

    R_world_light: Tensor
    """(N, 3, 3) of pinholes at the light"""
    squeeze: Tensor
    """(N,) factor by which they are narrower than `_LIGHT_ANGLE`"""
    depth: Tensor
    """(N * S * S,) along the light's axis [m]"""
    origin: Tensor
    """(N, 2) corner of the grid on the floor [m]"""
    cover: Tensor
    """(N, 32, 32) share of the ambient light that the wearer takes from the floor"""


class Lighting:
    """Lights the surfaces of one recording."""

    def __init__(self, room: Room, faces: Tensor, blob: float) -> None:
        """faces (F, 3) are the wearer's; `blob` is the darkness of the contact shadow on the floor."""
        self.room, self._faces, self._blob = room, faces, blob
        self._device = room.low.device
        self._light_view = pinhole_view(_SHADOW_SIZE, _LIGHT_ANGLE, self._device)
        self._room_shadow = self._render_room_shadow()

    def shadow_of(self, vertices: Tensor) -> BodyShadow:
        """Return the shadow of the wearer, vertices (N, V, 3) in the world."""
        origin, cover = self._cover(vertices)
        return BodyShadow(*self._body_shadow(vertices), origin, cover)

    def shade(self, s: Surface, body: BodyShadow, origin: Tensor) -> Tensor:
        """Return the light (M, 3) that surfaces send to cameras at origins (N, 3)."""
        light = self.room.light
        to_light = light.position - s.point
        distance = to_light.norm(dim=-1)
        # Lamps fall off, softened near by: they are not points.
        strength = 1.0 if light.is_sun else (2.0 / (distance + 0.5)).square_().clamp_(max=3.0)
        lit = (1.0 - self._shadow(s, body)).mul_(strength)
        facing = (s.normal * to_light).sum(-1).div_(distance).clamp_(min=0)
        occlusion = s.occlusion * (1.0 - self._cover_at(s, body))
        fill = (s.normal @ light.fill_direction).clamp_(min=0).mul_(occlusion)
        up = (0.5 * s.normal[:, 2] + 0.5).mul_(occlusion)
        # Each light's share (M, 4) times its colour (4, 3).
        shares = torch.stack([facing * lit, fill, up, occlusion - up], -1)
        received = shares @ torch.stack([light.colour, light.fill_colour, light.above, light.below])
        colour = s.albedo * received.add_(s.emission[:, None])
        shiny = (s.gloss > 0).nonzero()[:, 0]
        if len(shiny):
            point, normal = s.point.index_select(0, shiny), s.normal.index_select(0, shiny)
            view = torch.nn.functional.normalize(of(origin, s.image.index_select(0, shiny)) - point, dim=-1)
            half = torch.nn.functional.normalize(view + to_light[shiny] / distance[shiny, None], dim=-1)
            shine = (normal * half).sum(-1).clamp_(min=0).pow_(40).mul_(lit.index_select(0, shiny))
            rim = (1.0 - (normal * view).sum(-1).clamp_(0, 1)).pow_(4)
            added = shine[:, None] * light.colour + 0.35 * rim[:, None] * light.above
            colour.index_add_(0, shiny, s.gloss.index_select(0, shiny)[:, None] * added)
        return colour

    def _light_frame(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return R_world_light (N, 3, 3) of pinholes at the light that look at targets (N, 3), and their distances."""
        forward = target - self.room.light.position
        distance = forward.norm(dim=-1)
        forward = forward / distance[:, None]
        side = torch.tensor([1.0, 0.0, 0.0], device=target.device).expand_as(forward)
        side = torch.nn.functional.normalize(side - (side * forward).sum(-1, keepdim=True) * forward, dim=-1)
        return torch.stack([side, torch.linalg.cross(forward, side), forward], -1), distance

    def _body_shadow(self, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the light's frames and its map of distances to the body (N, S * S)."""
        middle = 0.5 * (vertices.amin(1) + vertices.amax(1))
        R, distance = self._light_frame(middle)
        # One view serves all distances: the scene is squeezed so that the body fills it.
        squeeze = (_BODY_RADIUS / distance) / math.tan(_LIGHT_ANGLE)
        local = (vertices - self.room.light.position) @ R
        local = torch.cat([local[..., :2] / squeeze[:, None, None], local[..., 2:]], -1)
        hits = rasterise(local, self._faces, self._light_view)
        size = _SHADOW_SIZE * _SHADOW_SIZE
        depth = torch.full((len(vertices) * size,), FAR, device=self._device)
        ray_z = self._light_view.rays[hits.pixel % size, 2]
        depth[hits.pixel] = hits.distance * ray_z
        _clear_border(depth.view(-1, _SHADOW_SIZE, _SHADOW_SIZE))
        return R, squeeze, depth

    def _render_room_shadow(self) -> tuple[Tensor, float, Tensor]:
        """Return the light's frame and its map of distances to the furniture that stays."""
        room = self.room
        first = torch.zeros(1, dtype=torch.long, device=self._device)
        primitives = room.primitives.frames(first)
        middle = 0.5 * (room.low + room.high)[None].clone()
        middle[:, 2] = room.low[2]
        R, distance = self._light_frame(middle)
        half_angle = 1.05 if room.indoors else math.atan2(5.0, float(distance[0]))
        view = pinhole_view(_ROOM_SHADOW_SIZE, half_angle, self._device)
        T = torch.eye(4, device=self._device)[None].clone()
        T[:, :3, :3], T[:, :3, 3] = R, room.light.position
        open_pixels = torch.ones(1, len(view.rays), dtype=torch.bool, device=self._device)
        hits = cast(primitives, T, view, tiles_of_view(view), open_pixels)
        depth = torch.full((len(view.rays),), FAR, device=self._device)
        emits = room.materials[primitives.material[hits.primitive], 12] > 0.7
        depth[hits.pixel] = torch.where(emits, FAR, hits.distance * view.rays[hits.pixel, 2])
        _clear_border(depth.view(1, _ROOM_SHADOW_SIZE, _ROOM_SHADOW_SIZE))
        return R[0], 0.5 * _ROOM_SHADOW_SIZE / math.tan(half_angle), depth

    def _shadow(self, s: Surface, wearer: BodyShadow) -> Tensor:
        """Return how much of the light is blocked (M,), 0..1, with soft edges from four map reads each."""
        light = self.room.light
        lifted = s.point + 0.02 * s.normal - light.position
        local = turn(lifted, wearer.R_world_light, s.image)
        z = local[:, 2].clamp(min=0.05)
        focal = 0.5 * _SHADOW_SIZE / math.tan(_LIGHT_ANGLE)
        xy = local[:, :2] * (focal / (z * of(wearer.squeeze, s.image)))[:, None] + 0.5 * (_SHADOW_SIZE - 1)
        bias = 0.03 if s.is_body else 0.02
        base = s.image * (_SHADOW_SIZE * _SHADOW_SIZE)
        body = _blocked(xy, z - bias, wearer.depth, base, _SHADOW_SIZE, light.softness)
        R_room, focal, room_depth = self._room_shadow
        local = lifted @ R_room
        z = local[:, 2].clamp(min=0.05)
        xy = local[:, :2] * (focal / z)[:, None] + 0.5 * (_ROOM_SHADOW_SIZE - 1)
        inside = local[:, 2] > 0.05
        other = _blocked(xy, z - 0.04, room_depth, 0, _ROOM_SHADOW_SIZE, light.softness) * inside
        return torch.maximum(body, other)

    def _cover(self, vertices: Tensor) -> tuple[Tensor, Tensor]:
        """Return corners and grid of how much of the sky the wearer hides from the floor, blurred."""
        cells, size = _CELLS, _CELL
        floor = self.room.low[2]
        origin = vertices[:, :, :2].mean(1) - 0.5 * cells * size
        cell = ((vertices[:, :, :2] - origin[:, None]) / size).long().clamp(0, cells - 1)
        index = cell[..., 1] * cells + cell[..., 0]
        weight = torch.exp(-(vertices[:, :, 2] - floor).clamp(min=0) / 0.35)
        grid = torch.zeros(len(vertices), cells * cells, device=self._device)
        grid.scatter_reduce_(1, index, weight, "amax")
        grid = grid.view(-1, 1, cells, cells)
        for _ in range(2):
            grid = torch.nn.functional.avg_pool2d(grid, 3, 1, 1)
        return origin, grid[:, 0] * self._blob

    def _cover_at(self, s: Surface, wearer: BodyShadow) -> Tensor:
        """Return the share of ambient light (M,) that the body takes from surfaces near the floor."""
        if s.is_body:
            return torch.zeros_like(s.distance)
        cells = _CELLS
        xy = (s.point[:, :2] - of(wearer.origin, s.image)) / _CELL - 0.5
        low = xy.floor()
        f = xy - low
        low = low.long()
        inside = ((low >= 0) & (low < cells - 1)).all(-1)
        low = low.clamp(0, cells - 2)
        flat, base = wearer.cover.reshape(-1), s.image * cells * cells + low[:, 1] * cells + low[:, 0]
        a, b, c, d = (flat.index_select(0, base + k) for k in (0, 1, cells, cells + 1))
        top, bottom = a + f[:, 0] * (b - a), c + f[:, 0] * (d - c)
        near_floor = torch.exp(-(s.point[:, 2] - self.room.low[2]).clamp(min=0) / 0.2)
        return (top + f[:, 1] * (bottom - top)) * inside * near_floor


def _clear_border(depth: Tensor) -> None:
    """Empty the outermost pixels of shadow maps (N, S, S) in place."""
    depth[:, [0, -1]] = FAR
    depth[:, :, [0, -1]] = FAR


def of(values: Tensor, image: Tensor) -> Tensor:
    """Return the rows of `values` (N, ...) that belong to each image (M,); a single one is left to broadcast."""
    return values if len(values) == 1 else values.index_select(0, image)


def turn(vectors: Tensor, R: Tensor, image: Tensor) -> Tensor:
    """Return v^T R (M, 3) with the rotation (N, 3, 3) of each vector's image."""
    if len(R) == 1:
        return vectors @ R[0]
    return sum(vectors[:, k : k + 1] * R[:, k].index_select(0, image) for k in range(3))


def _blocked(xy: Tensor, z: Tensor, depth: Tensor, base: Tensor | int, size: int, softness: float) -> Tensor:
    """Return the share (M,) of four reads of a shadow map around xy (M, 2) that lie before z (M,).

    What lies outside the map reads its border, which is empty.
    """
    total = torch.zeros_like(z)
    r = softness
    for dx, dy in ((0.35 * r, r), (-r, 0.35 * r), (r, -0.35 * r), (-0.35 * r, -r)):
        x = (xy[:, 0] + (dx + 0.5)).clamp_(0, size - 1).long()
        y = (xy[:, 1] + (dy + 0.5)).clamp_(0, size - 1).long()
        total += depth.index_select(0, y.mul_(size).add_(x).add_(base)) < z
    return total.mul_(0.25)
