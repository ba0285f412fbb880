"""From a posed body in a room to linear images: visibility, light and shadow, surface, motion on the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.synth.attire import Attire
from egopose_ros.synth.materials import evaluate
from egopose_ros.synth.primitives import Tiles, cast, tiles_of_view
from egopose_ros.synth.raster import Hits, View, pinhole_view, rasterise
from egopose_ros.synth.room import Room

NOTHING, WORLD = -1, -2
"""Part numbers of pixels without light and of pixels that show the room"""

_SHADOW_SIZE = 112
_ROOM_SHADOW_SIZE = 192
_FAR = 100.0


@dataclass(frozen=True)
class Stage:
    """All that a recording's pictures share."""

    attire: Attire
    hair_colour: Tensor
    room: Room
    blob: float
    """darkness of the contact shadow on the floor"""


@dataclass(frozen=True)
class Picture:
    """N pictures of P pixels, before the sensor."""

    radiance: Tensor
    """(N, P, 3) linear"""
    depth: Tensor
    """(N, P) along the ray [m], 0 without light"""
    part: Tensor
    """(N, P) int16: smpl22 segment, `WORLD` or `NOTHING`"""
    flow: Tensor | None
    """(N, P, 2) pixels moved since the previous frame"""


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


class Renderer:
    """Renders the frames of one recording through one view."""

    def __init__(self, stage: Stage, view: View, hidden: Tensor | None = None, rim: float = 0.0) -> None:
        """hidden (P,) 0..1 is what the rig itself covers, with a surface of brightness `rim`."""
        self.stage, self.view = stage, view
        self._hidden, self._rim = hidden, rim
        self.tiles: Tiles = tiles_of_view(view)
        self.device = view.rays.device
        self._smooth = max(view.size) > 400
        self._light_view = pinhole_view(_SHADOW_SIZE, 0.5, self.device)
        self._room_shadow = self._render_room_shadow()

    def render(
        self,
        vertices: Tensor,
        normals: Tensor,
        T_world_camera: Tensor,
        previous_vertices: Tensor,
        previous_T_world_camera: Tensor,
        frames: Tensor,
        with_flow: bool,
    ) -> Picture:
        """Render N frames: vertices and normals (N, V, 3) world, cameras (N, 4, 4), frame numbers (N,).

        The previous vertices and cameras serve only the flow.
        """
        R, origin = T_world_camera[:, :3, :3], T_world_camera[:, :3, 3]
        count, pixels = len(vertices), len(self.view.rays)
        hits = rasterise((vertices - origin[:, None]) @ R, self.stage.attire.faces, self.view)
        rays = (self.view.rays @ R.mT).flatten(0, 1)  # (N * P, 3) world
        body, body_part = self._body_surface(hits, rays, origin, vertices, normals, previous_vertices)
        primitives = self.stage.room.primitives.frames(frames)
        open_pixels = self.view.seen.repeat(count)
        open_pixels[hits.pixel] = False
        surfaces = [body, *self._room_surfaces(primitives, T_world_camera, rays, open_pixels)]
        light_map = self._body_shadow(vertices)
        cover = self._cover(vertices)
        radiance = torch.zeros(count * pixels, 3, device=self.device)
        depth = torch.zeros(count * pixels, device=self.device)
        part = torch.full((count * pixels,), NOTHING, dtype=torch.int16, device=self.device)
        flow = torch.zeros(count * pixels, 2, device=self.device) if with_flow else None
        for surface in surfaces:
            radiance[surface.pixel] = self._shade(surface, light_map, cover, origin)
            depth[surface.pixel] = surface.distance
            part[surface.pixel] = body_part if surface.is_body else WORLD
            if flow is not None:
                flow[surface.pixel] = self._flow(surface, previous_T_world_camera, pixels)
        if self._hidden is not None:
            light = self.stage.room.light
            hidden = self._hidden.repeat(count)
            radiance += hidden[:, None] * (self._rim * (light.above + 0.3 * light.colour) - radiance)
            part[(hidden > 0.5) & (part != NOTHING)] = WORLD
        shape = (count, pixels)
        flow = None if flow is None else flow.view(*shape, 2)
        return Picture(radiance.view(*shape, 3), depth.view(shape), part.view(shape), flow)

    def _footprint(self, distance: Tensor, cosine: Tensor) -> Tensor:
        """Return how much surface a pixel covers [m]."""
        pixel_angle = 2.0 * self.view.max_angle / max(self.view.size)
        return distance * pixel_angle / cosine.abs().clamp(min=0.25)

    def _body_surface(self, hits: Hits, rays, origin, vertices, normals, previous) -> tuple[Surface, Tensor]:
        stage, attire = self.stage, self.stage.attire
        attributes = hits.interpolate(attire.attributes, attire.faces)
        best = hits.weights.argmax(1)
        part = attire.part[attire.faces[hits.face, best]]
        rays = rays.index_select(0, hits.pixel)
        point = _of(origin, hits.image) + rays * hits.distance[:, None]
        normal = torch.nn.functional.normalize(hits.interpolate(normals, attire.faces), dim=-1)
        material, uv, cloth = attire.surface(attributes, part)
        cosine = -(rays * normal).sum(-1)
        footprint = self._footprint(hits.distance, cosine)
        albedo, gloss, emission = evaluate(stage.room.bank, stage.room.materials, material, uv, footprint, self._smooth)
        albedo = attire.make_up(albedo, attributes, material, stage.hair_colour)
        if attire.crease > 0:
            normal = self._crease(normal, uv, footprint, cloth)
        # What faces down or away from the open, and what lies deep under the head, gets less of the room's light.
        occlusion = 0.72 + 0.28 * cosine.clamp(0, 1)
        moved = hits.interpolate(previous, attire.faces)
        surface = Surface(
            hits.image, hits.pixel, point, normal, hits.distance, moved, albedo, gloss, emission, occlusion, True
        )
        return surface, part.short()

    def _crease(self, normal: Tensor, uv: Tensor, footprint: Tensor, cloth: Tensor) -> Tensor:
        """Bend the normals of cloth by a noise pattern, at two scales."""
        bank = self.stage.room.bank
        pattern = torch.full_like(uv[:, 0], bank.kind("concrete")[0]).long()
        coarse = bank.sample(pattern, uv / torch.tensor([0.35, 0.22], device=uv.device), footprint / 0.25, self._smooth)
        bend = torch.stack([coarse[:, 0] - 0.5, coarse[:, 2] - 0.5, 0.5 - coarse[:, 0]], -1)
        strength = self.stage.attire.crease * (cloth.float() * 0.9 + 0.1)
        return torch.nn.functional.normalize(normal + strength[:, None] * bend, dim=-1)

    def _room_surfaces(self, primitives, T_world_camera: Tensor, all_rays: Tensor, open_pixels: Tensor) -> list[Surface]:
        room, bank = self.stage.room, self.stage.room.bank
        count, pixels = len(T_world_camera), len(self.view.rays)
        hits = cast(primitives, T_world_camera, self.view, self.tiles, open_pixels.view(count, pixels))
        nearest = torch.full((count * pixels,), _FAR, device=self.device)
        nearest[hits.pixel] = hits.distance
        shell_pixel = open_pixels.nonzero()[:, 0]
        image = torch.div(shell_pixel, pixels, rounding_mode="floor")
        rays = all_rays.index_select(0, shell_pixel)
        origin = _of(T_world_camera[:, :3, 3], image)
        inverse = rays.reciprocal()  # infinite for rays along a wall, which then lies infinitely far
        exits = torch.maximum((room.low - origin) * inverse, (room.high - origin) * inverse)
        distance, axis = exits.min(-1)
        in_front = nearest.index_select(0, shell_pixel) < distance
        first = (~in_front).nonzero()[:, 0]
        shell = [t.index_select(0, first) for t in (shell_pixel, image, rays, distance, axis)]
        surfaces = self._shell_surface(*shell, T_world_camera[:, :3, 3])
        # A primitive that sticks through a wall is cut off there.
        kept = nearest.new_zeros(count * pixels, dtype=torch.bool)
        kept[shell_pixel[in_front]] = True
        kept = kept.index_select(0, hits.pixel).nonzero()[:, 0]
        pixel, index, point, normal, distance = (
            t.index_select(0, kept) for t in (hits.pixel, hits.primitive, hits.point, hits.normal, hits.distance)
        )
        image = torch.div(pixel, pixels, rounding_mode="floor")
        own = primitives.R_world_own[image, index]
        rays = all_rays.index_select(0, pixel)
        world_normal = (own * normal[:, None]).sum(-1)
        where = _of(T_world_camera[:, :3, 3], image) + rays * distance[:, None]
        uv = _flat_uv(point, normal)
        footprint = self._footprint(distance, (rays * world_normal).sum(-1))
        albedo, gloss, emission = evaluate(bank, room.materials, primitives.material[index], uv, footprint, self._smooth)
        under = ((where[:, 2] - room.low[2]) / 0.5).clamp(0, 1)
        occlusion = 0.65 + 0.35 * under
        return [
            *surfaces,
            Surface(image, pixel, where, world_normal, distance, where, albedo, gloss, emission, occlusion, False),
        ]

    def _shell_surface(self, pixel, image, rays, distance, axis, origin: Tensor) -> list[Surface]:
        room = self.stage.room
        point = _of(origin, image) + rays * distance[:, None]
        sign = torch.gather(rays, 1, axis[:, None])[:, 0] > 0
        side = axis * 2 + sign.long()
        normal = torch.zeros_like(point).scatter_(1, axis[:, None], torch.where(sign, -1.0, 1.0)[:, None])
        material = room.shell[side]
        if not room.indoors:
            sky = side != 4
            outside = self._sky(pixel[sky], image[sky], rays[sky], point[sky])
            keep = ~sky
            pixel, image, rays, point, distance, normal, material = (
                t[keep] for t in (pixel, image, rays, point, distance, normal, material)
            )
        uv = _flat_uv(point, normal)
        cosine = (rays * normal).sum(-1)
        albedo, gloss, emission = evaluate(
            room.bank, room.materials, material, uv, self._footprint(distance, cosine), self._smooth
        )
        away = torch.minimum(point - room.low, room.high - point).clamp(min=0)
        away = torch.where(normal.abs() > 0.5, 10.0, away)
        occlusion = 1.0 - 0.35 * torch.exp(-away / 0.3).sum(-1).clamp(max=1.3)
        surface = Surface(image, pixel, point, normal, distance, point, albedo, gloss, emission, occlusion, False)
        return [surface] if room.indoors else [outside, surface]

    def _sky(self, pixel: Tensor, image: Tensor, rays: Tensor, point: Tensor) -> Surface:
        up = rays[:, 2:].clamp(0, 1)
        colour = self.stage.room.sky[0] + up.sqrt() * (self.stage.room.sky[1] - self.stage.room.sky[0])
        bank = self.stage.room.bank
        pattern = torch.full_like(pixel, bank.kind("concrete")[1])
        cloud = bank.sample(pattern, rays[:, :2] / (rays[:, 2:] + 0.3) * 0.3, torch.full_like(up[:, 0], 0.02), True)
        colour = colour * (0.7 + 0.6 * cloud[:, :1])
        one = torch.ones_like(rays[:, 0])
        distance = torch.full_like(one, _FAR)
        return Surface(image, pixel, point, rays, distance, point, colour, 0 * one, one, 0 * one, False)

    def _shade(self, s: Surface, light_map, cover, origin: Tensor) -> Tensor:
        room = self.stage.room
        light = room.light
        to_light = light.position - s.point
        distance = to_light.norm(dim=-1)
        # Lamps fall off, softened near by: they are not points.
        strength = 1.0 if light.is_sun else (2.0 / (distance + 0.5)).square_().clamp_(max=3.0)
        lit = (1.0 - self._shadow(s, light_map)).mul_(strength)
        facing = (s.normal * to_light).sum(-1).div_(distance).clamp_(min=0)
        occlusion = s.occlusion * (1.0 - self._cover_at(s, cover))
        fill = (s.normal @ light.fill_direction).clamp_(min=0).mul_(occlusion)
        up = (0.5 * s.normal[:, 2] + 0.5).mul_(occlusion)
        # Each light's share (M, 4) times its colour (4, 3).
        shares = torch.stack([facing * lit, fill, up, occlusion - up], -1)
        received = shares @ torch.stack([light.colour, light.fill_colour, light.above, light.below])
        colour = s.albedo * received.add_(s.emission[:, None])
        shiny = (s.gloss > 0).nonzero()[:, 0]
        if len(shiny):
            point, normal = s.point.index_select(0, shiny), s.normal.index_select(0, shiny)
            view = torch.nn.functional.normalize(_of(origin, s.image.index_select(0, shiny)) - point, dim=-1)
            half = torch.nn.functional.normalize(view + to_light[shiny] / distance[shiny, None], dim=-1)
            shine = (normal * half).sum(-1).clamp_(min=0).pow_(40).mul_(lit.index_select(0, shiny))
            rim = (1.0 - (normal * view).sum(-1).clamp_(0, 1)).pow_(4)
            added = shine[:, None] * light.colour + 0.35 * rim[:, None] * light.above
            colour.index_add_(0, shiny, s.gloss.index_select(0, shiny)[:, None] * added)
        return colour

    def _light_frame(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return R_world_light (N, 3, 3) of pinholes at the light that look at targets (N, 3), and their distances."""
        forward = target - self.stage.room.light.position
        distance = forward.norm(dim=-1)
        forward = forward / distance[:, None]
        side = torch.tensor([1.0, 0.0, 0.0], device=target.device).expand_as(forward)
        side = torch.nn.functional.normalize(side - (side * forward).sum(-1, keepdim=True) * forward, dim=-1)
        return torch.stack([side, torch.linalg.cross(forward, side), forward], -1), distance

    def _body_shadow(self, vertices: Tensor):
        """Return the light's frames and its map of distances to the body (N, S * S)."""
        middle = 0.5 * (vertices.amin(1) + vertices.amax(1))
        R, distance = self._light_frame(middle)
        # The pinhole is fixed at half a radian; the scene is squeezed so that a body of 1.15 m radius fills it.
        squeeze = torch.tan(torch.atan2(torch.full_like(distance, 1.15), distance)) / math.tan(0.5)
        local = (vertices - self.stage.room.light.position) @ R
        local = torch.cat([local[..., :2] / squeeze[:, None, None], local[..., 2:]], -1)
        hits = rasterise(local, self.stage.attire.faces, self._light_view)
        size = _SHADOW_SIZE * _SHADOW_SIZE
        depth = torch.full((len(vertices) * size,), _FAR, device=self.device)
        ray_z = self._light_view.rays[hits.pixel % size, 2]
        depth[hits.pixel] = hits.distance * ray_z
        _clear_border(depth.view(-1, _SHADOW_SIZE, _SHADOW_SIZE))
        return R, squeeze, depth

    def _render_room_shadow(self):
        """Return the light's frame and its map of distances to the furniture that stays."""
        room = self.stage.room
        first = torch.zeros(1, dtype=torch.long, device=self.device)
        primitives = room.primitives.frames(first)
        middle = 0.5 * (room.low + room.high)[None].clone()
        middle[:, 2] = room.low[2]
        R, distance = self._light_frame(middle)
        half_angle = 1.05 if room.indoors else math.atan2(5.0, float(distance[0]))
        view = pinhole_view(_ROOM_SHADOW_SIZE, half_angle, self.device)
        T = torch.eye(4, device=self.device)[None].clone()
        T[:, :3, :3], T[:, :3, 3] = R, room.light.position
        open_pixels = torch.ones(1, len(view.rays), dtype=torch.bool, device=self.device)
        hits = cast(primitives, T, view, tiles_of_view(view), open_pixels)
        depth = torch.full((len(view.rays),), _FAR, device=self.device)
        emits = room.materials[primitives.material[hits.primitive], 12] > 0.7
        depth[hits.pixel] = torch.where(emits, _FAR, hits.distance * view.rays[hits.pixel, 2])
        _clear_border(depth.view(1, _ROOM_SHADOW_SIZE, _ROOM_SHADOW_SIZE))
        return R[0], 0.5 * _ROOM_SHADOW_SIZE / math.tan(half_angle), depth

    def _shadow(self, s: Surface, light_map) -> Tensor:
        """Return how much of the light is blocked (M,), 0..1, with soft edges from four map reads each."""
        light = self.stage.room.light
        R, squeeze, depth = light_map
        lifted = s.point + 0.02 * s.normal - light.position
        local = _turn(lifted, R, s.image)
        z = local[:, 2].clamp(min=0.05)
        focal = 0.5 * _SHADOW_SIZE / math.tan(0.5)
        xy = local[:, :2] * (focal / (z * _of(squeeze, s.image)))[:, None] + 0.5 * (_SHADOW_SIZE - 1)
        bias = 0.03 if s.is_body else 0.02
        base = s.image * (_SHADOW_SIZE * _SHADOW_SIZE)
        body = _blocked(xy, z - bias, depth, base, _SHADOW_SIZE, light.softness)
        R_room, focal, room_depth = self._room_shadow
        local = lifted @ R_room
        z = local[:, 2].clamp(min=0.05)
        xy = local[:, :2] * (focal / z)[:, None] + 0.5 * (_ROOM_SHADOW_SIZE - 1)
        inside = local[:, 2] > 0.05
        other = _blocked(xy, z - 0.04, room_depth, 0, _ROOM_SHADOW_SIZE, light.softness) * inside
        return torch.maximum(body, other)

    def _cover(self, vertices: Tensor):
        """Return how much of the sky the body hides from spots on the floor: a blurred grid about the wearer."""
        cells, size = 32, 0.07
        floor = self.stage.room.low[2]
        origin = vertices[:, :, :2].mean(1) - 0.5 * cells * size
        cell = ((vertices[:, :, :2] - origin[:, None]) / size).long().clamp(0, cells - 1)
        index = cell[..., 1] * cells + cell[..., 0]
        weight = torch.exp(-(vertices[:, :, 2] - floor).clamp(min=0) / 0.35)
        grid = torch.zeros(len(vertices), cells * cells, device=self.device)
        grid.scatter_reduce_(1, index, weight, "amax")
        grid = grid.view(-1, 1, cells, cells)
        for _ in range(2):
            grid = torch.nn.functional.avg_pool2d(grid, 3, 1, 1)
        return origin, size, grid[:, 0] * self.stage.blob

    def _cover_at(self, s: Surface, cover) -> Tensor:
        """Return the share of ambient light (M,) that the body takes from surfaces near the floor."""
        origin, size, grid = cover
        if s.is_body:
            return torch.zeros_like(s.distance)
        cells = grid.shape[-1]
        xy = (s.point[:, :2] - _of(origin, s.image)) / size - 0.5
        low = xy.floor()
        f = xy - low
        low = low.long()
        inside = ((low >= 0) & (low < cells - 1)).all(-1)
        low = low.clamp(0, cells - 2)
        flat, base = grid.reshape(-1), s.image * cells * cells + low[:, 1] * cells + low[:, 0]
        a, b, c, d = (flat.index_select(0, base + k) for k in (0, 1, cells, cells + 1))
        top, bottom = a + f[:, 0] * (b - a), c + f[:, 0] * (d - c)
        near_floor = torch.exp(-(s.point[:, 2] - self.stage.room.low[2]).clamp(min=0) / 0.2)
        return (top + f[:, 1] * (bottom - top)) * inside * near_floor

    def _flow(self, s: Surface, previous_T_world_camera: Tensor, pixels: int) -> Tensor:
        origin = _of(previous_T_world_camera[:, :3, 3], s.image)
        local = _turn(s.previous - origin, previous_T_world_camera[:, :3, :3], s.image)
        before = self.view.pixels(local)
        index = s.pixel - s.image * pixels
        width = self.view.size[0]
        now = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], -1)
        return (now - before).clamp(-40, 40)


def _clear_border(depth: Tensor) -> None:
    """Empty the outermost pixels of shadow maps (N, S, S) in place."""
    depth[:, [0, -1]] = _FAR
    depth[:, :, [0, -1]] = _FAR


def _of(values: Tensor, image: Tensor) -> Tensor:
    """Return the rows of `values` (N, ...) that belong to each image (M,); a single one is left to broadcast."""
    return values if len(values) == 1 else values.index_select(0, image)


def _turn(vectors: Tensor, R: Tensor, image: Tensor) -> Tensor:
    """Return v^T R (M, 3) with the rotation (N, 3, 3) of each vector's image."""
    if len(R) == 1:
        return vectors @ R[0]
    return sum(vectors[:, k : k + 1] * R[:, k].index_select(0, image) for k in range(3))


def _flat_uv(point: Tensor, normal: Tensor) -> Tensor:
    """Return coordinates (M, 2) [m] in the plane that a normal faces most: x y on floors, along and z on walls."""
    axis = normal.abs().argmax(-1)
    u = torch.where(axis == 0, point[:, 1], point[:, 0])
    v = torch.where(axis == 2, point[:, 1], -point[:, 2])
    return torch.stack([u, v], -1)


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
