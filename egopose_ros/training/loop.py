"""The training loop: the stages of a network's recipe, averaged weights, checks, checkpoints that resume exactly."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from egopose_ros import checkpoint
from egopose_ros.config import options
from egopose_ros.features.backbones import fold_batch_norms
from egopose_ros.networks.table import build
from egopose_ros.skeleton import skeleton
from egopose_ros.training import cache, validation
from egopose_ros.training.allocator import keep_freed_memory
from egopose_ros.training.config import HEADS, RunConfig, ScheduleConfig
from egopose_ros.training.data import Batch, ClipDataset, in_batches, loader
from egopose_ros.training.labelled import LabelledClip, LabelledDataset, MixedDataset
from egopose_ros.training.losses import cosine
from egopose_ros.training.memory import Kept, batch_number, remembered
from egopose_ros.training.processes import LossModule, Processes, together
from egopose_ros.training.recipes import RECIPES

BAD_STEPS = 10
"""steps in a row whose gradient is not finite before training gives up"""
_LOG_EVERY = 20


class Trainer:
    """A run in a folder: `state.pt` to resume from, `log.jsonl`, validation pictures, and at the end the checkpoint."""

    def __init__(
        self,
        config: RunConfig,
        model: dict[str, Any],
        folder: Path,
        clips: list[cache.AnyClip],
        validation_clips: list[cache.CachedClip],
        stills: list[cache.AnyClip] | None = None,
        recorded: list[LabelledClip] | None = None,
        processes: Processes = Processes(),
        *,
        fresh: bool = True,
    ):
        """Build what is trained; with `fresh` false without the weights that it starts from, for a run to `resume`."""
        if config.threads:
            torch.set_num_threads(config.threads)
        keep_freed_memory()
        torch.manual_seed(config.seed)
        self.config, self.processes = config, processes
        self.device = processes.device(config.device)
        self.folder = folder
        self.clips, self.validation_clips = clips, validation_clips
        self.stills, self.recorded = stills or [], recorded or []
        self.recipe, _ = RECIPES[config.network]
        self.network = build(config.network, {"views": config.data.views, **model}).to(self.device)
        self.head = self.recipe.heads(self.network).to(self.device)
        self.recipe.check(config, self.network.config)
        if fresh and config.weights:
            self._continue_from(checkpoint.locate(config.weights))
        if fresh:
            self.recipe.start(self.network, self.head, config)
        self.network.encoder.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.average_head = copy.deepcopy(self.head).eval().requires_grad_(False)
        both = [
            pair for module, average in self._pairs
            for pair in zip(average.state_dict().values(), module.state_dict().values())
        ]  # fmt: skip
        self._floats = tuple(zip(*(pair for pair in both if pair[0].is_floating_point())))
        self._counts = [pair for pair in both if not pair[0].is_floating_point()]
        self.stage, self.step, self.bad_steps = 0, 0, 0
        self.seconds = 0.0
        self.optimizer = self._start_stage()
        torch.manual_seed(config.seed + processes.rank)  # all start from one network, and then draw their own dropout
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = _tensorboard(folder) if config.tensorboard and processes.rank == 0 else None

    def _continue_from(self, path: Path) -> None:
        """Load a checkpoint, and what taught it where that lies beside it; ValueError where they do not fit."""
        weights, _ = checkpoint.load(path, expected=self.config.network)
        for name in ("crop_left", "crop_top", "crop_side"):
            ours, theirs = (getattr(each.config, name) for each in (self.network, weights))
            if ours != theirs:
                raise ValueError(f"weights {path}: expected one whose {name} is {ours}, got {theirs}")
        heads = path.with_name(HEADS)
        try:
            self.network.load_state_dict(self.recipe.fitted(self.network, weights.state_dict()))
            if heads.is_file():
                self.head.load_state_dict(load_file(heads))
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"weights {path}: expected those of a network of these settings, got {error}") from None

    def run(self, stop_after: int | None = None) -> Path | None:
        """Train to the end and return the checkpoint; None when stopped after so many steps, resumable."""
        done = 0
        while self.stage < len(self.recipe.stages):
            settings = self._settings()
            began = logged = time.monotonic()
            frames = 0
            for batch, kept in self._progress(settings, stop_after, done) if settings.steps else ():
                values = self._train_step(batch, kept, settings)
                # All that a step takes: the making of its batch, too, and the validation before it.
                now = time.monotonic()
                self.seconds, began = self.seconds + now - began, now
                frames += batch.input.stamps_ns.numel()
                if self.step % _LOG_EVERY == 0 and self.processes.rank == 0:
                    numbers = {name: float(value) for name, value in values.items()}
                    self._log("train", {**numbers, "frames_per_s": frames / (now - logged)})
                    logged, frames = now, 0
                done += 1
                if self.step % self.config.validate_every == 0 and self.processes.rank == 0:
                    self.validate()
                if self.step % self.config.checkpoint_every == 0:
                    self.save_state()
                if done == stop_after:
                    self.save_state()
                    return None
            self._finish_stage()
        return self._finish()

    def save_state(self) -> None:
        """Write everything that resuming needs; the file is replaced when it is complete. All processes call it."""
        random = self.processes.gather(torch.get_rng_state())
        on_gpu = torch.device(self.device).type == "cuda"
        random_cuda = self.processes.gather(torch.cuda.get_rng_state(self.device) if on_gpu else None)
        if self.processes.rank:
            return
        state = {
            "settings": json.dumps(_resume_settings(self.config, self.network.config, self.processes.count)),
            "network": self.network.state_dict(),
            "head": self.head.state_dict(),
            "average": self.average.state_dict(),
            "average_head": self.average_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": random,
            "random_cuda": random_cuda,
            "position": [self.stage, self.step],
            "seconds": self.seconds,
        }
        part = self.folder / "state.part"
        torch.save(state, part)
        part.rename(self.folder / "state.pt")

    def resume(self) -> None:
        """Continue from `state.pt`; ValueError when it is missing or another run's."""
        path = self.folder / "state.pt"
        if not path.is_file():
            raise ValueError(f"{path}: expected the state of a run to resume, got no such file")
        state = torch.load(path, map_location="cpu", weights_only=True)
        mine = _resume_settings(self.config, self.network.config, self.processes.count)
        # A setting that is newer than the run had its default.
        defaults = _resume_settings(type(self.config)(), type(self.network.config)(), 1)
        saved = defaults | json.loads(state["settings"])
        changed = sorted(key for key in mine.keys() | saved.keys() if mine.get(key) != saved.get(key))
        if changed:
            difference = ", ".join(f"{key} {saved.get(key)} -> {mine.get(key)}" for key in changed)
            raise ValueError(f"{path}: expected the settings it was started with, got {difference}")
        self.stage, self.step = state["position"]
        self.network.load_state_dict(state["network"])
        self.head.load_state_dict(state["head"])
        self.average.load_state_dict(state["average"])
        self.average_head.load_state_dict(state.get("average_head", state["head"]))
        if self.stage < len(self.recipe.stages):  # else a finished run is only to be measured and written again
            self.optimizer = self._start_stage()
            self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"][self.processes.rank])
        random_cuda = state["random_cuda"][self.processes.rank]
        if random_cuda is not None and torch.device(self.device).type == "cuda":
            torch.cuda.set_rng_state(random_cuda, self.device)
        self.seconds = state["seconds"]

    def validate(self) -> dict[str, float]:
        """Measure the averaged weights, log the numbers and draw a sheet."""
        batches = self._validation_batches()
        picture = self.folder / f"{self._name()}_{self.step:06d}.jpg"
        numbers = self.recipe.validate(self.average, self.average_head, batches, self._name(), picture)
        self._log("validation", numbers)
        return numbers

    def _name(self) -> str:
        return self.recipe.stages[self.stage]

    @property
    def _pairs(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """What is trained, and the average of each."""
        return (self.network, self.average), (self.head, self.average_head)

    def _settings(self) -> ScheduleConfig:
        return getattr(self.config, self._name())

    def _start_stage(self) -> torch.optim.AdamW:
        """Freeze what the stage freezes and return a new optimiser; norms and biases do not decay."""
        if self.stage >= len(self.recipe.stages):
            return self.optimizer
        settings = self._settings()
        groups = []
        losses = LossModule(self.recipe, self.network, self.head)
        for factor, trained in self.recipe.trained(self.network, self.head, self._name(), self.config):
            for decay, wide in ((self.config.weight_decay, True), (0.0, False)):
                parameters = [p for p in trained if _is_matrix(p) == wide]
                if parameters:
                    groups.append({"params": parameters, "weight_decay": decay, "factor": factor})
        if self.config.fixed_norms:
            for norm in self.network.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.eval()
        self.losses = together(losses, self.processes) if settings.steps else losses
        return torch.optim.AdamW(groups, lr=settings.learning_rate)

    def _finish_stage(self) -> None:
        """Validate; the next stage starts from the averaged weights."""
        if self._settings().steps and self.processes.rank == 0:
            self.validate()
        self.network.load_state_dict(self.average.state_dict())
        self.head.load_state_dict(self.average_head.state_dict())
        self.stage, self.step = self.stage + 1, 0
        self.optimizer = self._start_stage()
        self.save_state()

    def _finish(self) -> Path | None:
        """Calibrate, measure and write what was learnt; the first process does."""
        if self.processes.rank:
            return None
        self.stage -= 1
        batches = self._validation_batches()
        validation.calibrate(self.average, batches)
        body = skeleton(self.network.skeleton)
        numbers = validation.numbers(batches, validation.predictions(self.average, batches), body)
        self.stage += 1
        path = self.folder / f"{self.config.network}.safetensors"
        facts = {
            "settings": {item.name: item.default for item in options(self.config)},
            "hours": round(self.seconds / 3600.0, 3),
            "processes": self.processes.count,
            "frames_rendered": sum(clip.frames for clip in self.clips + self.stills),
            "frames_recorded": sum(clip.frames for clip in self.recorded),
            "validation": numbers,
            "torch": torch.__version__,
        }
        checkpoint.save(path, self.average, facts)
        save_file(self.average_head.state_dict(), str(self.folder / HEADS))
        return path

    def _progress(self, settings: ScheduleConfig, stop_after: int | None, done: int) -> Any:
        """Yield the stage's remaining batches below a bar with the time left."""
        last = settings.steps if stop_after is None else min(settings.steps, self.step + stop_after - done)
        seed = self.config.seed + 1000 * self.stage
        clips = self.clips + self.stills if settings.frames == 1 else self.clips
        dataset = ClipDataset(clips, settings.frames, seed, self.config.augment, settings.side)
        if self.recorded:
            taught = LabelledDataset(self.recorded, settings.frames, seed, self.config.distill, settings.side)
            dataset = MixedDataset(dataset, taught, settings.batch, self.config.distill.share)
        steps, workers = range(self.step, last), self.config.loader_workers
        if settings.passes > 1:
            keep = partial(self._keep, _folded(self.network))
            numbers = [batch_number(step, settings.passes, settings.group, dataset.seed) for step in steps]
            batches = remembered(dataset, settings.batch, self._own(numbers), workers, keep)
        else:
            pinned = torch.device(self.device).type == "cuda"
            read = loader(dataset, settings.batch, self._own(steps), workers, pinned=pinned)
            batches = ((batch, None) for batch in read)
        hidden = self.processes.rank > 0
        return tqdm(
            batches, self._name(), settings.steps, initial=self.step, unit="step", smoothing=0.05, disable=hidden
        )

    def _own(self, numbers: Sequence[int]) -> list[int]:
        """Return this process's batches of what would be batches of all together."""
        return [number * self.processes.count + self.processes.rank for number in numbers]

    @torch.no_grad()
    def _keep(self, frozen: nn.Module, batch: Batch) -> Kept:
        return self.recipe.keep(frozen, self._place(batch), self._name(), self.config)

    def _place(self, batch: Batch) -> Batch:
        """Return a batch on the device, with the joints that the network has."""
        return batch.of(self.network.skeleton).to(self.device)

    def _train_step(self, batch: Batch, kept: Kept | None, settings: ScheduleConfig) -> dict[str, Any]:
        """Take a step; return the loss, its terms and the learning rate."""
        progress = self.step / settings.steps
        warm = min(1.0, (self.step + 1) / max(settings.warmup, 1))
        rate = settings.learning_rate * warm * cosine(1, settings.final_rate, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        total, terms = self.losses(self._place(batch), kept, self._name(), progress, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, self.config.clip_norm or math.inf)
        self._check_finite(norm, terms)
        if self.bad_steps == 0:
            self.optimizer.step()
            self._update_average()
        else:  # what such a batch left in batch norms would stay there
            for trained, average in self._pairs:
                for own, averaged in zip(trained.buffers(), average.buffers()):
                    own.copy_(averaged)
        self.step += 1
        return {"loss": total.detach(), **{name: value.detach() for name, value in terms.items()}, "rate": rate}

    def _check_finite(self, norm: torch.Tensor, terms: dict[str, torch.Tensor]) -> None:
        """Count steps whose gradient is not finite, which are left out; ValueError when they do not end."""
        self.bad_steps = 0 if bool(torch.isfinite(norm)) else self.bad_steps + 1
        if self.bad_steps >= BAD_STEPS:
            values = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
            raise ValueError(
                f"training: gradients were not finite for {BAD_STEPS} steps in a row, at {self._name()} {self.step}: "
                f"{values}; begin a new run with a lower learning rate"
            )

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short memory at first, or the random start would stay in the average for long.
        decay = min(self.config.ema, (1.0 + self.step) / (10.0 + self.step))
        averaged, trained = self._floats
        torch._foreach_lerp_(averaged, trained, 1.0 - decay)  # one by one they take a GPU longer than its step
        for value, goal in self._counts:
            value.copy_(goal)

    def _validation_batches(self) -> list[Batch]:
        """Return the held-out clips: whole for sequences, every sixth frame on its own for frames."""
        single = self._settings().frames == 1
        frames = 1 if single else min(clip.frames for clip in self.validation_clips)
        dataset = ClipDataset(self.validation_clips, frames, 0, None, self._settings().side)
        dataset.windows = dataset.windows[::6] if single else dataset.windows
        return [self._place(batch) for batch in in_batches(dataset, 32 if single else 4)]

    def _log(self, kind: str, values: dict[str, float]) -> None:
        entry = {"kind": kind, "stage": self._name(), "step": self.step, "seconds": round(self.seconds, 1), **values}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{kind}/{self._name()}/{name}", value, self.step)
        if kind == "validation":
            tqdm.write(f"{self._name()} {self.step}: " + ", ".join(f"{k} {v:.3g}" for k, v in values.items()))


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Say whether weight decay is for it: not for norms, biases and scales, whatever axes of one they have."""
    return sum(size > 1 for size in parameter.shape) > 1


def _folded(network: nn.Module) -> nn.Module:
    """Return a copy whose batch norms are folded, which computes what is frozen in two thirds of the time."""
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    fold_batch_norms(copied.encoder)
    return copied


def _resume_settings(config: RunConfig, model: Any, processes: int) -> dict[str, Any]:
    """Return what must not change between the parts of a run, as JSON gives it back."""
    free = {"weights", "device", "threads", "loader_workers", "on_the_fly", "validate_every", "checkpoint_every", "tensorboard"}
    run = {item.name: item.default for item in options(config) if item.name not in free}
    own = {f"model.{item.name}": item.default for item in options(model)}
    return json.loads(json.dumps({**run, **own, "processes": processes}))


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("tensorboard: expected the package tensorboard, which is not installed") from None
    return SummaryWriter(str(folder))
