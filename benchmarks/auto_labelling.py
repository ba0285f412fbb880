"""What labels of a teacher are worth: a student on part of the true labels, with and without an unlabelled rest.

    python benchmarks/auto_labelling.py --size small --out runs/auto_labelling --teacher weights/TEACHER.safetensors

True labels are of the training split with its own rigs. The unlabelled rest is shifted: another camera (a real OCam
lens on a longer boom than any rig in training), other rooms and people (the validation split). Students are measured on
recordings of the test split, by the shifted camera and by drawn rigs, on no frame of which anything was trained.

Every step is a command of `egopose`, printed before it runs, and one that is done is not done again: run it again to go
on. Without --teacher, one with a larger backbone is trained first, on all true labels. `--estimate` only says how long
it would take.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from egopose_ros import cli, pipeline
from egopose_ros.camera import calibration
from egopose_ros.camera.rig import Rig, RigCamera
from egopose_ros.config import Config, replace
from egopose_ros.files import write_whole
from egopose_ros.geometry import rigid
from egopose_ros.labelling import manifest
from egopose_ros.resources import share_file
from egopose_ros.structs import Frame
from egopose_ros.synth.rigs import looking
from egopose_ros.synth.world import record
from egopose_ros.training import cache
from egopose_ros.training.config import DataConfig
from egopose_ros.training.loop import Trainer
from egopose_ros.training.recipes import load

LENS = "config/cameras/ego_whole_mocap.yaml"
PLACE_HEAD, PITCH = (0.26, 0.0, 0.14), -0.32
"""of the shifted camera [m, rad]: before, above and looking further back than any rig in training (synth/rigs.py)"""
STUDENTS: dict[str, dict[str, Any]] = {
    "true part": {},
    "labels": {},
    "labels, no uncertainty": {"loss": {"uncertainty": 0.0}},
    "labels, no gate": {"distill": {"min_confidence": 0.0, "min_trusted": 0.0}},
}
"""student -> its settings beside those of the others; all but the first learn from labels, too"""


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    clips: int
    """clips of motion with true labels, for the teacher"""
    stills: int
    part: float
    """share of them that the students have"""
    recordings: int
    """unlabelled"""
    seconds: float
    test_recordings: int
    """of each camera"""
    steps: tuple[int, int, int]
    """of the stages small, frames and sequences"""
    batches: tuple[int, int, int]
    image_px: tuple[int, int] = (320, 256)
    """of the shifted camera"""
    fps: int = 15
    clip_frames: int = 24
    sequence: int = 16
    validation_clips: int = 24


SIZES = {
    "tiny": Size(3, 2, 0.5, 2, 1.0, 1, (4, 3, 3), (4, 4, 2), (160, 128), clip_frames=8, sequence=8, validation_clips=1),
    "small": Size(240, 3000, 0.2, 60, 4.0, 12, (1500, 250, 150), (48, 32, 8)),
    "full": Size(480, 8800, 0.15, 300, 6.0, 40, (6000, 1500, 600), (48, 48, 8)),
}


@dataclass
class Run:
    """A run in a folder, and its steps."""

    folder: Path
    size: Size
    cache: Path
    workers: int

    def command(self, *words: object, done: Path | None = None) -> None:
        """Run a command of `egopose` unless its output is there; SystemExit where it fails."""
        if done is not None and done.exists():
            return
        text = [str(word) for word in words]
        print(f"$ egopose {shlex.join(text)}", flush=True)
        status = cli.main(text)
        if status:
            raise SystemExit(f"egopose {text[0]}: exit status {status}")

    def train(self, name: str, settings: dict[str, Any]) -> Path:
        """Train to the end, going on where an earlier run ended; return the checkpoint."""
        folder = self.folder / "networks" / name.replace(",", "").replace(" ", "_")
        checkpoint = folder / "egoposeformer_v2.safetensors"
        folder.mkdir(exist_ok=True, parents=True)
        write_whole(folder / "config.yaml", yaml.safe_dump(settings))
        resume = ["--resume"] if (folder / "state.pt").exists() else []
        places = ["--output", folder, "--cache", self.cache, "--render-workers", self.workers]
        self.command("train", folder / "config.yaml", *places, *resume, done=checkpoint)
        return checkpoint

    def synth(self, name: str, split: str, count: int, rig: Path | None) -> Path:
        """Make recordings; return their folder."""
        size, folder = self.size, self.folder / name
        if folder.is_dir() and len(bags_in(folder)) >= count:
            return folder
        words = ["--split", split, "--seed", 9000, "--count", count, "--seconds", size.seconds, "--fps", size.fps]
        words += ["--out", folder] + (["--rig", rig] if rig else [])
        self.command("synth", *words)
        return folder

    def evaluate(self, name: str, checkpoint: Path, recordings: Path) -> dict[str, float]:
        """Return the metrics of a network on some recordings."""
        bags = bags_in(recordings)
        report = self.folder / f"{name.replace(',', '').replace(' ', '_')}_on_{recordings.name}.json"
        self.command("evaluate", *bags, "--checkpoint", checkpoint, "--json", report, done=report)
        metrics = json.loads(report.read_text())["runs"][0]["metrics"]
        return {
            metric: value["value"] for metric, value in metrics.items() if isinstance(value, dict) and "value" in value
        }


def bags_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if (path / "metadata.yaml").is_file())


def labelled(folder: Path) -> int:
    """Return how many recordings have their labels in a folder."""
    entries = manifest.read(folder)[1] if (folder / manifest.FILE).is_file() else []
    return sum(entry.status == manifest.LABELLED for entry in entries)


def shifted_rig(path: Path, size: tuple[int, int]) -> Path:
    """Write the calibration of the shifted camera."""
    lens = calibration.load(str(share_file(LENS))).cameras[0].model.resize(*size)
    T = rigid.transform(looking(PITCH, 0.0, 0.0), np.array(PLACE_HEAD))
    if not path.exists():
        calibration.save(Rig((RigCamera("camera", lens, T),)), path)
    return path


def settings(size: Size, share: float, labels: Path | None, extra: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a training run on a share of the true labels, and on a teacher's."""
    stages = {
        name: {"steps": steps, "batch": batch, "warmup": max(steps // 15, 1)}
        for name, steps, batch in zip(("small", "frames", "sequences"), size.steps, size.batches)
    }
    stages["sequences"]["frames"] = size.sequence
    distill = {"labels": [str(labels)], "clip_frames": size.clip_frames, **extra.get("distill", {})} if labels else {}
    return {
        "data": {
            "clips": max(round(share * size.clips), 1),
            "validation_clips": size.validation_clips,
            "clip_frames": size.clip_frames,
        },
        "stills": {"clips": max(round(share * size.stills), 1)},
        "model": {"backbone": "mobilenetv4_s"},
        **{key: value for key, value in extra.items() if key != "distill"},
        **({"distill": distill} if distill else {}),
        **stages,
    }  # fmt: skip


def estimate(run: Run, common: dict[str, Any], teacher: Path | None, students: int) -> None:
    """Print about how long a run takes, by a few frames and steps of each kind on this machine as busy as it is."""
    size = run.size
    rig = calibration.load(str(shifted_rig(run.folder / "shifted_rig.yaml", size.image_px)))
    data = DataConfig(clip_frames=max(size.sequence, 8))
    clips: list[cache.CachedClip] = []
    recordings: list[Any] = []
    true_s = seconds(lambda: clips.append(cache.render(0, data, "train")), data.clip_frames)
    shifted_s = seconds(lambda: recordings.append(record(0, "validation", frames=8, fps=size.fps, rig=rig)), 8)
    overrides = {"network.checkpoint": str(teacher)} if teacher else {"network.allow_untrained": True}
    estimator = pipeline.load(replace(Config(), {**overrides, "runtime.threads": 1}), rig)
    frame = Frame(1, (recordings[0].images[0, 0].numpy(),))
    estimator.step(estimator.init_state(), frame)
    pose_s = seconds(lambda: [estimator.step(estimator.init_state(), frame) for _ in range(10)], 10)
    step_s = {stage: steps_of(run, stage, common, clips) for stage in ("small", "frames", "sequences")}
    training_s = sum(step_s[stage] * steps for stage, steps in zip(step_s, size.steps))
    frames = size.seconds * size.fps
    tests = 2 * size.test_recordings * frames
    true = size.clips * size.clip_frames + size.stills * 4
    hours = {
        f"rendering {true} true frames": true * true_s / run.workers,
        "recordings": (size.recordings * frames + tests) * shifted_s,
        "labels": size.recordings * frames * pose_s / run.workers,
        "each training run": training_s,
        "evaluation": (students + 1) * tests * pose_s,
    }
    runs = students + (teacher is None)
    for part, value in hours.items():
        print(f"{part:32s} {value / 3600.0:6.2f} h")
    total = sum(hours.values()) + (runs - 1) * training_s
    print(f"{f'all, with {runs} training runs':32s} {total / 3600.0:6.2f} h (more, if one is of a larger teacher)")


def seconds(call: Callable[[], object], units: int) -> float:
    """Return what a unit takes."""
    began = time.monotonic()
    call()
    return (time.monotonic() - began) / units


def steps_of(run: Run, stage: str, common: dict[str, Any], clips: list[cache.CachedClip]) -> float:
    """Return what a step of a stage takes."""
    chosen = merged(settings(run.size, 1.0, None, common), {"loader_workers": 0, "validate_every": 10**9})
    for other in ("small", "frames", "decoders", "sequences"):
        chosen[other] = {**chosen.get(other, {}), **({} if other == stage else {"steps": 0})}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(yaml.safe_dump(chosen))
        trainer = Trainer(*load(Path(folder) / "config.yaml"), Path(folder) / "run", clips, clips)
        trainer.run(stop_after=1)
        return seconds(lambda: trainer.run(stop_after=2), 2)


def main() -> int:
    """Run every step that is not done, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=tuple(SIZES), help="default %(default)s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--teacher", type=Path, help="checkpoint of the teacher (default: one is trained)")
    parser.add_argument("--cache", type=Path, help="folder of rendered clips (default: in DIR)")
    parser.add_argument("--workers", type=int, default=2, help="processes that render and label (default 2)")
    parser.add_argument("--students", nargs="+", default=list(STUDENTS), choices=tuple(STUDENTS), help="default: all")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of every training run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as one JSON object")
    parser.add_argument("--estimate", action="store_true", help="say how long it would take, and stop")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    arguments.out.mkdir(parents=True, exist_ok=True)
    run = Run(arguments.out, size, arguments.cache or arguments.out / "cache", arguments.workers)
    if arguments.estimate:
        estimate(run, nested(arguments.set), arguments.teacher, len(arguments.students))
        return 0
    numbers = experiment(run, arguments)
    print(table(numbers))
    if arguments.json is not None:
        write_whole(arguments.json, json.dumps(numbers, indent=2) + "\n")
    return 0


def experiment(run: Run, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the steps and return the numbers."""
    size = run.size
    common = nested(arguments.set)
    rig = shifted_rig(run.folder / "shifted_rig.yaml", size.image_px)
    teacher = arguments.teacher
    if teacher is None:
        larger = merged(common, {"model": {"backbone": "resnet18"}})
        teacher = run.train("teacher", settings(size, 1.0, None, larger))
    unlabelled = run.synth("unlabelled", "validation", size.recordings, rig)
    shifted = run.synth("shifted", "test", size.test_recordings, rig)
    home = run.synth("home", "test", size.test_recordings, None)
    labels = run.folder / "labels"
    done = labelled(labels) >= size.recordings
    words = [*bags_in(unlabelled), "--out", labels, "--checkpoint", teacher, "--workers", run.workers]
    run.command("label", *words, done=labels if done else None)
    networks: dict[str, Path] = {"teacher": teacher}
    for name in arguments.students:
        taught = None if name == "true part" else labels
        chosen = settings(size, size.part, taught, merged(common, STUDENTS[name]))
        networks[name] = run.train(name, chosen)
    scores = {
        name: {test.name: run.evaluate(name, checkpoint, test) for test in (shifted, home)}
        for name, checkpoint in networks.items()
    }
    entries = manifest.read(labels)[1]
    return {
        "size": dataclasses.asdict(size),
        "teacher": str(teacher),
        "labelled_frames": sum(entry.frames for entry in entries),
        "teacher_confidence": float(np.mean([entry.confidence for entry in entries if entry.confidence is not None])),
        "scores": scores,
    }


def nested(assignments: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE items, dots as nesting."""
    result: dict[str, Any] = {}
    for item in assignments:
        name, _, value = item.partition("=")
        part: Any = yaml.safe_load(value)
        for key in reversed(name.split(".")):
            part = {key: part}
        result = merged(result, part)
    return result


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings with those of `other` on top."""
    both = {key: merged(one[key], other[key]) for key in one.keys() & other.keys() if isinstance(one[key], dict)}
    return {**one, **other, **both}


def table(numbers: dict[str, Any]) -> str:
    """Return the numbers as lines."""
    names = {"MPJPE": "mpjpe_mm", "PA": "pa_mpjpe_mm"}
    tests = list(next(iter(numbers["scores"].values())))
    lines = [
        f"teacher {numbers['teacher']}: {numbers['labelled_frames']} frames labelled, mean confidence "
        f"{numbers['teacher_confidence']:.2f}; mm",
        f"{'':26s}" + "".join(f"{f'{test} {name}':>18s}" for test in tests for name in names),
    ]
    for student, scores in numbers["scores"].items():
        lines.append(
            f"{student:26s}" + "".join(f"{scores[test][key]:18.1f}" for test in tests for key in names.values())
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
