"""From a posed body in a room to linear images: visibility, light and shadow, surface, motion on the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.synth.attire import Attire
from egopose_ros.synth.light import FAR, Lighting, Surface, of, turn
from egopose_ros.synth.materials import evaluate
from egopose_ros.synth.primitives import PrimitiveHits, Primitives, cast, tiles_of_view
from egopose_ros.synth.raster import Hits, View, rasterise
from egopose_ros.synth.room import Room

NOTHING, WORLD = -1, -2
"""Part numbers of pixels without light and of pixels that show the room"""


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


class Renderer:
    """Renders the frames of one recording through one view."""

    def __init__(self, stage: Stage, view: View, hidden: Tensor | None = None, rim: float = 0.0) -> None:
        """hidden (P,) 0..1 is what the rig itself covers, with a surface of brightness `rim`."""
        self.stage, self.view = stage, view
        self._hidden, self._rim = hidden, rim
        self.tiles = tiles_of_view(view)
        self.device = view.rays.device
        self._smooth = max(view.size) > 400
        self._lighting = Lighting(stage.room, stage.attire.faces, stage.blob)

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
        shadow = self._lighting.shadow_of(vertices)
        radiance = torch.zeros(count * pixels, 3, device=self.device)
        depth = torch.zeros(count * pixels, device=self.device)
        part = torch.full((count * pixels,), NOTHING, dtype=torch.int16, device=self.device)
        flow = torch.zeros(count * pixels, 2, device=self.device) if with_flow else None
        for surface in surfaces:
            radiance[surface.pixel] = self._lighting.shade(surface, shadow, origin)
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
        point = of(origin, hits.image) + rays * hits.distance[:, None]
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

    def _room_surfaces(
        self, primitives: Primitives, T_world_camera: Tensor, all_rays: Tensor, open_pixels: Tensor
    ) -> list[Surface]:
        room = self.stage.room
        count, pixels = len(T_world_camera), len(self.view.rays)
        hits = cast(primitives, T_world_camera, self.view, self.tiles, open_pixels.view(count, pixels))
        nearest = torch.full((count * pixels,), FAR, device=self.device)
        nearest[hits.pixel] = hits.distance
        shell_pixel = open_pixels.nonzero()[:, 0]
        image = torch.div(shell_pixel, pixels, rounding_mode="floor")
        rays = all_rays.index_select(0, shell_pixel)
        origin = of(T_world_camera[:, :3, 3], image)
        inverse = rays.reciprocal()  # infinite for rays along a wall, which then lies infinitely far
        exits = torch.maximum((room.low - origin) * inverse, (room.high - origin) * inverse)
        distance, axis = exits.min(-1)
        in_front = nearest.index_select(0, shell_pixel) < distance
        first = (~in_front).nonzero()[:, 0]
        shell = [t.index_select(0, first) for t in (shell_pixel, image, rays, distance, axis)]
        surfaces = self._shell_surface(*shell, T_world_camera[:, :3, 3])
        # A primitive that sticks through a wall is cut off there.
        front = torch.zeros(count * pixels, dtype=torch.bool, device=self.device)
        front[shell_pixel[in_front]] = True
        kept = front.index_select(0, hits.pixel).nonzero()[:, 0]
        return [*surfaces, self._primitive_surface(primitives, hits, kept, all_rays, T_world_camera[:, :3, 3])]

    def _primitive_surface(
        self, primitives: Primitives, hits: PrimitiveHits, kept: Tensor, all_rays: Tensor, origin: Tensor
    ) -> Surface:
        room = self.stage.room
        pixel, index, point, normal, distance = (
            t.index_select(0, kept) for t in (hits.pixel, hits.primitive, hits.point, hits.normal, hits.distance)
        )
        image = torch.div(pixel, len(self.view.rays), rounding_mode="floor")
        rays = all_rays.index_select(0, pixel)
        world_normal = (primitives.R_world_own[image, index] * normal[:, None]).sum(-1)
        where = of(origin, image) + rays * distance[:, None]
        footprint = self._footprint(distance, (rays * world_normal).sum(-1))
        material, uv = primitives.material[index], _flat_uv(point, normal)
        albedo, gloss, emission = evaluate(room.bank, room.materials, material, uv, footprint, self._smooth)
        occlusion = 0.65 + 0.35 * ((where[:, 2] - room.low[2]) / 0.5).clamp(0, 1)
        return Surface(image, pixel, where, world_normal, distance, where, albedo, gloss, emission, occlusion, False)

    def _shell_surface(self, pixel, image, rays, distance, axis, origin: Tensor) -> list[Surface]:
        room = self.stage.room
        point = of(origin, image) + rays * distance[:, None]
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
        distance = torch.full_like(one, FAR)
        return Surface(image, pixel, point, rays, distance, point, colour, 0 * one, one, 0 * one, False)

    def _flow(self, s: Surface, previous_T_world_camera: Tensor, pixels: int) -> Tensor:
        origin = of(previous_T_world_camera[:, :3, 3], s.image)
        local = turn(s.previous - origin, previous_T_world_camera[:, :3, :3], s.image)
        before = self.view.pixels(local)
        index = s.pixel - s.image * pixels
        width = self.view.size[0]
        now = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], -1)
        return (now - before).clamp(-40, 40)


def _flat_uv(point: Tensor, normal: Tensor) -> Tensor:
    """Return coordinates (M, 2) [m] in the plane that a normal faces most: x y on floors, along and z on walls."""
    axis = normal.abs().argmax(-1)
    u = torch.where(axis == 0, point[:, 1], point[:, 0])
    v = torch.where(axis == 2, point[:, 1], -point[:, 2])
    return torch.stack([u, v], -1)
