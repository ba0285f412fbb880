"""Batches that are used several times: what frozen layers make of them is kept, which is much of the cost.

Which batch a step takes is a function of the step's number alone, so that a run resumes exactly: what was kept is
made again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor

from egopose_ros.training.data import Batch, ClipDataset, loader

Kept = tuple[Tensor | None, ...]
"""what frozen layers make of a batch; what that is, a recipe knows"""


def batch_number(step: int, passes: int, size: int, seed: int) -> int:
    """Return the batch of a step: `size` batches in order, then the same shuffled until `passes` are full."""
    group, place = divmod(step, size * passes)
    turn, index = divmod(place, size)
    if turn:
        index = int(np.random.default_rng((seed, group, turn)).permutation(size)[index])
    return group * size + index


def remembered(
    dataset: ClipDataset, batch: int, numbers: list[int], workers: int, keep: Callable[[Batch], Kept]
) -> Iterator[tuple[Batch, Kept]]:
    """Yield the batches of these numbers, without their pixels, and what is kept of each; what recurs is made once.

    A batch is forgotten after its last use.
    """
    fresh = iter(loader(dataset, batch, list(dict.fromkeys(numbers)), workers))
    last = {number: step for step, number in enumerate(numbers)}
    memory: dict[int, tuple[Batch, Kept]] = {}
    for step, number in enumerate(numbers):
        if number not in memory:
            new = next(fresh)
            kept = keep(new)
            pixels = new.input.images[..., :1, :1].clone()
            memory[number] = dataclasses.replace(new, input=dataclasses.replace(new.input, images=pixels)), kept
        yield memory[number] if step < last[number] else memory.pop(number)
