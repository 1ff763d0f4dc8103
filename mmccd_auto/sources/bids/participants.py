"""The ages of the people of a BIDS dataset: participants.tsv, and sessions.tsv where a visit has an age of its own."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.strict_json import read_json_bytes
from mmccd_auto.core.wording import counted
from mmccd_auto.datasets.ages import OLDEST

PARTICIPANTS_FILE, COLUMNS_FILE = "participants.tsv", "participants.json"
PERSON_COLUMN, SESSION_COLUMN, AGE_COLUMN = "participant_id", "session_id", "age"
LARGEST_TABLE = 64 * 2**20
_UNITS = {"year": 1.0, "month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25}
_NUMBER = r"\d{1,3}(?:[.,]\d+)?"
_AGE = re.compile(rf"0*({_NUMBER})\s*(?:y|yr|yrs|years?)?", re.IGNORECASE)
_BOUND = re.compile(rf"(?:>=?\s*({_NUMBER})|({_NUMBER})\s*\+)")
_RANGE = re.compile(rf"({_NUMBER})\s*(?:-|\u2013|to)\s*({_NUMBER})")
_NONE = frozenset(("", "n/a", "na", "nan", "none", "null", "-", "unknown"))


@dataclass(frozen=True)
class Ages:
    """How old the people of a dataset are.

    Attributes
    ----------
    people : years by person (``sub-01``)
    visits : years by person and session (``sub-01``, ``ses-2``), where a visit has an age of its own
    notes : sentences, one for each kind of age that was left out or taken otherwise than it is written
    """

    people: dict[str, float] = field(default_factory=dict)
    visits: dict[tuple[str, str], float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, person: str, session: str = "") -> float | None:
        """Give the age at a visit in years; None where it isn't known. Capitals count for nothing."""
        key = person.lower()
        return self.visits.get((key, session.lower()), self.people.get(key))


def read_ages(root: str | Path) -> Ages:
    """Read the ages of a dataset; what can't be used is reported and left out.

    Parameters
    ----------
    root : folder of the dataset

    Raises
    ------
    MMCCDError
        If a table is larger than 64 MiB or can't be opened.
    """
    root = Path(root)
    told: Counter[str] = Counter()
    found: dict[tuple[str, str], set[float]] = defaultdict(set)
    for person, session, text, unit in _rows(root, told):
        age = _age(text, told, unit)
        if age is not None:
            found[person, session].add(age)
    for ages in found.values():
        if len(ages) > 1:
            told["of one person in several rows that differ: none is used"] += 1
    single = {key: ages.pop() for key, ages in found.items() if len(ages) == 1}
    people = {person: age for (person, session), age in single.items() if not session}
    notes = [text if text.endswith(".") else f"{counted(number, 'age')} {text}." for text, number in sorted(told.items())]
    return Ages(people, {key: age for key, age in single.items() if key[1]}, tuple(notes))


def _rows(root: Path, told: Counter[str]) -> Iterator[tuple[str, str, str, float]]:
    """Yield (person, session, age as it is written, its unit in years) in small letters.

    No session where the row says none.
    """
    unit = _years_in_unit(root)
    for row in _table(root / PARTICIPANTS_FILE, told, (PERSON_COLUMN, AGE_COLUMN)):
        session = row.get(SESSION_COLUMN, "")
        session = "" if session in _NONE else _with_prefix("ses-", session)
        yield _with_prefix("sub-", row[PERSON_COLUMN]), session, row[AGE_COLUMN], unit
    for path in sorted(root.glob("[sS][uU][bB]-*/*_sessions.tsv")):
        for row in _table(path, told, (SESSION_COLUMN,)):
            if row.get(AGE_COLUMN, "") not in _NONE:
                yield path.parent.name.lower(), _with_prefix("ses-", row[SESSION_COLUMN]), row[AGE_COLUMN], 1.0


def _with_prefix(prefix: str, label: str) -> str:
    return label if label.startswith(prefix) else prefix + label


def _table(path: Path, told: Counter[str], needs: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a table by column, all in small letters.

    None where it isn't there or lacks a column (which is reported).
    """
    if not path.is_file():
        return []
    lines = [line for line in re.split(r"\r\n|\r|\n", _text(read_json_bytes(path, LARGEST_TABLE))) if line.strip()]
    header, *rows = [[cell.strip().strip('"').lower() for cell in line.split("\t")] for line in lines] or [[]]
    missing = [name for name in needs if name not in header]
    if missing:
        told[f"{path.name} has no column {missing[0]} (columns are parted by tabs), so it gives no ages."] += 1
        return []
    return [dict(zip_longest(header, row[: len(header)], fillvalue="")) for row in rows]


def _text(content: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark; what spreadsheets save as "Unicode text" is UTF-16; else Latin-1."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _years_in_unit(root: Path) -> float:
    """Count how many years the unit of the ages in participants.tsv has, as participants.json gives it.

    1 where it doesn't.
    """
    path = root / COLUMNS_FILE
    if not path.is_file():
        return 1.0
    column = {name.lower(): content for name, content in read_record(JsonObject, path).items()}.get(AGE_COLUMN)
    units = column.get("Units") if isinstance(column, Mapping) else None
    return _UNITS.get(str(units).strip().lower().rstrip("s"), 1.0)


def _age(text: str, told: Counter[str], unit: float) -> float | None:
    """Parse years; what is no plain number of them is reported."""
    if text in _NONE:
        told["in participants.tsv given as n/a or empty: left out"] += 1
        return None
    age, remark = math.nan, ""
    if found := _AGE.fullmatch(text):
        age = _number(found[1])
    elif found := _BOUND.fullmatch(text):
        age, remark = _number(found[1] or found[2]), "given as a lower bound (90+): taken as that number"
    elif found := _RANGE.fullmatch(text):
        age, remark = (_number(found[1]) + _number(found[2])) / 2, "given as a range (20-25): its middle is taken"
    if not math.isfinite(age):
        told["written as no number of years: left out"] += 1
        return None
    age *= unit
    if age > OLDEST:
        told[f"of more than {OLDEST:g} years: left out"] += 1
        return None
    if remark:
        told[remark] += 1
    return round(age, 2)


def _number(text: str) -> float:
    return float(text.replace(",", "."))
