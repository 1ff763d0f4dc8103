"""Elements of a header: malformed ones count as missing."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from mmccd_auto.dicom.files.elements import items, number, numbers, text, texts, whole_number


def header(**elements: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(("value", "found"), [("8.5", 8.5), (["3", "4"], 3.0), (None, None), ("", None)])
def test_the_first_number_counts(value: Any, found: float | None) -> None:
    assert number(header(EchoTime=value), "EchoTime") == found
    assert whole_number(header(EchoTime=value), "EchoTime") == (None if found is None else int(found))
    assert number(Dataset(), "EchoTime") is None


@pytest.mark.parametrize(
    ("value", "found"),
    [(["1", "0", "0", "0", "1", "0"], (1, 0, 0, 0, 1, 0)), (["1", "0"], None), (None, None)],
)
def test_numbers_come_all_or_not_at_all(value: Any, found: tuple[float, ...] | None) -> None:
    assert numbers(header(ImageOrientationPatient=value), "ImageOrientationPatient", 6) == found


def test_texts_are_stripped_and_the_empty_ones_left_out() -> None:
    dataset = header(ImageType=["ORIGINAL", "", "PRIMARY "], SeriesDescription=" t1 mprage ")
    assert texts(dataset, "ImageType") == ("ORIGINAL", "PRIMARY")
    assert text(dataset, "SeriesDescription") == "t1 mprage"
    assert text(dataset, "ProtocolName") == ""
    assert texts(dataset, "ScanOptions") == ()


def test_items_of_a_sequence_that_is_missing_are_none() -> None:
    inner = header(EchoTime="1")
    dataset = header(ReferencedImageSequence=[inner])
    assert [number(one, "EchoTime") for one in items(dataset, "ReferencedImageSequence")] == [1.0]
    assert items(dataset, "ReferencedSeriesSequence") == []
