"""A plan for a budget in one line, shown before the start, and whether it fits the machine that is here."""

from __future__ import annotations

import math

from mmccd_auto.core.wording import in_words
from mmccd_auto.plans.budget.rungs import MachineSpeed
from mmccd_auto.plans.plan import BudgetPlan, Plan

MOVED_FACTOR = 1.5
"""Another machine is named where it is so many times as quick or slow."""


def tell_budget(plan: Plan, shown: float = 1.0) -> str:
    """Write one line: what is trained, and how long that takes on the machine that it was planned for.

    Empty without a budget.

    Parameters
    ----------
    plan : to describe
    shown : share of the planned iterations that is trained, where the user gives other numbers
    """
    budget = plan.budget
    if budget is None:
        return ""
    seconds = budget.training_seconds * shown + budget.after_training_seconds
    return (
        f"{_size_in_words(plan)}: about {in_words(seconds)} a fold on {_here(budget.device_kind, budget.device)}, "
        f"{in_words(budget.after_training_seconds)} of them after the last epoch (of the {budget.training_hours:g} hours of "
        "--training_hours)"
    )


def tell_alternative(plan: Plan) -> str:
    """Describe what another machine would train in its time; see :func:`tell_budget`."""
    budget = plan.budget
    seconds = 0.0 if budget is None else budget.training_seconds + budget.after_training_seconds
    return (
        "" if budget is None else f"with a GPU: {_size_in_words(plan)}, about {in_words(seconds)} a fold on {budget.device}"
    )


def compare_machines(budget: BudgetPlan, machine: MachineSpeed) -> str:
    """Describe what to do where a plan was made for a machine of quite another speed; empty where it fits.

    Parameters
    ----------
    budget : of the plan
    machine : that is here, timed with at least one reference network
    """
    pairs = [(here, budget.seconds_per_slice[name]) for name, here in machine.seconds_per_slice.items()]
    ratio = max((here / planned for here, planned in pairs), key=lambda one: abs(math.log(one)), default=1.0)
    if 1 / MOVED_FACTOR <= ratio <= MOVED_FACTOR:
        return ""
    seconds = ratio * (budget.training_seconds + budget.after_training_seconds)
    compared = f"takes {ratio:.2g} times as long" if ratio > 1 else f"is {1 / ratio:.2g} times as quick"
    return (
        f"the plan was made for {budget.device}, and {machine.device} here {compared}: about {in_words(seconds)} a fold "
        f"instead of {in_words(seconds / ratio)}. Plan again for this machine with mmccd_plan_and_preprocess --overwrite, "
        "or go on as it is."
    )


def _size_in_words(plan: Plan) -> str:
    training = plan.training
    steps = training.num_epochs * training.iterations_per_epoch
    rows, columns = plan.patch_size
    return f"{plan.network.base_channels} channels, {rows} x {columns} px, {steps} iterations of {training.batch_size}"


def _here(kind: str, device: str) -> str:
    return f"this CPU ({device.removeprefix('cpu (').rstrip(')')})" if kind == "cpu" else device
