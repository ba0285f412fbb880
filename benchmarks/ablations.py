"""What each part of a network is worth: variants of it trained alike on one frozen image encoder, and measured.

    python benchmarks/ablations.py --checkpoint weights/egoposeformer_v2_mono.safetensors \
        --config config/training/egoposeformer_v2_mono_cpu_longer.yaml

or, with `--continued`, what changes where a trained network is trained on as a variant that has the same weights.
Every variant has the same data, seed and number of steps, few enough for an afternoon on two cores, so the numbers rank
the variants and are above those of the checkpoint itself. Clips of the test split; the head pose is given where the
variant takes one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from egopose_ros import checkpoint, pipeline
from egopose_ros.commands.evaluate_split import ClipFrames, rig_of, track
from egopose_ros.config import Config, replace
from egopose_ros.evaluation.scores import merge, score
from egopose_ros.flags import assignment
from egopose_ros.networks.table import settings_of
from egopose_ros.resources import cache_directory
from egopose_ros.training import cache
from egopose_ros.training.ag_recipe import AgTrainConfig
from egopose_ros.training.config import DataConfig, RunConfig
from egopose_ros.training.loop import Trainer
from egopose_ros.training.recipes import load

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "egoposeformer_v2": {
        "whole": {},
        "no forward kinematics": {"fk": False},
        "no temporal attention": {"temporal": False},
        "no projection": {"projection": False},
        "no auxiliary input": {"auxiliary": False},
        "no uncertainty": {"uncertainty": False},
    },
    "ag_egopose": {
        "whole": {},
        "heatmaps alone": {"motion": False},
        "motion alone": {"spatial": False},
        "no cross-attention": {"cross_attention": False},
        "no joint identity": {"joint_identity": False},
        "window of 12 frames": {"window": 12},
        "window of 32 frames": {"window": 32},
        "window of 64 frames": {"window": 64},
        "window of 128 frames": {"window": 128},
        "causal, 4 frames later": {"lookahead": 4},
        "bidirectional": {"attention": "bidirectional"},
        "bidirectional, 4 frames later": {"attention": "bidirectional", "lookahead": 4},
        "heatmaps anew": {},
        "heatmaps anew, by squared error": {"heatmap_loss": "mse"},
    },
}
ANEW = ("heatmaps anew", "heatmaps anew, by squared error")
"""variants whose heatmaps begin as noise, on the source's backbone and pyramid, and are trained with them at first"""
METRICS = ("mpjpe_mm", "pa_mpjpe_mm", "mpjve_mm_s", "wrist_mm", "lower_mm", "visible_mm")


def stages(network: str, actions: int, single: int, clips: int) -> dict[str, Any]:
    """Return the settings that train all but the image encoder: on actions, on single frames, then on clips."""
    if network == "egoposeformer_v2":
        none = {"small.steps": 0, "frames.steps": 0, "weights": "", "backbone_weights": ""}
        return {**none, "decoders.steps": single, "sequences.steps": clips}
    none = {"heatmaps.steps": 0, "weights": "", "heatmap_run": ""}
    return {**none, "actions.steps": actions, "singles.steps": single, "poses.steps": clips}


def fitted(config: AgTrainConfig, window: int) -> AgTrainConfig:
    """Return a run whose clips fit a window, with as many frames a step."""
    fit = {}
    for name, stage in (("actions", config.actions), ("poses", config.poses)):
        frames = min(stage.frames, window)
        fit |= {f"{name}.frames": frames, f"{name}.batch": round(stage.batch * stage.frames / frames)}
    return replace(config, fit)


