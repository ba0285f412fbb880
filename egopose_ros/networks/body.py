"""What a token says about the body: joints, rotations, and how sure it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from egopose_ros.geometry.kinematics import chain_matrix, forward_kinematics, rotation_from_6d, rotation_to_6d
from egopose_ros.networks import student_t
from egopose_ros.skeleton import SMPL22

JOINTS = SMPL22.size
_ROOT = SMPL22.index("head")


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two linear layers."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


class BodyHead(nn.Module):
    """A token to body parameters, and those to joints: by forward kinematics, or (`fk` false) joints directly.

    Parameters are the head's position, each segment's rotation (6D), the logarithm of the body's scale, and the change
    of each bone from a template, equal on both sides (mirrored).
    """

    def __init__(self, width: int, fk: bool = True):
        super().__init__()
        self.fk = fk
        rest, bones, signs = _template()
        self.register_buffer("rest", rest, persistent=False)
        self.register_buffer("bones", bones, persistent=False)
        self.register_buffer("signs", signs, persistent=False)
        self.register_buffer("chain", chain_matrix(SMPL22.parents), persistent=False)
        self.sizes = (3, 6 * JOINTS, 1, 3 * (int(bones.max()) + 1)) if self.fk else (3 * JOINTS,)
        self.mlp = nn.Sequential(nn.LayerNorm(width), *mlp(width, 2 * width, sum(self.sizes)))
        nn.init.normal_(self.mlp[-1].weight, std=1e-3)
        nn.init.zeros_(self.mlp[-1].bias)

    def initial(self) -> Tensor:
        """Return the parameters (P,) of a wearer in T-pose below a camera that looks straight down."""
        R_reference_body = self.rest.new_tensor([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
        head = self.rest.new_tensor([0.0, 0.15, 0.05])
        if not self.fk:
            joints = (self.chain @ self.rest) @ R_reference_body.T
            return (joints - joints[_ROOT] + head).flatten()
        sixd = rotation_to_6d(R_reference_body).repeat(JOINTS)
        return torch.cat([head, sixd, self.rest.new_zeros(sum(self.sizes[2:]))])

    def forward(self, x: Tensor) -> Tensor:
        """Return what tokens (..., C) add to the parameters (..., P)."""
        return self.mlp(x)

    def joints(self, parameters: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return joints (..., J, 3) and rotations (..., J, 3, 3) in the reference frame."""
        if not self.fk:
            return parameters.unflatten(-1, (JOINTS, 3)), None
        head, sixd, log_scale, changes = parameters.split(self.sizes, -1)
        rotations = rotation_from_6d(sixd.unflatten(-1, (JOINTS, 6)))
        changes = changes.unflatten(-1, (-1, 3))[..., self.bones, :]
        changes = nn.functional.pad(changes, (0, 0, 1, 0)) * self.signs  # the pelvis has no bone
        offsets = log_scale.exp()[..., None] * (self.rest + changes)
        joints = forward_kinematics(rotations, offsets, SMPL22.parents, self.chain)
        return joints - joints[..., _ROOT : _ROOT + 1, :] + head[..., None, :], rotations


def _template() -> tuple[Tensor, Tensor, Tensor]:
    """Return T-pose offsets (J, 3) [m] from the parent, the bone (J - 1,) each joint but the pelvis shares with its
    mirror, and signs (J, 3) of the side.

    An adult of 1.70 m by usual proportions; the network learns what differs.
    """
    offsets = {
        "hip": (0.01, 0.11, -0.06), "knee": (0.0, 0.0, -0.41), "ankle": (0.0, 0.0, -0.45), "foot": (0.15, 0.0, -0.05),
        "spine1": (0.0, 0.0, 0.10), "spine2": (0.0, 0.0, 0.09), "spine3": (-0.01, 0.0, 0.13),
        "neck": (0.03, 0.0, 0.18), "head": (0.035, 0.0, 0.10),
        "collar": (0.05, 0.07, 0.12), "shoulder": (-0.01, 0.115, -0.03), "elbow": (0.0, 0.27, 0.0),
        "wrist": (0.0, 0.25, 0.0),
    }  # fmt: skip
    bones = [joint.removeprefix("left_").removeprefix("right_") for joint in SMPL22.joints[1:]]
    signs = torch.ones(JOINTS, 3)
    for index, joint in enumerate(SMPL22.joints):
        if joint.startswith("right_"):
            signs[index, 1] = -1.0
    rest = torch.tensor([(0.0, 0.0, 0.0), *(offsets[bone] for bone in bones)]) * signs
    return rest, torch.tensor([list(offsets).index(bone) for bone in bones]), signs


class UncertaintyHead(nn.Module):
    """A token to the Cholesky factor of each joint's scale matrix."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.LayerNorm(width), *mlp(width, 2 * width, JOINTS * 6))
        nn.init.normal_(self.mlp[-1].weight, std=1e-3)
        nn.init.zeros_(self.mlp[-1].bias)
        self.register_buffer("spread", torch.ones(JOINTS))
        """(J,) measured on validation data after training, so that regions hold the share they claim"""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., J, 3, 3) [m], lower triangular."""
        return student_t.scale_factor(self.mlp(x).unflatten(-1, (JOINTS, 6))) * self.spread[:, None, None]
