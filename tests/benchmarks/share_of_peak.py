"""Which share of a device's matrix-product peak do inference and training reach, per batch size?

    python tests/benchmarks/share_of_peak.py [-device cuda] [--edge 128] [--channels 32] [--batches 8 32 128]

The peak is measured here: square matrix products in float32 and, where the device has units for it, bfloat16. On a GPU TF32
is allowed in float32, for the products of the peak as for the networks: torch's convolutions always use it there. Training
lets cuDNN try its algorithms first, as mmccd_train does. A training batch that didn't fit into the memory says in how many
parts it was worked on.
A network evaluation counts two operations per multiply-accumulate (mmccd_auto.plans.cost), a training step three evaluations
of both networks.
Random weights and slices of the published geometry: what is measured is time, not maps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from mmccd_auto.core.devices import training_memory_format
from mmccd_auto.core.processes.memory import keep_large_blocks
from mmccd_auto.model.cycle import MaskedModalityCycle
from mmccd_auto.model.reconstructor import SamplingSettings
from mmccd_auto.plans.cost import multiply_accumulates
from mmccd_auto.plans.plan import DiffusionPlan, NetworkPlan
from mmccd_auto.training.ema import ExponentialMovingAverage
from mmccd_auto.training.mixed_precision import cpu_has_bfloat16_units, gpu_has_bfloat16, mixed_precision
from mmccd_auto.training.optimisation import Optimisation, TrainingState

SECONDS = 2.0


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one call: the quickest of as many as fit into two seconds, at least three, after one to warm up."""

    def timed() -> float:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    timed()
    found = [timed() for _ in range(3)]
    while sum(found) < SECONDS:
        found.append(timed())
    return min(found)


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a square matrix product."""
    edge = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
    return 2 * edge**3 / seconds(lambda: one @ other, device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32, 128])
    options = parser.parse_args()
    keep_large_blocks()
    device = torch.device(options.device)
    patch = (options.edge, options.edge)
    network = NetworkPlan(options.channels, (1, 1, 2, 3, 4), 2, (32, 16, 8), 0.1, 16)
    operations = [2 * multiply_accumulates(network, patch, timed) for timed in (True, False)]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    halves = gpu_has_bfloat16(device) if device.type == "cuda" else device.type == "cpu" and cpu_has_bfloat16_units()
    precisions = {"float32": torch.float32} | ({"bfloat16": torch.bfloat16} if halves else {})
    peaks = {one: peak(device, dtype) for one, dtype in precisions.items()}
    allowed = " (float32 with TF32, here and below)" if device.type == "cuda" else ""
    print(f"{name}; {options.channels} channels, {patch[0]} px; matrix products{allowed}: ", end="")
    print(", ".join(f"{one} {value / 1e12:.2f} TFLOP/s" for one, value in peaks.items()))
    print("| precision | batch | evaluations/s | share of peak | training samples/s | share of peak |")
    print("|---|---|---|---|---|---|")
    for precision, dtype in precisions.items():
        for batch in options.batches:
            torch.manual_seed(0)
            cycle = MaskedModalityCycle(network, DiffusionPlan(), options.edge // 8, patch).to(device)
            autocast = partial(mixed_precision, device, dtype)
            predicted = inference(cycle, batch, patch, device, autocast)
            trained, parts = training(cycle, batch, patch, device, autocast)
            shares = (
                predicted * sum(operations) / 2 / peaks[precision],
                trained * 3 * sum(operations) / peaks[precision],
            )
            split = f" (in {parts} parts)" if parts > 1 else ""
            told = [f"{predicted:.1f} | {100 * shares[0]:.0f} %", f"{trained:.1f}{split} | {100 * shares[1]:.0f} %"]
            print(f"| {precision} | {batch} | {' | '.join(told)} |", flush=True)


def inference(cycle, batch: int, patch: tuple[int, int], device: torch.device, autocast) -> float:
    """Network evaluations per second: one diffusion step and the way back."""
    cycle.eval().to(memory_format=torch.channels_last)
    x, keys = torch.randn(batch, 1, *patch, device=device), torch.arange(batch, device=device)
    sampling = SamplingSettings(1, "trailing", share_initial_noise=False, redraw_condition_noise=False)

    @torch.inference_mode()
    def work() -> None:
        with autocast():
            cycle.reconstruct(x, torch.ones_like(x), sampling, keys, keys)

    return 2 * batch / seconds(work, device)


def training(cycle, batch: int, patch: tuple[int, int], device: torch.device, autocast) -> tuple[float, int]:
    """Samples per second of optimiser steps of both networks, and in how many parts the memory takes a batch."""
    cycle.to(memory_format=training_memory_format(device))
    state = TrainingState(
        cycle,
        ExponentialMovingAverage(cycle, 0.999),
        torch.optim.AdamW(cycle.parameters(), fused=True),
        torch.amp.GradScaler(device.type, enabled=False),
        torch.empty(0),
    )
    optimisation = Optimisation(lambda one, x, y: one.training_losses(x, y), autocast, 1.0)
    images = torch.randn(batch, 2, *patch, device=device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        rate = batch / seconds(lambda: optimisation.step(state, images), device)
    return rate, optimisation.parts


if __name__ == "__main__":
    main()
