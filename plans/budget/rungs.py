"""What a training budget buys on a machine: the named sizes of plan, the estimate of a fold's time, and the choice."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmccd_auto.plans import cost
from mmccd_auto.plans.plan import AfterTrainingPlan, LearningRateSchedule, NetworkPlan, TrainingPlan

Patch = tuple[int, int]
SMALL, LARGE = "small", "large"
REFERENCES = {
    SMALL: (NetworkPlan(8, (1, 2, 3, 4), 1, (16, 8), norm_groups=8), (64, 56)),
    LARGE: (NetworkPlan(), (128, 112)),
}
"""The two networks that a machine is timed with: the smallest that is planned, and the paper's."""
DEFAULT_HOURS = {"cpu": 0.5}
"""On a CPU people wait for it: half an hour a fold is a coffee, and five folds are done within an afternoon."""
DEFAULT_GPU_HOURS = 12.0
"""On a GPU a fold is trained over night; the published schedule needs about that on a usual one."""
USED_SHARE = 0.9
"""Of the budget: a machine is never quite as quick as in its best moment."""
STEP_OVERHEAD = 1.12
"""Loading, augmentation, validation losses and checkpoints, on top of the optimiser steps."""
LARGEST_AFTER_SHARE = 0.24
"""Of the training's time, that the work after it may take: a quarter, with a margin for whole epochs."""
ALTERED_SHARE = 1.2
"""Slices with a synthetic anomaly for each healthy slice of a try."""
GAIN_SLICES = 29
"""Slices with a synthetic anomaly, for each drawing by which the gain over the control is measured."""
STRIPS_PER_PASS = (1, 2, 4)
FEW_STEPS = 5
EXPONENT_LIMITS = (0.0, 1.5)
SOUND_AFTER_TRAINING = 2
"""The place in AFTER_TRAINING that planned steps must leave time for."""
AFTER_TRAINING = tuple(AfterTrainingPlan(*row) for row in ((24, 3, 96), (16, 3, 96), (12, 2, 64), (8, 1, 48), (0, 1, 32)))
"""From the most thorough down to the least from which the threshold is still sound: 32 slices have about 20 000 pixels
of brain in them, 20 of them above the threshold of one in a thousand."""


@dataclass(frozen=True)
class MachineSpeed:
    """How long a machine takes to train on a slice, both networks, measured for the networks of :data:`REFERENCES`.

    Attributes
    ----------
    device : in words
    kind : "cpu", "cuda" or "mps"
    seconds_per_slice : by reference
    """

    device: str
    kind: str
    seconds_per_slice: dict[str, float]

    def training_seconds_per_slice(self, network: NetworkPlan, patch: Patch) -> float:
        """Compute how long another network takes: between the two that were timed, by a power of the work.

        Beyond, in proportion.
        """
        work = _work(network, patch, self.kind)
        (small, small_time), (large, large_time) = (
            (_work(*REFERENCES[name], self.kind), self.seconds_per_slice[name]) for name in (SMALL, LARGE)
        )
        if work <= small:
            return small_time * work / small
        if work >= large:
            return large_time * work / large
        low, high = EXPONENT_LIMITS
        exponent = min(high, max(low, math.log(large_time / small_time) / math.log(large / small)))
        return small_time * (work / small) ** exponent


def usual_machine(kind: str) -> MachineSpeed:
    """Return a usual device of a kind, by formula: what another machine would do can only be assumed."""
    seconds = {
        name: cost.EVALUATIONS_PER_SAMPLE / cost.usual_device_speed(*reference, kind).evaluations_per_second
        for name, reference in REFERENCES.items()
    }
    return MachineSpeed(cost.USUAL_DEVICES[kind].name, kind, seconds)


@dataclass(frozen=True)
class BudgetRung:
    """A named size of plan.

    Attributes
    ----------
    name : in plans.json
    resolution : of mmccd_auto.plans.rules.RESOLUTIONS
    base_channels, residual_blocks, largest_attention_edge : of the network
    learning_rate, schedule : of the training
    largest_batch : slices an iteration; None: what the memory allows
    least_slices : that a budget must allow to be shown, else a smaller rung learns more
    most_slices : that are shown at most; None: what the budget allows
    """

    name: str
    resolution: str
    base_channels: int
    residual_blocks: int
    largest_attention_edge: int
    learning_rate: float
    schedule: LearningRateSchedule
    largest_batch: int | None
    least_slices: int
    most_slices: int | None = None


