"""How AG-EgoPose is trained: heatmaps of single frames, motion features by the actions they show, poses of windows.

The paper trains heatmaps, freezes them, and takes motion features of a network pre-trained on Ego4D's actions, frozen
too. Where no such weights are given, the middle stage makes them from the actions of the synthetic world, so that the
motion is guided by actions in fact. A stage of poses of single frames may come before that of windows (the paper has
none): it sees more bodies and rooms for the same rendering.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from egopose_ros import checkpoint
from egopose_ros.config import ConfigError, option
from egopose_ros.features.backbones import load_published
from egopose_ros.features.heatmaps import HeatmapNetwork, peaks
from egopose_ros.networks import student_t
from egopose_ros.networks.action_former import load_action_former
from egopose_ros.networks.ag_egopose import AgEgoPose, AgEgoPoseConfig
from egopose_ros.skeleton import MPI15, skeleton
from egopose_ros.structs import Visibility
from egopose_ros.synth.motion.clip import ACTIONS
from egopose_ros.training import ag_losses, validation
from egopose_ros.training.ag_losses import UNKNOWN_ACTION
from egopose_ros.training.config import HEADS, RunConfig, ScheduleConfig, running
from egopose_ros.training.data import Batch
from egopose_ros.training.heatmap_losses import (
    heatmap_cross_entropy,
    heatmap_squared_error,
    heatmap_targets,
    map_weights,
)
from egopose_ros.training.losses import UNIT, Losses
from egopose_ros.training.memory import Kept

IMAGE_PARTS = ("heatmaps", "backbone", "last_block")
"""what is done to images"""
PARTS = (*IMAGE_PARTS, "projection", "encoder", "decoder")
NEAR_PX = 8.0
"""a peak this close to its joint is counted as right"""


@dataclass(frozen=True)
class PartStage(ScheduleConfig):
    """A stage that trains some parts of the network."""

    final_rate: float = option(0.1, "Share of the learning rate that is left at the end.", minimum=0.0, maximum=1.0)
    train: tuple[str, ...] = option(
        PARTS, f"Parts that are trained; the rest is frozen, norms included: {', '.join(PARTS)}. What a network lacks "
        "is left out: one with a shared backbone has no backbone but that of its heatmaps.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        unknown = sorted(set(self.train) - set(PARTS))
        if unknown or not self.train:
            raise ConfigError(f"train: expected some of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}")
        trained = [part for part in IMAGE_PARTS if part in self.train]
        if self.passes > 1 and trained:
            raise ConfigError(f"passes: expected 1 where {', '.join(trained)} is trained, got {self.passes}")


@dataclass(frozen=True)
class AgLossConfig:
    """Weights of the losses, in metres; those of the pose are the paper's."""

    position: float = option(1.0, "lambda_pos (the published code: 5).", minimum=0.0)
    bone: float = option(0.1, "lambda_bone, of the length of bones.", minimum=0.0)
    direction: float = option(0.01, "lambda_cos, of the direction of bones.", minimum=0.0)
    uncertainty: float = option(0.1, "Likelihood, which trains the head of uncertainty alone.", minimum=0.0)
    positive_weight: float = option(1.0, "Of what pulls heatmaps up (the published code: 12).", minimum=0.0)
    heatmap: float = option(1.0, "Heatmaps in the stage of poses, where that trains them.", minimum=0.0)
    action: float = option(0.1, "Actions in the stage of poses, where that trains the encoder.", minimum=0.0)


