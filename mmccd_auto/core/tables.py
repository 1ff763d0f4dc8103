"""Tables for people and spreadsheets: the one writer of CSV files."""

from __future__ import annotations

import csv
import numbers
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmccd_auto.core.files import atomic_path

_FORMULA_STARTS = "=+-@＝＋－＠"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]], *, private: bool = False) -> None:
    """Write a table as CSV (UTF-8, commas, a header line), atomically.

    No text becomes a formula in a spreadsheet: where one begins with = + - or @, as the whole cell or after a semicolon
    (at which spreadsheets of some languages divide), an apostrophe stands before it. No text divides a row: line ends and
    other control characters become spaces. Bytes of a file name that are no text are written as their escapes.

    Parameters
    ----------
    path : of the file
    header : names of the columns
    rows : cells; None is written as an empty cell, numbers as numbers
    private : only the owner may read the file, from its first byte on

    Raises
    ------
    MMCCDError
        If the file can't be written.
    ValueError
        If a row has another number of cells than the header.
    """
    with atomic_path(path, private) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([as_cell(name) for name in header])
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(header)} columns")
            writer.writerow([as_cell(value) for value in row])


def write_tsv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as BIDS has them (UTF-8, tabs, a header line, ``n/a`` for what isn't known), atomically.

    Cells are those of :func:`write_csv`.

    Raises
    ------
    MMCCDError
        If the file can't be written.
    ValueError
        If a row has another number of cells than the header.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        file.write("\t".join(header) + "\n")
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(header)} columns")
            file.write("\t".join(as_cell(value) or "n/a" for value in row) + "\n")


def as_cell(value: Any) -> str:
    """Give the text of a cell as :func:`write_csv` writes it, before quoting."""
    if value is None:
        return ""
    if isinstance(value, numbers.Number):
        return str(value)
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return ";".join(_without_formula(part) for part in _CONTROLS.sub(" ", text).split(";"))


def _without_formula(text: str) -> str:
    bare = text.strip()
    if not bare or bare[0] not in _FORMULA_STARTS or _NUMBER.fullmatch(bare):
        return text
    place = text.index(bare[0])
    return f"{text[:place]}'{text[place:]}"
