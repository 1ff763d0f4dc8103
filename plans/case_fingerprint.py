"""What is measured of one case, and what each figure may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Interval, Len

from mmccd_auto.core.names import ModalityName
from mmccd_auto.plans import measures
from mmccd_auto.plans.plan import SLICE_AXES, SliceAxis

IN_PLANE_XYZ = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}
Amount = Annotated[float, Ge(0)]
Edge = Annotated[float, Interval(gt=0, le=1000)]
Voxels = Annotated[int, Interval(ge=1, le=1_000_000)]
Percentile = Literal["0.5", "2", "10", "25", "50", "75", "90", "98", "99.5"]


@dataclass(frozen=True)
class ModalityFingerprint:
    """One modality of one case, inside its brain.

    Attributes
    ----------
    percentiles : intensity by percentile ("0.5", "2", ... "99.5")
    mean, standard_deviation : intensity
    noise_sigma : intensity units, see :func:`measures.noise_sigma`
    correlation_length : mm along z, y, x (LPS), see :func:`measures.correlation_length`
    depth_profile : mean intensity from the brain's rim to its depth, see :func:`measures.depth_profile`
    skull : "stripped", or "present" where the mask was given
    """

    percentiles: Annotated[dict[Percentile, float], Len(len(measures.PERCENTILES))]
    mean: float
    standard_deviation: Annotated[float, Ge(0)]
    noise_sigma: Annotated[float, Ge(0)]
    correlation_length: tuple[Amount, Amount, Amount]
    depth_profile: Annotated[tuple[float, ...], Len(1)]
    skull: str


@dataclass(frozen=True)
class SlicesFingerprint:
    """The slices of one case across one axis.

    Attributes
    ----------
    with_brain : slices in which there is brain
    healthy : of these the ones that may be trained on, see :func:`measures.healthy_slices`
    mean_section : mm (rows, columns), mean extent of the brain in a slice
    """

    with_brain: Annotated[int, Ge(0)]
    healthy: Annotated[int, Ge(0)]
    mean_section: tuple[Amount, Amount]


@dataclass(frozen=True)
class CaseFingerprint:
    """One case.

    Attributes
    ----------
    subject : whose scan it is
    orientation : three letters, where the axes of the (first modality's) file point to
    size, spacing : voxels and mm along x, y, z after turning to LPS
    slice_axis : "axial", "coronal" or "sagittal", see :func:`measures.coarsest_axis`
    brain_box : mm along z, y, x (LPS); of the voxels where every modality has brain
    brain_volume : ml
    mask_given : a brain mask file was given
    one_grid : all modalities lie on one grid
    brain_overlap : smallest Dice between two modalities' brains; None for one modality or several grids
    slices : per slice axis
    modalities : those that the case has
    """

    subject: str
    orientation: str
    size: tuple[Voxels, Voxels, Voxels]
    spacing: tuple[Edge, Edge, Edge]
    slice_axis: SliceAxis
    brain_box: tuple[Amount, Amount, Amount]
    brain_volume: Amount
    mask_given: bool
    one_grid: bool
    brain_overlap: Annotated[float, Interval(ge=0, le=1)] | None
    slices: Annotated[dict[SliceAxis, SlicesFingerprint], Len(len(SLICE_AXES))]
    modalities: Annotated[dict[ModalityName, ModalityFingerprint], Len(1)]

    def in_plane(self, slice_axis: str) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the spacing and brain box (mm), each (rows, columns) of slices cut across ``slice_axis``."""
        rows, columns = IN_PLANE_XYZ[slice_axis]
        box = self.brain_box[::-1]
        return (self.spacing[rows], self.spacing[columns]), (box[rows], box[columns])

    def correlation_length(self, modality: str, slice_axis: str) -> float:
        """Compute the mean correlation length (mm) of a modality along the rows and columns of a slice."""
        length = self.modalities[modality].correlation_length[::-1]
        return float(np.mean([length[axis] for axis in IN_PLANE_XYZ[slice_axis]]))
