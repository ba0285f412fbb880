"""How EgoPoseFormer v2 is trained on a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.networks.body import JOINTS
from egopose_ros.networks.egoposeformer_v2 import EgoPoseFormerV2, Estimate
from egopose_ros.skeleton import SMPL22
from egopose_ros.training.config import LossConfig
from egopose_ros.training.data import Batch
from egopose_ros.training.distill import mixed_losses
from egopose_ros.training.losses import Losses, heatmap_error, pose_losses

LIMBS = [
    SMPL22.index(f"{side}_{joint}")
    for joint in ("wrist", "elbow", "knee", "ankle", "shoulder", "foot", "hip")
    for side in ("left", "right")
]
"""joints that a head of each decoder is guided to"""


class HeatmapHead(nn.Module):
    """Where each joint is, from the tokens, on a grid twice as fine. It teaches the backbone and does not ship."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 4 * JOINTS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (..., J, 2 h, 2 w) of square grids of tokens (..., h w, C)."""
        side = round(tokens.shape[-2] ** 0.5)
        grid = self.linear(tokens).transpose(-1, -2).unflatten(-1, (side, side))
        return nn.functional.pixel_shuffle(grid, 2)


def batch_losses(
    network: EgoPoseFormerV2, head: HeatmapHead, batch: Batch, tokens: Tensor | None, mse_weight: float,
    weights: LossConfig, autocast: bool,
) -> Losses:  # fmt: skip
    """Return the losses of a batch; images are encoded in bf16 on request, geometry stays in fp32.

    Tokens of a frozen encoder may be given; then the heatmaps have nothing to teach.

    Attention is guided as long as squared error counts: the same cosine ends both.
    """
    heatmaps = weights.heatmap > 0 and tokens is None
    tokens = (encode(network, batch, autocast) if tokens is None else tokens).float()
    _, proposal, refined = network.decode(network.init_state(len(tokens)), batch.input, tokens)
    if batch.teacher is None:
        losses = pose_losses(proposal, refined, batch.joints, batch.rotations, mse_weight, weights)
    else:
        losses = mixed_losses(proposal, refined, batch, mse_weight, weights)
    total, terms = losses.total, dict(losses.terms)
    if heatmaps:
        terms["heatmap"] = heatmap_error(head(tokens), batch.joints_px, batch.visible, CANONICAL.size[0])
        total = total + weights.heatmap * terms["heatmap"]
    if weights.attention:
        terms["attention"] = attention_error(proposal, batch) + attention_error(refined, batch)
        total = total + weights.attention * mse_weight * terms["attention"]
    return Losses(total, terms)


def encode(network: EgoPoseFormerV2, batch: Batch, autocast: bool) -> Tensor:
    """Return the tokens of a batch."""
    with torch.autocast(batch.input.images.device.type, torch.bfloat16, enabled=autocast):
        return network.encode(batch.input.images)


def attention_error(estimate: Estimate, batch: Batch) -> Tensor:
    """Return the cross-entropy between a decoder's heads and the joints of limbs, one head a joint; the rest is free."""
    joints = LIMBS[: estimate.attention.shape[-2]]
    side = round(estimate.attention.shape[-1] ** 0.5)
    maps = estimate.attention[..., : len(joints), :].unflatten(-1, (side, side))
    return heatmap_error(maps, batch.joints_px[..., joints, :], batch.visible[..., joints], CANONICAL.size[0])
