"""How large the cycle's error is on healthy tissue, by place: what a score has to be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from annotated_types import Interval, Len
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError

SPREAD_QUANTILE = 0.95
INTENSITY_CLASSES = 12
DISTANCE_EDGES_MM = (3.0, 6.0, 10.0, 16.0)
PRIOR_PIXELS = 300
LEAST_SPREAD = 0.05
LEAST_OWN_ERROR = 0.25
SIGNS = {"brighter": 1, "darker": -1}
LIMITS = (1e-6, 1e6)
"""Of what scores are divided by: beyond them, 32-bit maps would be empty or infinite."""
Divisor = Annotated[float, Interval(ge=LIMITS[0], le=LIMITS[1])]
Table = Annotated[tuple[tuple[Divisor, ...], ...], Len(1)]


@dataclass(frozen=True)
class Place:
    """Where a pixel is, as far as the healthy error depends on it.

    Attributes
    ----------
    intensity : float32, of the cycle x^, which shows the tissue that ought to be there
    distance : float32, mm in the slice to the nearest pixel outside the brain
    """

    intensity: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True)
class HealthyError:
    """The 95th percentile of the one-sided error of healthy pixels, by place.

    The published squared error is largest where the cycle is least sure in healthy brains, too: in fluid, at the cortical
    rim, at the edge of the brain. Dividing by what is usual at such a place makes errors comparable.

    Attributes
    ----------
    intensity_centres : of the classes of reconstructed intensity, ascending, in the scale of normalised scans
    distance_edges_mm : between the classes of distance from the brain's edge
    brighter, darker : [intensity class][distance class], in the scale of normalised scans
    usual_median : median over healthy subjects of the median of their errors, each divided by what is usual at its place
    """

    intensity_centres: Annotated[tuple[Annotated[float, Interval(ge=-1000, le=1000)], ...], Len(1)]
    distance_edges_mm: tuple[Annotated[float, Interval(gt=0, le=1000)], ...]
    brighter: Table
    darker: Table
    usual_median: Divisor

    def __post_init__(self) -> None:
        for name in ("intensity_centres", "distance_edges_mm"):
            if list(getattr(self, name)) != sorted(getattr(self, name)):
                raise MMCCDError(f"healthy_error.{name} must ascend.")
        rows, columns = len(self.intensity_centres), len(self.distance_edges_mm) + 1
        for sign in SIGNS:
            if len(getattr(self, sign)) != rows or any(len(row) != columns for row in getattr(self, sign)):
                raise MMCCDError(f"healthy_error.{sign} must have {rows} rows of {columns} numbers, as its classes have.")

    def relative(self, signed: np.ndarray, place: Place) -> dict[str, np.ndarray]:
        """Compute how much brighter and darker pixels are than their cycle, divided by the healthy error at such places.

        Parameters
        ----------
        signed : float32, x - x^ of the pixels of ``place``

        Returns
        -------
        "brighter", "darker" : float32, >= 0; the 95th percentile of healthy pixels is 1
        """
        return {name: np.maximum(sign * signed, 0) / self.spread(name, place) for name, sign in SIGNS.items()}

    def own_error(self, relative: Mapping[str, np.ndarray], brain: np.ndarray) -> float:
        """Compute how large a scan's errors are on the whole against those of healthy subjects.

        Scanners and sequences differ in contrast and noise, and the cycle knows some better than others: the errors of the
        healthy tissue of one person can be twice those of another, which no threshold for both can fix. The median over
        the brain shows; lesions hardly move it unless they fill much of the brain.

        Parameters
        ----------
        relative : see :meth:`relative`, of slices [S, H, W]
        brain : bool [S, H, W], not empty; in a calibration without what is known to be abnormal

        Returns
        -------
        1 for what is usual, at least LEAST_OWN_ERROR
        """
        median = float(np.median(sum(relative[name][brain] for name in SIGNS)))
        return max(median / self.usual_median, LEAST_OWN_ERROR)

    def spread(self, sign: str, place: Place) -> np.ndarray:
        """Compute the healthy error to expect at each pixel of ``place``; float32, at least LEAST_SPREAD.

        Linear between the centres of the intensity classes, constant beyond the first and the last.
        """
        table = np.array(getattr(self, sign))
        classes = np.digitize(place.distance, self.distance_edges_mm)
        result = np.empty(place.intensity.shape, dtype=np.float32)
        for number in range(len(self.distance_edges_mm) + 1):
            chosen = classes == number
            result[chosen] = np.interp(place.intensity[chosen], self.intensity_centres, table[:, number])
        return result


def place_of(cycle: np.ndarray, brain: np.ndarray, pixel_mm: float) -> Place:
    """Return the place of every pixel of slices.

    Parameters
    ----------
    cycle : float32 [S, H, W], mean cycle x^
    brain : bool [S, H, W]
    pixel_mm : edge of a pixel
    """
    # Padded, because the border of the slice ends the brain as well.
    padded = np.pad(brain, ((0, 0), (1, 1), (1, 1)))
    distance = np.stack([ndimage.distance_transform_edt(one, sampling=pixel_mm) for one in padded])[:, 1:-1, 1:-1]
    return Place(np.asarray(cycle, dtype=np.float32), distance.astype(np.float32))


def fit_healthy_error(errors: Sequence[np.ndarray], places: Sequence[Place]) -> HealthyError:
    """Learn the healthy error from healthy pixels.

    Every subject counts the same, however many pixels it has. Classes with few pixels lean on their intensity class, and
    that on all pixels.

    Parameters
    ----------
    errors : per subject the signed errors x - x^ of its healthy pixels, float32 [pixels]
    places : per subject the places of the same pixels
    """
    signed = np.concatenate(errors)
    intensity = np.concatenate([place.intensity for place in places])
    distance = np.concatenate([place.distance for place in places])
    weights = np.concatenate([np.full(len(one), 1 / len(one)) for one in errors])
    edges = np.unique(
        [weighted_quantile(intensity, weights, part / INTENSITY_CLASSES) for part in range(1, INTENSITY_CLASSES)]
    )
    row, column = np.digitize(intensity, edges), np.digitize(distance, DISTANCE_EDGES_MM)
    rows = [number for number in range(len(edges) + 1) if (row == number).any()]
    centres = [weighted_quantile(intensity[row == number], weights[row == number], 0.5) for number in rows]
    tables = {}
    for name, sign in SIGNS.items():
        error = np.maximum(sign * signed, 0)
        overall = weighted_quantile(error, weights, SPREAD_QUANTILE)
        table = []
        for number in rows:
            chosen = row == number
            parent = _leaning(error[chosen], weights[chosen], overall)
            parts = (chosen & (column == one) for one in range(len(DISTANCE_EDGES_MM) + 1))
            table.append(tuple(max(LEAST_SPREAD, _leaning(error[part], weights[part], parent)) for part in parts))
        tables[name] = tuple(table)
    found = HealthyError(tuple(float(one) for one in centres), DISTANCE_EDGES_MM, tables["brighter"], tables["darker"], 1.0)
    relative = [found.relative(*one) for one in zip(errors, places, strict=True)]
    medians = [np.median(sum(one.values())) for one in relative]
    # A cycle without any error would make a median of 0.
    return replace(found, usual_median=max(float(np.median(medians)), 1e-6))


def weighted_quantile(values: np.ndarray, weights: np.ndarray, probability: float) -> float:
    """Compute the smallest value that at least ``probability`` of the weight doesn't exceed."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order], dtype=np.float64)
    place = np.searchsorted(share, probability * share[-1] * (1 - 1e-12))
    return float(values[order[min(int(place), len(values) - 1)]])


def _leaning(values: np.ndarray, weights: np.ndarray, prior: float) -> float:
    if not len(values):
        return prior
    own = weighted_quantile(values, weights, SPREAD_QUANTILE)
    return float((len(values) * own + PRIOR_PIXELS * prior) / (len(values) + PRIOR_PIXELS))
