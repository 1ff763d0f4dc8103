"""Whether one choice finds more than another: by the same synthetic anomalies, and with an interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95
LEAST_PAIRS = 2
Groups = Sequence[Hashable]


@dataclass(frozen=True)
class PairedDifference:
    """How much more one choice finds than another.

    Attributes
    ----------
    mean : of the differences in AUPRC, anomaly by anomaly
    low, high : its interval, by Student's t; infinite where there are fewer than two anomalies or groups
    anomalies : how many
    error : standard error of the mean; infinite likewise
    degrees : of freedom
    """

    mean: float
    low: float
    high: float
    anomalies: int
    error: float = math.inf
    degrees: int = 0

    @property
    def is_gain(self) -> bool:
        """Whether it is above 0 beyond chance."""
        return self.low > 0

    def describe(self) -> str:
        """Describe the difference in words, with figures."""
        return f"{self.mean:+.3f} in AUPRC ({self.low:+.3f} to {self.high:+.3f}, {self.anomalies} anomalies)"


def paired_difference(
    new: Sequence[float], old: Sequence[float], groupings: Sequence[Groups] = (), confidence: float = CONFIDENCE
) -> PairedDifference:
    """Compare two choices by what each finds of the same anomalies, in the same order.

    Without ``groupings`` every anomaly counts as independent of the others. Anomalies in one person's slices resemble each
    other, so that this interval is rather too narrow than too wide.

    Parameters
    ----------
    new, old : AUPRC of every anomaly; of another number each: not the same anomalies, and nothing can be said
    groupings : each names a group for every anomaly, whose anomalies resemble each other; of the intervals by each of them
        the widest counts
    confidence : of the interval, above 0 and below 1
    """
    if len(new) != len(old) or len(new) < LEAST_PAIRS:
        mean = float(np.mean(new) - np.mean(old)) if len(new) and len(old) else math.nan
        return PairedDifference(mean, -math.inf, math.inf, min(len(new), len(old)))
    differences = np.subtract(new, old)
    mean = float(differences.mean())
    found = [
        PairedDifference(mean, mean - reach, mean + reach, len(differences), error, degrees)
        for error, degrees in (_error(differences, groups) for groups in groupings or [range(len(differences))])
        for reach in [student_reach(degrees, confidence) * error if degrees else math.inf]
    ]
    return max(found, key=lambda one: one.high - one.low)


def student_reach(degrees: float, confidence: float) -> float:
    """How many standard errors the two-sided interval by Student's t reaches to each side."""
    return float(student.ppf((1 + confidence) / 2, degrees))


def _error(differences: np.ndarray, groups: Groups) -> tuple[float, int]:
    """Compute the standard error of the mean where members of a group resemble each other, and its degrees of freedom.

    Groups of equal size: that of the mean of the groups' means. Of one member each: the usual one.
    """
    sums: dict[Hashable, float] = {}
    for group, difference in zip(groups, differences - differences.mean(), strict=True):
        sums[group] = sums.get(group, 0.0) + float(difference)
    count = len(sums)
    if count < LEAST_PAIRS:
        return math.inf, 0
    return math.sqrt(count / (count - 1) * sum(one**2 for one in sums.values())) / len(differences), count - 1
