"""Ages as people write them into participants.tsv."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.sources.bids.participants import Ages, read_ages


def ages(root: Path, content: str | bytes, columns: dict | None = None) -> Ages:
    (root / "participants.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    if columns is not None:
        (root / "participants.json").write_text(json.dumps(columns))
    return read_ages(root)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_tables_of_any_editor_are_read(tmp_path, encoding, line_end):
    text = line_end.join(["participant_id\tsex\tage\tcentre", "sub-01\tF\t71\tK\u00f6ln", "sub-02\tM\t64.5\tBern", "", ""])
    assert ages(tmp_path, text.encode(encoding)).people == {"sub-01": 71.0, "sub-02": 64.5}


@pytest.mark.parametrize(
    ("written", "age", "told"),
    [
        ("71", 71.0, None),
        ("0", 0.0, None),
        (" 71.25 ", 71.25, None),
        ('"71"', 71.0, None),
        ("71,5", 71.5, None),
        ("071Y", 71.0, None),
        ("71 years", 71.0, None),
        ("90+", 90.0, "1 age given as a lower bound (90+): taken as that number."),
        ("89 +", 89.0, "1 age given as a lower bound (90+): taken as that number."),
        (">=90", 90.0, "1 age given as a lower bound (90+): taken as that number."),
        ("20-25", 22.5, "1 age given as a range (20-25): its middle is taken."),
        ("n/a", None, "1 age in participants.tsv given as n/a or empty: left out."),
        ("NaN", None, "1 age in participants.tsv given as n/a or empty: left out."),
        ("", None, "1 age in participants.tsv given as n/a or empty: left out."),
        ("adult", None, "1 age written as no number of years: left out."),
        ("-5", None, "1 age written as no number of years: left out."),
        ("1e3", None, "1 age written as no number of years: left out."),
        ("\u0667\u0661", 71.0, None),
        ("1000", None, "1 age written as no number of years: left out."),
        ("150", None, "1 age of more than 120 years: left out."),
    ],
)
def test_ages_as_people_write_them(tmp_path, written, age, told):
    found = ages(tmp_path, f"participant_id\tage\nsub-01\t{written}\n")
    assert found.of("sub-01") == age
    assert found.notes == (() if told is None else (told,))


def test_people_are_found_without_prefix_and_whatever_the_capitals(tmp_path):
    found = ages(tmp_path, "Participant_ID\tAge\nAB1\t30\nSUB-ab2\t31\n")
    assert (found.of("sub-ab1"), found.of("sub-AB2", "ses-1"), found.of("sub-x")) == (30.0, 31.0, None)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("participant_id\tsex\nsub-01\tF\n", "participants.tsv has no column age"),
        ("participant_id,age\nsub-01,71\n", "participants.tsv has no column participant_id (columns are parted by tabs)"),
        ("", "participants.tsv has no column participant_id"),
    ],
)
def test_a_table_without_ages_is_told(tmp_path, content, note):
    found = ages(tmp_path, content)
    assert found.people == {}
    assert found.notes[0].startswith(note)


def test_no_table_tells_no_ages(tmp_path):
    assert read_ages(tmp_path) == Ages()


def test_short_and_long_rows_are_read(tmp_path):
    found = ages(tmp_path, "participant_id\tage\tsex\nsub-01\nsub-02\t40\nsub-03\t41\tF\tmore\n")
    assert found.people == {"sub-02": 40.0, "sub-03": 41.0}


@pytest.mark.parametrize(
    ("units", "age"), [("years", 36.0), ("months", 3.0), ("Month", 3.0), ("weeks", 0.69), ("odd", 36.0)]
)
def test_units_of_the_column_are_obeyed(tmp_path, units, age):
    assert ages(tmp_path, "participant_id\tage\nsub-01\t36\n", {"age": {"Units": units}}).of("sub-01") == age


def test_visits_have_ages_of_their_own(tmp_path):
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_text("session_id\tage\nses-2\t73\nses-3\tn/a\n")
    found = ages(tmp_path, "participant_id\tage\nsub-01\t71\n")
    assert [found.of("sub-01", session) for session in ("ses-1", "ses-2", "ses-3")] == [71.0, 73.0, 71.0]


def test_rows_of_sessions_and_rows_that_differ(tmp_path):
    text = "participant_id\tsession_id\tage\nsub-01\tses-1\t70\nsub-01\t2\t71\nsub-02\tn/a\t50\nsub-02\tn/a\t51\n"
    found = ages(tmp_path, text)
    assert [found.of("sub-01", "ses-1"), found.of("sub-01", "ses-2"), found.of("sub-02")] == [70.0, 71.0, None]
    assert found.notes == ("1 age of one person in several rows that differ: none is used.",)


def test_a_broken_table_of_columns_is_an_error(tmp_path):
    (tmp_path / "participants.json").write_text("[")
    with pytest.raises(MMCCDError, match=r"participants\.json is not valid JSON"):
        ages(tmp_path, "participant_id\tage\nsub-01\t36\n")
