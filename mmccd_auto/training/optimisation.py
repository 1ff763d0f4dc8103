"""One optimiser step: as much of the batch at once as the memory holds, gradients of all processes together."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.trained.checkpoint import Checkpoint
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
    ema: ExponentialMovingAverage[Reconstructor]
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    validation: Tensor
    epoch: int = 0
    step: int = 0

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over all that an unfinished training had come to."""
        self.cycle.load_state_dict(checkpoint.raw_weights)
        self.ema.model.load_state_dict(checkpoint.weights)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        lay_out_as_weights(self.optimizer)
        if checkpoint.gradient_scaler:
            self.scaler.load_state_dict(checkpoint.gradient_scaler)
        self.epoch, self.step = checkpoint.epoch, checkpoint.step


class Optimisation:
    """Takes optimiser steps.

    Parts of a batch, and processes, minimise the mean of the losses that each has on its own slices. That is the loss of the
    whole batch where this is a mean over slices. A mean with weights of its own, as the default trainer's, in which hidden
    pixels weigh more, divides by each part's sum of weights: its gradient differs a little from the whole batch's.

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
        """Take one step of all networks; ``state`` moves on.

        Parameters
        ----------
        state : of the training
        images : [N, C, H, W] on the device, the input modality and those that its losses need

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
        self._average_gradients(state.cycle)
        state.scaler.unscale_(state.optimizer)
        for network in state.cycle.children():
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.gradient_clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.ema.update(state.cycle, state.step)
        state.step += 1
        return losses

    def _average_gradients(self, cycle: Reconstructor) -> None:
        if self.ranks.count > 1:
            # A network that one process's losses leave out has a gradient in another: all must average the same.
            for parameter in cycle.parameters():
                if parameter.requires_grad and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        self.ranks.average([one.grad for one in cycle.parameters() if one.grad is not None])

    def _gradients(self, state: TrainingState, images: Tensor) -> dict[str, Tensor] | None:
        """Return the losses, their gradients being summed up in the parameters.

        None where the memory did not suffice, and more parts are to be tried.
        """
        state.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        try:
            for part in images.chunk(self.parts):
                for name, loss in self._gradients_of_part(state, part, len(part) / len(images)).items():
                    sums[name] = sums.get(name, 0) + loss
        except torch.cuda.OutOfMemoryError:
            if self.parts >= len(images):
                raise
            self.parts = min(2 * self.parts, len(images))
        else:
            return sums
        # Here, not in the handler: an exception that is being handled holds on to the tensors of its frames. So would this
        # method's own, if it had any of the part that failed.
        state.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        logger.warning("the GPU's memory is too small for this batch: each is worked on in %d parts now.", self.parts)
        return None

    def _gradients_of_part(self, state: TrainingState, part: Tensor, share: float) -> dict[str, Tensor]:
        """Add the gradients of a part of the batch; gives what its losses add to the batch's, without gradient."""
        x, y = part[:, :1], part[:, 1:]
        with self.autocast():
            losses = self.losses_of(state.cycle, x.contiguous(), y.contiguous())
        state.scaler.scale(share * reduce(add, losses.values())).backward()
        return {name: share * loss.detach() for name, loss in losses.items()}


def lay_out_as_weights(optimizer: Optimizer) -> None:
    """Lay out what the optimiser keeps of each weight tensor, Adam's moments for instance, in memory as the weights are.

    ``load_state_dict`` keeps the layout that the state was saved in, another one where the training was begun on another
    device; and a fused optimiser on a CPU takes weights and state in the order of memory, without a look at the layout.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def check_same_start(state: TrainingState, ranks: Ranks) -> None:
    """Make sure that all processes begin with the same weights: only gradients are exchanged from then on.

    Raises
    ------
    MMCCDError
        In all of them, if they don't.
    """
    if ranks.count == 1:
        return
    starts = ranks.gather((state.epoch, state.step, _checksum(state.cycle)))
    if len(set(starts)) > 1:
        told = "; ".join(f"process {rank}: epoch {epoch}, step {step}" for rank, (epoch, step, _) in enumerate(starts))
        raise MMCCDError(
            f"the processes that train together don't begin with the same weights ({told}): give all of them the same "
            "results folder, and the same networks."
        )


def _checksum(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
