"""The intensity that stands for no signal, so that a * I + b is the same scan as I, for a > 0.

Shading multiplies the signal. Who divides a scan by it has to know the zero that the signal counts from, and an offset
(scans brought to a mean of 0, a DICOM intercept) hides it. It is looked for here alone, and taken off before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmccd_auto.imaging.brain_mask import background_value, examine_brain, is_ringing
from mmccd_auto.imaging.volume import Volume

OUTLIERS = 0.02
"""Voxels farther below the darkest thousandth than this share of the scan's range are no air."""

FILLER_GAP = 0.5
FILLER_GAP_OF_BRAINS = 20.0
"""How far a constant lies below all other voxels, in units of their range, before it is a filler instead of air or the
background of a brain: signed pixels are padded with -2000 or -32768, say. Brains with little contrast lie far above a
background of 0, so that theirs has to lie much farther."""

DARKEST_OF_BRAIN = 0.3
"""From the zero to the 2nd percentile of a brain, in units of the way from there to the 90th: 0.03 to 0.9, median 0.3, in
ten real brains of FLAIR, T1 and T2."""


@dataclass(frozen=True)
class TrueZero:
    """Where the signal of a scan counts from.

    Attributes
    ----------
    value : intensity
    known : shown by the background or the air; else guessed from the brain's darkest tissue
    """

    value: float
    known: bool


def find_true_zero(volume: Volume) -> TrueZero:
    """Find the intensity that stands for no signal.

    It is the constant around a brain-extracted scan, where the brain lies above it. Around a head it is the darkest air. Of
    a brain on both sides of its background (z-scores inside the brain, say) the zero is lost, and the brain's own
    percentiles stand in for it. The value of a * I + b is a times the value of I, plus b.

    Parameters
    ----------
    volume : scan, any numeric type; values that aren't finite give a zero of 0
    """
    array = np.asarray(volume.array)
    if not np.isfinite(array).all() or array.min() == array.max():
        return TrueZero(0.0, True)
    background, tolerance = background_value(array)
    if background is None:
        return TrueZero(_air(array), True)
    others = array[np.abs(array - background) > tolerance]
    gap = _gap_above(others, background)
    beside = is_ringing(others, background)
    if beside and gap <= FILLER_GAP:
        return TrueZero(background, True)
    report = examine_brain(array, volume.geometry.spacing)
    if not report.usable:
        return TrueZero(_air(others), True)
    if beside and gap <= FILLER_GAP_OF_BRAINS:
        return TrueZero(background, True)
    low, high = np.percentile(array[report.mask], (2, 90))
    return TrueZero(float(low - DARKEST_OF_BRAIN * (high - low)), False)


def without_offset(volume: Volume, zero: TrueZero | None = None) -> Volume:
    """Move a scan's true zero to 0: float32, or the very same volume where the zero is there already.

    Parameters
    ----------
    volume : scan
    zero : of :func:`find_true_zero`; None looks for it
    """
    value = (zero or find_true_zero(volume)).value
    if value == 0:
        return volume
    return Volume(np.subtract(volume.array, np.float32(value), dtype=np.float32), volume.geometry)


def _gap_above(others: np.ndarray, background: float) -> float:
    """Compute how far the voxels that differ from a constant lie above it, in units of their own range.

    Below 0 for voxels below.
    """
    low, high = np.percentile(others, (1, 99))
    return float((low - background) / (high - low)) if high > low else 0.0


def _air(values: np.ndarray) -> float:
    """Compute the darkest of a head's surroundings, without a filler or single outliers."""
    sample = values[::2, ::2, ::2] if values.ndim == 3 else values
    lowest = float(values.min())
    rest = sample[sample > lowest]
    if len(rest) and len(rest) < 0.999 * sample.size and _gap_above(rest, lowest) > FILLER_GAP:
        return _air(values[values > lowest])
    low, high = np.percentile(sample, (0.1, 99.5), method="lower")
    return float(low) if low - lowest > OUTLIERS * (high - low) else lowest
