"""Which precision a device runs the networks in: measured, since it depends on the device and the network."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.maps.remembered import recall, remember
from mmccd_auto.inference.options import BFLOAT16, FLOAT32, PRECISIONS
from mmccd_auto.model.reconstructor import Reconstructor, SamplingSettings
from mmccd_auto.training.mixed_precision import gpu_has_bfloat16

WARM_UPS, TIMED = 2, 3
logger = logging.getLogger(__name__)


def choose_precision(
    wanted: str, cycle: Reconstructor, device: torch.device, patch_size: tuple[int, int], batch_size: int
) -> str:
    """Choose the precision to predict in.

    Parameters
    ----------
    wanted : "float32", "bfloat16" (autocast), or "auto": what is quicker of both on a GPU that has bfloat16, by timing some
        batches once; float32 elsewhere, since a CPU is slower with bfloat16 unless it has units for it
    cycle : in evaluation mode, on ``device``
    device : to compute on
    patch_size : (rows, columns) px
    batch_size : of prediction

    Raises
    ------
    MMCCDError
        If ``wanted`` is unknown.
    """
    if wanted not in PRECISIONS:
        raise MMCCDError(f"there is no precision {wanted}: choose one of {', '.join(PRECISIONS)}.")
    if wanted != "auto":
        return wanted
    if device.type != "cuda" or not gpu_has_bfloat16(device):
        return FLOAT32
    return quickest_precision((FLOAT32, BFLOAT16), cycle, device, patch_size, batch_size)


def quickest_precision(
    candidates: Sequence[str], cycle: Reconstructor, device: torch.device, patch_size: tuple[int, int], batch_size: int
) -> str:
    """Time one diffusion step and the way back of random slices in each precision.

    What was found is remembered for this kind of device, torch and network, whatever the batch size, from one command to the
    next: a map must not depend on what else the machine did, or on ``--batch_size``. A batch that doesn't fit into the
    memory is halved for this; where a single slice doesn't fit, it is float32, and not remembered.
    """
    key = _key(candidates, cycle, device, patch_size)
    known = recall(key)
    if known is not None and known in candidates:
        return known
    seconds: dict[str, float] = {}
    while len(seconds) < len(candidates):
        try:
            seconds = {one: _seconds(one, cycle, device, patch_size, batch_size) for one in candidates}
        except torch.cuda.OutOfMemoryError:
            if batch_size == 1:
                return FLOAT32
            batch_size //= 2
    quickest = min(candidates, key=seconds.__getitem__)
    remember(key, quickest)
    told = ", ".join(f"{one} {1000 * value:.0f} ms" for one, value in seconds.items())
    logger.info("%s for batches of %d: %s is taken (%s)", device, batch_size, quickest, told)
    return quickest


def _key(candidates: Sequence[str], cycle: Reconstructor, device: torch.device, patch_size: tuple[int, int]) -> str:
    """Describe what a timing holds for, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    size = sum(parameter.numel() for parameter in cycle.parameters())
    rows, columns = patch_size
    network = f"{cycle.name} with {size} weights, {rows} x {columns} px"
    return f"{' or '.join(candidates)}: {name}, torch {torch.__version__}, {network}"


@torch.inference_mode()
def _seconds(
    precision: str, cycle: Reconstructor, device: torch.device, patch_size: tuple[int, int], batch_size: int
) -> float:
    """Return the seconds of the quickest of some batches."""
    x = torch.randn(batch_size, 1, *patch_size, device=device)
    keys = torch.arange(batch_size, device=device)
    sampling = SamplingSettings(1, "trailing", share_initial_noise=False, redraw_condition_noise=False)
    found = []
    for _ in range(WARM_UPS + TIMED):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == BFLOAT16):
            cycle.reconstruct(x, torch.ones_like(x), sampling, keys, keys)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found[WARM_UPS:])
