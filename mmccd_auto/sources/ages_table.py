"""The ages of people by a table of the user's: CSV or TSV with a column of names and one of ages."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.ages import OLDEST

AGE_COLUMN = "age"
LARGEST_TABLE = 64 * 2**20


def read_ages_table(path: str | Path, names: Iterable[str]) -> dict[str, float]:
    """Read the ages of cases or people from a table.

    The column of ages is called "age" (or begins so: "age_years"); whichever other column holds a name says whose it is.
    Capitals count for nothing. Rows of others, and cells that are no age, are passed by.

    Parameters
    ----------
    path : of the table, with a header line; separated by commas, semicolons or tabs
    names : to look for

    Returns
    -------
    years by name, of those that are found; the first row of each counts

    Raises
    ------
    MMCCDError
        If the table can't be read, has no column of ages, or names nobody.
    """
    path = Path(path)
    header, *rows = _rows(path)
    columns = [place for place, cell in enumerate(header) if cell.strip().lower().startswith(AGE_COLUMN)]
    if not columns:
        raise MMCCDError(f'{path} has no column "{AGE_COLUMN}" ({", ".join(header)}): name the column of ages so.')
    wanted = {name.lower(): name for name in names}
    found: dict[str, float] = {}
    for row in rows:
        age = _age(row[columns[0]]) if len(row) > columns[0] else None
        for cell in (*row[: columns[0]], *row[columns[0] + 1 :]):
            name = wanted.get(cell.strip().lower())
            if name is not None and age is not None:
                found.setdefault(name, age)
    if not found:
        raise MMCCDError(f"{path} tells nobody's age: its rows must name the cases, {', '.join(list(wanted.values())[:3])}.")
    return found


def _rows(path: Path) -> list[list[str]]:
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise MMCCDError(f"{path} is larger than {LARGEST_TABLE // 2**20} MiB: give a table of names and ages.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MMCCDError(f"{path} can't be read as a table ({error}): give a CSV or TSV file in UTF-8.") from error
    separator = max("\t;,", key=text.partition("\n")[0].count)
    rows = list(csv.reader(io.StringIO(text), delimiter=separator))
    if not rows:
        raise MMCCDError(f"{path} is empty: give a table with a header line, names and ages.")
    return rows


def _age(cell: str) -> float | None:
    try:
        value = float(cell.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value <= OLDEST else None
