"""Which share of healthy pixels exceeds a score: histograms of healthy subjects, and thresholds from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

EDGES = tuple(float(f"{0.02 * 1.06**step:.6g}") for step in range(160))
"""Between the classes of a histogram, in calibrated units: from 0.02 to more than 200 in steps of 6 %."""
LEAST_SHARE = 1e-9


def histogram(values: np.ndarray) -> tuple[int, ...]:
    """Count how many of ``values`` lie in each of the len(EDGES) + 1 classes; a class holds its upper edge."""
    return tuple(np.bincount(np.searchsorted(EDGES, values), minlength=len(EDGES) + 1).tolist())


def exceeded_shares(histograms: Sequence[Sequence[int]]) -> np.ndarray:
    """Compute for each of EDGES the share of values above it: the mean over ``histograms``, whose sizes don't matter."""
    counts = np.array(histograms, dtype=np.float64)
    return (1 - np.cumsum(counts, axis=1)[:, :-1] / counts.sum(axis=1, keepdims=True)).mean(axis=0)


def threshold_for(rate: float, shares: np.ndarray) -> float:
    """Compute the score that the share ``rate`` of values exceeds, by logarithmic interpolation between EDGES.

    Parameters
    ----------
    rate : above 0 and below 1
    shares : of :func:`exceeded_shares`

    Returns
    -------
    at least the first and at most the last of EDGES

    Examples
    --------
    Healthy tissue of one person whose scores lie evenly between 0 and 2:

    >>> shares = exceeded_shares([histogram(np.linspace(0, 2, 100_001))])
    >>> round(threshold_for(0.25, shares), 1)
    1.5
    """
    reached = np.flatnonzero(shares <= rate)
    if not len(reached):
        return EDGES[-1]
    place = int(reached[0])
    if place == 0:
        return EDGES[0]
    high, low = float(shares[place - 1]), max(float(shares[place]), LEAST_SHARE)
    way = math.log(high / rate) / math.log(high / low)
    return EDGES[place - 1] * (EDGES[place] / EDGES[place - 1]) ** min(1.0, way)


def left_out_shares(rate: float, histograms: Sequence[Sequence[int]]) -> list[float]:
    """Compute for each of several people which share of their values exceeds the threshold that the others give.

    Parameters
    ----------
    rate : that the others exceed, above 0 and below 1
    histograms : one a person

    Returns
    -------
    a share a person; empty for fewer than two people
    """
    if len(histograms) < 2:
        return []
    edges = np.log(EDGES)
    found = []
    for place, own in enumerate(histograms):
        others = [*histograms[:place], *histograms[place + 1 :]]
        threshold = threshold_for(rate, exceeded_shares(others))
        found.append(float(np.interp(math.log(threshold), edges, exceeded_shares([own]))))
    return found
