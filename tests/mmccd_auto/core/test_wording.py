"""Counted things and joined sentences."""

from __future__ import annotations

from mmccd_auto.core.wording import clauses, counted, listed, sentences


def test_one_thing_has_no_s():
    assert [counted(number, "step") for number in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
    assert counted(2, "person", "people") == "2 people"
    assert counted(1, "person", "people") == "1 person"


def test_things_are_named():
    assert listed(["0"], "fold") == "fold 0"
    assert listed(["0", "all"], "fold") == "folds 0, all"


def test_sentences_are_joined_by_one_mark():
    told = ["The brain is small (820 ml): look at the mask.", "", "the pixels are 1 mm apart"]
    assert clauses(told) == "The brain is small (820 ml): look at the mask; the pixels are 1 mm apart"
    assert sentences(told) == "The brain is small (820 ml): look at the mask. The pixels are 1 mm apart."
