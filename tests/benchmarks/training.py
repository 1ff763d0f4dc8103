"""Training samples per second, beside a plain PyTorch loop of the published recipe on the same slices and networks.

    python tests/benchmarks/training.py PREPROCESSED/PLANS [-c FLAIR-T1] [--iterations 12] [--rounds 3] [--processes 2]

Both train the two networks of the published cycle (MMCCDPublishedTrainer), in turn, in processes of their own that do
nothing but read slices and take optimiser steps; a sample is a slice that both networks have learned from.

- plain: what a script does that follows the paper: one network after the other, every slice read from its npz file when it
  is drawn, one strip mask per batch, AdamW and the running mean of the weights parameter by parameter, the loss fetched at
  every step. All cores.
- ours: mmccd_train under torchrun with --processes ranks that share the cores, augmentation included; from
  training_log.jsonl, without the first epoch.

Prints samples per second of each, the median of the rounds' ratios, and all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mmccd_auto.model.cycle import PublishedModalityCycle
from mmccd_auto.model.strip_masks import keep_mask, random_strips
from mmccd_auto.model.unet import UNet
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.plans.splits import SPLITS_FILE
from mmccd_auto.training.data.data_loading import TrainingSlice, crop
from mmccd_auto.training.data.fold_data import find_fold_data

TRAINER = "MMCCDPublishedTrainer"
DECAY = 0.9999


def plain_network(network: UNet) -> tuple[UNet, torch.optim.Optimizer, list[torch.Tensor]]:
    """A network as a script would have it: torch's memory layout and dropout, AdamW, a running mean of the weights."""
    network.to(memory_format=torch.contiguous_format).train()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.Dropout):
                setattr(module, name, torch.nn.Dropout(child.p))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0)
    return network, optimizer, [parameter.detach().clone() for parameter in network.parameters()]


def read(slices: tuple[TrainingSlice, ...], patch: tuple[int, int], batch: int, random: np.random.Generator) -> torch.Tensor:
    """A batch [N, 2, H, W], each slice read from its file."""
    images = []
    for index in random.integers(len(slices), size=batch):
        with np.load(slices[index].file) as content:
            images.append(crop(content["image"][list(slices[index].channels)], patch))
    return torch.from_numpy(np.stack(images))


def step(network, optimizer, mean, loss: torch.Tensor) -> float:
    """One step of one network."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for running, parameter in zip(mean, network.parameters(), strict=True):
            running.mul_(DECAY).add_(parameter, alpha=1 - DECAY)
    return loss.item()


def plain_loop(plan: Plan, slices: tuple[TrainingSlice, ...], iterations: int) -> float:
    """Samples per second; the first iteration of each network doesn't count."""
    cycle = PublishedModalityCycle(plan.network, plan.diffusion, plan.strip_width, plan.patch_size)
    forward, backward = plain_network(cycle.forward_network), plain_network(cycle.backward_network)
    random, batch, patch = np.random.default_rng(0), plan.training.batch_size, plan.patch_size
    seconds = 0.0
    for iteration in range(iterations + 1):
        started = time.perf_counter()
        x, y = read(slices, patch, batch, random).split(1, dim=1)
        keep = keep_mask(random_strips(1, patch, plan.strip_width), patch, plan.strip_width)
        t = torch.randint(plan.diffusion.timesteps, (batch,))
        noisy = cycle.schedule.q_sample(y, t, torch.randn_like(y))
        condition = keep * x + (1 - keep) * torch.randn_like(x)
        step(*forward, F.mse_loss(forward[0](torch.cat([noisy, condition], dim=1), t), y))
        # The backward network is trained apart, on batches of its own.
        x, y = read(slices, patch, batch, random).split(1, dim=1)
        step(*backward, F.mse_loss(backward[0](y), x))
        seconds += (time.perf_counter() - started) * (iteration > 0)
    return iterations * batch / seconds


def run_plain(options: argparse.Namespace) -> None:
    """The child process of the plain loop: prints its samples per second."""
    plan = Plan.load(options.preprocessed / PLANS_FILE)
    chosen = plan.configuration(options.configuration)
    splits = json.loads((options.preprocessed.parent / SPLITS_FILE).read_text())
    modalities = (chosen.input_modality, chosen.translation_modality)
    data = find_fold_data(options.preprocessed, splits, "0", modalities)
    print(plain_loop(plan, data.training, options.iterations))


def ours(options: argparse.Namespace, folder: Path) -> float:
    """Samples per second of the real command."""
    shutil.rmtree(folder / "results", ignore_errors=True)
    home = options.preprocessed.resolve().parent
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // options.processes))}
    environment |= {
        "mmccd_preprocessed": str(home.parent),
        "mmccd_results": str(folder / "results"),
        "mmccd_raw": str(folder),
    }
    command = [str(Path(sys.executable).parent / "mmccd_train"), home.name, "0", "-p", options.preprocessed.name]
    command += ["-tr", options.trainer, "--num_epochs", "2", "--iterations_per_epoch", str(options.iterations), "-np", "0"]
    command += ["-device", "cpu", "--planned_steps", *(["-c", options.configuration] if options.configuration else [])]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(options.processes)]
    launch = [*launch, "--no-python"] if options.processes > 1 else []
    log = folder / "log.txt"
    with log.open("wb") as file:
        training = subprocess.Popen([*launch, *command], env=environment, stdout=file, stderr=file)
        lines: list[dict] = []
        while len(lines) < 2 and training.poll() is None:
            time.sleep(0.5)
            lines = [
                json.loads(line)
                for path in folder.glob("results/*/*/fold_0/training_log.jsonl")
                for line in path.read_text().splitlines()
            ]
        # What comes after the last epoch (calibration) is not measured.
        training.terminate()
        training.wait()
    if len(lines) < 2:
        raise SystemExit(f"the training failed:\n{log.read_text()[-2000:]}")
    return lines[1]["samples_per_second"]


def plain(options: argparse.Namespace) -> float:
    """Samples per second of the plain loop, in a process of its own."""
    command = [sys.executable, __file__, str(options.preprocessed), "--plain", "--iterations", str(options.iterations)]
    command += ["-c", options.configuration] if options.configuration else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preprocessed", type=Path, help="$mmccd_preprocessed/DATASET/PLANS")
    parser.add_argument("-c", dest="configuration", default=None)
    parser.add_argument("-tr", dest="trainer", default=TRAINER)
    parser.add_argument("--iterations", type=int, default=12, help="that are timed, of each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        run_plain(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        rounds = [(plain(options), ours(options, Path(folder))) for _ in range(options.rounds)]
    plan = Plan.load(options.preprocessed / PLANS_FILE)
    ratios = [our / other for other, our in rounds]
    print(f"{plan.network.base_channels} channels, {plan.patch_size[0]} x {plan.patch_size[1]} px, ", end="")
    print(f"batches of {plan.training.batch_size}, {os.cpu_count()} cores")
    print(f"plain: {statistics.median(one for one, _ in rounds):.1f} samples/s")
    print(f"ours:  {statistics.median(one for _, one in rounds):.1f} samples/s ({options.processes} processes)")
    print(f"ratio: {statistics.median(ratios):.2f} ({', '.join(f'{one:.2f}' for one in sorted(ratios))})")


if __name__ == "__main__":
    main()
