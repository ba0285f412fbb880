"""Pieces of furniture and things held in the hands, of primitives in their own axes: z up, origin on the floor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from egopose_ros.synth.materials import Draw, MaterialList
from egopose_ros.synth.primitives import BOX, CYLINDER, ELLIPSOID

FLOORS = ("planks", "parquet", "tiles", "carpet", "marble", "terrazzo", "concrete", "plain", "checks")
CLOTH = ("plain", "weave", "stripes", "checks", "dots", "print", "carpet")
SOLID = ("plain", "planks", "concrete", "marble", "weave")


@dataclass
class Piece:
    """Primitives in one set of axes."""

    parts: list[tuple[int, tuple[float, float, float], tuple[float, float, float], np.ndarray, int]] = field(
        default_factory=list
    )
    """kind, half extents, centre, rotation, material"""

    def add(self, kind: int, half, centre, material: int, rotation: np.ndarray | None = None) -> None:
        self.parts.append((kind, tuple(half), tuple(centre), np.eye(3) if rotation is None else rotation, material))

    def legs(self, draw: Draw, x: float, y: float, height: float, material: int, inset: float = 0.04) -> None:
        """Add four legs under a top that is 2x by 2y."""
        r, kind = draw.uniform(0.012, 0.035), draw.choice((BOX, CYLINDER))
        for sx in (-1, 1):
            for sy in (-1, 1):
                self.add(kind, (r, r, height / 2), (sx * (x - inset), sy * (y - inset), height / 2), material)

    @property
    def radius(self) -> float:
        """[m] of the circle about the origin that holds the piece, seen from above."""
        return max((math.hypot(*c[:2]) + math.hypot(*h[:2]) for _, h, c, _, _ in self.parts), default=0.0)


def turn_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def turn_y(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def wood_or_paint(draw: Draw, materials: MaterialList) -> int:
    """Return a material as of tables and cupboards."""
    if draw.chance(0.5):
        return materials.add(("planks",), draw.uniform(0.5, 1.2), draw.colour((0.05, 0.11), (0.2, 0.65), (0.2, 0.85)))
    if draw.chance(0.7):
        return materials.add(SOLID, draw.uniform(0.4, 1.5), draw.grey(0.05, 0.95), gloss=draw.uniform(0, 0.3))
    return materials.add(SOLID, draw.uniform(0.4, 1.5), draw.any_colour())


def dark_or_metal(draw: Draw, materials: MaterialList) -> int:
    return materials.add(("plain",), 1.0, draw.grey(0.03, 0.25) if draw.chance(0.6) else draw.grey(0.5, 0.9), gloss=0.2)


def cloth(draw: Draw, materials: MaterialList) -> int:
    colours = [draw.any_colour() for _ in range(3)] if draw.chance(0.5) else [draw.grey(0.03, 0.5)]
    return materials.add(CLOTH, draw.uniform(0.2, 0.8), *colours)


def table(draw: Draw, materials: MaterialList, half=None, height: float | None = None) -> Piece:
    """A desk or table, often with things on it."""
    piece = Piece()
    x, y = half or (draw.uniform(0.3, 0.5), draw.uniform(0.4, 1.0))
    height = height or draw.uniform(0.68, 0.78)
    top, frame = wood_or_paint(draw, materials), dark_or_metal(draw, materials)
    thick = draw.uniform(0.01, 0.025)
    piece.add(BOX, (x, y, thick), (0, 0, height - thick), top)
    piece.legs(draw, x, y, height - 2 * thick, frame)
    for _ in range(draw.integer(0, 5)):
        _thing_on_top(draw, materials, piece, x, y, height)
    return piece


def _thing_on_top(draw: Draw, materials: MaterialList, piece: Piece, x: float, y: float, height: float) -> None:
    px, py, yaw = draw.uniform(-0.8, 0.8) * x, draw.uniform(-0.8, 0.8) * y, draw.uniform(0, 6.3)
    sort = draw.integer(0, 5)
    if sort == 0:  # monitor
        width = draw.uniform(0.2, 0.35)
        screen = _screen(draw, materials, 2 * width)
        piece.add(BOX, (0.015, width, width * 0.6), (px, py, height + 0.1 + width * 0.6), screen, turn_z(yaw))
        piece.add(CYLINDER, (0.09, 0.09, 0.005), (px, py, height + 0.005), dark_or_metal(draw, materials))
        piece.add(CYLINDER, (0.02, 0.02, 0.06), (px, py, height + 0.06), dark_or_metal(draw, materials))
    elif sort == 1:  # sheet of paper or book
        material = materials.add(("text", "poster"), 0.25, draw.grey(0.8, 1.0), draw.grey(0.02, 0.3))
        piece.add(BOX, (0.105, 0.15, draw.uniform(0.001, 0.02)), (px, py, height + 0.005), material, turn_z(yaw))
    elif sort == 2:  # keyboard
        material = materials.add(("tiles", "checks"), 0.1, draw.grey(0.02, 0.9))
        piece.add(BOX, (0.07, 0.21, 0.012), (px, py, height + 0.012), material, turn_z(yaw))
    elif sort == 3:  # cup
        material = materials.add(("plain", "print"), 0.1, draw.any_colour(), gloss=0.4)
        piece.add(CYLINDER, (0.04, 0.04, 0.05), (px, py, height + 0.05), material)
    elif sort == 4:  # laptop
        body = dark_or_metal(draw, materials)
        keys = materials.add(("checks", "tiles"), 0.15, draw.grey(0.02, 0.3))
        screen = _screen(draw, materials, 0.35)
        yaw = draw.choice((0.0, math.pi, 0.3, math.pi - 0.3))
        piece.add(BOX, (0.11, 0.16, 0.008), (px, py, height + 0.008), keys, turn_z(yaw))
        offset = turn_z(yaw) @ np.array([0.15, 0.0, 0.11])
        lid = turn_z(yaw) @ turn_y(0.35)
        for half, away, material in (((0.004, 0.16, 0.11), 1.0, screen), ((0.003, 0.161, 0.111), 1.05, body)):
            piece.add(BOX, half, (px + away * offset[0], py + away * offset[1], height + offset[2]), material, lid)
    else:  # box
        size = [draw.uniform(0.03, 0.15) for _ in range(3)]
        material = materials.add(("plain", "print", "poster", "books"), 0.3, draw.any_colour(), draw.any_colour())
        piece.add(BOX, size, (px, py, height + size[2]), material, turn_z(yaw))


def chair(draw: Draw, materials: MaterialList, height: float | None = None, half=None) -> Piece:
    """A chair that faces +x: four legs, or a star base on castors."""
    piece = Piece()
    height = height or draw.uniform(0.4, 0.52)
    x, y = half or (draw.uniform(0.19, 0.25), draw.uniform(0.19, 0.26))
    seat = cloth(draw, materials) if draw.chance(0.6) else wood_or_paint(draw, materials)
    frame = dark_or_metal(draw, materials)
    thick = draw.uniform(0.012, 0.045)
    piece.add(BOX, (x, y, thick), (0, 0, height - thick), seat)
    back = draw.uniform(0.15, 0.3)
    above, lean = height + back + draw.uniform(0, 0.12), draw.uniform(0, 0.25)
    piece.add(BOX, (0.02, y * 0.95, back), (-x, 0, above), seat, turn_y(-lean))
    if draw.chance(0.5):
        piece.legs(draw, x, y, height - 2 * thick, frame)
        return piece
    piece.add(CYLINDER, (0.03, 0.03, height / 2 - 0.04), (0, 0, height / 2), frame)
    for k in range(5):
        spoke = turn_z(2 * math.pi * k / 5 + 0.3)
        piece.add(BOX, (0.14, 0.02, 0.015), tuple(spoke @ (0.15, 0, 0.07)), frame, spoke)
        piece.add(ELLIPSOID, (0.028, 0.028, 0.028), tuple(spoke @ (0.28, 0, 0.028)), frame)
    if draw.chance(0.6):
        for side in (-1, 1):
            piece.add(BOX, (0.13, 0.025, 0.014), (0, side * (y + 0.03), height + 0.2), frame)
            piece.add(BOX, (0.015, 0.012, 0.11), (0, side * (y + 0.03), height + 0.09), frame)
    return piece


def _screen(draw: Draw, materials: MaterialList, size: float) -> int:
    colours = draw.any_colour(), draw.grey(0.6, 1), draw.grey(0, 0.4)
    return materials.add(("screen",), size, *colours, emission=0.6)


def sofa(draw: Draw, materials: MaterialList) -> Piece:
    piece, material = Piece(), cloth(draw, materials)
    width, height = draw.uniform(0.4, 1.0), draw.uniform(0.36, 0.45)
    piece.add(BOX, (0.4, width, height / 2), (0, 0, height / 2), material)
    piece.add(BOX, (0.1, width, 0.4), (-0.36, 0, 0.4), material)
    for side in (-1, 1):
        piece.add(BOX, (0.4, 0.09, 0.3), (0, side * (width + 0.05), 0.3), material)
    return piece


def shelf(draw: Draw, materials: MaterialList) -> Piece:
    piece, material = Piece(), wood_or_paint(draw, materials)
    width, height, rows = draw.uniform(0.3, 0.7), draw.uniform(0.8, 2.1), draw.integer(2, 5)
    piece.add(BOX, (0.01, width, height / 2), (-0.14, 0, height / 2), material)
    for row in range(rows + 1):
        piece.add(BOX, (0.15, width, 0.01), (0, 0, height * row / rows), material)
        if row < rows and draw.chance(0.8):
            books = materials.add(("books",), 0.6, *(draw.any_colour() for _ in range(3)))
            tall = height / rows * draw.uniform(0.5, 0.85) / 2
            piece.add(BOX, (0.09, width * draw.uniform(0.4, 0.95), tall), (-0.03, 0, height * row / rows + tall), books)
    for side in (-1, 1):
        piece.add(BOX, (0.15, 0.01, height / 2), (0, side * width, height / 2), material)
    return piece


def cabinet(draw: Draw, materials: MaterialList) -> Piece:
    piece = Piece()
    x, y, height = draw.uniform(0.2, 0.35), draw.uniform(0.2, 0.7), draw.uniform(0.5, 2.0)
    piece.add(BOX, (x, y, height / 2), (0, 0, height / 2), wood_or_paint(draw, materials))
    for row in range(draw.integer(1, 4)):
        knob = dark_or_metal(draw, materials)
        piece.add(BOX, (0.012, 0.06, 0.008), (x + 0.012, 0, height * (row + 0.7) / 4), knob)
    return piece


def plant(draw: Draw, materials: MaterialList) -> Piece:
    piece = Piece()
    pot = materials.add(("plain", "print"), 0.4, draw.any_colour())
    leaf = materials.add(("grass", "gravel"), 0.3, draw.colour((0.22, 0.38), (0.4, 0.9), (0.15, 0.55)))
    size = draw.uniform(0.1, 0.2)
    piece.add(CYLINDER, (size, size, size), (0, 0, size), pot)
    for _ in range(draw.integer(3, 7)):
        r = draw.uniform(0.08, 0.25)
        place = (draw.uniform(-0.2, 0.2), draw.uniform(-0.2, 0.2), 2 * size + draw.uniform(0.05, 0.7))
        half = (r, r * draw.uniform(0.3, 1), r * draw.uniform(0.5, 1.2))
        piece.add(ELLIPSOID, half, place, leaf, turn_y(draw.uniform(-1, 1)))
    return piece


def clutter(draw: Draw, materials: MaterialList) -> Piece:
    """A bin, a box, a bag or a ball."""
    piece, sort = Piece(), draw.integer(0, 2)
    colours = [draw.any_colour() for _ in range(3)]
    material = materials.add(("plain", "print", "poster", "weave", "planks"), 0.5, *colours)
    half = [draw.uniform(0.06, 0.25) for _ in range(3)]
    if sort == 1:
        half[1] = half[0]
    piece.add((BOX, CYLINDER, ELLIPSOID)[sort], half, (0, 0, half[2]), material)
    return piece


def pillar(draw: Draw, materials: MaterialList) -> Piece:
    """A trunk, a lamp post or a column."""
    piece = Piece()
    r = draw.uniform(0.05, 0.35)
    colour = draw.colour((0.02, 0.12), (0, 0.5), (0.1, 0.8))
    material = materials.add(("planks", "concrete", "bricks", "plain"), 0.8, colour)
    piece.add(draw.choice((BOX, CYLINDER)), (r, r, 2.0), (0, 0, 2.0), material)
    return piece


def bench(draw: Draw, materials: MaterialList) -> Piece:
    piece, material = Piece(), wood_or_paint(draw, materials)
    width, height = draw.uniform(0.5, 1.0), draw.uniform(0.4, 0.5)
    piece.add(BOX, (0.2, width, 0.03), (0, 0, height - 0.03), material)
    piece.legs(draw, 0.2, width, height - 0.06, dark_or_metal(draw, materials))
    return piece


INDOORS = (table, table, chair, chair, sofa, shelf, cabinet, plant, clutter, clutter, bench)
OUTDOORS = (plant, plant, pillar, pillar, bench, clutter, cabinet)


def support(draw: Draw, materials: MaterialList, kind: str, size: np.ndarray, height: float) -> Piece:
    """Return what a motion rests on or holds, in axes at the middle of the box (size (3,) [m]) that the motion states.

    height [m] is that middle's above the floor: seats and tables get legs that reach it.
    """
    piece, half = Piece(), np.maximum(np.asarray(size, float) / 2, 0.002)
    top = height + half[2]
    if (kind == "seat" and top > 0.3 and draw.chance(0.8)) or kind == "table":
        build = table if kind == "table" else chair
        built = build(draw, materials, half=(half[0], half[1]), height=float(top))
        # Of a chair, only what lies below the seat: the motion brings its own backrest, where it has one.
        rows = [row for row in built.parts if kind == "table" or row[2][2] < top]
        piece.parts = [(k, h, (c[0], c[1], c[2] - height), R, m) for k, h, c, R, m in rows]
        return piece
    if kind == "seat":
        piece.add(BOX, (half[0], half[1], top / 2), (0, 0, top / 2 - height), cloth(draw, materials))
        return piece
    if kind in ("newspaper", "book"):
        material = materials.add(("text",), draw.uniform(0.2, 0.4), draw.grey(0.7, 1.0), draw.grey(0.02, 0.3))
    elif kind in ("phone", "tablet"):
        material = materials.add(
            ("screen",), float(max(size)), draw.grey(0, 0.1), draw.any_colour(), draw.grey(0.6, 1), emission=0.5
        )
    elif kind in ("cup", "stick", "handle"):
        material = materials.add(("plain", "print", "planks"), 0.1, draw.any_colour(), draw.any_colour(), gloss=0.3)
    else:
        material = cloth(draw, materials) if kind == "backrest" else wood_or_paint(draw, materials)
    if kind == "stick" or kind == "handle":
        long = int(np.argmax(half))
        turned = {0: turn_y(math.pi / 2), 1: np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), 2: np.eye(3)}[long]
        others = [half[i] for i in range(3) if i != long]
        piece.add(CYLINDER, (others[0], others[1], half[long]), (0, 0, 0), material, turned)
    else:
        piece.add(CYLINDER if kind == "cup" else BOX, half, (0, 0, 0), material)
    return piece
