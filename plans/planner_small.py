"""A planner for workstations without a GPU."""

from __future__ import annotations

from dataclasses import replace

from mmccd_auto.plans.plan import NetworkPlan
from mmccd_auto.plans.planner import MMCCDPlanner, Patch


class MMCCDPlannerSmall(MMCCDPlanner):
    """Plans U-Nets half as wide as the paper's, a quarter of the arithmetic: what a CPU trains in hours."""

    base_channels = 16

    def decide_network(
        self, slice_axis: str, spacing: float, largest_edge: int
    ) -> tuple[NetworkPlan, Patch, dict[str, str]]:
        """The paper's U-Net with half of its channels."""
        network, patch, why = super().decide_network(slice_axis, spacing, largest_edge)
        why["network.base_channels"] = "half of the paper's 32, by this planner: a quarter of the arithmetic"
        return replace(network, base_channels=self.base_channels), patch, why

    def decide_plans_name(self, slice_axis: str, spacing: float) -> tuple[str, str]:
        """The usual name with "Small" in it."""
        name, why = super().decide_plans_name(slice_axis, spacing)
        return name.replace("mmccdPlans", "mmccdPlansSmall"), why
