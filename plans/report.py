"""A plan in a few lines, told before anything long starts."""

from __future__ import annotations

from mmccd_auto.plans.plan import CostPlan, Plan


def describe_plan(plan: Plan) -> str:
    """What a person wants to know of a plan: sizes, networks, training length, and what a case costs at prediction."""
    training, network = plan.training, plan.network
    multipliers = ", ".join(str(multiplier) for multiplier in network.channel_multipliers)
    rows = [
        ("slices", f"{plan.slice_axis}, {plan.patch_size[0]} x {plan.patch_size[1]} px of {plan.target_spacing:.3g} mm"),
        ("networks", f"{network.base_channels} base channels, multipliers {multipliers}"),
        (
            "training",
            f"{training.num_epochs} epochs of {training.iterations_per_epoch} iterations, batches of {training.batch_size}",
        ),
        ("strips", f"{plan.strip_width} px wide ({plan.strip_width * plan.target_spacing:.3g} mm)"),
    ]
    for name, configuration in plan.configurations.items():
        text = f"{configuration.sampling_steps} diffusion steps, strip stride {configuration.strip_stride} px"
        if configuration.strips_per_pass != 1:
            text += f", {configuration.strips_per_pass} strips at once"
        if name in plan.cost:
            text += f"; {_cost_in_words(plan.cost[name])}"
        rows.append((name + (" (default)" if name == plan.default_configuration else ""), text))
    width = max(len(label) for label, _ in rows)
    lines = [f"{plan.dataset_name}, plans {plan.plans_name}:"]
    return "\n".join(lines + [f"  {label.ljust(width)}  {text}" for label, text in rows])


def _cost_in_words(cost: CostPlan) -> str:
    evaluations = f"{cost.network_evaluations_per_case:,} network evaluations a case ({cost.slices} slices)"
    if cost.seconds_per_case is None:
        return evaluations
    seconds = cost.seconds_per_case
    time = (
        f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    )
    return f"{evaluations}, about {time} on {cost.device}"
