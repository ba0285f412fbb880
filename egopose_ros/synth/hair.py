"""Long hair beside the face: strands that hang from the temples, as thin strips seen from both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from egopose_ros.synth.body import Body
from egopose_ros.synth.materials import Draw

_STEPS = 7


@dataclass(frozen=True)
class Strands:
    """A mesh to add to the body's."""

    vertices: Tensor
    """(S, 3) at rest [m]"""
    normals: Tensor
    """(S, 3)"""
    faces: Tensor
    """(G, 3) numbered from zero"""
    weights: Tensor
    """(S, B) skinning weights"""


def draw_strands(draw: Draw, body: Body) -> Strands:
    """Draw some strands on each side; their roots turn with the head, their ends lie on the chest and go with it."""
    length = draw.uniform(0.12, 0.42)
    count = draw.integer(12, 26)
    bulk = draw.uniform(0.0, 0.03)
    vertices, normals, faces, weights = [], [], [], []
    head, chest = (body.asset.bone(name) for name in ("head", "spine3"))
    eyes = body.landmarks[0].cpu()
    width_of_head = float(body.vertices[body.asset.paint[:, 2] > 0.5, 1].abs().max())
    for side in (-1.0, 1.0):
        # A side's strands wave together and part a little.
        fall = draw.uniform(0.0, 0.07), draw.uniform(-0.02, 0.04)
        wave, phase = draw.uniform(0.0, 0.018), draw.uniform(0, 2 * math.pi)
        for k in range(count):
            back = -0.015 - 0.115 * k / count
            root = eyes + torch.tensor([back, side * (width_of_head + 0.004 + bulk), draw.uniform(0.0, 0.05)])
            wide = draw.uniform(0.004, 0.009)
            forward, sideways = draw.normal(fall[0], 0.008), draw.normal(fall[1], 0.008)
            end = torch.tensor([forward, side * sideways, -length * draw.uniform(0.85, 1.05)])
            base = len(vertices)
            for step in range(_STEPS):
                t = step / (_STEPS - 1)
                sway = torch.tensor([0.0, side * 0.03 * math.sin(math.pi * t), 0.0])
                curl = wave * torch.tensor([math.sin(5 * t + phase), math.cos(6 * t + phase), 0.0])
                centre = root + end * torch.tensor([t * t, t, t]) + sway + curl * t
                taper = wide * (1.1 - 0.7 * t)
                for edge in (-1.0, 1.0):
                    vertices.append(centre + torch.tensor([edge * taper, 0.3 * side * edge * taper, 0.0]))
                    normals.append(torch.nn.functional.normalize(torch.tensor([0.5 * edge, side, 0.35]), dim=0))
                    row = torch.zeros(len(body.asset.bones))
                    row[head], row[chest] = 1.0 - t**2, t**2
                    weights.append(row)
                if step:
                    a = base + 2 * step - 2
                    quad = [[a, a + 1, a + 2], [a + 1, a + 3, a + 2]]
                    faces += quad + [face[::-1] for face in quad]
    return Strands(torch.stack(vertices), torch.stack(normals), torch.tensor(faces), torch.stack(weights))
