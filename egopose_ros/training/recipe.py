"""How EgoPoseFormer v2 is trained on a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from egopose_ros.camera.canonical import CANONICAL
from egopose_ros.features.backbones import load_published
from egopose_ros.networks.body import JOINTS
from egopose_ros.networks.egoposeformer_v2 import EgoPoseFormerV2, Estimate
from egopose_ros.skeleton import SMPL22
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

    def encode(self, network: EgoPoseFormerV2, batch: Batch, config: TrainConfig) -> Tensor:
        """Return the tokens of a batch."""
        return encode(network, batch, config.autocast)

    def losses(
        self, network: EgoPoseFormerV2, head: HeatmapHead, batch: Batch, tokens: Tensor | None, stage: str,
        progress: float, config: TrainConfig,
    ) -> Losses:  # fmt: skip
        """Return the losses of a batch."""
        settings = getattr(config, stage)
        mse_weight = cosine(settings.mse_start, settings.mse_end, progress)
        return batch_losses(network, head, batch, tokens, mse_weight, config.loss, config.autocast)

    def validate(
        self, network: EgoPoseFormerV2, average: EgoPoseFormerV2, head: HeatmapHead, batches: list[Batch], stage: str,
        picture: Path,
    ) -> dict[str, float]:  # fmt: skip
        """Return the numbers of held-out clips, and draw some into a picture."""
        return validation.examine(average, batches, SMPL22, picture)
