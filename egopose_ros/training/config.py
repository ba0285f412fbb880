"""The configuration tree of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from egopose_ros.config import ConfigError, option

HEADS = "heads.safetensors"
"""file of a finished run: what taught its network and does not ship"""


@dataclass(frozen=True)
class DataConfig:
    """What is rendered. Clips are named by seed + number, so more clips extend a cache."""

    seed: int = option(0, "First seed of the clips.", minimum=0)
    clips: int = option(1600, "Training clips.", minimum=0)
    validation_clips: int = option(60, "Validation clips, of the world's validation split.", minimum=0)
    validation_seed: int = option(0, "First seed of those: runs on other clips are measured on the same.", minimum=0)
    clip_frames: int = option(24, "Frames of a clip.", minimum=4, maximum=10000)
    rates_hz: tuple[str, ...] = option(("10", "15", "30"), "Frame rates, one drawn for each clip.")
    views: int = option(1, "Cameras of a rig.", minimum=1, maximum=4)

    def __post_init__(self) -> None:
        try:
            good = bool(self.rates_hz) and all(0 < float(rate) <= 1000 for rate in self.rates_hz)
        except ValueError:
            good = False
        if not good:
            raise ConfigError(f"data.rates_hz: expected numbers in 0..1000, got {', '.join(self.rates_hz)}")


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to cached frames. Mirroring and turning about the optical axis are exact, `lens` is an error."""

    mirror: float = option(0.5, "Share of mirrored clips.", minimum=0.0, maximum=1.0)
    roll_deg: float = option(15.0, "Standard deviation of the turn about each optical axis.", minimum=0.0, maximum=180)
    lens: float = option(
        0.015, "Spread of the error of a calibration: a factor on the angle of every ray.", minimum=0.0, maximum=0.5
    )
    mono: float = option(0.3, "Share of grey clips.", minimum=0.0, maximum=1.0)
    colour: float = option(0.25, "Spread of gain, gamma and white balance.", minimum=0.0, maximum=1.0)
    shade: float = option(0.3, "Spread of light across the image, log of the gain at its edge.", minimum=0.0, maximum=2.0)
    noise: float = option(6.0, "Largest standard deviation of pixel noise, of 255.", minimum=0.0, maximum=100.0)
    blur: float = option(0.2, "Share of blurred clips.", minimum=0.0, maximum=1.0)
    cutout: float = option(0.5, "Share of clips with covered areas.", minimum=0.0, maximum=1.0)
    lens_circle: float = option(0.2, "Share of clips with a smaller or shifted lens circle.", minimum=0.0, maximum=1.0)
    gravity_deg: float = option(1.5, "Standard deviation of the error of gravity.", minimum=0.0, maximum=45.0)


@dataclass(frozen=True)
class ScheduleConfig:
    """One stage of training: clips of `frames`, `batch` of them a step; no steps leave it out."""

    steps: int = option(1000, "Optimiser steps.", minimum=0)
    batch: int = option(48, "Clips in a batch.", minimum=1)
    frames: int = option(1, "Frames of a clip: 1 trains frame by frame.", minimum=1)
    side: int = option(256, "Side of the canonical image; networks run at 256.", minimum=64, maximum=256, unit="px")
    learning_rate: float = option(1e-3, "Peak of the cosine schedule.", minimum=0.0, maximum=1.0)
    final_rate: float = option(0.01, "Share of the learning rate that is left at the end.", minimum=0.0, maximum=1.0)
    warmup: int = option(100, "Steps of linear warm-up.", minimum=0)
    passes: int = option(
        1, "Times that what frozen layers make of a batch is used; above 1, groups of batches are kept.", minimum=1
    )
    group: int = option(64, "Batches that are kept at a time, where they are used again.", minimum=1)


