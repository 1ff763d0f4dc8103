"""Who of a raw dataset is healthy: what dataset.json says of it, and who may be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mmccd_auto.core.errors import MMCCDError

HEALTH_KEY = "health"
HEALTHY: Final = "healthy"
LABELLED: Final = "labelled"
UNKNOWN: Final = "unknown"
KINDS = (HEALTHY, LABELLED, UNKNOWN)


def read_health(content: Mapping[str, Any], source: str | Path) -> dict[str, str] | None:
    """Read the health of the cases from the content of dataset.json.

    Parameters
    ----------
    content : of dataset.json
    source : its path, named in errors

    Returns
    -------
    "healthy", "labelled" or "unknown" by case; None where dataset.json says nothing of it

    Raises
    ------
    MMCCDError
        If the entry isn't an object of cases and these words.
    """
    health = content.get(HEALTH_KEY)
    if health is None:
        return None
    if not isinstance(health, dict) or not all(isinstance(kind, str) and kind in KINDS for kind in health.values()):
        raise MMCCDError(
            f'{source}: {HEALTH_KEY} must be an object of cases and one of {", ".join(KINDS)}, as in {{"case1": "healthy"}}.'
        )
    return dict(health)


def health_of(health: Mapping[str, str] | None, case: str, has_label: bool) -> str:
    """Give the health of a case: what dataset.json says.

    Else labelled where there is a label, unknown where dataset.json gives it of other cases, and healthy where it gives it
    of none.
    """
    if health is not None and case in health:
        return health[case]
    if has_label:
        return LABELLED
    return HEALTHY if health is None else UNKNOWN


def describe_health(kinds: Mapping[str, str], stated: bool) -> str:
    """Say in one line who counts as healthy.

    Parameters
    ----------
    kinds : of each training case
    stated : dataset.json gives it
    """
    counts = Counter(kinds.values())
    if not stated:
        healthy = f"{_cases(counts[HEALTHY])} {_verb(counts[HEALTHY], 'count')} as healthy"
        return f"{_labelled(counts)}, {healthy}" if counts[LABELLED] else f"no labelsTr: {healthy}"
    said_healthy, unknown = counts[HEALTHY], counts[UNKNOWN]
    parts = []
    if said_healthy:
        parts.append(f"{_cases(said_healthy)} {_verb(said_healthy, 'count')} as healthy, as dataset.json says")
    if counts[LABELLED]:
        parts.append(_labelled(counts))
    if unknown:
        parts.append(f"{_cases(unknown)} of unknown health {_verb(unknown, 'train')} nothing")
    return "; ".join(parts)


def nobody_to_train_on(folder: str | Path, unknown: int) -> str:
    """Say in one sentence that a dataset holds patients without labels only."""
    return (
        f"{folder} holds no case to train on: {_cases(unknown)} {_verb(unknown, 'be')} of unknown health (patients without "
        "labels), whom training would take for healthy; add scans of healthy people (mmccd_import --healthy) or labels "
        f"(mmccd_import --labels FOLDER), or correct {HEALTH_KEY} in dataset.json."
    )


def _labelled(counts: Mapping[str, int]) -> str:
    return f"{_cases(counts[LABELLED])} {_verb(counts[LABELLED], 'have')} a label, whose slices train nothing"


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"


def _verb(count: int, verb: str) -> str:
    irregular = {"be": ("is", "are"), "have": ("has", "have")}
    single, several = irregular.get(verb, (f"{verb}s", verb))
    return single if count == 1 else several
