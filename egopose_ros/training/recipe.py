"""How EgoPoseFormer v2 is trained on a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.networks.body import JOINTS
from egopose_ros.networks.egoposeformer_v2 import EgoPoseFormerV2
from egopose_ros.training.config import LossConfig
from egopose_ros.training.data import Batch
from egopose_ros.training.losses import Losses, heatmap_error, pose_losses


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
    network: EgoPoseFormerV2, head: HeatmapHead, batch: Batch, mse_weight: float, weights: LossConfig, autocast: bool
) -> Losses:
    """Return the losses of a batch; images are encoded in bf16 on request, geometry stays in fp32."""
    images = batch.input.images
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        tokens = network.encode(images)
    tokens = tokens.float()
    _, proposal, refined = network.decode(network.init_state(len(images)), batch.input, tokens)
    losses = pose_losses(proposal, refined, batch.joints, batch.rotations, mse_weight, weights)
    if not weights.heatmap:
        return losses
    heatmap = heatmap_error(head(tokens), batch.joints_px, batch.visible, CANONICAL.size[0])
    return Losses(losses.total + weights.heatmap * heatmap, {**losses.terms, "heatmap": heatmap})
