"""Names that become paths, and folders that are removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.names import check_fold, check_path_name, is_fold

KINDS = ("plans", "trainer", "configuration", "modality", "dataset", "case", "model")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", "../x", "a/b", "/etc", "a\\b", "..\\x", "C:x", ".hidden", "x.", "x ", " x"),
        *("a\nb", "a\x00b", "a\x7fb", "a\u2028b", "\ud800", "x" * 300, "é" * 125, "CON", "nul", "com1.txt", "a*b", 'a"b'),
    ],
)
def test_names_that_lead_elsewhere_or_nowhere_are_refused(kind: str, name: str) -> None:
    with pytest.raises(MMCCDError, match=r"^plans\.json: plans_name: the name ") as error:
        check_path_name(kind, name, "plans.json: plans_name")
    str(error.value).encode("utf-8")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["mmccdPlans", "a_b", "FLAIR-T1", "T1+C", "x.y", "Müller", "console", "1"])
@pytest.mark.parametrize("kind", KINDS)
def test_plain_names_are_let_through(kind: str, name: str) -> None:
    assert check_path_name(kind, name, "-p") == name


def test_what_separates_the_parts_of_a_model_folder_is_in_none_of_them() -> None:
    for kind in ("plans", "trainer", "configuration", "modality"):
        with pytest.raises(MMCCDError, match="separates trainer, plans and configuration"):
            check_path_name(kind, "a__b", "-p")
    with pytest.raises(MMCCDError, match="runs into the separator"):
        check_path_name("plans", "a_", "-p")
    assert check_path_name("case", "sub-01__ses-2", "case") == "sub-01__ses-2"
    assert check_path_name("model", "T__P__A-B", "-m") == "T__P__A-B"


@pytest.mark.parametrize("fold", ["0", "4", "10", "999", "all", 0, 7])
def test_folds(fold: int | str) -> None:
    assert check_fold(fold, "FOLD") == str(fold)


@pytest.mark.parametrize(
    "fold", ["00", "01", "\u0663", "\u00b2", "-1", "+1", "1.0", "1e3", "", " 1", "ALL", "1000", "../0", True, -1]
)
def test_folds_are_plain_digits(fold: object) -> None:
    assert not is_fold(str(fold))
    with pytest.raises(MMCCDError, match=r"^FOLD: .* is no fold: give 0, 1, 2, \.\.\. or all\.$"):
        check_fold(fold, "FOLD")


def test_folders_are_removed_below_their_own_folder_only(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    for folder in (home / "a" / "b", outside / "keep"):
        folder.mkdir(parents=True)
    (home / "link").symlink_to(outside)
    remove_folder(home / "none", home)
    remove_folder(home / "a", home)
    assert not (home / "a").exists()
    for folder in (home / "..", home / ".." / "outside", home, outside, home / "link", home / "link" / "keep"):
        with pytest.raises(MMCCDError, match="is not removed, because it is a link or lies outside"):
            remove_folder(folder, home)
    assert (outside / "keep").is_dir()