@dataclass(frozen=True)
class AgTrainConfig(RunConfig):
    """Everything a run of AG-EgoPose can be told but the network's own settings."""

    network: str = option("ag_egopose", "Network to train.", choices=("ag_egopose",))
    loss: AgLossConfig = AgLossConfig()
    heatmaps: PartStage = PartStage(steps=20_000, batch=32, train=("heatmaps",))
    actions: PartStage = PartStage(
        steps=4000, batch=8, frames=64, train=("backbone", "projection", "encoder"), learning_rate=3e-4
    )
    singles: PartStage = PartStage(steps=0, train=("decoder",))
    poses: PartStage = PartStage(steps=8000, batch=8, frames=64, train=("last_block", "projection", "decoder"))
    weight_decay: float = option(0.0, "AdamW's weight decay, of matrices only; 0 is Adam.", minimum=0.0)
    clip_norm: float = option(5.0, "Largest norm of the gradient.", minimum=0.0)
    heatmap_run: str = option(
        "", "Folder of a finished run of EgoPoseFormer v2 with the same backbone: its backbone and the heatmaps that "
        "taught it are where this one's heatmaps start. Instead of spatial_weights."
    )  # fmt: skip
    spatial_weights: str = option(
        "", "File of a published state dict that the heatmaps' backbone starts from; none: random. .pth or .safetensors"
    )
    temporal_weights: str = option("", "The same for the backbone of the motion features.")
    encoder_weights: str = option(
        "", "ActionFormer checkpoint that the temporal encoder starts from; none: random, for the stage of actions."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spatial_weights and self.heatmap_run:
            raise ConfigError(
                f"spatial_weights, heatmap_run: expected one of them, got {self.spatial_weights} and {self.heatmap_run}"
            )


class AgRecipe:
    """See the module's docstring."""

    stages = ("heatmaps", "actions", "singles", "poses")
    tiny: dict[str, Any] = {
        "heatmaps.steps": 3, "heatmaps.batch": 4, "actions.steps": 3, "actions.batch": 1, "actions.frames": 8,
        "singles.steps": 3, "singles.batch": 4, "poses.steps": 3, "poses.batch": 1, "poses.frames": 8,
        **{f"{stage}.warmup": 1 for stage in stages},
    }  # fmt: skip

    def check(self, config: AgTrainConfig, model: AgEgoPoseConfig) -> None:
        """ConfigError for a stage of parts that the network lacks or clips beyond its window, and heatmaps of others."""
        for stage, settings in running(config, self.stages).items():
            needed = {"heatmaps": "heatmaps", "actions": "encoder"}.get(stage, "decoder")
            if not has(model, needed):
                raise ConfigError(f"{stage}.steps: expected 0 for a network without {needed}, got {settings.steps}")
            taught = [part for part in PARTS if has(model, part) and _reaches(stage, part, model)]
            if not set(settings.train) & set(taught):
                expected, parts = ", ".join(taught), ", ".join(settings.train)
                raise ConfigError(f"{stage}.train: expected some of {expected} of this network, got {parts}")
            if stage != "heatmaps" and model.motion and settings.frames > model.window:
                raise ConfigError(
                    f"{stage}.frames: expected at most the window's {model.window} frames, got {settings.frames}"
                )
        if config.heatmap_run and model.heatmap_loss != "bce":
            raise ConfigError(
                "heatmap_run: expected a network with heatmap_loss bce, which its heatmaps were trained by, "
                f"got {model.heatmap_loss}"
            )

    def heads(self, network: AgEgoPose) -> nn.Module:
        """Return what teaches and does not ship: actions of motion features."""
        return nn.Linear(network.config.temporal_width, len(ACTIONS))

    def start(self, network: AgEgoPose, head: nn.Module, config: AgTrainConfig) -> None:
        """Load the weights that training starts from; ValueError where the network has no place for them."""
        spatial, temporal = network.encoder.spatial, network.encoder.temporal
        for name, path, place, load in (
            ("spatial_weights", config.spatial_weights, spatial and spatial.backbone, load_published),
            ("temporal_weights", config.temporal_weights, temporal and temporal.backbone, load_published),
            ("encoder_weights", config.encoder_weights, network.temporal, load_action_former),
        ):
            if path and place is None:
                raise ValueError(f"{name}: expected a network with that part of its own, got none for {path}")
            if path:
                load(place, path)
        if config.heatmap_run:
            if spatial is None:
                raise ValueError(f"heatmap_run: expected a network with heatmaps, got none for {config.heatmap_run}")
            _load_heatmaps(spatial, Path(config.heatmap_run))

    def fitted(self, network: AgEgoPose, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a checkpoint's weights as this network takes them: as they are."""
        return weights

    def trained(
        self, network: AgEgoPose, head: nn.Module, stage: str, config: AgTrainConfig
    ) -> list[tuple[float, list[nn.Parameter]]]:
        """Freeze what the stage freezes; return its parameters by the factor of their learning rate."""
        network.requires_grad_(False).eval()
        for part in getattr(config, stage).train:
            for module in _modules(network, part):
                module.requires_grad_(True).train()
        return [(1.0, [p for p in (*network.parameters(), *head.parameters()) if p.requires_grad])]

    def keep(self, network: AgEgoPose, batch: Batch, stage: str, config: AgTrainConfig) -> Kept:
        """Return what several passes share: heatmaps (none for actions) and features of the images."""
        if stage == "actions":
            kept = (None, _encoded(network, batch, config, network.encoder.features))
        else:
            kept = _encoded(network, batch, config, network.encoder)
        return tuple(None if x is None else x.to(torch.bfloat16) for x in kept) if config.autocast else kept

    def losses(
        self, network: AgEgoPose, head: nn.Module, batch: Batch, kept: Kept | None, stage: str, progress: float,
        config: AgTrainConfig,
    ) -> Losses:  # fmt: skip
        """Return the losses of a batch; images and heatmaps are encoded in bf16 on request, the rest stays in fp32."""
        if stage == "heatmaps":
            heatmaps, _ = _encoded(network, batch, config, network.encoder.spatial)
            loss = self._heatmap_loss(network, heatmaps, batch, config)
            return Losses(loss, {"heatmap": loss})
        if stage == "actions":
            features = kept[1] if kept else _encoded(network, batch, config, network.encoder.features)
            features = network.projection(features.float())
            motion = network.encode_motion(features.unflatten(0, batch.joints.shape[:2]))
            loss = ag_losses.action_error(head(motion), batch.actions)
            return Losses(loss, {"action": loss})
        encoded = kept or _encoded(network, batch, config, network.encoder)
        return self._pose_losses(network, head, batch, encoded, getattr(config, stage).train, config)

    def _pose_losses(
        self, network: AgEgoPose, head: nn.Module, batch: Batch, encoded: Kept, train: tuple[str, ...],
        config: AgTrainConfig,
    ) -> Losses:  # fmt: skip
        weights, (heatmaps, features) = config.loss, encoded
        # Small convolutions over many heatmaps: in bf16 in a third of the time.
        with torch.autocast(batch.joints.device.type, torch.bfloat16, enabled=config.autocast):
            evidence = network.evidence(heatmaps, features, batch.joints.shape[:2])
        found = {name: part.float() for name, part in vars(evidence).items() if part is not None}
        estimate = network.window_of(dataclasses.replace(evidence, **found))
        known = batch.trusted
        terms = {
            "position": ag_losses.position_error(estimate.joints, batch.joints, known),
            "bone": ag_losses.bone_length_error(estimate.joints, batch.joints, MPI15.bones, known),
            "direction": ag_losses.bone_direction_error(estimate.joints, batch.joints, MPI15.bones, known),
        }
        if estimate.cholesky is not None:
            # Of true poses alone: a teacher's pose is nearer to this one than the truth is.
            true = slice(None) if batch.teacher is None else ~batch.teacher.taught
            error = (batch.joints[true] - estimate.joints[true].detach()) / UNIT
            terms["uncertainty"] = student_t.negative_log_likelihood(error, estimate.cholesky[true] / UNIT).mean()
        if "heatmaps" in train and heatmaps is not None and weights.heatmap:
            terms["heatmap"] = self._heatmap_loss(network, heatmaps, batch, config)
        if "encoder" in train and estimate.motion is not None and weights.action:
            terms["action"] = ag_losses.action_error(head(estimate.motion), batch.actions)
        return Losses(sum(getattr(weights, name) * value for name, value in terms.items()), terms)

    def _heatmap_loss(self, network: AgEgoPose, heatmaps: Tensor, batch: Batch, config: AgTrainConfig) -> Tensor:
        joints_px, visible = network.config.seen(batch.joints_px.flatten(0, 2), batch.visible.flatten(0, 2))
        target = heatmap_targets(joints_px, visible, network.config.crop_side, heatmaps.shape[-1])
        weight = map_weights(batch)
        weight = None if weight is None else weight.flatten(0, 2)
        if network.config.heatmap_loss == "mse":
            return heatmap_squared_error(heatmaps.float(), target, weight)
        return heatmap_cross_entropy(heatmaps.float(), target, config.loss.positive_weight, weight)

    @torch.inference_mode()
    def validate(
        self, network: AgEgoPose, head: nn.Module, batches: list[Batch], stage: str, picture: Path
    ) -> dict[str, float]:
        """Measure held-out clips and, for poses, draw some."""
        if stage == "heatmaps":
            return _heatmap_numbers(network, batches)
        if stage == "actions":
            return _action_numbers(network, head, batches)
        return validation.examine(network, batches, MPI15, picture)


def _encoded(network: AgEgoPose, batch: Batch, config: AgTrainConfig, encode: Callable[[Tensor], Any]) -> Any:
    """Return what the encoder or a part of it makes of a batch's images, in bf16 on request."""
    images = network.seen(batch.input.images)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=config.autocast):
        return encode(images)


def _load_heatmaps(spatial: HeatmapNetwork, run: Path) -> None:
    """Start heatmaps from those that taught EgoPoseFormer v2; ValueError where there are none or others."""
    teacher, card = checkpoint.load(run / "egoposeformer_v2.safetensors", expected="egoposeformer_v2")
    joints = skeleton(card.skeleton).joints
    rows = [joints.index(joint) for joint in MPI15.joints]
    try:
        head = load_file(run / HEADS)
        for name in ("heatmaps.weight", "heatmaps.bias"):
            head[name] = head[name][rows]
        spatial.backbone.load_state_dict(teacher.encoder.backbone.state_dict())
        spatial.decoder.load_state_dict(head)
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"heatmap_run {run}: expected a run with the same backbone, got {error}") from None


