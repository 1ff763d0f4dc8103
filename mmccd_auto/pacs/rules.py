"""Which studies and series are worked on: magnetic resonance of the head, of the days that are asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.strict_json import shown

MR = "MR"
HEAD_WORDS = ("HEAD", "BRAIN", "SKULL", "CRAN", "CEREB", "NEURO", "KOPF", "HIRN", "TETE", "CERVEAU", "CABEZA")
ANY_BODY_PART = "any"
MATCHABLE = (
    *("StudyDescription", "AccessionNumber", "PatientID", "PatientName", "StudyInstanceUID", "StudyID"),
    "ReferringPhysicianName",
)
_LONGEST_PATTERN = 64


@dataclass(frozen=True)
class StudyRules:
    """What is wanted.

    Attributes
    ----------
    days : studies of today and of so many days before
    since : YYYYMMDD, instead of ``days``; None for none
    match : value by attribute of the study, with * and ? as the archive understands them
    body_parts : a series is of the head where its body part holds one of these words, in capitals, or is not told; empty
        takes every body part
    """

    days: int = 1
    since: str | None = None
    match: Mapping[str, str] = field(default_factory=dict)
    body_parts: tuple[str, ...] = HEAD_WORDS

    def first_day(self) -> str:
        """YYYYMMDD."""
        return self.since or (date.today() - timedelta(days=self.days)).strftime("%Y%m%d")

    def wants_series(self, modality: str, body_part: str) -> bool:
        """Whether a series is worked on, by what its header or the archive says of it."""
        if modality.strip().upper() != MR:
            return False
        part = body_part.strip().upper()
        return not part or not self.body_parts or any(word in part for word in self.body_parts)


def parse_match(text: str) -> tuple[str, str]:
    """Take ``StudyDescription=*HEAD*`` apart.

    Raises
    ------
    MMCCDError
        If the attribute is none of a study, or the value is empty or too long.
    """
    name, _, value = (part.strip() for part in text.partition("="))
    if name not in MATCHABLE:
        raise MMCCDError(f"--match {shown(text)}: {shown(name)} can't be searched for: give one of {', '.join(MATCHABLE)}.")
    if not value or len(value) > _LONGEST_PATTERN or not value.isprintable() or "\\" in value:
        raise MMCCDError(f"--match {shown(text)}: give a value of 1 to {_LONGEST_PATTERN} letters without a backslash.")
    return name, value


def parse_day(text: str) -> str:
    """Check a day, YYYYMMDD.

    Raises
    ------
    MMCCDError
        If it is none.
    """
    try:
        if not re.fullmatch(r"[0-9]{8}", text):
            raise ValueError
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError as error:
        raise MMCCDError(f"--since {shown(text)}: give a day as YYYYMMDD.") from error
    return text
