"""Devices: which one an option means, how tensors are sent to it, and how they lie in its memory."""

from __future__ import annotations

import torch
from torch import Tensor

from mmccd_auto.core.errors import MMCCDError


def choose_device(name: str) -> torch.device:
    """Choose the torch device that ``-device`` names.

    Raises
    ------
    MMCCDError
        If the device isn't there, or nothing can be computed on it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError) as error:
        raise MMCCDError(f"-device {name} is no device: choose cuda, cuda:1, mps, cpu or auto.") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise MMCCDError(f"-device {name}: there is no such GPU here; use -device cpu, or fix the CUDA installation.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise MMCCDError("-device mps: there is no Apple GPU here; use -device cpu.")
    if device.type in ("cpu", "mps") and device.index not in (None, 0):
        raise MMCCDError(f"-device {name}: there is one {device.type} here; use -device {device.type}.")
    if device.type not in ("cpu", "cuda", "mps") and not _computes(device):
        raise MMCCDError(f"-device {name}: torch knows this device by name, and can't compute on it here; use -device cpu.")
    return torch.device("cpu") if device.type == "cpu" else device


def _computes(device: torch.device) -> bool:
    """Check whether a device that only some builds of torch support gives a right sum."""
    try:
        return torch.ones(2, device=device).sum().item() == 2
    # Each backend has errors of its own for "not here".
    except Exception:
        return False


def sent_to(device: torch.device | str | None, tensor: Tensor) -> Tensor:
    """Send a tensor of the CPU to ``device``; a GPU copies it while it still works, and nobody waits for that.

    Parameters
    ----------
    device : where it is wanted; None leaves it where it is
    tensor : on the CPU
    """
    if device is None:
        return tensor
    device = torch.device(device)
    if device.type != "cuda":
        return tensor.to(device)
    # Out of pageable memory, the copy waits for all that the GPU still has to do.
    return tensor.pin_memory().to(device, non_blocking=True)


def training_memory_format(device: torch.device) -> torch.memory_format:
    """Return how feature maps lie in memory while training: channels last, which tensor cores want.

    On a CPU channel by channel, since torch's backward pass of group norm is ten times slower there with channels last.
    """
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last
