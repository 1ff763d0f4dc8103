"""Whether one choice finds more than another: by the same synthetic anomalies, and with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95
LEAST_PAIRS = 2


@dataclass(frozen=True)
class PairedDifference:
    """How much more one choice finds than another.

    Attributes
    ----------
    mean : of the differences in AUPRC, anomaly by anomaly
    low, high : its 95 % interval, by Student's t; infinite where there are fewer than two anomalies
    anomalies : how many
    """

    mean: float
    low: float
    high: float
    anomalies: int

    @property
    def is_gain(self) -> bool:
        """Whether it is above 0 beyond chance."""
        return self.low > 0

    def describe(self) -> str:
        """Describe the difference in words, with figures."""
        return f"{self.mean:+.3f} in AUPRC ({self.low:+.3f} to {self.high:+.3f}, {self.anomalies} anomalies)"


def paired_difference(new: Sequence[float], old: Sequence[float]) -> PairedDifference:
    """Compare two choices by what each finds of the same anomalies, in the same order.

    Anomalies in one person's slices resemble each other, so that the interval is rather too narrow than too wide.

    Parameters
    ----------
    new, old : AUPRC of every anomaly; of another number each: not the same anomalies, and nothing can be said
    """
    if len(new) != len(old) or len(new) < LEAST_PAIRS:
        mean = float(np.mean(new) - np.mean(old)) if len(new) and len(old) else math.nan
        return PairedDifference(mean, -math.inf, math.inf, min(len(new), len(old)))
    differences = np.subtract(new, old)
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    reach = float(student.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error
    mean = float(differences.mean())
    return PairedDifference(mean, mean - reach, mean + reach, len(differences))