def trained(source: Any, variant: str, config: RunConfig, heatmaps: int, data: tuple[Any, ...], folder: Path) -> Path:
    """Train a variant on the source's image encoder; return its checkpoint."""
    model = {**settings_of(source), **VARIANTS[config.network][variant]}
    if variant in ANEW:
        config = replace(config, {"heatmaps.steps": heatmaps})
    if config.network == "ag_egopose":
        config = fitted(config, model["window"])
    if not model.get("spatial", True):
        model["temporal_backbone"] = model["spatial_backbone"]  # without heatmaps there is none to share
    trainer = Trainer(config, model, folder, *data)
    for network in (trainer.network, trainer.average):
        if model.get("spatial", True):
            own = network.encoder.state_dict() if variant in ANEW else {}
            noise = {name: value for name, value in own.items() if name.startswith("spatial.decoder.heatmaps.")}
            network.encoder.load_state_dict(source.encoder.state_dict() | noise)
        else:
            network.encoder.temporal.backbone.load_state_dict(source.encoder.spatial.backbone.state_dict())
    return trainer.run()


def measured(path: Path, network: str, clips: list[cache.CachedClip]) -> dict[str, float]:
    """Return the metrics of a checkpoint on clips, with their head pose."""
    settings = {"network.name": network, "network.checkpoint": str(path), "window.max_gap_s": 1.0, "smoothing.enabled": False}
    estimator = pipeline.load(replace(Config(), settings), rig_of(clips[0]))
    metrics = score(merge([track(estimator, ClipFrames(clip, True), "variant", "sceneego") for clip in clips]), draws=2)
    return {name: metrics[name].value for name in METRICS if name in metrics}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="whose image encoder every variant has")
    parser.add_argument("--config", type=Path, required=True, help="how it was trained")
    parser.add_argument("--continued", action="store_true", help="start from all of its weights, not the encoder alone")
    parser.add_argument("--actions", type=int, default=0, help="steps of AG-EgoPose's motion on actions (default 0)")
    parser.add_argument("--singles", type=int, default=1000, help="steps on single frames (default 1000)")
    parser.add_argument("--sequences", type=int, default=400, help="steps on clips (default 400)")
    parser.add_argument("--heatmaps", type=int, default=150, help="steps on heatmaps learnt anew (default 150)")
    parser.add_argument("--clips", type=int, default=20, help="clips of the test split (default 20)")
    parser.add_argument("--frames", type=int, default=60, help="frames of each of them, at 30 Hz (default 60)")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="overrides of the configuration")
    parser.add_argument("--only", nargs="+", default=[], help="some of the variants")
    parser.add_argument("--cache", type=Path, default=cache_directory() / "clips", help="folder of rendered clips")
    parser.add_argument("--json", type=Path, help="write the numbers")
    arguments = parser.parse_args()
    source, card = checkpoint.load(arguments.checkpoint)
    config, _ = load(arguments.config, dict(assignment(item) for item in arguments.set))
    unknown = sorted(set(arguments.only) - set(VARIANTS[card.network]))
    if unknown:
        parser.error(f"--only: expected some of {', '.join(VARIANTS[card.network])}, got {', '.join(unknown)}")
    schedule = stages(card.network, arguments.actions, arguments.singles, arguments.sequences)
    start = {"weights": str(arguments.checkpoint)} if arguments.continued else {}
    config = replace(config, {**schedule, **start, "validate_every": 10**9})
    cache.render_run(arguments.cache, config, 2)
    data = cache.load_run(arguments.cache, config)
    test = DataConfig(clip_frames=arguments.frames, rates_hz=("30",))
    cache.render_missing(arguments.cache, "test", test, arguments.clips, 2)
    clips = cache.load(arguments.cache, "test", test, arguments.clips)
    found: dict[str, dict[str, float]] = {}
    for name in tqdm(arguments.only or VARIANTS[card.network], "variants"):
        with tempfile.TemporaryDirectory() as folder:
            path = trained(source, name, config, arguments.heatmaps, data, Path(folder))
            found[name] = measured(path, card.network, clips)
        tqdm.write(f"| {name} | " + " | ".join(f"{found[name][metric]:.1f}" for metric in found[name]) + " |")
    print("| variant | " + " | ".join(METRICS) + " |")
    for name, numbers in found.items():
        print(f"| {name} | " + " | ".join(f"{numbers.get(metric, float('nan')):.1f}" for metric in METRICS) + " |")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