PUBLISHED_SLICES = 3_200_000
RUNGS = (
    BudgetRung("small", "lowres", 8, 1, 16, 1e-3, "half_cosine", 16, 0),
    BudgetRung("medium", "lowres", 16, 1, 16, 1e-3, "half_cosine", 16, 100_000),
    BudgetRung("large", "standard", 16, 2, 32, 1e-3, "half_cosine", 16, 200_000),
    BudgetRung("paper_short", "standard", 32, 2, 32, 3e-4, "half_cosine", 16, 400_000),
    BudgetRung("paper", "standard", 32, 2, 32, 1e-4, "constant", None, PUBLISHED_SLICES // 2, PUBLISHED_SLICES),
)


def default_hours(kind: str) -> float:
    """Compute the budget of a fold on a kind of device where the user gives none."""
    return DEFAULT_HOURS.get(kind, DEFAULT_GPU_HOURS)


def trial_rungs(width: int, stride: int, steps: int, together: int) -> set[tuple[int, int, int]]:
    """Return steps, stride and strips at once that are tried after a training.

    See :func:`mmccd_auto.inference.choice.compare.candidate_settings`.

    Parameters
    ----------
    width, stride, steps, together : as planned
    """
    rungs = {(1, start, several) for start in (width, max(1, width // 2)) for several in STRIPS_PER_PASS}
    return rungs | {(min(FEW_STEPS, steps), width, 1), (steps, max(stride, width // 2), together)}


def evaluations_of(section: tuple[float, float], width: int, rung: tuple[int, int, int]) -> float:
    """Count the network evaluations of one slice by steps, stride and strips at once.

    Parameters
    ----------
    section : rows and columns (px) of brain in a typical slice
    width : of a strip (px)
    rung : steps, stride, strips at once
    """
    steps, stride, together = rung
    strips = sum(math.ceil(((extent + width - stride) / stride + 1) / max(1, together)) for extent in section)
    return strips * (steps + 1)


@dataclass(frozen=True)
class AfterWork:
    """What the work beside the training costs, in network evaluations.

    Attributes
    ----------
    judgement : of one judgement of one slice
    trial : of one seed of one slice, all rungs together
    calibration : of one slice, by the dearest rung that may be chosen
    """

    judgement: float
    trial: float
    calibration: float

    @classmethod
    def of(cls, section: tuple[float, float], width: int, stride: int, steps: int, tiles: int = 1) -> AfterWork:
        """Count the work by the planned steps and strips."""
        each = [tiles * evaluations_of(section, width, rung) for rung in trial_rungs(width, stride, steps, 1)]
        judgement = tiles * evaluations_of(section, width, (1, width, 1))
        planned = tiles * evaluations_of(section, width, (steps, stride, 1))
        return cls(judgement, sum(each), max(planned, max(each)))

    def judging_evaluations(self, training: TrainingPlan) -> float:
        """Count the network evaluations of all judgements of a training."""
        return training.judgements * training.judged_slices * (1 + ALTERED_SHARE) * self.judgement

    def after_evaluations(self, after: AfterTrainingPlan) -> float:
        """Count the network evaluations after the last epoch."""
        trial = after.trial_slices * (1 + ALTERED_SHARE) * after.trial_seeds * self.trial
        # By the steps and strips that were chosen, of which only the dearest is known now.
        gain = after.trial_seeds * GAIN_SLICES * self.calibration
        return trial + gain + after.calibration_slices * self.calibration


@dataclass(frozen=True)
class Schedule:
    """A training that fits, with its times (s)."""

    training: TrainingPlan
    after: AfterTrainingPlan
    training_seconds: float
    after_seconds: float


def fit_schedule(rung: BudgetRung, batch: int, seconds_per_slice: float, work: AfterWork, hours: float) -> Schedule:
    """Find the longest training of a rung that fits into the budget, with the most thorough work after it.

    Parameters
    ----------
    rung : whose schedule
    batch : slices an iteration
    seconds_per_slice : of training
    work : beside the training
    hours : budget of a fold
    """
    budget = 3600 * hours * USED_SHARE
    evaluation = seconds_per_slice / cost.EVALUATIONS_PER_SAMPLE
    fitting = [
        after
        for after in AFTER_TRAINING
        if evaluation * work.after_evaluations(after) <= LARGEST_AFTER_SHARE * budget / (1 + LARGEST_AFTER_SHARE)
    ]
    after = fitting[0] if fitting else AFTER_TRAINING[-1]
    after_seconds = evaluation * work.after_evaluations(after)
    left = max(0.0, budget - after_seconds)
    slices = left / (STEP_OVERHEAD * seconds_per_slice)
    slices = min(slices, rung.most_slices or slices)
    judgements, judged = _judging(rung, slices, work)
    slices -= judgements * judged * (1 + ALTERED_SHARE) * work.judgement / cost.EVALUATIONS_PER_SAMPLE / STEP_OVERHEAD
    iterations = max(1, int(slices / batch))
    # About 24 epochs where the training is short: the schedule moves once an epoch. 250 iterations as published at most.
    per_epoch = max(1, min(250, iterations // 24))
    epochs = max(1, iterations // per_epoch)
    training = TrainingPlan(
        batch,
        per_epoch,
        epochs,
        learning_rate=rung.learning_rate,
        learning_rate_schedule=rung.schedule,
        judgements=judgements,
        judged_slices=judged,
    )
    seconds = STEP_OVERHEAD * seconds_per_slice * batch * per_epoch * epochs
    return Schedule(training, after, seconds + evaluation * work.judging_evaluations(training), after_seconds)


def _judging(rung: BudgetRung, slices: float, work: AfterWork) -> tuple[int, int]:
    """Compute how often, and on how many slices, a training is judged: at most a twentieth of its time."""
    for judgements, judged in ((10, 24), (5, 24), (4, 12), (4, 6)) if rung.schedule == "constant" else ((4, 12), (4, 6)):
        evaluations = judgements * judged * (1 + ALTERED_SHARE) * work.judgement
        if evaluations <= 0.05 * slices * cost.EVALUATIONS_PER_SAMPLE:
            return judgements, judged
    return 0, 1


def _work(network: NetworkPlan, patch: Patch, kind: str) -> float:
    return 1 / cost.usual_device_speed(network, patch, kind).evaluations_per_second
