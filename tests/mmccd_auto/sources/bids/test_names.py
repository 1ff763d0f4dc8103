"""Names of BIDS, taken apart and put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmccd_auto.sources.bids.names import ORDER, joined, parse_name

LABELS = st.text("abcXYZ0189", min_size=1, max_size=6)
ENTITIES = st.dictionaries(st.sampled_from([key for key in ORDER if key != "sub"]), LABELS, max_size=6)


@given(LABELS, ENTITIES, st.sampled_from(["T1w", "FLAIR", "mask"]), st.sampled_from([".nii.gz", ".nii", ".json", ".tsv"]))
def test_what_is_put_together_is_taken_apart(label: str, others: dict[str, str], suffix: str, ending: str) -> None:
    entities = {"sub": label, **others}
    name = parse_name(f"{joined(entities)}_{suffix}{ending}")
    assert (dict(name.entities), name.suffix, name.ending) == (entities, suffix, ending)
    assert [ORDER.index(key) for key in name.entities] == sorted(ORDER.index(key) for key in entities)


@given(st.text(max_size=40))
def test_any_name_is_read_or_is_none_of_bids(text: str) -> None:
    name = parse_name(text)
    assert name is None or text.lower().startswith("sub-")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "T1w.nii.gz",
        "sub-01.nii.gz",
        "sub-01_ses-1",
        "sub-01_sub-02_T1w.nii.gz",
        "ses-1_sub-01_T1w.nii.gz",
        "sub-_T1w.nii",
    ]
    + ["sub-01_T1w.nii.gz.part_", "sub-01__T1w.nii.gz", "sub-01_run_T1w.nii.gz", "../sub-01_T1w.nii.gz", "sub-../x_T1w.nii"],
)
def test_what_is_no_name_of_bids(text: str) -> None:
    assert parse_name(text) is None


def test_labels_that_bids_forbids_and_people_use_are_read() -> None:
    name = parse_name("sub-OAS3-0001.b_ses-d0129_run-2_T1w.nii.gz")
    assert (name.visit, name.run, name.variant) == ("sub-OAS3-0001.b_ses-d0129", (2, "2"), "")
