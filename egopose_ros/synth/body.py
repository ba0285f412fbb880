"""The wearer's body: a linear shape basis, skinned to the segments of smpl22, with fingers that curl.

The asset comes from `tools/make_body_asset.py`. It rests with arms half down (where linear skinning does least harm);
`Body.joints_tpose` are its joints in the T-pose that rotations are relative to: facing +x, arms along +-y, legs
straight down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from egopose_ros.skeleton import SMPL22

_ASSET = Path(__file__).parent / "data" / "body.safetensors"
_TALLEST, _SMALLEST = 1.98, 1.48


@dataclass(frozen=True)
class BodyAsset:
    """What all bodies share. V vertices, B bones, K shape components, P landmarks."""

    bones: tuple[str, ...]
    average: Tensor
    """(V + B + P, 3) vertices, bone heads and landmarks of the mean body [m], x forward, y left, z up"""
    basis: Tensor
    """(K, V + B + P, 3), a standard deviation each"""
    coefficients: Tensor
    """(N, K) of the bodies that the basis was made from"""
    traits: Tensor
    """(N, 4): share of male, anny's age, anny's weight, stature [m]"""
    faces: Tensor
    """(F, 3) int64"""
    weights: Tensor
    """(V, B) skinning weights"""
    shoes: Tensor
    """(V, 3) offsets to plain shoes"""
    part: Tensor
    """(V,) int64, the smpl22 segment of each vertex"""
    paint: Tensor
    """(V, 4) in 0..1: lips, eyes, hair, beard"""

    def bone(self, name: str) -> int:
        return self.bones.index(name)


@dataclass(frozen=True)
class Body:
    """One person, undressed, at rest."""

    asset: BodyAsset
    vertices: Tensor
    """(V, 3) [m]"""
    heads: Tensor
    """(B, 3) bone heads at rest"""
    R_tpose_rest: Tensor
    """(B, 3, 3) turns each bone from rest to the T-pose"""
    joints_tpose: Tensor
    """(22, 3)"""
    heads_tpose: Tensor
    """(B, 3)"""
    landmarks: Tensor
    """(P, 3) at rest: between the eyes, then finger tip and toe tip of the left and of the right"""
    sole_height: float
    """[m] of an ankle above the sole, shoes not counted"""
    male: float
    stature: float

    @property
    def eyes_from_head(self) -> Tensor:
        """(3,) from the head joint to the middle between the eyes, in the T-pose."""
        return self.landmarks[0] - self.heads[self.asset.bone("head")]


@dataclass(frozen=True)
class PosedBody:
    """A body over T frames, in the world."""

    vertices: Tensor
    """(T, V, 3)"""
    normals: Tensor
    """(T, V, 3), unit"""
    landmarks: Tensor
    """(T, P, 3)"""


@lru_cache(maxsize=4)
def load_asset(device: str = "cpu") -> BodyAsset:
    """Read the body that ships with the package."""
    with safe_open(_ASSET, framework="pt", device=device) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        bones = tuple(json.loads(file.metadata()["bones"]))
    weights = tensors["weights"].float()
    weights = weights / weights.sum(1, keepdim=True)
    owner = torch.tensor([SMPL22.index(_segment(bone)) for bone in bones], device=device)
    share = torch.zeros(len(weights), SMPL22.size, device=device).index_add_(1, owner, weights)
    return BodyAsset(
        bones=bones,
        average=tensors["average"].float(),
        basis=tensors["basis"].float(),
        coefficients=tensors["coefficients"].float(),
        traits=tensors["traits"].float(),
        faces=tensors["faces"].long(),
        weights=weights,
        shoes=tensors["shoes"].float(),
        part=share.argmax(1),
        paint=tensors["paint"].float(),
    )


def _segment(bone: str) -> str:
    """Name the smpl22 segment that a bone of the asset belongs to."""
    side, _, name = bone.partition("_")
    if name == "upper_arm":
        return f"{side}_shoulder"
    if name == "forearm":
        return f"{side}_elbow"
    if name.startswith("finger"):
        return f"{side}_wrist"
    return bone


def draw_body(generator: torch.Generator, first: float, last: float, device: str = "cpu") -> Body:
    """Draw a person from a stretch (shares `first` to `last`, 0..1) of the asset's list of people.

    Two people of like sex are mixed, so that no two draws are equal; stretches that do not overlap share nobody.
    """
    asset = load_asset(device)
    stature = asset.traits[:, 3]
    stretch = torch.arange(len(stature), device=device) / len(stature)
    fits = (stature > _SMALLEST) & (stature < _TALLEST) & (stretch >= first) & (stretch < last)
    male = asset.traits[:, 0] > 0.5
    sex = bool(torch.rand((), generator=generator) < 0.5)
    candidates = (fits & (male == sex)).nonzero()[:, 0]
    pick = torch.randint(len(candidates), (2,), generator=generator).to(device)
    share = float(torch.rand((), generator=generator)) * 0.5
    one, other = asset.coefficients[candidates[pick]]
    # Mixing shrinks towards the mean; the factor keeps the spread.
    mixed = ((1 - share) * one + share * other) / ((1 - share) ** 2 + share**2) ** 0.25
    return make_body(asset, mixed)


def make_body(asset: BodyAsset, coefficients: Tensor) -> Body:
    """Build the body of shape coefficients (K,)."""
    points = asset.average + torch.tensordot(coefficients, asset.basis, 1)
    vertices, heads, landmarks = points.tensor_split([len(asset.weights), len(asset.weights) + len(asset.bones)])
    R_tpose_rest = _rest_to_tpose(asset, heads)
    heads_tpose = _chain(asset, heads, R_tpose_rest)
    joints_tpose = torch.stack([heads_tpose[asset.bone(joint)] for joint in SMPL22.joints])
    nearest = (asset.coefficients - coefficients).square().sum(1).argmin()
    return Body(
        asset=asset,
        vertices=vertices,
        heads=heads,
        R_tpose_rest=R_tpose_rest,
        joints_tpose=joints_tpose,
        heads_tpose=heads_tpose,
        landmarks=landmarks,
        sole_height=float(heads[asset.bone("left_ankle"), 2] - vertices[:, 2].min()),
        male=float(asset.traits[nearest, 0]),
        stature=float(vertices[:, 2].max() - vertices[:, 2].min()),
    )


def _parent(bone: str) -> str:
    """Name the bone that carries another bone of the asset."""
    side, _, name = bone.partition("_")
    if name == "upper_arm":
        return f"{side}_collar"
    if name == "forearm":
        return f"{side}_elbow"
    if name.startswith("finger"):
        finger, joint = name.split("-")
        return f"{side}_wrist" if joint == "1" else f"{side}_{finger}-{int(joint) - 1}"
    parent = SMPL22.parents[SMPL22.index(bone)]
    return "" if parent < 0 else SMPL22.joints[parent]


def _ordered(asset: BodyAsset) -> list[tuple[int, int]]:
    """Return (bone, parent) numbers, parents first, -1 for the root."""
    parents = {bone: _parent(bone) for bone in asset.bones}
    done: list[str] = []
    while len(done) < len(parents):
        done += [bone for bone, parent in parents.items() if bone not in done and (not parent or parent in done)]
    return [(asset.bone(bone), asset.bone(parents[bone]) if parents[bone] else -1) for bone in done]


def _chain(asset: BodyAsset, heads: Tensor, rotation: Tensor) -> Tensor:
    """Return the bone heads (B, 3) after each bone turned by `rotation` (B, 3, 3) about its head."""
    moved = [heads[0]] * len(asset.bones)
    for bone, parent in _ordered(asset):
        if parent >= 0:
            moved[bone] = moved[parent] + rotation[parent] @ (heads[bone] - heads[parent])
    return torch.stack(moved)


def _frame(along: Tensor, across: Tensor) -> Tensor:
    """Return the rotation (3, 3) whose columns are `along`, `across` made orthogonal to it, and their product."""
    x = along / along.norm()
    y = across - (across @ x) * x
    y = y / y.norm()
    return torch.stack([x, y, torch.linalg.cross(x, y)], 1)


def _shortest(source: Tensor, target: Tensor) -> Tensor:
    """Return the smallest rotation that takes one direction to another."""
    a, b = source / source.norm(), target / target.norm()
    axis = torch.linalg.cross(a, b)
    k = torch.zeros(3, 3, device=a.device)
    k[0, 1], k[0, 2], k[1, 0], k[1, 2], k[2, 0], k[2, 1] = -axis[2], axis[1], axis[2], -axis[0], -axis[1], axis[0]
    return torch.eye(3, device=a.device) + k + k @ k / (1 + a @ b)


def _rest_to_tpose(asset: BodyAsset, heads: Tensor) -> Tensor:
    """Return the turn (B, 3, 3) of each bone from rest to the T-pose.

    Elbow hinges become vertical (a bent elbow brings the hand forward), palms face down, soles stay flat.
    """
    rotation = torch.eye(3, device=heads.device).repeat(len(asset.bones), 1, 1)
    x, y, z = torch.eye(3, device=heads.device)

    def put(name: str, value: Tensor) -> None:
        rotation[asset.bone(name)] = value

    def head(name: str) -> Tensor:
        return heads[asset.bone(name)]

    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder, elbow, wrist = (head(f"{side}_{joint}") for joint in ("shoulder", "elbow", "wrist"))
        hinge = torch.linalg.cross(elbow - shoulder, wrist - elbow)
        upper = _frame(sign * y, -sign * z) @ _frame(elbow - shoulder, hinge).T
        lower = _frame(sign * y, -sign * z) @ _frame(wrist - elbow, hinge).T
        fingers = head(f"{side}_finger3-1") - wrist
        thumb_side = head(f"{side}_finger2-1") - head(f"{side}_finger5-1")
        hand = _frame(sign * y, x) @ _frame(fingers, thumb_side).T
        for name in ("shoulder", "upper_arm"):
            put(f"{side}_{name}", upper)
        put(f"{side}_elbow", lower)
        put(f"{side}_forearm", _half_way(lower, hand))
        for bone in asset.bones:
            if bone.startswith(f"{side}_finger") or bone == f"{side}_wrist":
                put(bone, hand)
        hip, knee, ankle, ball = (head(f"{side}_{joint}") for joint in ("hip", "knee", "ankle", "foot"))
        put(f"{side}_hip", _shortest(knee - hip, -z))
        put(f"{side}_knee", _shortest(ankle - knee, -z))
        flat = (ball - ankle) * torch.tensor([1.0, 1.0, 0.0], device=heads.device)
        for name in ("ankle", "foot"):
            put(f"{side}_{name}", _shortest(flat, x))
    return rotation


def _half_way(first: Tensor, second: Tensor) -> Tensor:
    u, _, vt = torch.linalg.svd(first + second)
    return u @ vt


def _turn_y(angle: Tensor) -> Tensor:
    """Return rotations (..., 3, 3) about y."""
    s, c, o, one = angle.sin(), angle.cos(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, o, s, o, one, o, -s, o, c], -1).unflatten(-1, (3, 3))


def _twist_y(relative: Tensor) -> Tensor:
    """Return the angle (...) of the part of rotations (..., 3, 3) that turns about y, applied first."""
    trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1)
    return 2 * torch.atan2(relative[..., 0, 2] - relative[..., 2, 0], 1 + trace)


def _finger_turn(name: str, curl: Tensor) -> Tensor:
    """Return the turn (T, 3, 3) of a finger bone against its parent for a curl (T,) [rad]: towards the palm."""
    sign = 1.0 if name.startswith("left") else -1.0
    s, c, o, one = curl.sin(), curl.cos(), torch.zeros_like(curl), torch.ones_like(curl)
    if "finger1" in name:  # the thumb closes over the palm
        s = sign * s
        return torch.stack([c, -s, o, s, c, o, o, o, one], -1).unflatten(-1, (3, 3))
    s = -sign * s
    return torch.stack([one, o, o, o, c, -s, o, s, c], -1).unflatten(-1, (3, 3))


def bone_motion(body: Body, rotations_world: Tensor, joints_world: Tensor, curl: Tensor) -> tuple[Tensor, Tensor]:
    """Return rotations (T, B, 3, 3) from rest and head positions (T, B, 3) of every bone.

    rotations_world (T, 22, 3, 3) from the T-pose, joints_world (T, 22, 3), curl (T, 2) [rad] a finger joint, left and
    right.
    """
    asset, smpl = body.asset, {name: i for i, name in enumerate(SMPL22.joints)}
    rotation: dict[str, Tensor] = {name: rotations_world[:, i] for name, i in smpl.items()}
    position: dict[str, Tensor] = {name: joints_world[:, i] for name, i in smpl.items()}
    for k, side in enumerate(("left", "right")):
        upper, elbow, wrist = (rotation[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist"))
        collar = rotation[f"{side}_collar"]
        # Half of the twist sits in the middle of the limb, as in flesh.
        rotation[f"{side}_upper_arm"] = upper @ _turn_y(-0.5 * _twist_y(collar.mT @ upper))
        rotation[f"{side}_forearm"] = elbow @ _turn_y(0.5 * _twist_y(elbow.mT @ wrist))
        position[f"{side}_upper_arm"] = position[f"{side}_shoulder"]
        position[f"{side}_forearm"] = position[f"{side}_elbow"]
        for bone, parent in ((b, _parent(b)) for b in sorted(asset.bones) if b.startswith(f"{side}_finger")):
            offset = body.heads_tpose[asset.bone(bone)] - body.heads_tpose[asset.bone(parent)]
            position[bone] = position[parent] + rotation[parent] @ offset
            share = 0.4 if "finger1" in bone else 1.0
            rotation[bone] = rotation[parent] @ _finger_turn(bone, share * curl[:, k])
    turns = torch.stack([rotation[bone] for bone in asset.bones], 1) @ body.R_tpose_rest
    return turns, torch.stack([position[bone] for bone in asset.bones], 1)


def pose_body(
    body: Body,
    dressed: Tensor,
    normals: Tensor,
    weights: Tensor,
    rotations_world: Tensor,
    joints_world: Tensor,
    curl: Tensor,
) -> PosedBody:
    """Skin a dressed rest mesh (V, 3), with its normals and weights (V, B), to T frames (see `bone_motion`)."""
    asset = body.asset
    turns, positions = bone_motion(body, rotations_world, joints_world, curl)
    shift = positions - (turns @ body.heads[..., None])[..., 0]
    transform = torch.cat([turns, shift[..., None]], -1).flatten(2)  # (T, B, 12)
    blended = (weights @ transform).unflatten(-1, (3, 4))  # (T, V, 3, 4)
    vertices = (blended[..., :3] * dressed[:, None]).sum(-1) + blended[..., 3]
    turned = (blended[..., :3] * normals[:, None]).sum(-1)
    turned = turned / turned.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    carriers = [asset.bone(name) for name in ("head", "left_finger3-3", "left_foot", "right_finger3-3", "right_foot")]
    landmarks = (turns[:, carriers] @ body.landmarks[..., None])[..., 0] + shift[:, carriers]
    return PosedBody(vertices, turned, landmarks)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Return area-weighted unit normals (V, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(0, faces[:, k], normal)
    return total / total.norm(dim=-1, keepdim=True).clamp(min=1e-12)
