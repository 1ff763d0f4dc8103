"""The second fit of a scan's bias field and intensity scale: what a first look marks is left out of it.

The first look is a map of some of the scan's slices, of the image that the first fit made. Prediction and calibration come
here with the same slices of a scan and get the same second image, so that the promised false alarms hold for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.inference.maps.engine import SliceMaps, SliceWork
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.score_units import HasUnits, scores_in_units
from mmccd_auto.preprocessing.normalisation import Parameters
from mmccd_auto.preprocessing.second_fit import FirstFit, refit

LOOK_MM = 3.0
"""Between the slices of the first look: what is smoothed over as much needs no more of them."""
MARKED = 1.0
MARGIN_MM = 3.0
MOST_LEFT_OUT = 0.3
LEAST_MARKED = 0.001
ONE_FIT, UNCALIBRATED, NOT_CALIBRATED_FOR = "one fit was asked for", "not calibrated", "calibrated with one fit"
NOTHING_MARKED, TOO_LITTLE_LEFT = "nearly nothing was marked", "too little was left to fit"


@dataclass(frozen=True)
class FitRecord:
    """How a scan's intensities were fitted for a model, for CASE.json.

    Attributes
    ----------
    model : whose first look it was
    fits : 1 or 2
    left_out_share : of the brain's pixels, in the second fit; None where there was no first look
    left_out_capped : more was marked than may be left out, so the highest scores alone were
    note : why there was one fit; empty for two
    """

    model: str
    fits: int
    left_out_share: float | None
    left_out_capped: bool
    note: str


@dataclass(frozen=True)
class LeftOut:
    """What the second fit leaves out.

    Attributes
    ----------
    mask : bool [S, H, W]
    share : of the brain's pixels
    capped : more was marked than may be left out
    """

    mask: np.ndarray
    share: float
    capped: bool


@dataclass(frozen=True)
class RefittedScan:
    """The slices of a scan after the second fit, or as they were.

    Attributes
    ----------
    work : the slices
    parameters : of the intensity scale
    record : how they were fitted
    """

    work: SliceWork
    parameters: Parameters
    record: FitRecord


def look_places(indices: Sequence[int], slice_mm: float) -> list[int]:
    """Choose the slices of a scan that are looked at first, about LOOK_MM apart, by their numbers in the volume.

    Parameters
    ----------
    indices : of all slices with brain, ascending, at least one
    slice_mm : between neighbours

    Returns
    -------
    their positions in ``indices``
    """
    step = _step(slice_mm)
    places = [place for place, index in enumerate(indices) if index % step == step // 2]
    return places or [len(indices) // 2]


def first_look(work: SliceWork, slice_mm: float) -> SliceWork:
    """Return the slices of :func:`look_places`, of all slices of a scan.

    Of the input modality alone, so that one look is enough whatever else is there.
    """
    places = look_places(work.indices, slice_mm)
    return work.of_slices(places).shown_with(())


def look_maps(look: SliceWork, maps: SliceMaps, spacing: tuple[float, float, float], subject: str = "") -> CaseMaps:
    """Return the maps of a first look as a case whose slices are neighbours, as far apart as they are.

    Parameters
    ----------
    look : of :func:`first_look`
    maps : of the same slices
    spacing : mm between the scan's slices, rows and columns
    subject : whom it shows
    """
    step = _step(spacing[0])
    indices = tuple(index // step for index in look.indices)
    return CaseMaps(look.case, subject or look.case, indices, (spacing[0] * step, *spacing[1:]), maps, look.brain)


def look_scores(look: CaseMaps, units: HasUnits) -> np.ndarray:
    """Compute the score by which pixels are left out, in units, float32 [S, H, W]."""
    return scores_in_units(look, units)["combined"]


def choose_left_out(scores: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]) -> LeftOut:
    """Choose the pixels that the second fit leaves out: those that score above MARKED, and those within MARGIN_MM.

    No more than MOST_LEFT_OUT of the brain, so that enough tissue is left to fit: beyond it the threshold rises. Nothing
    where less than LEAST_MARKED of the brain is marked.

    Parameters
    ----------
    scores : float32 [S, H, W], in units
    brain : bool [S, H, W], not empty
    spacing : mm between slices, rows and columns
    """
    marked, pixels = brain & (scores > MARKED), np.count_nonzero(brain)
    if np.count_nonzero(marked) < LEAST_MARKED * pixels:
        return LeftOut(np.zeros_like(brain), 0.0, False)
    mask, capped = _grown(marked, brain, spacing), False
    if np.count_nonzero(mask) > MOST_LEFT_OUT * pixels:
        capped = True
        levels = np.unique(scores[marked])
        # Above the highest level nothing is marked, which always fits.
        too_low, fits = -1, len(levels) - 1
        while fits - too_low > 1:
            middle = (too_low + fits) // 2
            grown = _grown(brain & (scores > levels[middle]), brain, spacing)
            if np.count_nonzero(grown) > MOST_LEFT_OUT * pixels:
                too_low = middle
            else:
                fits = middle
        mask = _grown(brain & (scores > levels[fits]), brain, spacing)
    return LeftOut(mask, float(np.count_nonzero(mask) / pixels), capped)


def refit_scan(work: SliceWork, look: SliceWork, scores: np.ndarray, first: FirstFit, model: str) -> RefittedScan:
    """Fit a scan's bias field and intensity scale again without what the first look marks.

    Parameters
    ----------
    work : all slices with brain, as the first fit made them
    look : of :func:`first_look`
    scores : of the look, in units, float32 [L, H, W]; every slice has those of the nearest one
    first : how the scan was fitted at first
    model : for the record
    """
    indices = np.array(work.indices)
    nearest = np.abs(indices[:, None] - np.array(look.indices)).argmin(axis=1)
    inside = indices - indices[0]
    # Slices without brain between them, where there are any, keep their places.
    brain = _whole(work.brain, inside, False)
    left_out = choose_left_out(_whole(scores[nearest], inside, 0), brain, first.geometry.slice_spacing)

    def unchanged(note: str) -> RefittedScan:
        return RefittedScan(work, first.parameters, FitRecord(model, 1, left_out.share, left_out.capped, note))

    if not left_out.mask.any():
        return unchanged(NOTHING_MARKED)
    image = _whole(work.image, inside, BACKGROUND)
    fitted = refit(image, brain, left_out.mask, first, work.indices[0])
    if fitted is None:
        return unchanged(TOO_LITTLE_LEFT)
    record = FitRecord(model, 2, left_out.share, left_out.capped, "")
    return RefittedScan(replace(work, image=fitted.image[inside]), fitted.parameters, record)


def _step(slice_mm: float) -> int:
    return max(1, int(LOOK_MM / slice_mm + 1e-3))


def _whole(slices: np.ndarray, places: np.ndarray, empty: float | bool) -> np.ndarray:
    """Compute the slices at their places in a run without gaps."""
    whole = np.full((places[-1] + 1, *slices.shape[1:]), empty, dtype=slices.dtype)
    whole[places] = slices
    return whole


def _grown(mask: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Compute a mask and the pixels of the brain that lie within MARGIN_MM of it."""
    if not mask.any():
        return mask
    return brain & (ndimage.distance_transform_edt(~mask, sampling=spacing) <= MARGIN_MM * (1 + 1e-6))
