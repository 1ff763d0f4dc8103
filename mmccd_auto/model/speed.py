"""How fast a device runs a planned network, by timing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.blocks import laid_out
from mmccd_auto.model.unet import UNet
from mmccd_auto.plans.cost import DeviceSpeed
from mmccd_auto.plans.plan import NetworkPlan

# A GPU is idle for the most part with less; a CPU is as quick with few slices at once as with many.
TIMED_BATCHES = {"cpu": 4}
TIMED_BATCH = 8
TIMED_SECONDS = 0.3
TIMED_LEAST = 3
# Of what two threads save, ten don't save five times as much.
SHARE_OF_FURTHER_THREADS = 0.7


def measure_device_speed(
    network: NetworkPlan, patch_size: tuple[int, int], device: str | torch.device = "cpu"
) -> DeviceSpeed:
    """Time the forward model on a device.

    Batches of 8 (4 on a CPU) in channels_last and single precision, for a third of a second, three at least.

    The quickest batch counts, since the others show what else the machine is doing. On a CPU it is the processor time of
    one thread that is taken, which neighbours don't lengthen, and the other threads are reckoned in.

    Raises
    ------
    MMCCDError
        If the device doesn't exist or has not even the memory for this.
    """
    try:
        device = torch.device(device)
        batch = TIMED_BATCHES.get(device.type, TIMED_BATCH)
        model = laid_out(UNet(network, patch_size, 2).to(device), torch.channels_last).eval()
        images = torch.randn(batch, 2, *patch_size, device=device).contiguous(memory_format=torch.channels_last)
        times = torch.full((batch,), 500, device=device)
        with torch.inference_mode(), one_thread(device) as together:
            _timed(model, images, times, device)
            seconds = [_timed(model, images, times, device) for _ in range(TIMED_LEAST)]
            while sum(seconds) < TIMED_SECONDS:
                seconds.append(_timed(model, images, times, device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MMCCDError(f"the device {device} can't run the planned network ({reason}): choose another -device.") from error
    return DeviceSpeed(device_name(device), together * batch / min(seconds))


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[float]:
    """Compute with one thread of a CPU, whose processor time can be taken; gives how many times as quick all of them are."""
    threads = torch.get_num_threads()
    if device.type != "cpu":
        yield 1.0
        return
    torch.set_num_threads(1)
    try:
        yield 1 + SHARE_OF_FURTHER_THREADS * (threads - 1)
    finally:
        torch.set_num_threads(threads)


def device_memory_gb(device: str | torch.device) -> float | None:
    """Return the memory (GiB) of a CUDA device; None for others, whose share for training isn't known."""
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(device).total_memory / 2**30


def _timed(model: UNet, images: torch.Tensor, times: torch.Tensor, device: torch.device) -> float:
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    start = clock()
    model(images, times)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    # A clock that ticks slowly must not give an infinite speed.
    return max(clock() - start, 1e-6)


def device_name(device: torch.device) -> str:
    """Return a device in words, with the threads that a CPU computes by."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'' if threads == 1 else 's'})" if device.type == "cpu" else device.type
