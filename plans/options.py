"""What a user may ask of a planner."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans.rules import RESOLUTIONS


@dataclass(frozen=True)
class PlannerOptions:
    """What a user may ask of a planner.

    Attributes
    ----------
    memory_budget_gb : GiB for training; None: 8
    resolution : "standard", "lowres" or "fullres"
    target_spacing : mm; None: planned
    time_budget_minutes : that a typical case may take at prediction

    Raises
    ------
    MMCCDError
        If the resolution is unknown or a number isn't above 0.
    """

    memory_budget_gb: float | None = None
    resolution: str = "standard"
    target_spacing: float | None = None
    time_budget_minutes: float = 10.0

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise MMCCDError(f"there is no resolution {self.resolution}: choose one of {', '.join(RESOLUTIONS)}.")
        for option, value in (
            ("memory target", self.memory_budget_gb),
            ("target spacing", self.target_spacing),
            ("time budget", self.time_budget_minutes),
        ):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise MMCCDError(f"the {option} {value} must be a number above 0.")


PLAIN = PlannerOptions()
