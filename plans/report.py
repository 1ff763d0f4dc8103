"""A plan in a few lines, shown before anything long starts."""

from __future__ import annotations

from mmccd_auto.core.wording import in_words
from mmccd_auto.plans.cost import DeviceSpeed
from mmccd_auto.plans.plan import CostPlan, Plan

LONG_TRAINING_SECONDS = 3 * 86400.0


def describe_plan(plan: Plan, speed: DeviceSpeed | None = None) -> str:
    """Describe what a person wants to know of a plan: sizes, networks, training length, and what a case costs at prediction.

    Parameters
    ----------
    plan : to describe
    speed : of its network on the device that is here; None: what the plan assumes is shown
    """
    training, network = plan.training, plan.network
    multipliers = ", ".join(str(multiplier) for multiplier in network.channel_multipliers)
    length = f"{training.num_epochs} epochs of {training.iterations_per_epoch} iterations, batches of {training.batch_size}"
    if plan.budget is not None:
        length += f"; {in_words(plan.budget.training_seconds)} a fold on {plan.budget.device}"
        length += f", and {in_words(plan.budget.after_training_seconds)} of choosing steps and calibrating"
    elif speed is not None:
        length += f"; about {in_words(_training_seconds(plan, speed))} a fold on {speed.device}"
    rows = [
        ("slices", f"{plan.slice_axis}, {plan.patch_size[0]} x {plan.patch_size[1]} px of {plan.target_spacing:.3g} mm"),
        ("networks", f"{network.base_channels} base channels, multipliers {multipliers}"),
        ("training", length),
        ("strips", f"{plan.strip_width} px wide ({plan.strip_width * plan.target_spacing:.3g} mm)"),
    ]
    for name, configuration in plan.configurations.items():
        steps = configuration.sampling_steps
        text = f"{steps} diffusion step{'' if steps == 1 else 's'}, strip stride {configuration.strip_stride} px"
        if configuration.strips_per_pass != 1:
            text += f", {configuration.strips_per_pass} strips at once"
        if name in plan.cost:
            text += f"; {_cost_in_words(plan.cost[name], speed)}"
        rows.append((name + (" (default)" if name == plan.default_configuration else ""), text))
    width = max(len(label) for label, _ in rows)
    lines = [f"{plan.dataset_name}, plans {plan.plans_name}:"]
    return "\n".join(lines + [f"  {label.ljust(width)}  {text}" for label, text in rows])


def advise_on_training(plan: Plan, speed: DeviceSpeed, on_cpu: bool) -> str | None:
    """Describe what to do about a training that takes days; None where it doesn't.

    Parameters
    ----------
    plan, speed : as for :func:`describe_plan`
    on_cpu : whether the speed is a CPU's
    """
    seconds = _training_seconds(plan, speed)
    if seconds < LONG_TRAINING_SECONDS:
        return None
    shorter = "a plan that fits into --training_hours (no -pl, no --resolution), or fewer epochs (mmccd_train --num_epochs)"
    if on_cpu:
        shorter = f"a GPU, {shorter}"
    return f"training takes about {in_words(seconds)} a fold on {speed.device}: use {shorter}."


def _training_seconds(plan: Plan, speed: DeviceSpeed) -> float:
    training = plan.training
    return speed.training_seconds(training.num_epochs * training.iterations_per_epoch * training.batch_size)


def _cost_in_words(cost: CostPlan, speed: DeviceSpeed | None) -> str:
    evaluations = f"{cost.network_evaluations_per_case:,} network evaluations a case ({cost.slices} slices)"
    if speed is not None:
        seconds, device = cost.network_evaluations_per_case / speed.evaluations_per_second, speed.device
    elif cost.seconds_per_case is not None:
        seconds, device = cost.seconds_per_case, cost.device
    else:
        return evaluations
    return f"{evaluations}, about {in_words(seconds)} on {device}"
