"""What a device wants: how tensors are sent to it, and how they lie in its memory."""

from __future__ import annotations

import torch
from torch import Tensor


def sent_to(device: torch.device | str | None, tensor: Tensor) -> Tensor:
    """A tensor of the CPU on ``device``; a GPU copies it while it still works, and nobody waits for that.

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
    """How feature maps lie in memory while training: channels last, which tensor cores want; on a CPU channel by channel,
    since torch's backward pass of group norm is ten times slower there with channels last."""
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last
