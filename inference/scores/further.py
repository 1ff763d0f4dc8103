"""Which further modalities a map was made with: maps of other subsets have other units, so each is calibrated on its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations

Subset = tuple[str, ...]
ALONE: Subset = ()
"""The input modality alone."""
JOINED = " + "
MOST_FOR_EACH = 3
"""Of further modalities; with more of them only the whole is calibrated beside the input alone, not each subset."""


def subsets_of(further: Sequence[str]) -> list[Subset]:
    """List the subsets of further modalities that a calibration is made for, without the empty one, smaller ones first."""
    if len(further) > MOST_FOR_EACH:
        return [tuple(further)]
    return [subset for size in range(1, len(further) + 1) for subset in combinations(further, size)]


def subset_name(subset: Iterable[str]) -> str:
    """How a subset is called in files: "T1 + T2"; empty for the input alone."""
    return JOINED.join(subset)


def subset_of(name: str) -> Subset:
    """Return the subset that :func:`subset_name` calls so."""
    return tuple(name.split(JOINED)) if name else ALONE


def best_fitting(names: Collection[str], given: Collection[str]) -> str:
    """Choose among the names of subsets the largest that holds nothing but what is given; empty for the input alone."""
    fitting = [name for name in names if set(subset_of(name)) <= set(given)]
    return max(fitting, key=lambda name: len(subset_of(name)), default=subset_name(ALONE))