def has(model: AgEgoPoseConfig, part: str) -> bool:
    """Return whether a network of these settings has a part."""
    own = model.own_temporal_backbone
    return {
        "heatmaps": model.spatial, "backbone": own, "last_block": own, "projection": model.motion,
        "encoder": model.motion, "decoder": True,
    }[part]  # fmt: skip


def _reaches(stage: str, part: str, model: AgEgoPoseConfig) -> bool:
    """Return whether the loss of a stage depends on a part."""
    if stage == "heatmaps":
        return part == "heatmaps"
    return stage != "actions" or part not in ("heatmaps", "decoder") or (part == "heatmaps" and not model.own_temporal_backbone)


def _modules(network: AgEgoPose, part: str) -> list[nn.Module]:
    """Return the modules of a part, none where the network lacks it."""
    streams = network.encoder
    found = {
        "heatmaps": [streams.spatial],
        "backbone": [streams.temporal],
        "last_block": streams.temporal.backbone.last() if streams.temporal is not None else [],
        "projection": [network.projection],
        "encoder": [network.temporal],
        "decoder": [network.embedding, network.decoder, network.head, network.uncertainty],
    }[part]
    return [module for module in found if module is not None]


def _heatmap_numbers(network: AgEgoPose, batches: list[Batch]) -> dict[str, float]:
    """Return how far peaks are from joints that are seen [px of the canonical image], and how many are near."""
    errors = []
    for batch in batches:
        found = peaks(network.encoder.spatial(network.seen(batch.input.images))[0].float(), network.config.crop_side)
        joints_px, visible = network.config.seen(batch.joints_px.flatten(0, 2), batch.visible.flatten(0, 2))
        errors.append((found - joints_px).norm(dim=-1)[visible == Visibility.VISIBLE])
    error = torch.cat(errors)
    return {"peak_px": error.mean().item(), "peak_near": (error <= NEAR_PX).float().mean().item()}


def _action_numbers(network: AgEgoPose, head: nn.Module, batches: list[Batch]) -> dict[str, float]:
    """Return the share of frames whose action is recognised, among those where it is known."""
    right = known = 0
    with validation.evaluation_mode(network):
        for batch in batches:
            images = batch.input.images[:, : network.window]
            features = network.projection(network.encoder.features(network.seen(images)))
            motion = network.encode_motion(features.unflatten(0, images.shape[:2]))
            actions = batch.actions[:, : network.window]
            right += ((head(motion).argmax(-1) == actions) & (actions != UNKNOWN_ACTION)).sum().item()
            known += (actions != UNKNOWN_ACTION).sum().item()
    return {"action_accuracy": right / known if known else float("nan")}
