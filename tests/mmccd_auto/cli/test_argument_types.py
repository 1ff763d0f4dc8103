"""Values of options: what is taken, and what is refused before anything begins."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from mmccd_auto.cli.argument_types import fold, number, path_name, whole


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("+7", 7), ("010", 10), ("10", 10)])
def test_whole_numbers_in_plain_digits_are_taken(text: str, value: int) -> None:
    assert whole(1, 10)(text) == value


@pytest.mark.parametrize("text", ["0", "11", "1.0", "1e1", "1_0", "٣", " 3", "", "9" * 30])
def test_other_whole_numbers_are_refused_with_the_limits(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="give a whole number from 1 to 10"):
        whole(1, 10)(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), (".5", 0.5), ("1.", 1.0), ("5e-1", 0.5), ("1", 1.0)])
def test_numbers_up_to_the_limits_are_taken(text: str, value: float) -> None:
    assert number(0, 1)(text) == value


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "1.1", "0x1", "1,5", "1e", "0." + "1" * 64])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="give a number from 0 to 1"):
        number(0, 1)(text)


@pytest.mark.parametrize("text", ["0", "1"])
def test_a_limit_that_does_not_count_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="above 0 and below 1"):
        number(0, 1, above=True, below=True)(text)


@pytest.mark.parametrize("text", ["0", "3", "all"])
def test_folds_are_taken(text: str) -> None:
    assert fold(text) == text


@pytest.mark.parametrize("text", ["-1", "one", "../1", ""])
def test_what_is_no_fold_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        fold(text)


def test_a_name_that_leads_elsewhere_is_refused() -> None:
    assert path_name("plans")("mmccdPlans") == "mmccdPlans"
    with pytest.raises(ArgumentTypeError, match="plans"):
        path_name("plans")("../elsewhere")
