"""The rule by which one of several series is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.records import SequenceFacts, Series, SliceGrid
from mmccd_auto.dicom.series.choose_series import choose_series, parse_series_option

FLAIR = SequenceFacts("FLAIR ax", "brain", echo_time=100, repetition_time=9000, inversion_time=2500, orientation="axial")
T1 = SequenceFacts("T1 ax", "brain", echo_time=10, repetition_time=500, orientation="axial")


def make(number: int, facts: SequenceFacts = FLAIR, problem: str | None = None, **grid: object) -> Series:
    """A series of 24 slices of 5 mm."""
    shape = {"size": (256, 256, 24), "spacing": (1.0, 1.0, 5.0), "origin": (0.0, 0.0, 0.0), "axes": np.eye(3)} | grid
    return Series(f"1.{number}", number, (Path("x"),), facts, problem, grid=None if problem else SliceGrid(**shape))


def used(*series: Series, wanted=("FLAIR",), **options) -> dict[str, int]:
    """Series number by modality."""
    return {row.used_as: row.number for row in choose_series(series, wanted, **options) if row.used_as}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (make(9), make(1, problem="Series 1 lacks a slice.")),
        (make(9), make(1, replace(FLAIR, image_type=("DERIVED", "PRIMARY", "MPR")))),
        (make(9), make(1, replace(FLAIR, orientation="sagittal"), spacing=(1.0, 1.0, 1.0), size=(256, 256, 180))),
        (make(9), make(1, size=(256, 256, 10))),
        (make(9, spacing=(0.5, 0.5, 5.0)), make(1)),
        (make(1), make(9)),
    ],
    ids=["usable", "original", "axial", "complete", "finer", "lower number"],
)
def test_the_better_one_is_taken_in_any_order(better: Series, worse: Series) -> None:
    assert used(better, worse) == used(worse, better) == {"FLAIR": better.number}


def test_a_t1_called_post_is_taken_where_there_is_no_other() -> None:
    before, after = (
        make(9, replace(T1, description="T1 sag", orientation="sagittal")),
        make(1, replace(T1, description="T1 POST")),
    )
    assert used(before, after, wanted=("T1",)) == {"T1": 9}
    assert used(after, wanted=("T1",)) == {"T1": 1}
    agent = make(1, replace(T1, description="T1 POST", contrast_agent=True))
    assert used(agent, wanted=("T1",)) == {}


def test_every_row_says_why() -> None:
    rows = choose_series([make(1), make(2, replace(FLAIR, orientation="coronal")), make(3, T1)], ["FLAIR"], {})
    assert [row.used_as for row in rows] == ["FLAIR", None, None]
    assert rows[0].why == "the best of 2: nearer to the axial plane"
    assert rows[1].why == "Series 1 (FLAIR ax) is better: nearer to the axial plane"
    assert rows[2].why == "T1 is not needed"


def test_spellings_of_a_modality_are_one() -> None:
    assert used(make(1), make(2, T1), wanted=("flair", "T1W")) == {"flair": 1, "T1W": 2}


def test_an_uncertain_series_is_not_taken_unasked() -> None:
    doubtful = make(
        1, replace(FLAIR, description="", protocol_name="", echo_time=100, repetition_time=700, inversion_time=None)
    )
    series = make(2, replace(doubtful.facts, description="T1"))
    assert used(series, wanted=("T2",)) == {}
    assert "too uncertain" in choose_series([series], ["T2"])[0].why
    assert used(series, wanted=("T2",), overrides={"T2": "2"}) == {"T2": 2}


@pytest.mark.parametrize("pattern", ["2", "cor flair", "COR", "c.r\\s", "special"])
def test_an_override_chooses(pattern: str) -> None:
    other = make(2, replace(FLAIR, description="cor flair", protocol_name="special", orientation="coronal"))
    assert used(make(1), other, overrides={"flair": pattern}) == {"FLAIR": 2}


def test_of_several_that_fit_an_override_the_contrast_decides() -> None:
    assert used(make(1, T1), make(2), overrides={"FLAIR": "brain"}) == {"FLAIR": 2}


def test_an_override_takes_a_series_of_another_kind_from_its_own() -> None:
    assert used(make(1, T1), wanted=("FLAIR", "T1"), overrides={"FLAIR": "1"}) == {"FLAIR": 1}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"FLAIR": "nothing"}, "no series fits the pattern, the study has series 1"),
        ({"FLAIR": "(("}, "no valid regular expression"),
        ({"PD": "1"}, "PD is not needed here"),
        ({"FLAIR": "3"}, "Series 3 is broken"),
        ({"FLAIR": "1", "T1": "1"}, "already used as FLAIR"),
    ],
)
def test_a_bad_override_is_refused(overrides: dict[str, str], sentence: str) -> None:
    with pytest.raises(MMCCDError, match=sentence):
        choose_series([make(1), make(2, T1), make(3, problem="Series 3 is broken.")], ["FLAIR", "T1"], overrides)


def test_the_option_is_taken_apart() -> None:
    assert parse_series_option("FLAIR = a=b ") == ("FLAIR", "a=b")
    for text in ("FLAIR", "FLAIR=", "=3", ""):
        with pytest.raises(MMCCDError, match="--series must look like"):
            parse_series_option(text)
