"""What a fingerprint says, as the planner asks it."""

from __future__ import annotations

import numpy as np

from mmccd_auto.plans.case_fingerprint import Percentile
from mmccd_auto.plans.fingerprint import CaseFingerprint, DatasetFingerprint
from mmccd_auto.plans.plan import SliceAxis


class Evidence:
    """Medians and percentiles over the cases of a fingerprint."""

    def __init__(self, fingerprint: DatasetFingerprint) -> None:
        self.cases = list(fingerprint.cases.values())

    def cases_with(self, *modalities: str) -> list[CaseFingerprint]:
        """Return the cases that have all of these modalities."""
        return [case for case in self.cases if set(modalities) <= set(case.modalities)]

    def native_spacing(self, slice_axis: str) -> float:
        """Compute the median in-plane spacing (mm)."""
        return float(np.median([case.in_plane(slice_axis)[0] for case in self.cases]))

    def brain_extent(self, slice_axis: str) -> tuple[float, float]:
        """Compute the 99th percentile of the brain box (mm): rows, columns."""
        rows, columns = np.percentile([case.in_plane(slice_axis)[1] for case in self.cases], 99, axis=0)
        return float(rows), float(columns)

    def healthy_slices(self, slice_axis: SliceAxis, *modalities: str) -> int:
        """Compute the slices without abnormality in the cases that have these modalities."""
        return sum(case.slices[slice_axis].healthy for case in self.cases_with(*modalities))

    def typical_slices(self, slice_axis: SliceAxis) -> tuple[int, tuple[float, float]]:
        """Compute the median number of slices with brain, and the median of their mean brain section (mm; rows, columns)."""
        found = [case.slices[slice_axis] for case in self.cases]
        rows, columns = np.median([one.mean_section for one in found], axis=0)
        return round(float(np.median([one.with_brain for one in found]))), (float(rows), float(columns))

    def correlation_length(self, modality: str, slice_axis: str) -> float:
        """Compute the median in-plane correlation length (mm)."""
        return float(np.median([case.correlation_length(modality, slice_axis) for case in self.cases_with(modality)]))

    def percentile(self, modality: str, percentile: Percentile) -> float:
        """Compute the median over the cases of an intensity percentile inside the brain."""
        return float(np.median([case.modalities[modality].percentiles[percentile] for case in self.cases_with(modality)]))
