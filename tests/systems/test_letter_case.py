"""Disks that take capitals and small letters for one: the usual ones of macOS and Windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets import letter_case
from mmccd_auto.datasets.letter_case import check_apart, distinguishes_capitals


def test_this_disk_is_told_by_what_it_does(tmp_path: Path) -> None:
    folder = tmp_path / "Preprocessed"
    folder.mkdir()
    (folder / "a").touch()
    assert distinguishes_capitals(folder) == (not (folder / "A").exists())


def test_the_same_folder_under_another_spelling_is_such_a_disk(tmp_path: Path) -> None:
    """A link stands in for what such a disk finds under the other spelling; a neighbour that is called so doesn't."""
    folder, other = tmp_path / "Preprocessed", tmp_path / "pREPROCESSED"
    folder.mkdir()
    if other.exists():
        pytest.skip("the disk of the temporary folder is one of these")
    other.mkdir()
    assert distinguishes_capitals(folder)
    other.rmdir()
    other.symlink_to(folder)
    assert not distinguishes_capitals(folder)


@pytest.mark.parametrize("names", [("Case_1", "case_1"), ("s\u00e4ge", "sa\u0308ge"), ("b", "a", "A")])
def test_cases_that_would_overwrite_one_another_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    check_apart(names, tmp_path)
    monkeypatch.setattr(letter_case, "distinguishes_capitals", lambda folder: False)
    with pytest.raises(MMCCDError, match=f"{min(names[-2:])} and .*choose a folder on another disk"):
        check_apart(names, tmp_path)
    check_apart(names[:1], tmp_path)
