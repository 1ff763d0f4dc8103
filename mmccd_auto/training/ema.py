"""The running mean of a model's weights that inference uses."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Network = TypeVar("Network", bound=nn.Module)


def warmed_up_decay(decay: float, step: int) -> float:
    """Compute the decay to use at the optimiser step ``step`` (the first is 0): min(decay, (1 + step) / (10 + step)).

    A decay of 0.9999 remembers some 10 000 steps, so that without a warm-up a shorter training would end with the mean
    of its random start. The rule is that of TensorFlow's ``tf.train.ExponentialMovingAverage(num_updates=...)``: the mean
    reaches back over about a ninth of the steps taken, until that is longer than what ``decay`` remembers.
    """
    return min(decay, (1 + step) / (10 + step))


class ExponentialMovingAverage(Generic[Network]):
    """An exponential moving average of a model's parameters: mean <- d * mean + (1 - d) * parameter.

    Parameters
    ----------
    model : the trained model
    decay : d after the warm-up, within [0, 1)

    Attributes
    ----------
    model : a copy in evaluation mode that holds the mean; it takes no gradient
    """

    def __init__(self, model: Network, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights that the optimiser step ``step`` (the first is 0) gave into the mean; buffers are copied."""
        average = get_ema_multi_avg_fn(warmed_up_decay(self.decay, step))
        average(list(self.model.parameters()), [parameter.detach() for parameter in model.parameters()], step)
        for mean, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            mean.copy_(buffer)
