"""Values of DICOM elements, with malformed ones taken as missing."""

from __future__ import annotations

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue


def number(dataset: Dataset, keyword: str) -> float | None:
    """Compute the first number of an element; None where it is missing or malformed."""
    value = _first(dataset, keyword)
    try:
        found = None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
    return found if found is not None and math.isfinite(found) else None


def whole_number(dataset: Dataset, keyword: str) -> int | None:
    """Compute the first number of an element as an integer; None where it is missing or malformed."""
    value = number(dataset, keyword)
    return None if value is None else int(value)


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Compute exactly ``count`` numbers; None where they are missing or malformed."""
    try:
        value = dataset.get(keyword)
        found = tuple(float(part) for part in value) if value is not None else ()
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def text(dataset: Dataset, keyword: str) -> str:
    """Return the first text of an element, empty where it is missing."""
    value = _first(dataset, keyword)
    return "" if value is None else str(value).strip()


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return all texts of an element, in capitals and without empty ones."""
    value = _value(dataset, keyword)
    values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return tuple(str(part).strip().upper() for part in values if part not in (None, ""))


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence, none where it is missing."""
    value = _value(dataset, keyword)
    return [] if value is None else list(value)


def _first(dataset: Dataset, keyword: str) -> Any:
    value = _value(dataset, keyword)
    if isinstance(value, MultiValue):
        return value[0] if len(value) else None
    return value


def _value(dataset: Dataset, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except (TypeError, ValueError):
        # pydicom interprets an element when it is asked for, and a scanner may have written anything into it.
        return None
