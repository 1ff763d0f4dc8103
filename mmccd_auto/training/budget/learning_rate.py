"""The learning rate over a training."""

from __future__ import annotations

import math

from mmccd_auto.plans.plan import TrainingPlan


def half_cosine(peak: float, epoch: int, num_epochs: int) -> float:
    """Let the learning rate fall by half a cosine, from ``peak`` in the first epoch (0) to nearly 0 in the last."""
    return peak * 0.5 * (1 + math.cos(math.pi * epoch / num_epochs))


def one_cycle(peak: float, epoch: int, num_epochs: int, rising: float = 0.1) -> float:
    """Let the learning rate rise by half a cosine from a 25th of ``peak``.

    It falls by another one to nearly 0 (Smith and Topin, arXiv 1708.07120); as it is in the middle of ``epoch`` (the first
    is 0).

    Parameters
    ----------
    peak : largest rate
    epoch, num_epochs : of the training
    rising : share of the training in which it rises
    """
    done, first = (epoch + 0.5) / num_epochs, peak / 25
    if done < rising:
        return first + (peak - first) * 0.5 * (1 - math.cos(math.pi * done / rising))
    return peak * 0.5 * (1 + math.cos(math.pi * (done - rising) / (1 - rising)))


def planned_learning_rate(settings: TrainingPlan, epoch: int) -> float:
    """Compute the learning rate in ``epoch`` (the first is 0) by the plan's schedule."""
    if settings.learning_rate_schedule == "half_cosine":
        return half_cosine(settings.learning_rate, epoch, settings.num_epochs)
    return settings.learning_rate
