"""Forward kinematics and continuous rotations on tensors with any leading axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def rotation_from_6d(sixd: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Return rotations whose first two columns are the orthonormalised halves (Zhou et al. 2019, eq. 15).

    Finite with finite gradients everywhere; a rotation only where the halves are independent.
    """
    a, b = sixd[..., :3], sixd[..., 3:]
    x = F.normalize(a, dim=-1, eps=1e-6)
    y = F.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1, eps=1e-6)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def rotation_to_6d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """Return the first two columns."""
    return rotation[..., :2].transpose(-1, -2).flatten(-2)


def chain_matrix(parents: tuple[int, ...]) -> Float[Tensor, "J J"]:
    """Return C with C[j, k] = 1 where bone k (from its parent to joint k) lies between the root and joint j."""
    chain = torch.zeros(len(parents), len(parents))
    for joint in range(len(parents)):
        link = joint
        while parents[link] >= 0:
            chain[joint, link] = 1.0
            link = parents[link]
    return chain


def forward_kinematics(
    rotations: Float[Tensor, "*batch J 3 3"],
    offsets: Float[Tensor, "*batch J 3"],
    parents: tuple[int, ...],
    chain: Float[Tensor, "J J"],
) -> Float[Tensor, "*batch J 3"]:
    """Return joints relative to the root.

    `rotations` take T-pose axes to the output frame, each segment's own (not relative to the parent); `offsets` are
    joint minus parent in the T-pose; `chain` is `chain_matrix(parents)`. A root's offset has no effect.
    """
    parent_rotations = rotations[..., [max(parent, 0) for parent in parents], :, :]
    bones = (parent_rotations @ offsets[..., None])[..., 0]
    return chain @ bones
