"""Planners by their class name: ours, and those in a folder of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmccd_auto.core.plugins import find_subclass
from mmccd_auto.plans.planner import MMCCDPlanner


def find_planner(name: str, folders: Sequence[Path] = ()) -> type[MMCCDPlanner]:
    """The planner class of this name; raises :class:`MMCCDError` listing what exists if there is none."""
    return find_subclass(MMCCDPlanner, name, ["mmccd_auto.plans"], folders)
