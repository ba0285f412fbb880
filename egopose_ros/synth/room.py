"""Rooms and places: a shell (floor, walls, ceiling, or ground and sky), furniture, and light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from egopose_ros.skeleton import SMPL22
from egopose_ros.synth import furniture
from egopose_ros.synth.furniture import Piece, turn_z
from egopose_ros.synth.materials import Draw, MaterialList
from egopose_ros.synth.motion.clip import Support
from egopose_ros.synth.primitives import BOX, Primitives
from egopose_ros.synth.textures import TextureBank

_FAR = 60.0


@dataclass(frozen=True)
class Light:
    """One lamp or the sun, which casts shadows, and what comes from everywhere else."""

    position: Tensor
    """(3,) [m] world; the sun stands far away"""
    colour: Tensor
    """(3,) irradiance at the wearer"""
    fill_direction: Tensor
    """(3,) towards a second, soft light"""
    fill_colour: Tensor
    """(3,)"""
    above: Tensor
    """(3,) ambient light from above"""
    below: Tensor
    """(3,) ambient light from below"""
    softness: float
    """[px] radius of the shadow's edge in its map"""
    is_sun: bool


@dataclass(frozen=True)
class Room:
    """A place. Walls, floor and ceiling are the inside of a box; outdoors only its floor is material."""

    indoors: bool
    low: Tensor
    """(3,) [m]"""
    high: Tensor
    """(3,)"""
    shell: Tensor
    """(6,) int64 materials of -x, +x, -y, +y, floor, ceiling"""
    sky: Tensor
    """(2, 3) colours at the horizon and overhead"""
    primitives: Primitives
    materials: Tensor
    bank: TextureBank
    light: Light


def draw_room(
    draw: Draw,
    materials: MaterialList,
    supports: tuple[Support, ...],
    joints_world: np.ndarray,
    wrist_rotations: dict[str, np.ndarray],
    floor_height: float,
    device: torch.device | str,
) -> Room:
    """Draw a place around a motion: joints (T, 22, 3), rotations (T, 3, 3) of the wrists that hold things, by name."""
    indoors = draw.chance(0.82)
    path = joints_world[:, 0, :2]
    centre = 0.5 * (path.min(0) + path.max(0))
    reach = 0.5 * (path.max(0) - path.min(0)) + 0.9
    shell, low, high = _draw_shell(draw, materials, indoors, centre, reach, floor_height)
    static = Piece()
    _furnish(draw, materials, static, indoors, joints_world, floor_height, low, high)
    light, lamp = _draw_light(draw, indoors, centre, floor_height, high[2])
    if indoors:
        _dress_walls(draw, materials, static, low, high, lamp)
    rows = _place_supports(draw, materials, supports, static, floor_height, len(joints_world))
    primitives = _assemble(static, rows, joints_world, wrist_rotations, device)
    haze = draw.uniform(0.3, 1.0)
    sky = torch.tensor([[haze, haze, haze * 1.05], [0.25 * haze, 0.4 * haze, 0.8 * haze]]) * draw.uniform(0.8, 2.0)
    return Room(
        indoors=indoors,
        low=torch.tensor(low, dtype=torch.float32, device=device),
        high=torch.tensor(high, dtype=torch.float32, device=device),
        shell=torch.tensor(shell, device=device),
        sky=sky.to(device),
        primitives=primitives,
        materials=materials.tensor(device),
        bank=materials.bank,
        light=Light(
            **{k: torch.tensor(v, dtype=torch.float32, device=device) for k, v in light.items()},
            softness=draw.uniform(0.6, 1.2) if not indoors else draw.uniform(1.0, 3.5),
            is_sun=not indoors,
        ),
    )


