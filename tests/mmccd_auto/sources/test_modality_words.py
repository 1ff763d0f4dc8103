"""The modality in the words of a name: the last one that gives it, and what makes it doubtful."""

from __future__ import annotations

import pytest

from mmccd_auto.sources.modality_words import has_agent_words, tell_modality
from mmccd_auto.sources.series_table import left_out_row, table_text


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("p1_flair", "FLAIR"),
        ("p1_T2_FLAIR", "FLAIR"),
        ("T2FLAIR", "FLAIR"),
        ("3DT1", "T1"),
        ("p1_t1_mprage_sag", "T1"),
        ("T1_visit_T2w", "T2"),
        ("p1_t1ce", "T1C"),
        ("p1_T1_post_gd", "T1C"),
        ("p1_T1_pre_gd", "T1"),
        ("t2_star", "T2STAR"),
        ("rest_bold", "bold"),
        ("scan", None),
    ],
)
def test_the_words_of_a_name(name: str, modality: str | None) -> None:
    assert tell_modality(name).modality == modality


@pytest.mark.parametrize("name", ["p1_flair_seg", "flair_lesionmask", "T1_brainmask"])
def test_labels_and_masks_are_no_scans(name: str) -> None:
    assert tell_modality(name).mask


@pytest.mark.parametrize(("text", "agent"), [("postgd", True), ("ceMPRAGE", True), ("without gd", False), ("mprage", False)])
def test_only_words_of_an_agent_name_one(text: str, agent: bool) -> None:
    assert has_agent_words(text) == agent


def test_the_table_has_a_row_a_file_in_aligned_columns() -> None:
    titles, *rows = table_text([left_out_row("a.nii.gz", "no scan"), left_out_row("longer.nii.gz", "a mask")]).splitlines()
    assert len(rows) == 2
    assert {line.index("left out") for line in rows} == {titles.index("kind")}
    assert [line.rsplit("  ", 1)[-1] for line in rows] == ["no scan", "a mask"]
