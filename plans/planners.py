"""Planners by their class name: ours, one for workstations without a GPU among them, and those in a folder of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmccd_auto.core.plugins import find_subclass
from mmccd_auto.plans.plan import NetworkPlan
from mmccd_auto.plans.planner import MMCCDPlanner, Patch


class MMCCDPlannerSmall(MMCCDPlanner):
    """Plans U-Nets with a quarter of the paper's channels, half of its blocks and attention at the deepest levels only.

    A CPU trains them in an hour.
    """

    base_channels = 8
    residual_blocks = 1
    largest_attention_edge = 16

    def decide_network(
        self, slice_axis: str, spacing: float, largest_edge: int
    ) -> tuple[NetworkPlan, Patch, dict[str, str]]:
        """Decide on the paper's U-Net, narrower and with fewer blocks."""
        network, patch, why = super().decide_network(slice_axis, spacing, largest_edge)
        edges = tuple(edge for edge in network.attention_edges if edge <= self.largest_attention_edge)
        why["network.base_channels"] = (
            "a quarter of the paper's 32, by this planner: a CPU shows it several times as many slices in an hour"
        )
        why["network.residual_blocks"] = "half of the paper's 2, by this planner"
        why["network.attention_edges"] = (
            f"levels whose longer edge is at most {self.largest_attention_edge} px, by this planner"
        )
        small = replace(
            network,
            base_channels=self.base_channels,
            residual_blocks=self.residual_blocks,
            attention_edges=edges,
            norm_groups=min(network.norm_groups, self.base_channels),
        )
        return small, patch, why

    def decide_plans_name(self, slice_axis: str, spacing: float) -> tuple[str, str]:
        """Decide on the usual name with "Small" in it."""
        name, why = super().decide_plans_name(slice_axis, spacing)
        return name.replace("mmccdPlans", "mmccdPlansSmall"), why


def find_planner(name: str, folders: Sequence[Path] = ()) -> type[MMCCDPlanner]:
    """Find the planner class of this name; raises :class:`MMCCDError` listing what exists if there is none.

    Examples
    --------
    >>> find_planner("MMCCDPlannerSmall").__bases__[0].__name__
    'MMCCDPlanner'
    """
    return find_subclass(MMCCDPlanner, name, ["mmccd_auto.plans"], folders)
