"""Dropout whose random numbers are cheap on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DRAWS_PER_NUMBER = 4
LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """:class:`torch.nn.Dropout`, with 16 random bits per value on a CPU.

    Torch draws a number of 64 bits for every value, one after the other: a fifth of a training's time on a CPU for networks
    of few channels. Here each such number serves four values. The probability is rounded to a multiple of 2^-16, and the
    scaling follows the rounded one, so that the expectation stays exact. On other devices this is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of x of any shape; zeros with the chance ``p``, else x / (1 - p). The memory format stays."""
        dropped = round(self.p * LEVELS)
        if not self.training or x.device.type != "cpu" or dropped in (0, LEVELS):
            return super().forward(x)
        numbers = torch.empty(-(-x.numel() // DRAWS_PER_NUMBER), dtype=torch.int64).random_(-(1 << 63), None)
        bits = numbers.view(torch.int16)[: x.numel()]
        scale = (bits >= dropped - LEVELS // 2).to(x.dtype).mul_(LEVELS / (LEVELS - dropped))
        return x * _shaped_like(scale, x)


def _shaped_like(flat: Tensor, x: Tensor) -> Tensor:
    """Compute ``flat`` in the shape of ``x``, and in its memory format, so that their product copies nothing."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        n, c, h, w = x.shape
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)
    return flat.view(x.shape)
