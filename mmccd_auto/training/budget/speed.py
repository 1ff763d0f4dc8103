"""How fast a machine trains: a fixed short benchmark, so that plans fit the machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import torch

from mmccd_auto.core.devices import training_memory_format
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.blocks import laid_out
from mmccd_auto.model.cycle import MaskedModalityCycle
from mmccd_auto.model.speed import device_name, one_thread
from mmccd_auto.plans.budget.rungs import LARGE, REFERENCES, SMALL, MachineSpeed
from mmccd_auto.plans.plan import DiffusionPlan
from mmccd_auto.training.ema import ExponentialMovingAverage
from mmccd_auto.training.mixed_precision import mixed_precision, training_dtype
from mmccd_auto.training.optimisation import Optimisation, TrainingState

BATCHES = {SMALL: 16, LARGE: 16}
# The paper's network takes seconds a slice there, and as long for each of many as for one.
CPU_BATCHES = {SMALL: 16, LARGE: 1}
REPEATS = {SMALL: 6, LARGE: 2}
STRIP_SHARE = 6


def measure_machine(device: str | torch.device, references: Sequence[str] = (SMALL, LARGE)) -> MachineSpeed:
    """Time optimiser steps of reference networks on a device, as a training takes them: about ten seconds.

    The quickest of several counts, since the others show what else the machine does. On a CPU it is the processor time of
    one thread that is taken, which neighbours don't lengthen, and the other threads are reckoned in: the speed is that of a
    machine that does nothing else.

    Parameters
    ----------
    device : to time
    references : names in :data:`mmccd_auto.plans.budget.REFERENCES`

    Raises
    ------
    MMCCDError
        If the device doesn't exist or has not even the memory for this.
    """
    try:
        device = torch.device(device)
        batches = CPU_BATCHES if device.type == "cpu" else BATCHES
        seconds = {name: _seconds_per_slice(name, batches[name], device) for name in references}
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MMCCDError(f"the device {device} can't train a network ({reason}): choose another -device.") from error
    # Three digits: the machine isn't steadier than that.
    return MachineSpeed(device_name(device), device.type, {name: float(f"{one:.3g}") for name, one in seconds.items()})


def _seconds_per_slice(name: str, batch: int, device: torch.device) -> float:
    network, patch = REFERENCES[name]
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        torch.manual_seed(0)
        cycle = MaskedModalityCycle(network, DiffusionPlan(), patch[0] // STRIP_SHARE, patch)
        cycle = laid_out(cycle.to(device), training_memory_format(device))
        dtype = training_dtype(device, network)
        state = TrainingState(
            cycle,
            ExponentialMovingAverage(cycle, 0.999),
            torch.optim.AdamW(cycle.parameters(), lr=1e-4, fused=device.type in ("cpu", "cuda")),
            torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
            torch.empty(0),
        )
        optimisation = Optimisation(
            lambda one, x, y: one.training_losses(x, y), lambda: _autocast(device, dtype), gradient_clip=1.0
        )
        images = torch.randn(batch, 2, *patch, device=device)
        with one_thread(device) as together:
            times = [_timed(optimisation, state, images, device) for _ in range(1 + REPEATS[name])]
    return min(times[1:]) / batch / together


def _autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    return mixed_precision(device, dtype)


def _timed(optimisation: Optimisation, state: TrainingState, images: torch.Tensor, device: torch.device) -> float:
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    start = clock()
    optimisation.step(state, images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    # A clock that ticks slowly must not give an infinite speed.
    return max(clock() - start, 1e-6)
