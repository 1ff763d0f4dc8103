"""Thresholds by the share of healthy pixels that exceeds them."""

from __future__ import annotations

import numpy as np
import pytest

from mmccd_auto.inference.scores.false_alarm_rate import (
    EDGES,
    exceeded_shares,
    histogram,
    left_out_shares,
    threshold_for,
)


def test_a_class_holds_its_upper_edge() -> None:
    counts = histogram(np.array([0.0, EDGES[0], EDGES[3], EDGES[-1], 1e9]))
    assert sum(counts) == 5
    assert (counts[0], counts[3], counts[len(EDGES) - 1], counts[-1]) == (2, 1, 1, 1)


def test_every_person_counts_the_same_whatever_their_size() -> None:
    small, large = histogram(np.full(10, 1e9)), histogram(np.zeros(1000))
    assert exceeded_shares([small, large])[0] == pytest.approx(0.5)


@pytest.mark.parametrize("rate", [0.5, 0.05, 0.01, 0.001])
def test_the_share_above_the_threshold_is_the_rate(rate: float) -> None:
    values = np.random.default_rng(0).exponential(size=1_000_000)
    threshold = threshold_for(rate, exceeded_shares([histogram(values)]))
    assert threshold == pytest.approx(-np.log(rate), rel=0.02)


def test_rates_beyond_what_was_seen_end_at_the_edges() -> None:
    assert threshold_for(0.01, exceeded_shares([histogram(np.full(100, 1e9))])) == EDGES[-1]
    assert threshold_for(0.01, exceeded_shares([histogram(np.zeros(100))])) == EDGES[0]


def test_each_person_is_judged_by_the_threshold_of_the_others() -> None:
    random = np.random.default_rng(0)
    like, odd = (histogram(factor * random.exponential(size=200_000)) for factor in (1, 2))
    shares = left_out_shares(0.01, [like, like, odd])
    assert shares[2] == pytest.approx(0.1, rel=0.05)
    assert max(shares[:2]) < 0.01
    assert left_out_shares(0.01, [like]) == []
