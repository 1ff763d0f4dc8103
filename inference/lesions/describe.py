"""The lesions and candidates of a predicted scan, as CASE.json lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.lesions.measures import LesionMeasures, measure_lesions, positions_of
from mmccd_auto.inference.lesions.places import Places
from mmccd_auto.inference.lesions.records import (
    CANDIDATE_LIST,
    LESION_LIST,
    MOST_CANDIDATES,
    TEMPLATE,
    LesionRecord,
)

MILLILITRE_DECIMALS, MILLIMETRE_DECIMALS, SCORE_DECIMALS = 5, 2, 4
NOT_LOOKED_FOR = "the case has no lesion, so that the template was not laid on it"


def describe_lesions(
    scan: Volume, brain: np.ndarray, anomaly: np.ndarray, mask: np.ndarray | None, candidates: np.ndarray | None
) -> dict[str, Any]:
    """Measure the lesions and candidates of a scan and find their places: entries of CASE.json.

    The average brain is laid on the scan only where there is a lesion, since that takes seconds. Nothing that is handed over
    is changed.

    Parameters
    ----------
    scan : as it was given, finite
    brain : bool [z, y, x]
    anomaly : float [z, y, x], the score
    mask, candidates : uint8 or bool [z, y, x]; None where there is no threshold

    Returns
    -------
    ``lesion_list`` and ``candidate_list`` (the largest MOST_CANDIDATES) of :class:`LesionRecord` as JSON holds it, and
    ``template``: how well the average brain fits, None where it wasn't laid on the scan
    """
    lesions = [] if mask is None else measure_lesions(mask, anomaly, scan.geometry)
    small = [] if candidates is None else measure_lesions(candidates, anomaly, scan.geometry, MOST_CANDIDATES)
    if lesions:
        places = Places.by_template(scan, brain, np.asarray(mask) > 0)
    else:
        places = Places.without_template(scan, brain, NOT_LOOKED_FOR)
    fit = places.fit
    records = lesion_records([*lesions, *small], places, scan.geometry)
    return {
        LESION_LIST: [asdict(record) for record in records[: len(lesions)]],
        CANDIDATE_LIST: [asdict(record) for record in records[len(lesions) :]],
        TEMPLATE: None
        if fit is None
        else {
            "overlap": round(fit.overlap, 4),
            "surface_mm": round(fit.surface_mm, MILLIMETRE_DECIMALS),
            "likeness": round(fit.likeness, 4),
        },
    }


def lesion_records(lesions: Sequence[LesionMeasures], places: Places, geometry: Geometry) -> list[LesionRecord]:
    """Put together measures and places, numbered from 1.

    Parameters
    ----------
    lesions : in the order of their numbers
    places : of the scan
    geometry : of the scan's voxels
    """
    records = []
    for number, lesion in enumerate(lesions, start=1):
        place = places.find(positions_of(lesion.voxels, geometry))
        records.append(
            LesionRecord(
                number=number,
                volume_ml=round(lesion.volume_ml, MILLILITRE_DECIMALS),
                longest_diameter_mm=round(lesion.longest_diameter_mm, MILLIMETRE_DECIMALS),
                peak_score=round(lesion.peak_score, SCORE_DECIMALS),
                mean_score=round(lesion.mean_score, SCORE_DECIMALS),
                centre_lps_mm=_rounded(lesion.centre_lps_mm),
                centre_voxel=lesion.centre_voxel,
                side=place.side,
                place=place.place,
                mni_mm=None if place.mni_mm is None else _rounded(place.mni_mm),
                ventricle_mm=None if place.ventricle_mm is None else round(place.ventricle_mm, MILLIMETRE_DECIMALS),
                cortex_mm=None if place.cortex_mm is None else round(place.cortex_mm, MILLIMETRE_DECIMALS),
            )
        )
    return records


def _rounded(point: tuple[float, float, float]) -> tuple[float, float, float]:
    return triple(round(value, MILLIMETRE_DECIMALS) + 0.0 for value in point)
