"""How the wearer looks: garments over the body, shoes, skin, hair, beard.

Garments are the body's own surface, pushed out in the rest pose and folded; where a sleeve or a hem ends is decided at
each pixel from coordinates along the limbs, so edges stay sharp on a coarse mesh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.skeleton import SMPL22
from egopose_ros.synth.body import Body, vertex_normals
from egopose_ros.synth.hair import Strands, draw_strands
from egopose_ros.synth.materials import Colour, Draw, MaterialList

ARM, LEG, U_COS, U_SIN, V, COLLAR, HEIGHT, FRONT, SIDE = range(9)
LIPS, EYES, HAIR, BEARD, BROW = range(9, 14)
"""Columns of the vertex attributes: how far down the arm (0 shoulder, 1 elbow, 2 wrist) and leg, the direction round
the limb, metres along it, height above the neckline [m], height on the trunk (0 pelvis, 1 neck), metres to the front
and to the side, and masks of the face."""

_SKIN_TONES = (
    (0.88, 0.72, 0.63), (0.82, 0.64, 0.54), (0.74, 0.56, 0.45), (0.61, 0.44, 0.34), (0.45, 0.31, 0.23),
    (0.30, 0.21, 0.16), (0.91, 0.77, 0.69), (0.80, 0.66, 0.57),
)  # fmt: skip
"""display colours"""


@dataclass(frozen=True)
class Attire:
    """A dressed body at rest, and what each bit of it is made of."""

    vertices: Tensor
    """(V, 3) at rest"""
    normals: Tensor
    """(V, 3)"""
    attributes: Tensor
    """(V, 14) columns above"""
    faces: Tensor
    """(F, 3) of the body, and of hair that hangs"""
    weights: Tensor
    """(V, B) skinning weights"""
    part: Tensor
    """(V,) smpl22 segment"""
    round_radius: Tensor
    """(22,) [m] by which the angle round a segment becomes metres"""
    skin: int
    top: int
    inner: int
    bottom: int
    sock: int
    shoe: int
    hair: int
    band: int
    """materials; band is what a wrist wears"""
    sleeve: float
    """arm coordinate at which sleeves end"""
    trouser: float
    hem: float
    """trunk height at which the top ends"""
    neckline: float
    """[m]"""
    opening: float
    """[m] half width of the gap of an open jacket, 0 for none"""
    band_arm: float
    """-1 or 1 for a band on the right or left wrist, 0 for none"""
    shod: bool
    lip_colour: Tensor
    beard: float
    """how dense, 0..1"""
    crease: float
    """strength of folds in the shading"""

    def surface(self, attributes: Tensor, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return material (M,), uv (M, 2) [m] and whether it is cloth (M,), from attributes (M, 14), part (M,)."""
        a = attributes
        head = part == SMPL22.index("head")
        arm, leg = a[:, ARM], a[:, LEG]
        material = torch.full_like(part, self.skin)

        def put(where: Tensor, row: int) -> None:
            material.masked_fill_(where, row)

        limb = (arm > 0.0) | (leg > 0.0)
        put((leg > 0.0) & (leg < self.trouser), self.bottom)
        put(~head & ~limb & (a[:, HEIGHT] < self.hem), self.bottom)
        covered = ~head & (a[:, HEIGHT] >= self.hem) & (a[:, COLLAR] < self.neckline)
        put(covered & (arm <= 0.0) & (leg <= 0.25), self.top)
        put((arm > 0.0) & (arm < self.sleeve), self.top)
        if self.opening > 0:
            gap = (a[:, SIDE].abs() < self.opening) & (a[:, FRONT] > 0.0) & (arm <= 0.0)
            put(covered & gap & (leg <= 0.25), self.inner)
        put((leg > 1.72) & (leg > self.trouser), self.sock if self.shod else self.skin)
        if self.shod:
            put(leg > 1.93, self.shoe)
        if self.band_arm:
            on_side = a[:, SIDE] * self.band_arm > 0.1
            put((arm > 1.86) & (arm < 1.97) & on_side & (self.sleeve < 1.9), self.band)
        put(a[:, HAIR] > 0.5, self.hair)
        u = torch.atan2(a[:, U_SIN], a[:, U_COS]) * self.round_radius[part]
        cloth = (material == self.top) | (material == self.bottom) | (material == self.inner)
        return material, torch.stack([u, a[:, V]], -1), cloth

    def make_up(self, albedo: Tensor, attributes: Tensor, material: Tensor, hair_colour: Tensor) -> Tensor:
        """Colour lips, eyes, brows and beard into the albedo (M, 3) of skin."""
        skin = (material == self.skin).float()
        eye = torch.tensor([0.16, 0.13, 0.12], device=albedo.device)  # seen from above: lashes, iris and their shade
        for column, strength, colour in (
            (LIPS, 0.8, self.lip_colour), (BEARD, self.beard, hair_colour), (BROW, 0.8, hair_colour), (EYES, 0.9, eye)
        ):  # fmt: skip
            if strength:
                amount = (skin * attributes[:, column] * strength).clamp(0, 1)[:, None]
                albedo = albedo + amount * (colour - albedo)
        return albedo


