"""Several processes that train one network, as torchrun starts them: each with its own part of every batch.

    torchrun --nproc-per-node 4 -m egopose_ros.cli train CONFIG --set device=cuda

DistributedDataParallel averages the gradients, so N processes with batches of B take the step of one with N * B where
no batch norm is trained: those are of each process's own part (there is no SyncBatchNorm), and the first one's running
statistics are kept. So are the means of losses that weigh what they count, by visibility or by a teacher's gate.
"""

from __future__ import annotations

import gc
import importlib
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from egopose_ros import devices
from egopose_ros.training.config import RunConfig
from egopose_ros.training.data import Batch
from egopose_ros.training.memory import Kept


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that train together."""

    rank: int = 0
    count: int = 1
    local: int = 0
    """rank on this machine"""

    def device(self, name: str) -> str:
        """Return this process's device: of the GPUs of a machine, each process has one."""
        return f"cuda:{self.local}" if name == "cuda" and self.count > 1 else name

    def wait(self) -> None:
        """Go on when all are here."""
        if self.count > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values


def join(device: str) -> Processes:
    """Join the processes that torchrun started; without it, be alone. ValueError for a device that is not there."""
    count, local = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    if count > 1 and device.startswith("cuda:"):
        raise ValueError(
            f"device: expected cuda or cpu for {count} processes, each of which takes a GPU of its own, got '{device}'"
        )
    devices.require(device)
    if count == 1:
        return Processes()
    on_gpu = device.startswith("cuda")
    if on_gpu:
        devices.require(f"cuda:{local}", f"process {local}")
        torch.cuda.set_device(local)
    # DistributedDataParallel imports it, and it keeps the group that it finds as a default of its functions: imported
    # after that is made, it would keep the group's threads until the process ends, which then may abort.
    importlib.import_module("torch.distributed.nn.functional")
    # The others wait for the first one to render, and to cut recordings: hours, where the default is minutes.
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(days=2))
    return Processes(dist.get_rank(), count, local)


def leave(processes: Processes) -> None:
    """End the group and its threads. What was trained in it must be let go before: it holds the group."""
    if processes.count > 1:
        dist.destroy_process_group()
        gc.collect()


class LossModule(nn.Module):
    """The losses of a recipe as a module, which is what DistributedDataParallel takes."""

    def __init__(self, recipe: Any, network: nn.Module, head: nn.Module):
        super().__init__()
        self.recipe, self.network, self.head = recipe, network, head

    def forward(
        self, batch: Batch, kept: Kept | None, stage: str, progress: float, config: RunConfig
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the total and its unweighted terms."""
        losses = self.recipe.losses(self.network, self.head, batch, kept, stage, progress, config)
        return losses.total, losses.terms


def together(losses: LossModule, processes: Processes) -> nn.Module:
    """Return losses whose gradients are averaged over the processes; what a stage does not train is left alone."""
    if processes.count == 1 or not any(p.requires_grad for p in losses.parameters()):
        return losses
    return DistributedDataParallel(losses, find_unused_parameters=True)
