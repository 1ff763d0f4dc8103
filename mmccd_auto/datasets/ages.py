"""How old the people of a raw dataset are: what dataset.json says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError

AGES_KEY = "ages"
OLDEST = 120.0
"""Years; more is no age of a person."""


def read_ages(content: Mapping[str, Any], source: str | Path) -> dict[str, float]:
    """Read the ages of the cases from the content of dataset.json.

    Parameters
    ----------
    content : of dataset.json
    source : its path, named in errors

    Returns
    -------
    years at the scan, by case; empty where dataset.json says nothing of it

    Raises
    ------
    MMCCDError
        If the entry isn't an object of cases and numbers of years.
    """
    ages = content.get(AGES_KEY, {})
    if not isinstance(ages, dict) or not all(_is_age(age) for age in ages.values()):
        raise MMCCDError(
            f'{source}: {AGES_KEY} must be an object of cases and years from 0 to {OLDEST:g}, as in {{"case1": 71}}.'
        )
    return {case: float(age) for case, age in ages.items()}


def _is_age(age: Any) -> bool:
    return isinstance(age, (int, float)) and not isinstance(age, bool) and math.isfinite(age) and 0 <= age <= OLDEST
