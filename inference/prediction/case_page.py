"""From a prediction to its part of the page, and the image numbers of its DICOM series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.records import Series
from mmccd_auto.dicom.writing.source_images import read_image_numbers
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.inference.prediction.prediction import Prediction
from mmccd_auto.inference.scores.scoring import Scoring
from mmccd_auto.reporting.page.part import CaseArrays, CasePart, ImageNumbers, Marking, SliderStep, make_part

RATES = tuple(float(f"{rate:.3g}") for rate in np.geomspace(2e-4, 0.05, 49))
SAME_PLACE_EDGES = 0.25
NOT_DICOM = "the scan is no DICOM series"


def case_part(prediction: Prediction, marking: Marking, series: Series | None) -> CasePart:
    """Make a case's part of the page.

    Parameters
    ----------
    prediction : of the case
    marking : of :func:`marking_of`
    series : that the scan comes from; None where it isn't DICOM
    """
    arrays = CaseArrays(
        scan=prediction.scan,
        score=prediction.anomaly,
        brain=prediction.brain,
        mask=prediction.mask,
        candidates=prediction.candidates,
        cycle=prediction.cycle,
        difference=prediction.signed,
    )
    numbers, note = (None, NOT_DICOM) if series is None else _image_numbers(series, prediction.geometry)
    return make_part(arrays, prediction.geometry, marking, numbers, note)


def marking_of(scoring: Scoring) -> Marking:
    """Return the slider's table.

    For each share of healthy tissue the threshold that it exceeds, by the run's calibrations.
    """
    if not scoring.calibrated or scoring.threshold is None:
        return Marking(scoring.threshold, scoring.least_lesion_mm3)
    rates = set(RATES) | ({scoring.false_positive_rate} if scoring.false_positive_rate is not None else set())
    steps = [SliderStep(rate, _threshold(scoring, rate)) for rate in sorted(rates)]
    if scoring.false_positive_rate is not None:
        used = [step.rate for step in steps].index(scoring.false_positive_rate)
        steps[used] = SliderStep(scoring.false_positive_rate, scoring.threshold)
        return Marking(scoring.threshold, scoring.least_lesion_mm3, tuple(steps), used)
    used = int(np.argmin([abs(step.threshold - scoring.threshold) for step in steps]))
    return Marking(scoring.threshold, scoring.least_lesion_mm3, tuple(steps), used, exact=False)


def _threshold(scoring: Scoring, rate: float) -> float:
    return float(np.mean([one.threshold(rate, scoring.score) for one in scoring.calibrations.values()]))


def _image_numbers(series: Series, geometry: Geometry) -> tuple[ImageNumbers | None, str]:
    """Return the number of every slice, or why there are none to show.

    A slice is known by where it lies, not by its order.
    """
    if series.renumber:
        return None, "the images of the series share their numbers"
    try:
        numbers, positions = read_image_numbers(series.files)
    except MMCCDError:
        # The page is worth showing without them, and the maps are made.
        return None, "the images of the series do not give them"
    return numbers_by_place(numbers, positions, geometry)


def numbers_by_place(numbers: Sequence[int], positions: np.ndarray, geometry: Geometry) -> tuple[ImageNumbers | None, str]:
    """Give each slice of a volume the number of the image that lies there.

    Parameters
    ----------
    numbers : of the images
    positions : float64 [images, 3], LPS mm, centre of each image's first pixel
    geometry : of the volume

    Returns
    -------
    the numbers; or None and why there are none
    """
    direction = np.reshape(geometry.direction, (3, 3))
    index = (np.asarray(positions) - geometry.origin) @ direction / np.asarray(geometry.spacing)
    axis = int(np.argmax(np.ptp(index, axis=0)))
    places = np.rint(index[:, axis]).astype(int)
    size = geometry.size[axis]
    fits = len(numbers) == size and np.abs(index[:, axis] - places).max() <= SAME_PLACE_EDGES
    if not fits or sorted(places.tolist()) != list(range(size)):
        return None, "the images of the series are not one a slice"
    by_place = dict(zip(places.tolist(), numbers, strict=True))
    return ImageNumbers(axis, tuple(int(by_place[place]) for place in range(size))), ""
