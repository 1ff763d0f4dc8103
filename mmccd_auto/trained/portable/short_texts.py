"""Texts in files from elsewhere: short, and without characters that steer a terminal."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Predicate

from mmccd_auto.core.records import Expected

LONGEST_SHORT, LONGEST = 300, 8000


def is_plain(text: str) -> bool:
    """Check whether every character of a text can be printed; line ends are allowed."""
    return all(letter.isprintable() or letter == "\n" for letter in text)


ShortText = Annotated[
    str,
    Predicate(lambda value: len(value) <= LONGEST_SHORT and value.isprintable()),
    Expected(f"a text of at most {LONGEST_SHORT} printable characters"),
]
LongText = Annotated[
    str,
    Predicate(lambda value: len(value) <= LONGEST and is_plain(value)),
    Expected(f"a text of at most {LONGEST} printable characters"),
]
