"""Fit a training into a number of hours: planner, trainer, folds and epochs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from mmccd_auto.pipeline import TrainingOptions
from mmccd_auto.planning import PlanningOptions
from mmccd_auto.plans.cost import measure_device_speed
from mmccd_auto.plans.plan import MOST_EPOCHS, Plan

HOURS_OF_A_FOLD = 1.0
"""A further fold is trained for each of these, up to the folds of the plan's split."""
SHARE_OF_EPOCHS = 0.7
"""Of a fold's time; the choice of steps and the calibration take the rest."""
ITERATIONS_PER_EPOCH = 50
SHORTEST_EPOCHS = 2
LARGEST_BATCH = 16


@dataclass(frozen=True)
class TrainingBudget:
    """A training that fits into the time.

    Attributes
    ----------
    folds : to train, in this order
    num_epochs, iterations_per_epoch : of each fold; None takes those of the plan
    """

    folds: tuple[int, ...]
    num_epochs: int | None
    iterations_per_epoch: int | None


def planning_for(device: torch.device) -> PlanningOptions:
    """Give the planner that fits a kind of device: networks and resolution for a CPU where there is no GPU."""
    if device.type == "cuda":
        return PlanningOptions()
    return PlanningOptions(planner="MMCCDPlannerSmall", resolution="lowres")


def training_for(plan: Plan) -> TrainingOptions:
    """Give the trainer for hours instead of days."""
    return TrainingOptions(trainer="MMCCDTrainerShort", plans_name=plan.plans_name)


def fit_training(plan: Plan, hours: float, splits: int, device: torch.device) -> TrainingBudget:
    """Decide how many folds are trained, and for how many epochs.

    Parameters
    ----------
    plan : of the networks
    hours : for all folds together, above 0
    splits : folds that the dataset is split into
    device : to train on; its speed is measured
    """
    folds = max(1, min(splits, int(hours / HOURS_OF_A_FOLD)))
    speed = measure_device_speed(plan.network, plan.patch_size, device)
    batch = min(plan.training.batch_size, LARGEST_BATCH)
    seconds = speed.training_seconds(ITERATIONS_PER_EPOCH * batch)
    epochs = int(hours * 3600 * SHARE_OF_EPOCHS / folds / seconds)
    longest = min(MOST_EPOCHS, plan.training.num_epochs * plan.training.iterations_per_epoch // ITERATIONS_PER_EPOCH)
    return TrainingBudget(tuple(range(folds)), max(SHORTEST_EPOCHS, min(epochs, longest)), ITERATIONS_PER_EPOCH)


def of_fold(options: TrainingOptions, budget: TrainingBudget) -> TrainingOptions:
    """Give the options of the training of a fold."""
    return replace(options, num_epochs=budget.num_epochs, iterations_per_epoch=budget.iterations_per_epoch)
