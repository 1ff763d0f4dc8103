"""What the planner asks of a fingerprint, and which of its options make sense."""

from __future__ import annotations

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans.evidence import Evidence
from mmccd_auto.plans.options import PlannerOptions


def test_medians_are_those_of_the_cases(make_fingerprint) -> None:
    evidence = Evidence(make_fingerprint(spacing=(0.8, 0.8, 5.0), subjects=4))
    assert evidence.native_spacing("axial") == pytest.approx(0.8)
    assert evidence.correlation_length("FLAIR", "axial") == pytest.approx(5.0)
    assert len(evidence.cases) == 4


def test_cases_without_a_modality_do_not_count_for_it(make_fingerprint) -> None:
    evidence = Evidence(make_fingerprint(subjects=3, extra=(("FLAIR",), ("T1", "T2"))))
    assert len(evidence.cases_with("FLAIR")) == 4
    assert len(evidence.cases_with("FLAIR", "T1")) == 3
    assert len(evidence.cases_with("PD")) == 0
    one = evidence.cases[0].slices["axial"].healthy
    assert evidence.healthy_slices("axial", "FLAIR", "T1") == 3 * one
    assert evidence.healthy_slices("axial") == 5 * one


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resolution": "huge"}, "no resolution huge: choose one of"),
        ({"memory_budget_gb": 0.0}, "the memory target 0.0 must be a number above 0"),
        ({"target_spacing": -1.0}, "the target spacing -1.0"),
        ({"time_budget_minutes": float("nan")}, "the time budget nan"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, words: str) -> None:
    with pytest.raises(MMCCDError, match=words):
        PlannerOptions(**options)
