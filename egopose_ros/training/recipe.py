"""How EgoPoseFormer v2 is trained on a batch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egopose_ros import checkpoint
from egopose_ros.features.backbones import fold_batch_norms, load_published
from egopose_ros.features.heatmaps import HeatmapDecoder
from egopose_ros.networks.body import JOINTS
from egopose_ros.networks.egoposeformer_v2 import EgoPoseFormerV2, EgoPoseFormerV2Config, Estimate, spread_over_views
from egopose_ros.skeleton import SMPL22, skeleton
from egopose_ros.training import validation
from egopose_ros.training.config import LossConfig, TrainConfig
from egopose_ros.training.data import Batch
from egopose_ros.training.distill import mixed_losses
from egopose_ros.training.heatmap_losses import heatmap_cross_entropy, heatmap_targets, map_weights
from egopose_ros.training.losses import Losses, attention_cross_entropy, cosine, pose_losses
from egopose_ros.training.memory import Kept

LIMBS = [
    SMPL22.index(f"{side}_{joint}")
    for joint in ("wrist", "elbow", "knee", "ankle", "shoulder", "foot", "hip")
    for side in ("left", "right")
]
"""joints that a head of each decoder is guided to"""
POSITIVE_WEIGHT = 12.0
"""of what pulls heatmaps up, as in AG-EgoPose's published code: most of a map is empty"""


def batch_losses(
    network: EgoPoseFormerV2, batch: Batch, tokens: Tensor, heatmaps: Tensor | None, mse_weight: float,
    weights: LossConfig,
) -> Losses:  # fmt: skip
    """Return the losses of a batch with these tokens (B, T, V, N, C) and heatmaps (B, T, V, J, h, w) before a sigmoid.

    Without heatmaps the encoder is frozen. Attention is guided as long as squared error counts: the same cosine ends
    both.
    """
    tokens = tokens.float()
    _, proposal, refined = network.decode(network.init_state(len(tokens)), batch.input, tokens)
    if batch.teacher is None:
        losses = pose_losses(proposal, refined, batch.joints, batch.rotations, mse_weight, weights)
    else:
        losses = mixed_losses(proposal, refined, batch, mse_weight, weights)
    total, terms = losses.total, dict(losses.terms)
    joints_px, visible = network.config.seen(batch.joints_px, batch.visible)
    side = network.config.crop_side
    if heatmaps is not None:
        target = heatmap_targets(joints_px, visible, side, heatmaps.shape[-1])
        terms["heatmap"] = heatmap_cross_entropy(heatmaps.float(), target, POSITIVE_WEIGHT, map_weights(batch))
        total = total + weights.heatmap * terms["heatmap"]
    if weights.attention:
        terms["attention"] = sum(attention_error(each, joints_px, visible, side) for each in (proposal, refined))
        total = total + weights.attention * mse_weight * terms["attention"]
    return Losses(total, terms)


def attention_error(estimate: Estimate, joints_px: Tensor, visible: Tensor, size: int) -> Tensor:
    """Return the cross-entropy between a decoder's heads and the joints of limbs, one head a joint; the rest is free."""
    joints = LIMBS[: estimate.attention.shape[-2]]
    side = round(estimate.attention.shape[-1] ** 0.5)
    maps = estimate.attention[..., : len(joints), :].unflatten(-1, (side, side))
    return attention_cross_entropy(maps, joints_px[..., joints, :], visible[..., joints], size)


