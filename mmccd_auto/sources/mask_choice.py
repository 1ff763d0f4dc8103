"""Which of the masks in a folder is whose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MaskChoice:
    """Which mask, of lesions or of the brain, belongs to which case.

    Attributes
    ----------
    by_case : the file of each case that has one
    errors : why a case has none, in a sentence, by case
    unused : number of masks that belong to no case
    unclear : cases that have none although there are some for them: several, a shared or a damaged one
    """

    by_case: dict[str, Path]
    errors: dict[str, str]
    unused: int
    unclear: frozenset[str] = frozenset()
