"""Promised against found false-alarm rates: what each healthy person's tissue exceeds when the others set the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmccd_auto.core.wording import counted
from mmccd_auto.evaluation.metrics import bootstrap_interval
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import DEFAULT_SCORE
from mmccd_auto.inference.scores.calibration import Calibration, HealthySubject
from mmccd_auto.inference.scores.false_alarm_rate import left_out_shares

RATES = (0.05, 0.01, 0.005, 0.001)
EVERYBODY = "everybody"
LEAVING_OUT = "in each person when the others set the threshold"
YEARS = 10
"""Of one row of the table where ages are known."""


@dataclass(frozen=True)
class FoundRate:
    """What was found of a promised rate.

    Attributes
    ----------
    promised : share of healthy tissue, above 0 and below 1
    ratios : found by promised share, one for each person
    """

    promised: float
    ratios: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the ratios; 1 is what was promised."""
        return float(np.mean(self.ratios))

    @property
    def worst(self) -> float:
        """The largest ratio."""
        return max(self.ratios)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % bootstrap interval of the mean over people; None for one person."""
        return bootstrap_interval(np.array(self.ratios))

    def describe(self) -> str:
        """Write "1.02 x (0.81 to 1.25), worst 2.9 x"."""
        bounds = "" if self.interval is None else f" ({self.interval[0]:.2f} to {self.interval[1]:.2f})"
        return f"{self.mean:.2f} x{bounds}, worst {self.worst:.1f} x"


def found_rates(
    subjects: Sequence[HealthySubject], rates: Sequence[float] = RATES, score: str = DEFAULT_SCORE
) -> dict[str, list[FoundRate]]:
    """Compare promised and found false-alarm rates, leaving one person out at a time.

    The threshold comes from all the other people, whatever their age; the units of the score were fitted on everybody.

    Parameters
    ----------
    subjects : of a calibration
    rates : promised, above 0 and below 1
    score : one of SCORES

    Returns
    -------
    a list in the order of ``rates`` for "everybody", and for each decade ("61 to 70 years") where ages are known; empty for
    fewer than two people
    """
    if len(subjects) < 2:
        return {}
    histograms = [subject.histograms[score] for subject in subjects]
    shares = {rate: np.array(left_out_shares(rate, histograms)) for rate in rates}
    groups = {EVERYBODY: np.ones(len(subjects), dtype=bool)} | _decades(subjects)
    return {
        name: [FoundRate(rate, tuple((shares[rate][members] / rate).tolist())) for rate in rates]
        for name, members in groups.items()
    }


def rates_by(
    calibration: Calibration, cases: Sequence[CaseMaps], rates: Sequence[float] = RATES
) -> dict[str, list[FoundRate]]:
    """Compare the rates that a calibration promises with those found in people whom it doesn't know.

    Parameters
    ----------
    calibration : fitted on others
    cases : healthy slices of the people
    rates : promised, above 0 and below 1

    Returns
    -------
    as :func:`found_rates`, of everybody
    """
    thresholds = np.array([calibration.threshold(rate) for rate in rates])
    shares: dict[str, list[tuple[int, np.ndarray]]] = {}
    for case in cases:
        values = np.sort(calibration.scores(case)[DEFAULT_SCORE][case.healthy])
        above = len(values) - np.searchsorted(values, thresholds, side="right")
        shares.setdefault(case.subject, []).append((len(values), above))
    of_people = np.array([sum(above for _, above in one) / sum(size for size, _ in one) for one in shares.values()])
    return {EVERYBODY: [FoundRate(rate, tuple((of_people[:, place] / rate).tolist())) for place, rate in enumerate(rates)]}


def describe_found_rates(found: dict[str, list[FoundRate]], how: str = LEAVING_OUT) -> str:
    """Write found rates as lines for the terminal; empty where there are none.

    Parameters
    ----------
    found : of :func:`found_rates` or :func:`rates_by`
    how : they were found, for the first line
    """
    if not found:
        return ""
    lines = [f"found {how}, against the promised rate:"]
    for name, rates in found.items():
        lines.append(f"  {name} ({counted(len(rates[0].ratios), 'person', 'people')})")
        lines += [f"    {rate.promised:<6g} {rate.describe()}" for rate in rates]
    return "\n".join(lines)


def _decades(subjects: Sequence[HealthySubject]) -> dict[str, np.ndarray]:
    """Whose age lies in each decade, 61 to 70 for instance; nothing where no age is known."""
    # A child in its first year belongs to the first decade.
    ages = np.array([np.nan if subject.age is None else max(1, subject.age) for subject in subjects])
    known = ages[np.isfinite(ages)]
    firsts = sorted({YEARS * int((age - 1) // YEARS) + 1 for age in known})
    return {f"{first} to {first + YEARS - 1} years": (ages >= first) & (ages < first + YEARS) for first in firsts}