def draw_attire(draw: Draw, materials: MaterialList, body: Body) -> Attire:
    """Dress a body."""
    attributes = _attributes(body)
    device = body.vertices.device
    sleeve = draw.choice((0.12, draw.uniform(0.4, 0.85), draw.uniform(0.5, 0.8), draw.uniform(1.1, 1.6), 1.96, 1.96))
    style = {
        "sleeve": sleeve,
        "trouser": draw.choice((draw.uniform(0.45, 1.1), draw.uniform(1.8, 1.95), 1.95, 1.95)),
        "hem": draw.uniform(-0.25, 0.1),
        "neckline": draw.uniform(-0.065, 0.0) if draw.chance(0.8) else draw.uniform(0.0, 0.05),
        "opening": draw.uniform(0.02, 0.1) if sleeve > 1.8 and draw.chance(0.35) else 0.0,
        "shod": draw.chance(0.85),
    }
    tone = _SKIN_TONES[draw.integer(0, len(_SKIN_TONES) - 1)]
    shade = draw.uniform(0.85, 1.08)
    skin: Colour = tuple(min(channel * shade, 0.95) ** 2.2 for channel in tone)
    hair = _hair_colour(draw)
    beard = draw.uniform(0.2, 0.9) if body.male > 0.5 and draw.chance(0.45) else 0.0
    thickness = {
        "top": draw.uniform(0.003, 0.012) if draw.chance(0.6) else draw.uniform(0.012, 0.028),
        "bottom": draw.uniform(0.004, 0.02),
        "hair": 0.0 if draw.chance(0.1) else draw.uniform(0.005, 0.03),
    }
    vertices = _dress(draw, body, attributes, style, thickness)
    mesh = (vertices, vertex_normals(vertices, body.asset.faces), attributes, body.asset.faces, body.asset.weights)
    mesh = (*mesh, body.asset.part)
    if thickness["hair"] and draw.chance(0.35 if body.male < 0.5 else 0.06):
        mesh = _with_strands(mesh, draw_strands(draw, body))
    shirt, trousers = _garment(draw, materials), _garment(draw, materials, legs=True)
    return Attire(
        *mesh,
        round_radius=_round_radius(device),
        skin=materials.add(("concrete",), 0.12, skin, tuple(c * f for c, f in zip(skin, (1.03, 0.9, 0.86)))),
        top=shirt,
        inner=_garment(draw, materials),
        bottom=trousers,
        sock=materials.add(("weave", "stripes"), 0.1, draw.grey(0.03, 0.95)),
        shoe=materials.add(("plain", "weave", "print"), 0.3, _clothes_colour(draw), draw.any_colour(), gloss=0.1),
        hair=materials.add(("planks",), 0.08, hair) if thickness["hair"] else materials.add(("plain",), 0.1, skin),
        band=materials.add(("plain", "stripes"), 0.05, draw.grey(0.02, 0.8), gloss=0.3),
        **style,
        band_arm=draw.choice((-1.0, 0.0, 0.0, 1.0, 1.0)),
        lip_colour=torch.tensor([skin[0] * 0.9, skin[1] * draw.uniform(0.45, 0.75), skin[2] * 0.7], device=device),
        beard=beard,
        crease=draw.uniform(0.15, 0.7),
    )


