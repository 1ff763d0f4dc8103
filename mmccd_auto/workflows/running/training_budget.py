"""Share a number of hours among the folds of a training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from mmccd_auto.plans.budget.rungs import default_hours
from mmccd_auto.workflows.plan_and_preprocess import PlanningOptions
from mmccd_auto.workflows.train import TrainingOptions


@dataclass(frozen=True)
class TrainingBudget:
    """The folds that fit into the time.

    Attributes
    ----------
    folds : to train, in this order
    num_epochs, iterations_per_epoch : of each fold; None takes those of the plan
    """

    folds: tuple[int, ...]
    num_epochs: int | None = None
    iterations_per_epoch: int | None = None


def hours_of_a_fold(hours: float | None, device: torch.device) -> float:
    """Give the hours that one fold may take: the usual budget of the device, or less where there is less in all.

    Parameters
    ----------
    hours : for all folds together, above 0; None is the usual budget of one fold
    device : to train on
    """
    usual = default_hours(device.type)
    return usual if hours is None else min(hours, usual)


def planning_for(hours: float | None, device: torch.device) -> PlanningOptions:
    """Give the planner's options, so that a fold fits into its share of the hours; parameters as above."""
    return PlanningOptions(training_hours=hours_of_a_fold(hours, device))


def fit_training(hours: float | None, splits: int, device: torch.device) -> TrainingBudget:
    """Decide how many folds are trained, each for as long as the plan says.

    Parameters
    ----------
    hours, device : as above
    splits : folds that the dataset is split into
    """
    share = hours_of_a_fold(hours, device)
    return TrainingBudget(tuple(range(max(1, min(splits, int((hours or share) / share))))))


def of_fold(options: TrainingOptions, budget: TrainingBudget) -> TrainingOptions:
    """Give the options of the training of a fold."""
    return replace(options, num_epochs=budget.num_epochs, iterations_per_epoch=budget.iterations_per_epoch)