def _draw_shell(draw, materials, indoors, centre, reach, floor_height):
    if not indoors:
        ground = materials.add(
            ("grass", "gravel", "concrete", "tiles", "bricks"),
            draw.uniform(0.6, 2.0),
            draw.colour((0.05, 0.33), (0.05, 0.5), (0.2, 0.75)),
        )
        low = np.array([centre[0] - _FAR, centre[1] - _FAR, floor_height])
        return [ground] * 6, low, low + np.array([2 * _FAR, 2 * _FAR, _FAR])
    walls = np.array([[draw.uniform(0.3, 3.0) for _ in range(2)] for _ in range(2)])
    low = np.array([*(centre - reach - walls[0]), floor_height])
    high = np.array([*(centre + reach + walls[1]), floor_height + draw.uniform(2.3, 3.4)])
    if draw.chance(0.8):
        tone = draw.choice((((0.05, 0.11), (0.15, 0.7)), ((0.0, 1.0), (0.0, 0.12)), ((0.0, 1.0), (0.0, 0.5))))
        shade = draw.uniform(0.12, 0.9)
        colours = [draw.colour(*tone, (0.7 * shade, min(1.2 * shade, 1.0))) for _ in range(3)]
    else:
        colours = [draw.any_colour() for _ in range(3)]
    gloss = draw.uniform(0.1, 0.6) if draw.chance(0.5) else 0.0
    floor = materials.add(furniture.FLOORS, draw.uniform(0.5, 2.2), *colours, gloss=gloss)
    wall_colour = draw.grey(0.55, 0.98) if draw.chance(0.6) else draw.any_colour()
    wall = materials.add((*("plain",) * 5, "bricks", "concrete", "stripes", "planks"), 1.2, wall_colour)
    accent = wall
    if draw.chance(0.3):
        accent = materials.add(("plain", "print", "concrete", "tiles"), 1.2, draw.any_colour())
    ceiling = materials.add(("plain", "tiles"), 0.6, draw.grey(0.7, 1.0))
    return [wall, accent, wall, wall, floor, ceiling], low, high