def _with_strands(mesh: tuple[Tensor, ...], strands: Strands) -> tuple[Tensor, ...]:
    """Append hanging hair to vertices, normals, attributes, faces, weights and parts."""
    vertices, normals, attributes, faces, weights, part = mesh
    device = vertices.device
    look = attributes.new_zeros(len(strands.vertices), attributes.shape[1])
    look[:, [ARM, LEG]] = -0.5
    look[:, HAIR] = 1.0
    look[:, U_COS], look[:, V] = 1.0, strands.vertices[:, 2].to(device)
    return (
        torch.cat([vertices, strands.vertices.to(device)]),
        torch.cat([normals, strands.normals.to(device)]),
        torch.cat([attributes, look]),
        torch.cat([faces, strands.faces.to(device) + len(vertices)]),
        torch.cat([weights, strands.weights.to(device)]),
        torch.cat([part, torch.full((len(look),), SMPL22.index("head"), device=device)]),
    )


def _hair_colour(draw: Draw) -> Colour:
    dark = draw.uniform(0.04, 0.2)
    options = [(dark, dark * 0.8, dark * 0.65)] * 3 + [(0.35, 0.22, 0.12), (0.65, 0.5, 0.3), (0.5, 0.5, 0.5)]
    return tuple(channel**2.2 for channel in draw.choice(options))


def _clothes_colour(draw: Draw) -> Colour:
    sort = draw.uniform(0, 1)
    if sort < 0.33:
        return draw.grey(0.03, 0.2)
    if sort < 0.5:
        return draw.colour((0.55, 0.7), (0.2, 0.8), (0.1, 0.5))
    if sort < 0.62:
        return draw.grey(0.6, 0.97)
    return draw.any_colour()


def _garment(draw: Draw, materials: MaterialList, legs: bool = False) -> int:
    colour = _clothes_colour(draw)
    if draw.chance(0.55):
        kinds = ("denim", "weave", "plain") if legs else ("plain", "weave", "weave")
        return materials.add(kinds, draw.uniform(0.15, 0.5), colour)
    kinds = ("checks", "stripes", "denim", "print") if legs else ("stripes", "checks", "dots", "print", "poster", "rug")
    return materials.add(kinds, draw.uniform(0.12, 0.6), colour, _clothes_colour(draw), draw.any_colour())


def _round_radius(device) -> Tensor:
    radius = {"hip": 0.085, "knee": 0.06, "ankle": 0.05, "foot": 0.05, "shoulder": 0.05, "elbow": 0.04, "wrist": 0.04}
    return torch.tensor([radius.get(j.split("_")[-1], 0.15) for j in SMPL22.joints], device=device)


def _attributes(body: Body) -> Tensor:
    """Return the vertex attributes (V, 14)."""
    v, asset, heads = body.vertices, body.asset, body.heads
    out = torch.zeros(len(v), 14, device=v.device)
    out[:, [ARM, LEG]] = -0.5
    pelvis, neck = heads[asset.bone("pelvis")], heads[asset.bone("neck")]
    out[:, HEIGHT] = (v[:, 2] - pelvis[2]) / (neck[2] - pelvis[2])
    out[:, U_COS], out[:, U_SIN], out[:, V] = v[:, 0] - pelvis[0], v[:, 1], v[:, 2]
    relative = v - neck
    out[:, COLLAR] = relative[:, 2] + 0.5 * relative[:, 0] - 0.35 * relative[:, 1].abs()
    out[:, FRONT], out[:, SIDE] = v[:, 0] - pelvis[0] - 0.03, v[:, 1]
    for side in ("left", "right"):
        arm = [f"{side}_{j}" for j in ("shoulder", "elbow", "wrist")]
        leg = [f"{side}_{j}" for j in ("hip", "knee", "ankle", "foot")]
        for column, chain, joints in ((ARM, arm, arm), (LEG, leg[:3], leg)):
            member = torch.zeros(len(v), dtype=torch.bool, device=v.device)
            for joint in joints:
                member |= asset.part == SMPL22.index(joint)
            points = [heads[asset.bone(joint)] for joint in chain]
            along, offset, metres = _along(v[member], points)
            out[member, column] = along
            out[member, V] = metres
            out[member, U_COS], out[member, U_SIN] = offset[:, 0], offset[:, 1]
    out[:, LIPS : LIPS + 4] = asset.paint
    eyes = body.landmarks[0]
    face = v - eyes
    brow = 1 - ((face[:, 2] - 0.026) / 0.009).abs() - (((face[:, 1].abs() - 0.035) / 0.026).abs() - 0.7).clamp(min=0)
    out[:, BROW] = (brow.clamp(0, 1) * 2).clamp(max=1) * (face[:, 0] > -0.03) * (asset.part == SMPL22.index("head"))
    return out