@dataclass(frozen=True)
class StageConfig(ScheduleConfig):
    """A stage of EgoPoseFormer v2."""

    train_backbone: bool = option(True, "Train the image encoder, too; else it is frozen with its batch norms.")
    backbone_rate: float = option(1.0, "Factor of the learning rate for the backbone.", minimum=0.0, maximum=10.0)
    mse_start: float = option(1.0, "Weight of squared error against likelihood at first.", minimum=0.0, maximum=1.0)
    mse_end: float = option(0.0, "The same at the end of its cosine.", minimum=0.0, maximum=1.0)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; positions are in units of 0.1 m there."""

    position: float = option(1.0, "lambda_pos.", minimum=0.0)
    jerk: float = option(0.8, "lambda_jerk, as published.", minimum=0.0)
    rotation: float = option(0.5, "Squared error of the rotation matrices' entries.", minimum=0.0)
    heatmap: float = option(0.3, "Cross-entropy of where joints are in the image.", minimum=0.0)
    attention: float = option(0.3, "Cross-entropy of where a decoder's heads look, fading out.", minimum=0.0)
    mimic: float = option(10.0, "Squared distance from the image tokens of `mimic`.", minimum=0.0)
    teacher: float = option(1.0, "lambda_1, of a teacher's poses against true ones.", minimum=0.0)
    uncertainty: float = option(0.2, "lambda_2, of the distance from a teacher's uncertainty.", minimum=0.0)


@dataclass(frozen=True)
class DistillConfig:
    """What is learnt from recordings beside the rendered world: a teacher's labels, true poses of data sets.

    The teacher saw the images as they are.
    """

    labels: tuple[str, ...] = option((), "Folders of labels, made by `egopose label`.")
    datasets: tuple[str, ...] = option(
        (), "Data sets, each as READER:FOLDER with a calibration.yaml in the folder (docs/datasets.md)."
    )
    share: float = option(
        0.5, "Share of each batch that is recorded; one clip at least is, and one is rendered.", minimum=0.0, maximum=1.0
    )
    min_confidence: float = option(
        0.5, "A joint's pose is taught where the teacher's confidence reaches this.", minimum=0.0, maximum=1.0
    )
    min_trusted: float = option(
        0.5, "A clip is used where this share of its joints passes.", minimum=0.0, maximum=1.0
    )
    clip_frames: int = option(48, "Frames of the clips that recordings are cut into.", minimum=1, maximum=10000)
    augment: AugmentConfig = AugmentConfig(
        roll_deg=20.0, mono=0.4, colour=0.4, shade=0.4, noise=12.0, blur=0.4, cutout=0.7, lens_circle=0.4, gravity_deg=3.0
    )


@dataclass(frozen=True)
class RunConfig:
    """What every training run can be told.

    `data` are clips of motion; `stills` are few frames far apart, so that stages of single frames see more bodies and
    rooms for the same rendering. Those stages take both.
    """

    network: str = option("egoposeformer_v2", "Network to train; the configuration file decides.")
    data: DataConfig = DataConfig()
    on_the_fly: bool = option(
        False, "Render a clip when training first asks for it, in the loader's processes, rather than all of them before."
    )
    stills: DataConfig = DataConfig(seed=100_000, clips=0, validation_clips=0, clip_frames=4, rates_hz=("2",))
    augment: AugmentConfig = AugmentConfig()
    distill: DistillConfig = DistillConfig()
    seed: int = option(0, "Seed of weights, order and augmentation.", minimum=0)
    weights: str = option(
        "", "Checkpoint of the same network and size, but for its cameras, that training starts from; what is named below "
        "takes the place of its part."
    )
    weight_decay: float = option(0.02, "AdamW's weight decay, of matrices only.", minimum=0.0)
    clip_norm: float = option(1.0, "Largest norm of the gradient.", minimum=0.0)
    ema: float = option(0.998, "Decay of the averaged weights, which are what is saved.", minimum=0.0, maximum=1.0)
    fixed_norms: bool = option(
        False, "Batch norms of image backbones keep the statistics they start with, even where they are trained: the same "
        "whatever else is in the batch, and faster on a CPU with EfficientNet-Lite0."
    )
    autocast: bool = option(True, "Compute in bf16 where that is safe.")
    device: str = option("cpu", "Device to train on.")
    threads: int = option(0, "CPU threads, 0 for torch's own choice.", minimum=0)
    loader_workers: int = option(1, "Processes that decode and augment, 0 for none.", minimum=0, maximum=64)
    validate_every: int = option(500, "Steps between validations.", minimum=1)
    checkpoint_every: int = option(200, "Steps between resumable checkpoints.", minimum=1)
    tensorboard: bool = option(False, "Write TensorBoard events beside the log (package tensorboard).")

    def __post_init__(self) -> None:
        if self.data.clips == 0 or self.data.validation_clips == 0:
            raise ConfigError("data.clips, data.validation_clips: expected 1 or more, got 0")
        if self.stills.views != self.data.views:
            raise ConfigError(f"stills.views: expected {self.data.views} as data.views, got {self.stills.views}")


def running(config: RunConfig, stages: Sequence[str]) -> dict[str, ScheduleConfig]:
    """Return the stages that are not left out, by name."""
    return {stage: getattr(config, stage) for stage in stages if getattr(config, stage).steps}


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Everything a run of EgoPoseFormer v2 can be told but the network's own settings."""

    loss: LossConfig = LossConfig()
    small: StageConfig = StageConfig(side=128, batch=64)
    frames: StageConfig = StageConfig(learning_rate=5e-4, mse_start=0.5)
    decoders: StageConfig = StageConfig(steps=0, train_backbone=False, passes=8)
    sequences: StageConfig = StageConfig(
        steps=500, batch=8, frames=24, learning_rate=3e-4, train_backbone=False, mse_start=0.0
    )
    backbone_weights: str = option(
        "", "File of a published state dict that the backbone starts from; none: random. .pth or .safetensors"
    )
    heatmap_weights: str = option(
        "", "Checkpoint of AG-EgoPose with the same backbone: that one and its heatmaps are where training starts."
    )
    freeze_early: bool = option(
        False, "Leave the backbone's layers up to stride 8 as they start, with their batch norms, for half the time."
    )

    mimic: str = option(
        "", "Checkpoint of a network with another backbone: the image encoder learns to give its tokens in the stages "
        "that train it, and the decoders start as its own."
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        for other in ("weights", "heatmap_weights"):
            if self.backbone_weights and getattr(self, other):
                raise ConfigError(f"{other}, backbone_weights: expected one of them, got {getattr(self, other)} and "
                                  f"{self.backbone_weights}")  # fmt: skip
        for name, stage in vars(self).items():
            if not isinstance(stage, StageConfig) or stage.passes == 1 or not stage.train_backbone:
                continue
            if not self.freeze_early:
                raise ConfigError(
                    f"{name}.passes: expected 1 where nothing is frozen (freeze_early or train_backbone: false), "
                    f"got {stage.passes}"
                )
            if self.mimic:
                raise ConfigError(f"{name}.passes: expected 1 with mimic, which sees images, got {stage.passes}")
