"""Smoothing inside the brain, runs of neighbours, and the two signs together."""

from __future__ import annotations

import numpy as np
import pytest

from mmccd_auto.inference.scores.signed_scores import adjacent_runs, combine, smooth_in_brain, smoothings
from mmccd_auto.plans.plan import ScorePlan

SPACING = (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("indices", "runs"),
    [
        ([], []),
        ([5], [(0, 1)]),
        ([5, 6, 7], [(0, 3)]),
        ([1, 2, 4, 7, 8], [(0, 2), (2, 3), (3, 5)]),
    ],
)
def test_runs_end_where_a_slice_is_missing(indices: list[int], runs: list[tuple[int, int]]) -> None:
    assert [(run.start, run.stop) for run in adjacent_runs(indices)] == runs


@pytest.mark.parametrize(
    ("sign", "weight", "expected"),
    [
        ("brighter", 0.5, [2.0, 2.0]),
        ("brighter", 0.0, [2.0, 1.0]),
        ("darker", 0.25, [1.0, 4.0]),
        ("darker", 1.0, [2.0, 4.0]),
    ],
)
def test_the_unexpected_sign_counts_less(sign: str, weight: float, expected: list[float]) -> None:
    units = {"brighter": np.float32([2, 1]), "darker": np.float32([1, 4])}
    assert combine(units, ScorePlan(lesion_sign=sign, other_weight=weight)).tolist() == expected


def test_a_second_smoothing_gives_each_sign_two_scores() -> None:
    assert smoothings(ScorePlan(smoothing_mm=4.0)) == {"": 4.0}
    assert smoothings(ScorePlan(smoothing_mm=4.0, fine_smoothing_mm=1.0)) == {"_fine": 1.0, "_coarse": 4.0}


def test_a_constant_stays_one_up_to_the_edge_of_the_brain() -> None:
    brain = np.zeros((3, 12, 12), dtype=bool)
    brain[:, 2:9, 3:10] = True
    smoothed = smooth_in_brain(np.where(brain, 3.0, 100.0), brain, [4, 5, 6], SPACING, 4.0)
    np.testing.assert_allclose(smoothed[brain], 3.0, rtol=1e-5)
    assert not smoothed[~brain].any()


def test_slices_are_smoothed_into_their_neighbours_only() -> None:
    brain = np.ones((3, 8, 8), dtype=bool)
    values = np.zeros(brain.shape)
    values[0] = 1.0
    beside = smooth_in_brain(values, brain, [1, 2, 9], SPACING, 2.0)
    assert 0 < beside[1].min() < beside[0].max() < 1
    assert not beside[2].any()
    np.testing.assert_array_equal(smooth_in_brain(values, brain, [1, 2, 9], SPACING, 0.0), values)
