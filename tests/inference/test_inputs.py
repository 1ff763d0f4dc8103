"""Which files of a folder become which cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.sources.inputs import InputListing, discover_cases

MODALITIES = ("FLAIR", "T1", "T1C")


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def found(folder: Path, modality: str = "FLAIR") -> InputListing:
    return discover_cases(folder, modality, MODALITIES)


@pytest.mark.parametrize(
    ("modality", "names", "expected"),
    [
        ("FLAIR", ["BraTS2021_00006_0000.nii.gz"], {"BraTS2021_00006": "BraTS2021_00006_0000.nii.gz"}),
        ("T1", ["p_0000.nii.gz", "p_0001.nii.gz", "p_0002.nii.gz"], {"p": "p_0001.nii.gz"}),
        (
            "FLAIR",
            ["scan1.nii.gz", "scan2.nii", "other.mha"],
            {"scan1": "scan1.nii.gz", "scan2": "scan2.nii", "other": "other.mha"},
        ),
        ("FLAIR", ["p1_flair.nii.gz", "p1_t1.nii.gz", "p1_t2.nii.gz", "p1_t1ce.nii.gz"], {"p1": "p1_flair.nii.gz"}),
        ("T1C", ["p1_t1.nii.gz", "p1_t1ce.nii.gz"], {"p1": "p1_t1ce.nii.gz"}),
        ("T1", ["p1_t1.nii.gz", "p1_t1ce.nii.gz"], {"p1": "p1_t1.nii.gz"}),
        (
            "FLAIR",
            ["p1/flair.nii.gz", "p1/t1.nii.gz", "p2/flair.nii.gz"],
            {"p1": "p1/flair.nii.gz", "p2": "p2/flair.nii.gz"},
        ),
        ("FLAIR", ["p1.nii.gz", "p1_seg.nii.gz", "p1_mask.nii.gz", "p1_anomaly.nii.gz"], {"p1": "p1.nii.gz"}),
        ("FLAIR", ["p1_0000.nii.gz", "._p1_0000.nii.gz", "notes.txt", "p1.json"], {"p1": "p1_0000.nii.gz"}),
        (
            "FLAIR",
            ["scan_2021.nii.gz", "scan_2022.nii.gz"],
            {"scan_2021": "scan_2021.nii.gz", "scan_2022": "scan_2022.nii.gz"},
        ),
        ("FLAIR", ["a/s.nii.gz", "b/s.nii.gz"], {"a_s": "a/s.nii.gz", "b_s": "b/s.nii.gz"}),
        ("FLAIR", ["sub-1_T2-FLAIR.nii.gz", "sub-1_T1w.nii.gz"], {"sub-1": "sub-1_T2-FLAIR.nii.gz"}),
    ],
)
def test_names_that_can_be_read(tmp_path, modality, names, expected):
    listing = found(make(tmp_path, *names), modality)
    assert [case.error for case in listing.cases] == [None] * len(expected)
    assert {case.case: str(case.file.relative_to(tmp_path)) for case in listing.cases} == expected


def test_a_case_without_the_input_modality_is_told_what_to_add(tmp_path):
    listing = found(make(tmp_path, "a_0000.nii.gz", "b_0001.nii.gz"))
    cases = {case.case: case for case in listing.cases}
    assert cases["a"].error is None
    assert cases["b"].file is None
    assert "b has no FLAIR" in cases["b"].error
    assert "b_0000.nii.gz" in cases["b"].error
    assert "b_0001.nii.gz (T1)" in cases["b"].error


@pytest.mark.parametrize(
    "names", [["p1_flair_a.nii.gz", "p1_a_flair.nii.gz"], ["p1_flair.nii.gz", "p1_flair.nii"], ["p1.nii.gz", "p1.nrrd"]]
)
def test_two_files_that_may_be_the_scan_are_told_together(tmp_path, names):
    errors = [case.error for case in found(make(tmp_path, *names)).cases if case.error]
    if names[0] == "p1_flair_a.nii.gz":
        assert errors == [
            "p1_a has several files that may be its FLAIR, p1_a_flair.nii.gz, p1_flair_a.nii.gz: leave only one of them."
        ]
    else:
        assert len(errors) == 1
        assert all(name in errors[0] for name in names)


def test_a_file_that_tells_no_modality_among_files_that_do_is_not_guessed(tmp_path):
    cases = {case.case: case for case in found(make(tmp_path, "p1_flair.nii.gz", "p2.nii.gz")).cases}
    assert cases["p1"].error is None
    assert "does not give its modality" in cases["p2"].error
    assert "p2_0000" in cases["p2"].error


def test_names_that_would_fall_together_fail_instead_of_overwriting_each_other(tmp_path):
    listing = found(make(tmp_path, "a_b/s.nii.gz", "a/b_s.nii.gz", "c/s.nii.gz", "c/b_s.nii.gz", "a/b/s.nii.gz"))
    usable = [case.case for case in listing.cases if case.error is None]
    assert len(set(usable)) == len(usable)
    assert any("a_b_s" in (case.error or "") for case in listing.cases)


def test_what_is_left_out_is_listed_with_the_reason(tmp_path):
    listing = found(make(tmp_path, "p_0000.nii.gz", "p_0001.nii.gz", "p_seg.nii.gz", "q_0000_anomaly.nii.gz"))
    assert {path.name: reason for path, reason in listing.ignored} == {
        "p_seg.nii.gz": "a label or mask by its name (seg)",
        "q_0000_anomaly.nii.gz": "a result of an earlier prediction",
    }


def test_the_output_folder_is_not_searched(tmp_path):
    make(tmp_path, "a.nii.gz", "out/b.nii.gz")
    listing = discover_cases(tmp_path, "FLAIR", MODALITIES, exclude=tmp_path / "out")
    assert [case.case for case in listing.cases] == ["a"]


def test_one_file(tmp_path):
    make(tmp_path, "p_0000.nii.gz", "p_0001.nii.gz", "q.nii.gz", "x.pdf")
    assert [case.case for case in found(tmp_path / "p_0000.nii.gz").cases] == ["p"]
    assert [case.case for case in found(tmp_path / "q.nii.gz").cases] == ["q"]
    with pytest.raises(MMCCDError, match="named as T1"):
        found(tmp_path / "p_0001.nii.gz")
    with pytest.raises(MMCCDError, match="no volume file"):
        found(tmp_path / "x.pdf")


@pytest.mark.parametrize("name", ["series/IM0001.dcm", "IM0001"])
def test_dicom_is_refused_with_what_to_do(tmp_path, name):
    (make(tmp_path, name) / name).write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(MMCCDError, match="mmccd_predict and predict_folder read it"):
            found(source)


@pytest.mark.parametrize(("names", "word"), [([], "is empty"), (["a.txt"], "no volume"), (["a_seg.nii.gz"], "no scan")])
def test_nothing_to_predict_is_one_sentence(tmp_path, names, word):
    with pytest.raises(MMCCDError, match=word):
        found(make(tmp_path, *names))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(MMCCDError, match="does not exist"):
        found(tmp_path / "nowhere")