def _furnish(draw, materials, static, indoors, joints_world, floor_height, low, high) -> None:
    """Put furniture where the wearer does not go, the nearer the more of it, rugs anywhere."""
    path = joints_world[:: max(len(joints_world) // 30, 1)][:, [0, 7, 8, 20, 21], :2].reshape(-1, 2)
    middle = path.mean(0)
    for _ in range(draw.integer(3, 14) if indoors else draw.integer(2, 8)):
        piece = draw.choice(furniture.INDOORS if indoors else furniture.OUTDOORS)(draw, materials)
        for _ in range(12):
            angle = draw.uniform(0, 2 * math.pi)
            distance = piece.radius + abs(draw.normal(0.45, 1.1 if indoors else 2.5))
            start = path[draw.integer(0, len(path) - 1)]
            spot = start + distance * np.array([math.cos(angle), math.sin(angle)])
            inside = (spot > low[:2] + 0.25).all() and (spot < high[:2] - 0.25).all()
            clear = np.linalg.norm(path - spot, axis=1).min() > piece.radius * 0.8 + 0.18
            if inside and clear:
                inward = math.atan2(*(middle - spot)[::-1])
                facing = inward + draw.choice((0.0, 0.0, math.pi, draw.uniform(0, 6.3)))
                _put(static, piece, turn_z(facing), np.array([*spot, floor_height]))
                break
    for _ in range(draw.integer(0, 2) if indoors else 0):
        rug = Piece()
        size, colours = draw.uniform(0.8, 2.5), [draw.any_colour() for _ in range(3)]
        material = materials.add(("rug", "stripes", "carpet", "print", "checks"), size, *colours)
        rug.add(BOX, (draw.uniform(0.5, 1.4), draw.uniform(0.4, 1.0), 0.004), (0, 0, 0), material)
        spot = middle + np.array([draw.uniform(-1, 1), draw.uniform(-1, 1)])
        _put(static, rug, turn_z(draw.uniform(0, 3.2)), np.array([*spot, floor_height]))


def _put(static: Piece, piece: Piece, rotation: np.ndarray, origin: np.ndarray) -> None:
    for kind, half, centre, own, material in piece.parts:
        static.parts.append((kind, half, tuple(rotation @ np.array(centre) + origin), rotation @ own, material))


def _dress_walls(draw, materials, static, low, high, lamp) -> None:
    """Hang pictures, doors, windows and ceiling panels as flat boxes."""
    for _ in range(draw.integer(1, 6)):
        side, sort = draw.integer(0, 3), draw.choice(("picture", "door", "window", "board"))
        axis, far = side // 2, side % 2
        half = np.array([0.02, 0.02, 0.02])
        along = 1 - axis
        span = high[along] - low[along]
        if sort == "door":
            half[along], half[2], z = 0.45, 1.0, 1.0
            material = furniture.wood_or_paint(draw, materials)
        elif sort == "window":
            half[along], half[2], z = draw.uniform(0.4, 1.0), draw.uniform(0.4, 0.7), 1.5
            material = materials.add(("plain", "poster"), 2.0, draw.grey(0.8, 1.0), emission=draw.uniform(0.8, 3.0))
        else:
            half[along], half[2], z = draw.uniform(0.15, 0.7), draw.uniform(0.15, 0.5), draw.uniform(1.2, 1.9)
            material = materials.add(("poster", "print", "text"), 1.0, *(draw.any_colour() for _ in range(3)))
        centre = np.zeros(3)
        centre[axis] = (low, high)[far][axis]
        centre[along] = low[along] + span * draw.uniform(0.1, 0.9)
        centre[2] = low[2] + z
        static.parts.append((BOX, tuple(half), tuple(centre), np.eye(3), material))
    glow = materials.add(("plain",), 1.0, (1.0, 1.0, 1.0), emission=draw.uniform(1.5, 4.0))
    half = (draw.uniform(0.1, 0.6), draw.uniform(0.1, 0.6), 0.02)
    static.parts.append((BOX, half, (float(lamp[0]), float(lamp[1]), float(high[2])), np.eye(3), glow))


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    c = math.cos(elevation)
    return np.array([c * math.cos(azimuth), c * math.sin(azimuth), math.sin(elevation)])


def _draw_light(draw, indoors, centre, floor_height, ceiling) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the fields of a `Light`, and where a lamp hangs."""
    warm = draw.uniform(-0.25, 0.25)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    away, angle = draw.uniform(0.2, 2.2), draw.uniform(0, 2 * math.pi)
    if indoors:
        side = draw.chance(0.3)  # a window rather than a lamp
        height = draw.uniform(1.2, 2.2) if side else ceiling - floor_height - 0.06
        away = draw.uniform(2.5, 4.5) if side else away
        position = np.array([*centre, floor_height + height]) + away * _direction(angle, 0.0)
        key, ambient = draw.uniform(0.3, 1.4), draw.uniform(0.35, 0.9)
    else:
        position = np.array([*centre, floor_height + 1.0]) + 25.0 * _direction(angle, draw.uniform(0.3, 1.4))
        if draw.chance(0.6):
            key, ambient = draw.uniform(1.2, 3.0), draw.uniform(0.25, 0.6)
        else:  # overcast
            key, ambient = 0.1, draw.uniform(0.6, 1.2)
    bounce = draw.uniform(0.25, 0.7)
    light = {
        "position": position,
        "colour": key * tint,
        "fill_direction": _direction(angle + draw.uniform(1.5, 4.5), draw.uniform(0.0, 0.8)),
        "fill_colour": draw.uniform(0.0, 0.3) * tint[::-1],
        "above": ambient * (0.5 + 0.5 * tint),
        "below": ambient * bounce * tint,
    }
    return light, position


def _place_supports(draw, materials, supports, static, floor_height, frames):
    """Add furniture that the motion rests on to `static`; return (support, part) of what hands hold or what goes."""
    held, step_material = [], furniture.wood_or_paint(draw, materials)
    for item in supports:
        height = 0.0 if item.holder else float(item.centre[2]) - floor_height
        piece = furniture.support(draw, materials, item.kind, item.size, height)
        if item.kind == "step":  # a staircase is of one piece
            piece.parts = [(*part[:4], step_material) for part in piece.parts]
        if item.holder or item.first > 0 or 0 <= item.last < frames - 1:
            held += [(item, part) for part in piece.parts]
        else:
            _put(static, piece, turn_z(item.yaw), np.asarray(item.centre, float))
    return held


def _assemble(static, held, joints_world, wrist_rotations, device) -> Primitives:
    rows = static.parts + [part for _, part in held]
    frames = len(joints_world) if held else 1
    centre = np.broadcast_to(np.array([row[2] for row in rows]), (frames, len(rows), 3)).copy()
    rotation = np.broadcast_to(np.array([row[3] for row in rows]), (frames, len(rows), 3, 3)).copy()
    there = np.ones((frames, len(rows)), bool)
    for k, (item, (_, _, local, own, _)) in enumerate(held, len(static.parts)):
        last = frames - 1 if item.last < 0 else item.last
        there[:, k] = (np.arange(frames) >= item.first) & (np.arange(frames) <= last)
        turned = turn_z(item.yaw)
        offset = turned @ np.array(local) + np.asarray(item.centre, float)
        if item.holder:
            R = wrist_rotations[item.holder]
            centre[:, k] = joints_world[:, SMPL22.index(item.holder)] + R @ offset
            rotation[:, k] = R @ turned @ own
        else:
            centre[:, k], rotation[:, k] = offset, turned @ own
    return Primitives(
        kind=torch.tensor([row[0] for row in rows], device=device),
        half=torch.tensor([row[1] for row in rows], dtype=torch.float32, device=device),
        centre=torch.tensor(centre, dtype=torch.float32, device=device),
        R_world_own=torch.tensor(rotation, dtype=torch.float32, device=device),
        material=torch.tensor([row[4] for row in rows], device=device),
        there=torch.tensor(there, device=device),
    )
