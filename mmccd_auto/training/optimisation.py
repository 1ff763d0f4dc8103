"""One optimiser step: as much of the batch at once as the memory holds, gradients of all processes together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.training.ema import ExponentialMovingAverage
from mmccd_auto.training.ranks import ALONE, Ranks

LossesOf = Callable[[Reconstructor, Tensor, Tensor], dict[str, Tensor]]
logger = logging.getLogger(__name__)


@dataclass
class TrainingState:
    """What changes during a training.

    Attributes
    ----------
    cycle : being trained
    ema : running mean of its weights
    optimizer, scaler : of the cycle; the scaler does nothing except in fp16
    validation : slices [N, 2, H, W] that the validation loss is computed on
    epoch, step : epochs and optimiser steps that are done
    """

    cycle: Reconstructor
    ema: ExponentialMovingAverage
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    validation: Tensor
    epoch: int = 0
    step: int = 0


class Optimisation:
    """Takes optimiser steps.

    Parameters
    ----------
    losses_of : (cycle, x, y) -> scalar losses by name, whose sum is minimised
    autocast : gives the context of mixed precision
    gradient_clip : largest norm of each network's gradient
    ranks : processes whose gradients are averaged

    Attributes
    ----------
    parts : that each batch is worked on in, one after the other. It doubles when the GPU's memory does not suffice
        (gradient accumulation): the gradients are then the mean over the parts.
    """

    def __init__(
        self,
        losses_of: LossesOf,
        autocast: Callable[[], contextlib.AbstractContextManager],
        gradient_clip: float,
        ranks: Ranks = ALONE,
    ) -> None:
        self.losses_of, self.autocast, self.gradient_clip, self.ranks = losses_of, autocast, gradient_clip, ranks
        self.parts = 1

    def step(self, state: TrainingState, images: Tensor) -> dict[str, Tensor]:
        """One step of all networks; ``state`` moves on.

        Parameters
        ----------
        state : of the training
        images : [N, 2, H, W] on the device, input and translation modality

        Returns
        -------
        losses by name, without gradient; they stay on the device, so that it needn't be waited for

        Raises
        ------
        torch.cuda.OutOfMemoryError
            If the memory does not suffice for one slice.
        """
        state.cycle.train()
        losses = self._gradients(state, images)
        while losses is None:
            losses = self._gradients(state, images)
        self.ranks.average([one.grad for one in state.cycle.parameters() if one.grad is not None])
        state.scaler.unscale_(state.optimizer)
        for network in state.cycle.children():
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.gradient_clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.ema.update(state.cycle, state.step)
        state.step += 1
        return losses

    def _gradients(self, state: TrainingState, images: Tensor) -> dict[str, Tensor] | None:
        """The losses, their gradients being summed up in the parameters; None where the memory did not suffice, and more
        parts are to be tried."""
        state.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        try:
            for part in images.chunk(self.parts):
                x, y = part.split(1, dim=1)
                with self.autocast():
                    losses = self.losses_of(state.cycle, x.contiguous(), y.contiguous())
                share = len(part) / len(images)
                state.scaler.scale(share * sum(losses.values())).backward()
                for name, loss in losses.items():
                    sums[name] = sums.get(name, 0) + share * loss.detach()
        except torch.cuda.OutOfMemoryError:
            if self.parts >= len(images):
                raise
            self.parts = min(2 * self.parts, len(images))
        else:
            return sums
        # Here, not in the handler: an exception that is being handled holds on to the tensors of its frames.
        state.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        logger.warning("the GPU's memory is too small for this batch: each is worked on in %d parts now.", self.parts)
        return None
