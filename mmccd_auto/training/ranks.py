"""Processes that train one model together, each on its part of every batch: what torchrun starts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

from mmccd_auto.core.errors import MMCCDError

Told = TypeVar("Told")
PATIENCE = timedelta(hours=12)
"""Others wait so long for the leading process, which validates, judges and calibrates alone."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train one model.

    Attributes
    ----------
    rank : 0 .. count - 1; the first one leads: it alone writes files
    count : of processes
    local_count : of those on this machine
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Count how many slices of a batch each process takes.

        Raises
        ------
        MMCCDError
            If the batch can't be divided evenly.
        """
        if batch_size % self.count:
            raise MMCCDError(
                f"a batch of {batch_size} slices can't be divided among {self.count} processes: start as many as divide it, "
                "or change training.batch_size in plans.json."
            )
        return batch_size // self.count

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over the processes; in place, in one transfer."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, told: Told) -> list[Told]:
        """Return what every process gives, the leading one first. Each waits here for the last of them."""
        if self.count == 1:
            return [told]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, told)
        return found

    def mean(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Return every number's mean over the processes; one that a process doesn't have is 0 there."""
        everyones = self.gather(dict(numbers))
        names = dict.fromkeys(name for one in everyones for name in one)
        return {name: sum(one.get(name, 0.0) for one in everyones) / self.count for name in names}


ALONE = Ranks()


def join_ranks(environment: Mapping[str, str], device: torch.device) -> tuple[Ranks, torch.device]:
    """Join the processes that torchrun has started; a process that it didn't start is alone.

    Parameters
    ----------
    environment : where torchrun says RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE
    device : "cuda" gives every process a GPU of its own; on the CPU they share the cores

    Returns
    -------
    the place among the processes, and the device of this one

    Raises
    ------
    MMCCDError
        If there are fewer GPUs than processes, or the device is neither CUDA nor the CPU.
    """
    count = int(environment.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE, device
    if device.type not in ("cpu", "cuda"):
        raise MMCCDError(f"several processes can't train on {device}: choose -device cuda or cpu.")
    if device.type == "cuda":
        place = int(environment.get("LOCAL_RANK", "0"))
        if place >= torch.cuda.device_count():
            there = torch.cuda.device_count()
            raise MMCCDError(f"{place + 1} processes want a GPU each, and there are {there} here: start {there} at most.")
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        # Imported later (an optimiser does), its default arguments would hold the group for ever: its threads would
        # outlive leave_ranks and abort a process that ends while one of them lets go of a tensor.
        importlib.import_module("torch.distributed.nn.functional")
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    count = distributed.get_world_size()
    return Ranks(distributed.get_rank(), count, int(environment.get("LOCAL_WORLD_SIZE", count))), device


def leave_ranks() -> None:
    """End what :func:`join_ranks` began, where it began something."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
