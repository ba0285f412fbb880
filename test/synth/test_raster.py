"""The rasteriser against a ray-caster on the same triangles and rays."""

import numpy as np
import pytest
import torch

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.camera.models import DoubleSphere, KannalaBrandt, Pinhole
from egopose_ros.synth.body import draw_body, pose_body, vertex_normals
from egopose_ros.synth.raster import rasterise, view_of_camera
from egopose_ros.synth.rigs import looking

CAMERAS = {
    "canonical": CANONICAL,
    "kannala_brandt": KannalaBrandt(
        size=(200, 160), centre=(101.3, 77.9), focal=(61.0, 60.0), k=(0.01, -0.004, 0.001, 0.0), max_angle=1.6
    ),
    "double_sphere": DoubleSphere(
        size=(180, 180), centre=(90.0, 89.0), focal=(50.0, 50.0), xi=-0.2, alpha=0.6, max_angle=1.7
    ),
    "pinhole": Pinhole(size=(160, 120), centre=(79.5, 59.5), focal=(70.0, 70.0), max_angle=0.96),
}


def bodies(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vertices (N, V, 3) of different people in random poses, seen from above the eyes, and the faces."""
    vertices, generator = [], torch.Generator().manual_seed(4)
    for index in range(count):
        body = draw_body(generator, 0.0, 1.0)
        joints = body.joints_tpose[None]
        rotations = torch.eye(3).repeat(1, 22, 1, 1)
        angle = torch.randn(22, generator=generator) * 0.4
        rotations[0, :, 0, 0] = rotations[0, :, 1, 1] = angle.cos()
        rotations[0, :, 0, 1], rotations[0, :, 1, 0] = -angle.sin(), angle.sin()
        normals = vertex_normals(body.vertices, body.asset.faces)
        posed = pose_body(body, body.vertices, normals, body.asset.weights, rotations, joints, torch.full((1, 2), 0.4))
        camera = posed.landmarks[0, 0] + torch.tensor([0.12, 0.0, 0.02 + 0.05 * index])
        R = torch.tensor(looking(0.2 * index, 0.1, 0.0), dtype=torch.float32)
        vertices.append((posed.vertices[0] - camera) @ R)
    return torch.stack(vertices), body.asset.faces


@pytest.mark.parametrize("name", CAMERAS)
def test_agrees_with_a_ray_caster(name):
    embreex = pytest.importorskip("embreex.mesh_construction", reason="the ray-caster is a test extra")
    from embreex import rtcore_scene

    view = view_of_camera(CAMERAS[name])
    points, faces = bodies(3)
    hits = rasterise(points, faces, view)
    pixels = len(view.rays)
    for image in range(len(points)):
        mine = hits.image == image
        found = torch.full((pixels,), -1)
        found[hits.pixel[mine] - image * pixels] = hits.face[mine]
        distance = torch.zeros(pixels)
        distance[hits.pixel[mine] - image * pixels] = hits.distance[mine]
        scene = rtcore_scene.EmbreeScene()
        embreex.TriangleMesh(scene, points[image].numpy()[faces.numpy()])
        cast = scene.run(np.zeros((pixels, 3), np.float32), view.rays.numpy().astype(np.float32), output=1)
        hit = torch.from_numpy(cast["primID"] >= 0) & view.seen
        # The ray-caster also meets backs of triangles, which a closed body shows only to a camera inside it.
        both = hit & (found >= 0)
        assert hit.sum() > 500
        assert (hit ^ (found >= 0)).sum() <= 0.001 * hit.sum()
        same = found[both] == torch.from_numpy(cast["primID"])[both]
        error = (distance[both] - torch.from_numpy(cast["tfar"])[both]).abs()
        assert same.float().mean() > 0.995
        assert error[same].max() < 1e-3 and error.quantile(0.99) < 1e-4


def test_interpolates_what_lies_under_the_ray():
    view = view_of_camera(CANONICAL)
    points, faces = bodies(2)
    hits = rasterise(points, faces, view)
    expected = view.rays[hits.pixel % len(view.rays)] * hits.distance[:, None]
    torch.testing.assert_close(hits.interpolate(points, faces), expected, atol=2e-4, rtol=0)


def test_an_image_does_not_depend_on_its_batch():
    view = view_of_camera(CAMERAS["pinhole"])
    points, faces = bodies(3)
    together, alone = rasterise(points, faces, view), rasterise(points[1:2], faces, view)
    mine = together.image == 1
    assert torch.equal(together.pixel[mine] - len(view.rays), alone.pixel)
    assert torch.equal(together.face[mine], alone.face)
