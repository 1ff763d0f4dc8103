"""The published test procedure, written down plainly: one strip after the other, a batch of slices at a time.

For comparison only; see METHOD in arXiv 2308.16150: timesteps 990, 980, ..., 0, DDIM without clipping, y_T drawn once and
shared by all strips, the noise inside the strip redrawn at every step. The networks are those of a trained cycle, in the
memory layout that a plain script gives them, and are shown what they were trained with: from MMCCDTrainer's, which never had
the background hidden from them, it isn't hidden here either.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from mmccd_auto.model.cycle import PublishedModalityCycle

STEPS = 100
STARTS_PER_STRIP_WIDTH = 8


class PublishedLoop:
    """The procedure on the weights of a trained cycle.

    Parameters
    ----------
    cycle : trained, in evaluation mode
    patch_size : (rows, columns) px
    """

    def __init__(self, cycle: PublishedModalityCycle, patch_size: tuple[int, int]) -> None:
        self.cycle = copy.deepcopy(cycle).to(memory_format=torch.contiguous_format).eval()
        self.patch_size = patch_size
        self.stride = max(1, cycle.strip_width // STARTS_PER_STRIP_WIDTH)
        last = cycle.schedule.num_timesteps - cycle.schedule.num_timesteps // STEPS
        self.timesteps = torch.linspace(last, 0, STEPS).round().long().tolist()

    @property
    def strips(self) -> list[tuple[int, int]]:
        """All (axis, start): 128 at 128 px, strips without brain among them."""
        return [(axis, start) for axis in (0, 1) for start in range(0, self.patch_size[axis], self.stride)]

    @property
    def evaluations_per_slice(self) -> int:
        """Of both networks, for all strips."""
        return len(self.strips) * (STEPS + 1)

    @torch.no_grad()
    def run(self, x: Tensor, strips: Sequence[tuple[int, int]], generator: torch.Generator) -> Tensor:
        """The anomaly map of ``strips`` alone, [N, 1, H, W].

        Parameters
        ----------
        x : [N, 1, H, W] slices
        strips : some or all of :attr:`strips`
        generator : of all noise
        """
        initial = torch.randn(x.shape, generator=generator)
        error, count = torch.zeros_like(x), torch.zeros_like(x)
        for axis, start in strips:
            hidden = torch.zeros_like(x)
            hidden.narrow(2 + axis, start, min(self.cycle.strip_width, self.patch_size[axis] - start)).fill_(1)
            y = self._sample(x, self.cycle.visible(x, 1 - hidden), initial, generator)
            error += hidden * (x - self.cycle.backward_network(y)) ** 2
            count += hidden
        return error / count.clamp(min=1)

    def _sample(self, x: Tensor, keep: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        signal = self.cycle.schedule.alphas_cumprod.sqrt()
        noise = (1 - self.cycle.schedule.alphas_cumprod).sqrt()
        for t, before in zip(self.timesteps, [*self.timesteps[1:], -1], strict=True):
            condition = keep * x + (1 - keep) * torch.randn(x.shape, generator=generator)
            shown = self.cycle.forward_input(y, condition, keep)
            found = self.cycle.forward_network(shown, torch.full((len(x),), t))
            if before < 0:
                return found
            direction = (y - signal[t] * found) / noise[t]
            y = (signal[before] * found + noise[before] * direction).float()
        raise AssertionError("the last timestep is 0")
