"""What a caller may ask of a trainer, and where it trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from mmccd_auto.training.best_state import Judge
from mmccd_auto.training.ranks import ALONE, Ranks


@dataclass(frozen=True)
class TrainingMachine:
    """Where a training runs.

    Attributes
    ----------
    device : to train on
    processes : workers that load and augment; 0 works in this process
    ranks : the processes that train together, see :func:`mmccd_auto.training.ranks.join_ranks`
    """

    device: torch.device
    processes: int = 0
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class TrainerOptions:
    """What a caller may ask of a :class:`mmccd_auto.training.trainer.Trainer`.

    Attributes
    ----------
    device : "cpu", "cuda", ...
    processes : workers that load and augment; 0 does it in this process
    num_epochs, iterations_per_epoch, seed : override the plan's
    dataset_content : of dataset.json, written beside plans.json so that the model folder can be used alone
    judge : the best state that it was shown becomes checkpoint_best.pth, and checkpoint_final.pth too where it is more than
        1 % better than the last one; None: there is no checkpoint_best.pth
    ranks : the processes that train together, each on its part of every batch; their number changes what is drawn
    """

    device: str | torch.device = "cpu"
    processes: int = 0
    num_epochs: int | None = None
    iterations_per_epoch: int | None = None
    seed: int | None = None
    dataset_content: dict[str, Any] | None = field(default=None, hash=False)
    judge: Judge | None = None
    ranks: Ranks = ALONE

    def changes(self) -> dict[str, Any]:
        """Collect what overrides the plan's training, by name."""
        named = {"num_epochs": self.num_epochs, "iterations_per_epoch": self.iterations_per_epoch, "seed": self.seed}
        return {name: value for name, value in named.items() if value is not None}


AS_THE_PLAN_SAYS = TrainerOptions()
