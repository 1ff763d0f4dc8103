"""CSV files that neither become formulas nor fall into more rows than they have."""

from __future__ import annotations

import csv
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.tables import as_cell, write_csv, write_tsv


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+49 89 1", "'+49 89 1"),
        ("-t2", "'-t2"),
        ("-", "'-"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", " '=1+1"),
        ("\r=1+1", " '=1+1"),
        ("  =1", "  '=1"),
        ("＝1+1", "'＝1+1"),
        ("a;=1+1", "a;'=1+1"),
        ("origin (0, -3, 0); -3.5", "origin (0, -3, 0); -3.5"),
        ("-1.5", "-1.5"),
        ("+2e-3", "+2e-3"),
        ("a - b = c", "a - b = c"),
        ("", ""),
    ],
)
def test_no_text_becomes_a_formula_and_numbers_stay(text: str, cell: str) -> None:
    assert as_cell(text) == cell


def test_numbers_and_nothing() -> None:
    assert [as_cell(value) for value in (-1.5, -3, np.float32(0.5), np.int64(-2), None, True)] == [
        "-1.5",
        "-3",
        "0.5",
        "-2",
        "",
        "True",
    ]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\u2028", "\x85", "\x0b", "\x0c", "\x00"])
def test_a_line_end_in_a_name_divides_no_row(tmp_path: Path, end: str) -> None:
    write_csv(tmp_path / "a.csv", ("case", "reason"), [(f"one{end}two", 'says "no", twice'), ("b", "")])
    assert read(tmp_path / "a.csv") == [["case", "reason"], ["one two", 'says "no", twice'], ["b", ""]]
    assert len((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_names_that_are_no_text_are_written_as_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"Jos\xe9")
    write_csv(tmp_path / "a.csv", ("case",), [(name,), ("José",)])
    assert read(tmp_path / "a.csv")[1:] == [[r"Jos\udce9"], ["José"]]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_private_table_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "link.csv"
    path.write_text("an earlier one")
    path.chmod(0o644)
    seen: list[int] = []

    def rows():
        for file in tmp_path.iterdir():
            if file != path:
                seen.append(stat.S_IMODE(file.stat().st_mode))
        yield ("a",)

    before = os.umask(0)
    try:
        write_csv(path, ("case",), rows(), private=True)
    finally:
        os.umask(before)
    assert seen == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path) == [["case"], ["a"]]


def test_a_table_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("case",), [("a",)])
    with pytest.raises(ValueError, match="2 cells"):
        write_csv(tmp_path / "a.csv", ("case",), [("b",), ("c", "d")])
    assert read(tmp_path / "a.csv") == [["case"], ["a"]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    (tmp_path / "file").touch()
    with pytest.raises(MMCCDError, match="could not be written"):
        write_csv(tmp_path / "file" / "a.csv", ("case",), [])


def test_tables_of_bids_have_tabs_and_say_what_is_not_known(tmp_path: Path) -> None:
    write_tsv(
        tmp_path / "a.tsv",
        ("participant_id", "place", "ml"),
        [("sub-01", "a\tb\nc", 1.5), ("sub-02", None, 0), ("=x", "", 2)],
    )
    text = (tmp_path / "a.tsv").read_text()
    assert text == "participant_id\tplace\tml\nsub-01\ta b c\t1.5\nsub-02\tn/a\t0\n'=x\tn/a\t2\n"
    with pytest.raises(ValueError, match="2 cells in a table of 1"):
        write_tsv(tmp_path / "a.tsv", ("one",), [("a", "b")])
    assert (tmp_path / "a.tsv").read_text() == text
