"""Random numbers for the slices of a batch, all of them from one generator."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

POINTS_BEYOND = 4
"""Grid points of smooth noise beyond each border: the Gaussian has vanished there."""


class Draws:
    """Draws one value, or one image, a slice.

    All numbers come from a generator on the CPU, so that the same seed gives the same batch on every device.

    Parameters
    ----------
    count : N, slices of the batch
    generator : on the CPU
    device : that the numbers are sent to
    """

    def __init__(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> None:
        self.count, self.generator, self.device = count, generator, torch.device(device)

    def of(self, count: int) -> Draws:
        """Make draws for another number of slices from the same generator."""
        return Draws(count, self.generator, self.device)

    def uniform(self, low: float = 0.0, high: float = 1.0, channels: int = 1) -> Tensor:
        """Draw evenly between ``low`` and ``high``; [N, channels, 1, 1]."""
        return self._sent(low + (high - low) * torch.rand(self.count, channels, 1, 1, generator=self.generator))

    def log_uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """Draw evenly in the logarithm; [N, channels, 1, 1]."""
        return self.uniform(math.log(low), math.log(high), channels).exp()

    def normal(self, channels: int = 1) -> Tensor:
        """Draw from N(0, 1); [N, channels, 1, 1]."""
        return self._sent(torch.randn(self.count, channels, 1, 1, generator=self.generator))

    def coin(self, chance: float, channels: int = 1) -> Tensor:
        """Draw true with a chance; bool [N, channels, 1, 1]."""
        return self._sent(torch.rand(self.count, channels, 1, 1, generator=self.generator) < chance)

    def integers(self, limit: int) -> Tensor:
        """Draw from 0 to ``limit`` - 1; int64 [N]."""
        return self._sent(torch.randint(limit, (self.count,), generator=self.generator))

    def order(self) -> Tensor:
        """Draw an order of the slices; int64 [N]."""
        return self._sent(torch.randperm(self.count, generator=self.generator))

    def pixels(self, weight: Tensor) -> Tensor:
        """Draw a pixel of each slice with chances in proportion to ``weight`` [N, H, W]; (row, column) int64 [N, 2]."""
        flat = torch.multinomial(weight.flatten(1).cpu(), 1, generator=self.generator)[:, 0]
        return self._sent(torch.stack([flat // weight.shape[2], flat % weight.shape[2]], dim=1))

    def white(self, shape: tuple[int, int], channels: int = 1) -> Tensor:
        """Draw N(0, 1) for each pixel on its own; [N, channels, H, W]."""
        return self._sent(torch.randn(self.count, channels, *shape, generator=self.generator))

    def smooth(self, shape: tuple[int, int], sigma: float, channels: int = 1) -> Tensor:
        """Draw noise of N(0, 1) in every pixel, correlated over about 1.4 ``sigma`` px; [N, channels, H, W].

        White noise on a grid of ``sigma`` px, convolved with a Gaussian of that deviation: a product of small matrices.
        """
        rows, columns = (_gaussian_rows(edge, max(sigma, 0.5)) for edge in shape)
        grid = torch.randn(self.count, channels, rows.shape[1], columns.shape[1], generator=self.generator)
        return self._sent(rows @ grid @ columns.T)

    def _sent(self, values: Tensor) -> Tensor:
        return values.to(self.device)


@functools.lru_cache(maxsize=256)
def _gaussian_rows(edge: int, sigma: float) -> Tensor:
    """Compute the weights [pixels, grid points] along an axis.

    Squares of a row add up to 1, so that the noise has variance 1.
    """
    points = torch.arange(-POINTS_BEYOND, math.ceil(edge / sigma) + POINTS_BEYOND) * sigma
    weights = torch.exp(-((torch.arange(edge)[:, None] - points[None]) ** 2) / (2 * sigma**2))
    return weights / weights.square().sum(dim=1, keepdim=True).sqrt()
