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
    count = draw.integer(5, 12)
    bulk = draw.uniform(0.0, 0.03)
    vertices, normals, faces, weights = [], [], [], []
    head, chest = (body.asset.bone(name) for name in ("head", "spine3"))
    eyes = body.landmarks[0].cpu()
    width_of_head = float(body.vertices[body.asset.paint[:, 2] > 0.5, 1].abs().max())
    for side in (-1.0, 1.0):
        for k in range(count):
            back = draw.uniform(-0.13, -0.015)
            root = eyes + torch.tensor([back, side * (width_of_head + 0.004 + bulk), draw.uniform(0.0, 0.05)])
            wide = draw.uniform(0.006, 0.016)
            wave, phase = draw.uniform(0.0, 0.015), draw.uniform(0, 2 * math.pi)
            end = torch.tensor([draw.uniform(0.0, 0.08), side * draw.uniform(-0.03, 0.05), -length * draw.uniform(0.7, 1.1)])
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
