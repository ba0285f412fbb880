"""How EgoPoseFormer v2 is trained on a batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egopose_ros.features.backbones import load_published
from egopose_ros.networks.body import JOINTS
from egopose_ros.networks.egoposeformer_v2 import EgoPoseFormerV2, Estimate
from egopose_ros.skeleton import SMPL22
from egopose_ros.structs import Visibility
from egopose_ros.training import validation
from egopose_ros.training.config import LossConfig, StageConfig, TrainConfig
from egopose_ros.training.data import Batch
from egopose_ros.training.distill import mixed_losses
from egopose_ros.training.losses import Losses, cosine, heatmap_error, pose_losses

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
    network: EgoPoseFormerV2, head: HeatmapHead, batch: Batch, tokens: Tensor, mse_weight: float, weights: LossConfig
) -> Losses:
    """Return the losses of a batch with these tokens, which a frozen encoder made where they need no gradient.

    Attention is guided as long as squared error counts: the same cosine ends both.
    """
    tokens = tokens.float()
    _, proposal, refined = network.decode(network.init_state(len(tokens)), batch.input, tokens)
    if batch.teacher is None:
        losses = pose_losses(proposal, refined, batch.joints, batch.rotations, mse_weight, weights)
    else:
        losses = mixed_losses(proposal, refined, batch, mse_weight, weights)
    total, terms = losses.total, dict(losses.terms)
    if weights.heatmap:
        terms["heatmap"] = heatmap_error(head(tokens), *_seen(network, batch), network.config.crop_side)
        total = total + weights.heatmap * terms["heatmap"]
    if weights.attention:
        terms["attention"] = sum(attention_error(decoder, *_seen(network, batch), network.config.crop_side) for decoder in (proposal, refined))
        total = total + weights.attention * mse_weight * terms["attention"]
    return Losses(total, terms)


def _seen(network: EgoPoseFormerV2, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return joints in pixels of the square that a network sees, and their visibility: none outside of it."""
    config = network.config
    joints_px = batch.joints_px - batch.joints_px.new_tensor([config.crop_left, config.crop_top])
    inside = ((joints_px > -0.5) & (joints_px < config.crop_side - 0.5)).all(-1)
    return joints_px, torch.where(inside, batch.visible, int(Visibility.OUT_OF_VIEW))


def attention_error(estimate: Estimate, joints_px: Tensor, visible: Tensor, size: int) -> Tensor:
    """Return the cross-entropy between a decoder's heads and the joints of limbs, one head a joint; the rest is free."""
    joints = LIMBS[: estimate.attention.shape[-2]]
    side = round(estimate.attention.shape[-1] ** 0.5)
    maps = estimate.attention[..., : len(joints), :].unflatten(-1, (side, side))
    return heatmap_error(maps, joints_px[..., joints, :], visible[..., joints], size)


class EgoPoseFormerV2Recipe:
    """Single frames at a small size, single frames at full size, the same for the decoders alone, sequences."""

    stages = ("small", "frames", "decoders", "sequences")
    tiny: dict[str, Any] = {
        **{f"{stage}.{name}": value for stage in stages for name, value in (("warmup", 1), ("steps", 4))},
        "small.batch": 16, "frames.batch": 4, "decoders.batch": 4, "sequences.batch": 1, "sequences.frames": 8,
    }  # fmt: skip

    def heads(self, network: EgoPoseFormerV2) -> HeatmapHead:
        """Return what teaches and does not ship."""
        return HeatmapHead(network.config.width)

    def start(self, network: EgoPoseFormerV2, config: TrainConfig) -> None:
        """Load the weights that training starts from."""
        if config.backbone_weights:
            load_published(network.encoder.backbone, config.backbone_weights)

    def trained(
        self, network: EgoPoseFormerV2, head: HeatmapHead, stage: str, config: TrainConfig
    ) -> list[tuple[float, list[nn.Parameter]]]:
        """Freeze what the stage freezes; return its parameters by the factor of their learning rate."""
        settings = getattr(config, stage)
        network.train()
        network.encoder.requires_grad_(settings.train_backbone)
        network.encoder.train(settings.train_backbone)
        if config.freeze_early:
            for layer in network.encoder.backbone.early():
                layer.requires_grad_(False).eval()
        backbone = set(network.encoder.backbone.parameters())
        rest = [p for module in (network, head) for p in module.parameters() if p not in backbone]
        both = ((1.0, rest), (settings.backbone_rate, network.encoder.backbone.parameters()))
        return [(factor, [p for p in parameters if p.requires_grad]) for factor, parameters in both]

    def passes(self, settings: StageConfig) -> int:
        """Return how often a batch is used."""
        return settings.passes

    def keep(self, network: EgoPoseFormerV2, batch: Batch, stage: str, config: TrainConfig) -> Tensor:
        """Return what several passes share: tokens of a frozen encoder, else the maps of its frozen early layers."""
        with torch.autocast(batch.input.images.device.type, torch.bfloat16, enabled=config.autocast):
            early = network.early(batch.input.images)
            kept = early if getattr(config, stage).train_backbone else network.late(early)
        return kept.to(torch.bfloat16) if config.autocast else kept

    def losses(
        self, network: EgoPoseFormerV2, head: HeatmapHead, batch: Batch, kept: Tensor | None, stage: str,
        progress: float, config: TrainConfig,
    ) -> Losses:  # fmt: skip
        """Return the losses of a batch; images are encoded in bf16 on request, geometry stays in fp32."""
        settings = getattr(config, stage)
        mse_weight = cosine(settings.mse_start, settings.mse_end, progress)
        with torch.autocast(batch.input.images.device.type, torch.bfloat16, enabled=config.autocast):
            if kept is None:
                tokens = network.encode(batch.input.images)
            else:
                tokens = network.late(kept) if settings.train_backbone else kept
        # Heatmaps have nothing to teach a frozen backbone.
        weights = config.loss if settings.train_backbone else dataclasses.replace(config.loss, heatmap=0.0)
        return batch_losses(network, head, batch, tokens, mse_weight, weights)

    def validate(
        self, network: EgoPoseFormerV2, average: EgoPoseFormerV2, head: HeatmapHead, batches: list[Batch], stage: str,
        picture: Path,
    ) -> dict[str, float]:  # fmt: skip
        """Return the numbers of held-out clips, and draw some into a picture."""
        return validation.examine(average, batches, SMPL22, picture)
