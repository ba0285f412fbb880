"""Boxes, cylinders and ellipsoids against marching along the rays."""

import torch

from egopose_ros.camera.models import KannalaBrandt
from egopose_ros.synth.primitives import BOX, CYLINDER, Primitives, cast, tiles_of_view
from egopose_ros.synth.raster import view_of_camera

VIEW = view_of_camera(
    KannalaBrandt(size=(72, 60), centre=(35.5, 29.5), focal=(20.0, 20.0), k=(0.0,) * 4, max_angle=1.7)
)


def scene(seed: int, count: int = 9) -> Primitives:
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(1, count, 3, 3, generator=generator))[0]
    rotation = rotation * torch.linalg.det(rotation).sign()[..., None, None]
    centre = 3.0 * torch.rand(1, count, 3, generator=generator) - 1.5
    return Primitives(
        kind=torch.arange(count) % 3,
        half=0.1 + 0.4 * torch.rand(count, 3, generator=generator),
        centre=centre + torch.tensor([0.0, 0.0, 1.2]),
        R_world_own=rotation,
        material=torch.zeros(count, dtype=torch.long),
        there=torch.ones(1, count, dtype=torch.bool),
    )


def inside(primitives: Primitives, points: torch.Tensor) -> torch.Tensor:
    """Say which of (P, 3) world points lie in each primitive: (P, K), from the definition of each solid."""
    own = torch.einsum("kji,pkj->pki", primitives.R_world_own[0], points[:, None] - primitives.centre[0])
    share = own / primitives.half
    box = (share.abs() <= 1).all(-1)
    tube = (share[..., :2].square().sum(-1) <= 1) & (share[..., 2].abs() <= 1)
    ball = share.square().sum(-1) <= 1
    return torch.where(primitives.kind == BOX, box, torch.where(primitives.kind == CYLINDER, tube, ball))


def test_finds_the_first_surface_along_every_ray():
    for seed in range(3):
        primitives = scene(seed)
        T = torch.eye(4)[None].clone()
        everywhere = torch.ones(1, len(VIEW.rays), dtype=torch.bool)
        hits = cast(primitives, T, VIEW, tiles_of_view(VIEW), everywhere)
        keep = VIEW.seen[hits.pixel]
        rays, distance = VIEW.rays[hits.pixel[keep]], hits.distance[keep]
        rows = torch.arange(len(rays))
        index = hits.primitive[keep]
        # On the surface: inside a little behind it, outside a little before it; and nothing lies between.
        assert inside(primitives, rays * (distance + 1e-3)[:, None])[rows, index].float().mean() > 0.99
        steps = torch.linspace(0.03, 1.0, 150)
        for step in steps:
            assert not inside(primitives, rays * (distance * step - 2e-3)[:, None]).any()
        missed = VIEW.seen.clone()
        missed[hits.pixel] = False
        blind = inside(primitives, torch.zeros(1, 3)).any()
        for step in torch.linspace(0.03, 5.0, 120):
            assert blind or not inside(primitives, VIEW.rays[missed] * step).any()


def test_normals_face_the_camera_and_are_unit():
    primitives = scene(5)
    everywhere = torch.ones(1, len(VIEW.rays), dtype=torch.bool)
    hits = cast(primitives, torch.eye(4)[None], VIEW, tiles_of_view(VIEW), everywhere)
    normal = (primitives.R_world_own[0, hits.primitive] @ hits.normal[..., None])[..., 0]
    torch.testing.assert_close(normal.norm(dim=-1), torch.ones(len(normal)))
    assert ((normal * VIEW.rays[hits.pixel]).sum(-1) < 1e-3).all()


def test_what_is_not_there_is_not_hit():
    primitives = scene(1)
    everywhere = torch.ones(1, len(VIEW.rays), dtype=torch.bool)
    hits = cast(primitives, torch.eye(4)[None], VIEW, tiles_of_view(VIEW), everywhere)
    seen = hits.primitive.unique()
    there = primitives.there.clone()
    there[0, seen[0]] = False
    fewer = Primitives(**{**primitives.__dict__, "there": there})
    again = cast(fewer, torch.eye(4)[None], VIEW, tiles_of_view(VIEW), everywhere)
    assert seen[0] not in again.primitive
    assert set(again.primitive.tolist()) >= set(seen[1:].tolist())
