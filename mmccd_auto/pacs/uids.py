"""Unique identifiers (UIDs) from outside, checked before they become names of files or parts of addresses."""

from __future__ import annotations

import re
from typing import Annotated

from annotated_types import Predicate

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import Expected

LONGEST_UID = 64
# Leading zeros are against the standard, and do no harm; full stops stand between digits only, so that none leads elsewhere.
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def is_uid(text: object) -> bool:
    """Whether a value is a UID: digits with single full stops between them, at most 64 letters."""
    return isinstance(text, str) and len(text) <= LONGEST_UID and _UID.fullmatch(text) is not None


def checked_uid(value: object, what: str) -> str:
    """Return a UID as text.

    Parameters
    ----------
    value : from outside
    what : it is the number of ("study"), for the sentence; the value itself isn't repeated, since it may be anything

    Raises
    ------
    MMCCDError
        If it is none.
    """
    text = "" if value is None else str(value).rstrip("\0 ")
    if not is_uid(text):
        raise MMCCDError(f"The {what}'s UID is missing or malformed: export it again, or correct it in the archive.")
    return text


Uid = Annotated[str, Predicate(is_uid), Expected("a UID: digits with full stops between them, at most 64 letters")]
