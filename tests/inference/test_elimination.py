"""Which candidate is worth its price: tables of scores whose answer is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mmccd_auto.inference.choice.elimination import Found, compare, eliminate, joint_confidence, worth_its_price
from mmccd_auto.inference.choice.paired_difference import paired_difference

KINDS, SEEDS = 8, 3


class Table:
    """Scores by candidate, seed and anomaly; each candidate costs twice the one before.

    Parameters
    ----------
    gains : of each candidate, true mean difference to the first one
    noise, person : standard deviations of what is drawn for each anomaly, and for each candidate and person
    people : in whose slices the anomalies lie
    """

    def __init__(
        self, gains: Sequence[float], seed: int, noise: float = 0.03, person: float = 0.005, people: int = 3
    ) -> None:
        random = np.random.default_rng(seed)
        self.people = np.stack([random.permutation(np.arange(KINDS) % people) for _ in range(SEEDS)])
        own = random.normal(0, person, (len(gains), people))
        # Seeds differ by far more than candidates do: .10.
        shared = random.uniform(0.2, 0.7, (SEEDS, KINDS)) + random.normal(0, 0.1, (SEEDS, 1))
        drawn = random.normal(0, noise, (len(gains), SEEDS, KINDS))
        self.scores = shared + np.reshape(gains, (-1, 1, 1)) + own[:, self.people] + drawn
        self.tried: list[tuple[int, int]] = []

    def __call__(self, candidate: int, drawing: int) -> Found:
        self.tried.append((candidate, drawing))
        figures, people = self.scores[candidate, drawing], self.people[drawing]
        return Found(tuple(figures.tolist()), tuple(people.tolist()), (drawing,) * KINDS, 2.0**candidate)

    @property
    def cost(self) -> float:
        """Of all tries, as a share of that of trying everything on all seeds."""
        return sum(2.0**candidate for candidate, _ in self.tried) / (SEEDS * (2.0 ** len(self.scores) - 1))


def shares(gains: Sequence[float], times: int = 100) -> tuple[np.ndarray, float]:
    """How often each candidate is chosen, and the mean cost."""
    tables = [Table(gains, seed) for seed in range(times)]
    chosen = [eliminate(table, len(gains), SEEDS).chosen for table in tables]
    return np.bincount(chosen, minlength=len(gains)) / times, float(np.mean([table.cost for table in tables]))


def test_of_equals_the_cheapest_is_chosen_although_some_other_has_the_highest_mean() -> None:
    chosen, cost = shares([0.0] * 8)
    assert chosen[0] > 0.85
    assert cost < 0.6


def test_what_is_clearly_better_is_chosen_whatever_it_costs() -> None:
    chosen, _ = shares([0, 0, 0, 0, 0, 0.1, 0, 0])
    assert chosen[5] > 0.95


def test_a_thousandth_more_is_no_reason_to_take_the_dearer_one() -> None:
    chosen, _ = shares([0.0, 0.001])
    assert chosen[0] > 0.9


def test_losers_are_tried_once_and_the_winner_to_the_end() -> None:
    table = Table([0, -0.2, 0.2, -0.2], seed=0)
    race = eliminate(table, 4, SEEDS)
    assert race.chosen == 2
    assert [candidate for candidate, drawing in table.tried if drawing == 0] == [0, 1, 2, 3]
    assert {candidate for candidate, drawing in table.tried if drawing > 0} <= {0, 2}
    assert set(race.given_up) >= {1, 3}
    assert race.difference(3, 0.95).high < 0
    assert race.difference(2, 0.95) is None


def test_what_does_more_of_the_same_is_not_tried_where_less_of_it_loses_already() -> None:
    for gain, tried in ((-0.2, False), (0.2, True)):
        table = Table([0, gain, gain], seed=1)
        race = eliminate(table, 3, SEEDS, after=[None, None, 1])
        assert ((2, 0) in table.tried) == tried
        assert race.chosen == (1 if tried else 0)


def test_with_one_drawing_the_interval_decides_and_a_single_person_tells_nothing() -> None:
    for people, chosen in ((4, 1), (1, 0)):
        table = Table([0, 0.2], seed=2, people=people)
        assert eliminate(table, 2, 1).chosen == chosen


def test_only_common_drawings_are_compared() -> None:
    table = Table([0, 0.1], seed=3)
    whole, part = table(0, 0).and_then(table(0, 1)), table(1, 0)
    assert compare(part, whole) == compare(part, table(0, 0))
    assert compare(part, whole).anomalies == KINDS


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_an_interval_by_people_holds_the_truth_as_often_as_it_says(spread: float) -> None:
    """Anomalies of one person resemble each other: by anomalies alone, the interval holds it less often."""
    random = np.random.default_rng(0)

    def share(grouped: Callable[[np.ndarray], list]) -> float:
        held = []
        for _ in range(500):
            people = np.repeat(np.arange(6), 8)
            found = 0.05 + random.normal(0, spread, 6)[people] + random.normal(0, 0.05, 48)
            difference = paired_difference(found, np.zeros(48), grouped(people))
            held.append(difference.low < 0.05 < difference.high)
        return float(np.mean(held))

    assert 0.92 < share(lambda people: [people.tolist()]) < 0.98
    if spread:
        assert share(lambda people: []) < 0.8


def test_more_comparisons_need_wider_intervals() -> None:
    assert joint_confidence(2) == pytest.approx(0.95)
    assert joint_confidence(8) == pytest.approx(1 - 0.05 / 7)
    table = Table([0, 0.06], seed=5)
    found = {candidate: table(candidate, 0).and_then(table(candidate, 1)) for candidate in range(2)}
    assert compare(found[1], found[0]).is_gain
    assert worth_its_price(found, 0.95) == 1
    assert worth_its_price(found, 0.99999) == 0
