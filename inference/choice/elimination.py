"""Successive elimination: which of several settings is worth its price, without trying the losers to the end.

Candidates are tried on one drawing of synthetic anomalies after the other. The cheaper one stays unless a dearer one finds
more beyond the interval of their paired difference. Who would hardly get there with the drawings that are left is given up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mmccd_auto.inference.choice.paired_difference import (
    CONFIDENCE,
    Groups,
    PairedDifference,
    paired_difference,
    student_reach,
)

LEAST_PEOPLE = 5
"""From so many on they are an interval of their own: fewer would make it too wide to ever decide by."""
SLIM_CHANCE = 0.1
"""Of getting past the interval, below which a candidate is given up."""


@dataclass(frozen=True)
class Found:
    """What a candidate found.

    Attributes
    ----------
    figures : AUPRC of each anomaly, drawing by drawing; the same anomalies in the same order for every candidate
    people, drawings : of each anomaly, in whose slices it lies, and of which drawing it is
    cost : network evaluations of a slice, or anything in proportion to them
    """

    figures: tuple[float, ...]
    people: tuple[int, ...]
    drawings: tuple[int, ...]
    cost: float

    def first(self, count: int) -> Found:
        """Return what was found of the first ``count`` drawings alone."""
        places = [place for place, drawing in enumerate(self.drawings) if drawing < count]
        return Found(
            tuple(self.figures[place] for place in places),
            tuple(self.people[place] for place in places),
            tuple(self.drawings[place] for place in places),
            self.cost,
        )

    def and_then(self, other: Found) -> Found:
        """Add what was found of a further drawing."""
        drawings = (*self.drawings, *other.drawings)
        return Found((*self.figures, *other.figures), (*self.people, *other.people), drawings, self.cost)

    @property
    def count(self) -> int:
        """How many drawings were tried."""
        return len(set(self.drawings))


@dataclass
class Elimination:
    """How it went.

    Attributes
    ----------
    found : by candidate, as far as it was tried
    given_up : by candidate, why it wasn't tried to the end
    chosen : the candidate that is worth its price
    """

    found: dict[int, Found] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)
    chosen: int = 0

    def difference(self, candidate: int, confidence: float) -> PairedDifference | None:
        """Compare what a candidate finds with what the chosen one finds, of the anomalies that both were tried on.

        None for the chosen one, and for one that was not tried.
        """
        if candidate == self.chosen or candidate not in self.found:
            return None
        return compare(self.found[candidate], self.found[self.chosen], confidence)


def eliminate(
    try_one: Callable[[int, int], Found], candidates: int, drawings: int, after: Sequence[int | None] = ()
) -> Elimination:
    """Try candidates on drawings of anomalies until one is left or all drawings are done.

    Parameters
    ----------
    try_one : gives what candidate K, 0 .. candidates - 1, finds of drawing D, 0 .. drawings - 1
    candidates : how many; the cheaper ones come first
    drawings : of anomalies, at least one
    after : for each candidate the earlier one without which it isn't tried: it does more of the same; None: none
    """
    race, confidence = Elimination(), joint_confidence(candidates)
    after = after or [None] * candidates
    for drawing in range(drawings):
        for candidate in range(candidates):
            if candidate in race.given_up:
                continue
            if after[candidate] in race.given_up:
                race.given_up[candidate] = "less of the same does not pay already"
                continue
            found = try_one(candidate, drawing)
            race.found[candidate] = race.found[candidate].and_then(found) if drawing else found
            _give_up(race, candidate, drawing + 1, drawings, confidence)
        if len(race.given_up) == candidates - 1:
            break
    race.chosen = worth_its_price({one: race.found[one] for one in race.found if one not in race.given_up}, confidence)
    return race


def worth_its_price(found: dict[int, Found], confidence: float) -> int:
    """Choose: the cheapest, unless a dearer one finds more beyond the interval; then that one stands, and so on.

    Parameters
    ----------
    found : by candidate, at least one, all of the same drawings
    confidence : of the interval
    """
    order = sorted(found, key=lambda one: found[one].cost)
    standing = order[0]
    for one in order[1:]:
        if compare(found[one], found[standing], confidence).is_gain:
            standing = one
    return standing


def compare(new: Found, old: Found, confidence: float = CONFIDENCE) -> PairedDifference:
    """Compute the paired difference of two candidates, of the drawings that both were tried on."""
    count = min(new.count, old.count)
    new, old = new.first(count), old.first(count)
    return paired_difference(new.figures, old.figures, groupings_of(new.people, new.drawings), confidence)


def groupings_of(people: Sequence[int], drawings: Sequence[int]) -> list[Groups]:
    """Group anomalies that resemble each other.

    Those of one drawing in one person's slices, which share the noise, too; and, where there are LEAST_PEOPLE, those of one
    person.
    """
    groups: list[Groups] = [list(zip(people, drawings, strict=True))] if people else []
    return [*groups, people] if len(set(people)) >= LEAST_PEOPLE else groups


def joint_confidence(candidates: int) -> float:
    """Compute the confidence by which all comparisons of so many candidates with one of them hold together (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, candidates - 1)


def is_hopeless(difference: PairedDifference, done: int, drawings: int, confidence: float) -> bool:
    """Check whether a candidate would get past the interval with less than SLIM_CHANCE, at the end of all drawings.

    The error shrinks with the root of the number of drawings, and the mean may still move by what the drawings that are left
    can move it.

    Parameters
    ----------
    difference : to the one that stands, after ``done`` of ``drawings``
    confidence : of the interval
    """
    if done >= drawings:
        return not difference.is_gain
    if not math.isfinite(difference.error):
        return False
    share = done / drawings
    reach = student_reach((difference.degrees + 1) / share - 1, confidence) * difference.error * math.sqrt(share)
    luck = student_reach(difference.degrees, 1 - 2 * SLIM_CHANCE) * difference.error * math.sqrt(1 - share)
    return difference.mean + luck <= reach


def _give_up(race: Elimination, candidate: int, done: int, drawings: int, confidence: float) -> None:
    """Give up the candidate that was tried just now, if it costs more than the one that stands and would hardly find more.

    Cheaper ones go on, whoever seems to beat them: they cost little, and looking several times would find too many winners.
    """
    level = {one: found for one, found in race.found.items() if one not in race.given_up and found.count == done}
    standing = worth_its_price(level, confidence)
    if standing == candidate or level[candidate].cost < level[standing].cost:
        return
    difference = compare(level[candidate], level[standing], confidence)
    if is_hopeless(difference, done, drawings, confidence):
        race.given_up[candidate] = f"{difference.mean:+.3f} to the one that stands: hardly worth its price"