def token_error(grid: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared distance of two grids of tokens (N, C, h, w), each token normalised over its channels."""
    ours, theirs = (F.layer_norm(x.float().movedim(1, -1), x.shape[1:2]) for x in (grid, wanted))
    return F.mse_loss(ours, theirs)


@lru_cache(maxsize=1)
def _teacher(path: str, device: torch.device) -> EgoPoseFormerV2:
    network, _ = checkpoint.load(path, expected="egoposeformer_v2")
    fold_batch_norms(network.encoder)
    network.encoder.to(memory_format=torch.channels_last)
    return network.requires_grad_(False).to(device)


def _start_as(network: EgoPoseFormerV2, path: str) -> None:
    """Copy all but the image encoder; ValueError for a checkpoint of other tokens or decoders."""
    teacher = _teacher(path, network.start.device)
    for name in ("width", "crop_left", "crop_top", "crop_side"):
        ours, theirs = (getattr(each.config, name) for each in (network, teacher))
        if ours != theirs:
            raise ValueError(f"mimic {path}: expected one whose {name} is {ours}, got {theirs}")
    weights = teacher.state_dict()
    if teacher.views != network.views:
        weights = spread_over_views(weights, network.views)
    own = {name: value for name, value in network.state_dict().items() if name.startswith("encoder.")}
    decoders = {name: value for name, value in weights.items() if not name.startswith("encoder.")}
    try:
        network.load_state_dict(own | decoders)
    except RuntimeError as error:
        raise ValueError(f"mimic {path}: expected one with the same decoders, got {error}") from None


def _start_heatmaps(network: EgoPoseFormerV2, head: HeatmapDecoder, path: str) -> None:
    """Take backbone and heatmaps of AG-EgoPose; joints that it lacks start with empty maps. ValueError where they differ."""
    source, card = checkpoint.load(path, expected="ag_egopose")
    spatial = source.encoder.spatial
    if spatial is None:
        raise ValueError(f"heatmap_weights {path}: expected a network with heatmaps, got one without")
    weights, joints = spatial.decoder.state_dict(), skeleton(card.skeleton).joints
    rows = [SMPL22.index(joint) for joint in joints]
    for name, start in (("heatmaps.weight", 0.0), ("heatmaps.bias", weights["heatmaps.bias"].mean().item())):
        known = weights[name].float()
        weights[name] = torch.full((JOINTS, *known.shape[1:]), start)
        weights[name][rows] = known
    try:
        network.encoder.backbone.load_state_dict(spatial.backbone.state_dict())
        head.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"heatmap_weights {path}: expected the same backbone, got {error}") from None


class EgoPoseFormerV2Recipe:
    """Single frames at a small size, single frames at full size, the same for the decoders alone, sequences."""

    stages = ("small", "frames", "decoders", "sequences")
    tiny: dict[str, Any] = {
        **{f"{stage}.{name}": value for stage in stages for name, value in (("warmup", 1), ("steps", 4))},
        "small.batch": 16, "frames.batch": 4, "decoders.batch": 4, "sequences.batch": 1, "sequences.frames": 8,
    }  # fmt: skip

    def check(self, config: TrainConfig, model: EgoPoseFormerV2Config) -> None:
        """Pass: every stage fits every network, whose memory takes clips of any length."""

    def heads(self, network: EgoPoseFormerV2) -> HeatmapDecoder:
        """Return what teaches and does not ship: heatmaps at stride 4 teach the backbone where joints are."""
        return HeatmapDecoder(network.encoder.backbone.pyramid_channels, JOINTS)

    def start(self, network: EgoPoseFormerV2, head: HeatmapDecoder, config: TrainConfig) -> None:
        """Load the weights that training starts from."""
        if config.backbone_weights:
            load_published(network.encoder.backbone, config.backbone_weights)
        if config.heatmap_weights:
            _start_heatmaps(network, head, config.heatmap_weights)
        if config.mimic:
            _start_as(network, config.mimic)

    def fitted(self, network: EgoPoseFormerV2, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a checkpoint's weights as this network takes them: those of one camera start those of several."""
        return spread_over_views(weights, network.views) if len(weights["camera"]) != network.views else weights

    def trained(
        self, network: EgoPoseFormerV2, head: HeatmapDecoder, stage: str, config: TrainConfig
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

    def keep(self, network: EgoPoseFormerV2, batch: Batch, stage: str, config: TrainConfig) -> Kept:
        """Return what several passes share: the grid of a frozen encoder, else the maps of its frozen early layers."""
        images = batch.input.images
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.autocast):
            if getattr(config, stage).train_backbone:
                kept = network.encoder.early(network.seen(images))
            else:
                kept = (network.encoder(network.seen(images)),)
        return tuple(value.to(torch.bfloat16) for value in kept) if config.autocast else kept

    def losses(
        self, network: EgoPoseFormerV2, head: HeatmapDecoder, batch: Batch, kept: Kept | None, stage: str,
        progress: float, config: TrainConfig,
    ) -> Losses:  # fmt: skip
        """Return the losses of a batch; images are encoded in bf16 on request, geometry stays in fp32."""
        settings = getattr(config, stage)
        mse_weight = cosine(settings.mse_start, settings.mse_end, progress)
        images, heatmaps, wanted = batch.input.images, None, None
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.autocast):
            if settings.train_backbone:
                early = kept or network.encoder.early(network.seen(images))
                late = network.encoder.backbone.late_maps(early[-1])
                grid = network.encoder.grid(*late)
                if config.loss.heatmap:
                    heatmaps = head((*early, *late)).unflatten(0, images.shape[:3])
                if config.mimic:
                    with torch.no_grad():
                        teacher = _teacher(config.mimic, images.device)
                        wanted = teacher.encoder(teacher.seen(images))
            else:  # heatmaps have nothing to teach a frozen backbone
                grid = kept[0] if kept else network.encoder(network.seen(images))
            tokens = network.tokens(grid, images.shape[:3])
        losses = batch_losses(network, batch, tokens, heatmaps, mse_weight, config.loss)
        if wanted is None:
            return losses
        error = token_error(grid, wanted)
        return Losses(losses.total + config.loss.mimic * error, losses.terms | {"mimic": error})

    def validate(
        self, network: EgoPoseFormerV2, head: HeatmapDecoder, batches: list[Batch], stage: str, picture: Path
    ) -> dict[str, float]:
        """Return the numbers of held-out clips, and draw some into a picture."""
        return validation.examine(network, batches, SMPL22, picture)
