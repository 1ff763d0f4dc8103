"""Which number format the networks are trained in, besides float32 for weights, losses and gradients."""

from __future__ import annotations

import contextlib

import torch

from mmccd_auto.plans.plan import NetworkPlan

BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16")
NARROWEST = 16
"""Base channels from which a CPU is quicker in bfloat16 (documentation/measurements/training.md)."""


def training_dtype(device: torch.device, network: NetworkPlan) -> torch.dtype:
    """Return the format of autocast in training.

    A rule, not a timing, so that a training gives the same however often it is run.

    Parameters
    ----------
    device : to train on
    network : that is trained

    Returns
    -------
    bfloat16 on CUDA devices that have units for it, else float16 there; on a CPU bfloat16 where it has units for it and the
    network has at least :data:`NARROWEST` base channels; float32 (no autocast) in all other cases
    """
    if device.type == "cuda":
        return torch.bfloat16 if gpu_has_bfloat16(device) else torch.float16
    if device.type == "cpu" and network.base_channels >= NARROWEST and cpu_has_bfloat16_units():
        return torch.bfloat16
    return torch.float32


def mixed_precision(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """Return the autocast to ``dtype``; nothing for float32."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def gpu_has_bfloat16(device: torch.device) -> bool:
    """Check whether this CUDA device has units for bfloat16: NVIDIA's from Ampere on, and all of AMD's that torch serves.

    ``torch.cuda.is_bf16_supported`` counts older ones, too, which emulate it, and asks the current device.
    """
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def cpu_has_bfloat16_units() -> bool:
    """Check whether products of bfloat16 are quicker than those of float32 on this CPU (AVX-512 BF16, AMX)."""
    # Older releases of torch don't say.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(unit, False) for unit in BFLOAT16_UNITS)