def _along(points: Tensor, chain: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coordinate (M,) along a chain of three joints, offsets (M, 2) across it, and metres along it."""
    first, second = chain[1] - chain[0], chain[2] - chain[1]
    s1 = ((points - chain[0]) @ first) / (first @ first)
    s2 = ((points - chain[1]) @ second) / (second @ second)
    lower = (s2 > 0) & (s1 > 0.85)
    along = torch.where(lower, 1 + s2, s1.clamp(0.02, 0.999))
    metres = torch.where(lower, first.norm() + s2 * second.norm(), s1 * first.norm())
    axis = torch.where(lower[:, None], second / second.norm(), first / first.norm())
    base = torch.where(lower[:, None], chain[1], chain[0])
    relative = points - base
    relative = relative - (relative * axis).sum(-1, keepdim=True) * axis
    forward = torch.tensor([1.0, 0.0, 0.0], device=points.device)
    e1 = torch.nn.functional.normalize(forward - (axis @ forward)[:, None] * axis, dim=-1)
    e2 = torch.linalg.cross(axis, e1)
    return along, torch.stack([(relative * e1).sum(-1), (relative * e2).sum(-1)], -1), metres


def _dress(draw: Draw, body: Body, a: Tensor, style: dict, thickness: dict) -> Tensor:
    """Return rest vertices pushed out by garments, folds, hair and shoes."""
    v, asset = body.vertices, body.asset
    normals = vertex_normals(v, asset.faces)
    head = asset.part == SMPL22.index("head")
    arm, leg, height = a[:, ARM], a[:, LEG], a[:, HEIGHT]
    hand = arm > 1.97
    top = ((arm <= 0) & (leg <= 0.25) & (height >= style["hem"]) & (a[:, COLLAR] < style["neckline"]) & ~head) | (
        (arm > 0) & (arm < style["sleeve"])
    )
    bottom = (((leg > 0) & (leg < style["trouser"])) | ((leg <= 0) & (arm <= 0) & (height < style["hem"]))) & ~top
    # Sleeves and trouser legs widen towards their ends, and hang from what they cover.
    flare = 1.0 + draw.uniform(0.0, 1.2) * (arm.clamp(0, 2) + leg.clamp(0, 2)) / 2
    offset = top * thickness["top"] * flare + bottom * thickness["bottom"] * flare
    belly = top & (arm <= 0) & (height < 0.35)
    offset = offset + belly * (thickness["bottom"] + 0.004)
    cloth = (top | bottom) & ~hand
    offset = offset + cloth * _folds(draw, v) * draw.uniform(0.002, 0.007)
    offset = offset + (a[:, HAIR] > 0.3) * thickness["hair"] * a[:, HAIR]
    out = v + offset[:, None] * normals
    return out + asset.shoes if style["shod"] else out


def _folds(draw: Draw, v: Tensor) -> Tensor:
    """Return a sum of waves (V,) of about unit height through space."""
    total = torch.zeros_like(v[:, 0])
    for _ in range(6):
        direction = torch.tensor([draw.normal() for _ in range(3)], device=v.device)
        frequency = 2 * math.pi / draw.uniform(0.06, 0.2)
        total = total + torch.sin(v @ (direction / direction.norm()) * frequency + draw.uniform(0, 6.3))
    return total / 2.0
