"""How each network is trained, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml
from torch import Tensor, nn

from egopose_ros.config import ConfigError, flatten, replace
from egopose_ros.networks.table import NETWORKS
from egopose_ros.training.ag_recipe import AgRecipe, AgTrainConfig
from egopose_ros.training.config import RunConfig, TrainConfig, running
from egopose_ros.training.data import Batch
from egopose_ros.training.losses import Losses
from egopose_ros.training.memory import Kept
from egopose_ros.training.recipe import EgoPoseFormerV2Recipe


class Recipe(Protocol):
    """The stages of a network's training, and what is its own in each; the loop does the rest."""

    stages: tuple[str, ...]
    """names of the schedules in the configuration, in order"""
    tiny: dict[str, Any]
    """settings that make a run of every stage fit two minutes of two cores"""

    def check(self, config: RunConfig, model: Any) -> None:
        """ConfigError for a stage that a network of these settings cannot be trained by."""
        ...

    def heads(self, network: nn.Module) -> nn.Module:
        """Return what teaches and does not ship."""
        ...

    def start(self, network: nn.Module, head: nn.Module, config: RunConfig) -> None:
        """Load the parts that training starts from, over the whole checkpoint where it starts from one, too.

        `head` is what `heads` returned.
        """
        ...

    def fitted(self, network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a checkpoint's weights as this network takes them."""
        ...

    def trained(
        self, network: nn.Module, head: nn.Module, stage: str, config: RunConfig
    ) -> list[tuple[float, list[nn.Parameter]]]:
        """Freeze what the stage freezes; return its parameters by the factor of their learning rate."""
        ...

    def keep(self, network: nn.Module, batch: Batch, stage: str, config: RunConfig) -> Kept:
        """Return what several passes share in place of a batch's images."""
        ...

    def losses(
        self, network: nn.Module, head: nn.Module, batch: Batch, kept: Kept | None, stage: str, progress: float,
        config: RunConfig,
    ) -> Losses:  # fmt: skip
        """Return the losses of a batch, `progress` in 0..1 through the stage."""
        ...

    def validate(
        self, network: nn.Module, head: nn.Module, batches: list[Batch], stage: str, picture: Path
    ) -> dict[str, float]:
        """Return the numbers of averaged weights on held-out clips, and draw some into a picture."""
        ...


RECIPES: dict[str, tuple[Recipe, type[RunConfig]]] = {
    "egoposeformer_v2": (EgoPoseFormerV2Recipe(), TrainConfig),
    "ag_egopose": (AgRecipe(), AgTrainConfig),
}
"""network -> its recipe and the configuration of a run"""


_MODEL = "model."


def load(path: str | Path, overrides: Mapping[str, Any] = {}) -> tuple[RunConfig, dict[str, Any]]:
    """Return the run and the network's own settings (below `model`) of a YAML file and of overrides by full names.

    ConfigError for a setting that is unknown or does not fit.
    """
    text = Path(path).read_text()
    try:
        nested = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML, got {error}") from None
    if not isinstance(nested, dict):
        raise ConfigError(f"{path}: expected settings by name, got {type(nested).__name__}")
    settings = flatten({name: value for name, value in nested.items() if value is not None}) | overrides
    name = settings.get("network", RunConfig().network)
    if name not in RECIPES:
        raise ConfigError(f"{path}: network: expected one of {', '.join(NETWORKS)}, got '{name}'")
    named = [key for key in settings if key.startswith(_MODEL)]
    model = {key.removeprefix(_MODEL): settings.pop(key) for key in named}
    replace(NETWORKS[name][1](), model)  # what does not fit shows before hours of rendering
    return replace(RECIPES[name][1](), settings), model


def check(config: RunConfig, model: Mapping[str, Any]) -> None:
    """ConfigError for what would end training hours later: a stage that does not fit its network or its clips."""
    recipe, _ = RECIPES[config.network]
    settings_of_network = replace(NETWORKS[config.network][1](), {"views": config.data.views, **model})
    recipe.check(config, settings_of_network)
    clips = {"data": config.data.clip_frames}
    if config.distill.labels or config.distill.datasets:
        clips["distill"] = config.distill.clip_frames
    for stage, settings in running(config, recipe.stages).items():
        if not settings_of_network.fits(settings.side):
            sides = ", ".join(str(side) for side in range(64, 257) if settings_of_network.fits(side))
            raise ConfigError(f"{stage}.side: expected one of {sides} for this network's square, got {settings.side}")
        for name, frames in clips.items():
            # Stages of single frames take stills, too, which have more than one.
            if settings.frames > frames:
                raise ConfigError(
                    f"{stage}.frames: expected at most the {frames} frames of {name}.clip_frames, got {settings.frames}"
                )
