"""Intensity normalisation inside the brain: named schemes, all linear, so that a parameter gives the whole of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.intensity_scale import BACKGROUND, UPPER_LIMIT

WITHOUT_BIAS_FIELD = frozenset({"bias_corrected"})
"""Schemes for scans that were divided by their bias field."""

Parameters = dict[str, float]
Scheme = Callable[[np.ndarray], Parameters]
SCHEMES: dict[str, Scheme] = {}


def register(name: str) -> Callable[[Scheme], Scheme]:
    """Make a scheme known by name, for use in plans.json.

    A scheme takes the brain's voxels (1D, float64) and returns ``shift``, ``scale`` and, where bright values are clipped,
    ``upper``: the normalised value is ``min((value - shift) * scale - 3, upper)``. A scale that isn't finite says that the
    voxels can't be normalised.
    """

    def add(scheme: Scheme) -> Scheme:
        SCHEMES[name] = scheme
        return scheme

    return add


@register("percentile")
def percentile(voxels: np.ndarray) -> Parameters:
    """Normalise so that P2 of the brain becomes -3, P90 becomes +3; clipped above at +15.

    P90 is what the published scheme divides by; P2 stands for its 0, so that an offset of the values has no effect.
    """
    low, high = np.percentile(voxels, (2, 90))
    return {"shift": float(low), "scale": _ratio(6.0, high - low), "upper": UPPER_LIMIT}


@register("bias_corrected")
def bias_corrected(voxels: np.ndarray) -> Parameters:
    """Normalise so that P2 of the brain becomes -3, P75 becomes +2.

    Clipped above at +15; for scans without their bias field.

    A lesion of a tenth of the brain moves P90, and with it the whole scale, by as much as lesions differ from healthy
    tissue. P75 stays. In healthy brains it lies where P90 is about +3.
    """
    low, high = np.percentile(voxels, (2, 75))
    return {"shift": float(low), "scale": _ratio(5.0, high - low), "upper": UPPER_LIMIT}


@register("official")
def official(voxels: np.ndarray) -> Parameters:
    """Normalise by the published scheme: 6 x / P90(positive voxels) - 3, not clipped (Liang et al. 2023, authors' code)."""
    positive = voxels[voxels > 0]
    high = float(np.percentile(positive, 90)) if positive.size else 0.0
    return {"shift": 0.0, "scale": _ratio(6.0, high)}


@register("zscore")
def zscore(voxels: np.ndarray) -> Parameters:
    """Normalise to mean 0 and standard deviation 1 inside the brain; clipped above at +15."""
    deviation = float(voxels.std())
    shift = float(voxels.mean()) + BACKGROUND * deviation
    return {"shift": shift, "scale": _ratio(1.0, deviation), "upper": UPPER_LIMIT}


def find_scheme(name: str) -> Scheme:
    """Find a scheme by name.

    Raises
    ------
    MMCCDError
        If there is none of that name.
    """
    if name not in SCHEMES:
        raise MMCCDError(f"there is no normalisation scheme {name}: choose one of {', '.join(sorted(SCHEMES))}.")
    return SCHEMES[name]


def normalise(array: np.ndarray, brain: np.ndarray, scheme: str, name: str) -> tuple[np.ndarray, Parameters]:
    """Normalise a volume inside its brain.

    Parameters
    ----------
    array : [z, y, x]
    brain : bool [z, y, x]
    scheme : name of a registered scheme
    name : case and modality, named in errors

    Returns
    -------
    float32 [z, y, x], exactly -3 outside the brain; and the scheme's parameters

    Raises
    ------
    MMCCDError
        If the scheme is unknown or the brain's voxels have no contrast.
    """
    voxels = array[brain].astype(np.float64)
    parameters = find_scheme(scheme)(voxels)
    if not np.isfinite(parameters["scale"]):
        raise MMCCDError(f"{name} has no contrast inside the brain (normalisation {scheme}): fix or leave out the file.")
    normalised = np.full(array.shape, BACKGROUND, dtype=np.float32)
    normalised[brain] = apply_parameters(voxels, parameters)
    return normalised, parameters


def apply_parameters(voxels: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Normalise brain voxels by parameters that a scheme gave; float64 of the same shape."""
    values = (voxels - parameters["shift"]) * parameters["scale"] + BACKGROUND
    return np.minimum(values, parameters["upper"]) if "upper" in parameters else values


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else float("nan")
