"""What calibration and scores work on: slices of a case, and how the cycle failed on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmccd_auto.inference.engine import SliceMaps


@dataclass(frozen=True)
class CaseMaps:
    """Slices of one case, and how the cycle failed on them.

    Attributes
    ----------
    case, subject : whom it shows
    indices : of the slices in the volume, ascending
    spacing : mm between slices, rows and columns
    maps : of the slices
    brain : bool [S, H, W]
    """

    case: str
    subject: str
    indices: tuple[int, ...]
    spacing: tuple[float, float, float]
    maps: SliceMaps
    brain: np.ndarray

    def of_slices(self, places: slice | Sequence[int]) -> CaseMaps:
        """The slices at these positions, ascending."""
        fields = {name: getattr(self.maps, name)[places] for name in ("squared", "signed", "cycle", "coverage")}
        return replace(
            self,
            indices=tuple(np.array(self.indices)[places].tolist()),
            maps=SliceMaps(**fields, network_evaluations=self.maps.network_evaluations),
            brain=self.brain[places],
        )
