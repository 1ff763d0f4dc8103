"""Options of mmccd_pacs that don't belong together end with a sentence before anything is loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmccd_auto.cli.commands import pacs as command
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.pacs.rules import StudyRules, parse_day, parse_match

WEB = ("--dicomweb", "https://127.0.0.1:1/dicom-web")
LISTEN = ("--listen", "127.0.0.1:11112", "--from_aets", "SCANNER", "--send_to", "PACS@127.0.0.1:104")


def run(tmp_path: Path, *arguments: str) -> int:
    return command._command(["--state", str(tmp_path / "state"), *arguments])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "needs one of --dicomweb"),
        ((*WEB, *LISTEN), "needs one of --dicomweb"),
        (LISTEN[:4], r"needs --from_aets \(who may send\) and --send_to"),
        ((*LISTEN[:2], *LISTEN[4:]), "needs --from_aets"),
        ((*LISTEN, "--ca_file", "x.pem"), "give the other one"),
        ((*LISTEN, "--once"), "a listener waits for what comes"),
        ((*WEB, "--user", "u"), "needs a password"),
        ((*WEB, "--user", "u", "--password_file", "nowhere"), "can't be read"),
        ((*WEB, "--client_key", __file__), "--client_key needs --client_cert"),
        ((*LISTEN, "--client_key", __file__), "--client_key needs --client_cert"),
        ((*LISTEN, "--match", "StudyDescription=*HEAD*"), "--match has no effect with --listen"),
        ((*LISTEN, "--days", "3"), "--days has no effect with --listen"),
        ((*WEB, *LISTEN[2:4]), "--from_aets has no effect with --dicomweb"),
        ((*WEB, "--password_file", "nowhere"), "--password_file needs --user"),
        (("--dicomweb", "http://127.0.0.1:1/dicom-web", "--ca_file", "x.pem"), "give an address with https"),
        ((*WEB, "--brain_masks", "folder"), "--brain_masks can't be given here"),
    ],
)
def test_options_that_do_not_belong_together(arguments: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MMCCD_PACS_PASSWORD", raising=False)
    with pytest.raises(MMCCDError, match=expected):
        run(tmp_path, *arguments)
    assert not (tmp_path / "state").exists()


def test_an_empty_password_is_none(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    with pytest.raises(MMCCDError, match="is empty: write the password into its first line"):
        run(tmp_path, *WEB, "--user", "u", "--password_file", str(tmp_path / "password"))


def test_there_is_no_option_that_shows_a_password(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        command._command(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "--password_file FILE" in told
    assert "--password " not in told


@pytest.mark.parametrize(("package", "where"), [("dicomweb_client", WEB), ("pynetdicom", LISTEN)])
def test_a_missing_extra_is_told_of(package: str, where: tuple[str, ...], tmp_path: Path, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("mmccd_auto.pacs.d", package))]:
        if not name.endswith("access"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MMCCDError, match=rf"needs {package}.*: pip install 'mmccd_auto\[pacs\]'"):
        run(tmp_path, *where)


@pytest.mark.parametrize(
    "text", ["", "x", "Nothing=1", "StudyDescription=", "StudyDescription=a\\b", "StudyDate=" + "1" * 65]
)
def test_attributes_that_cannot_be_searched_for(text: str) -> None:
    with pytest.raises(MMCCDError, match="--match"):
        parse_match(text)


@pytest.mark.parametrize("text", ["2026-01-01", "20261301", "today", "", "٢٠٢٦٠١٠١"])
def test_days_that_are_none(text: str) -> None:
    with pytest.raises(MMCCDError, match="give a day as YYYYMMDD"):
        parse_day(text)


@pytest.mark.parametrize(
    ("modality", "part", "wanted"),
    [("MR", "", True), ("MR", "BRAIN", True), ("mr ", "HeadNeck", True), ("MR", "KNEE", False), ("CT", "HEAD", False)],
)
def test_series_of_the_head_are_wanted(modality: str, part: str, wanted: bool) -> None:
    assert StudyRules().wants_series(modality, part) is wanted
    assert StudyRules(body_parts=()).wants_series(modality, part) is (modality != "CT")
