"""Which files below a folder become which cases, for import (several modalities) and prediction (one, alone)."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from mmccd_auto.core.readable_names import shown
from mmccd_auto.imaging.file_names import PREDICTED_VOLUMES, too_long
from mmccd_auto.sources.nifti_cases import NiftiListing, list_nifti_cases, summarise_left_out

ALL = ["FLAIR", "T1", "T2"]


def write(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def imported(root: Path, names: list[str]) -> NiftiListing:
    return list_nifti_cases(write(root, [f"{name}.nii.gz" for name in names]), ALL)


def predicted(root: Path, names: list[str] | None = None, channels: tuple[str, ...] = tuple(ALL)) -> NiftiListing:
    return list_nifti_cases(write(root, [f"{name}.nii.gz" for name in names or []]), ["FLAIR"], channels, alone=True)


def used(listing: NiftiListing, root: Path) -> dict[str, dict[str, str]]:
    """case -> modality -> file of the cases without an error."""
    return {
        case.name: {name: file.path.relative_to(root).as_posix()[:-7] for name, file in case.scans.items()}
        for case in listing.cases
        if case.error is None
    }


@pytest.mark.parametrize("flat", [False, True])
def test_visits_called_t1_t2_t3_keep_their_modalities(tmp_path, flat):
    stems = [f"P{person}_T{visit}_{kind}" for person in (1, 2) for visit in (1, 2, 3) for kind in ALL]
    folder = {stem: "" if flat else f"train/{stem[:2]}/{stem[3:5]}/" for stem in stems}
    listing = imported(tmp_path, [folder[stem] + stem for stem in stems])
    expected = {}
    for stem in stems:
        expected.setdefault(stem[:5], {})[stem[6:]] = folder[stem] + stem
    assert used(listing, tmp_path) == expected
    assert {case.name: case.subject for case in listing.cases} == {case: case[:2] for case in expected}
    assert listing.left_out == ()


def test_a_visit_t1_without_a_t1_scan_has_none(tmp_path):
    listing = imported(tmp_path, ["P1/T1/P1_T1_FLAIR", "P1/T1/P1_T1_T2"])
    assert used(listing, tmp_path) == {"P1_T1": {"FLAIR": "P1/T1/P1_T1_FLAIR", "T2": "P1/T1/P1_T1_T2"}}


def test_folders_t1_to_t3_of_scans_without_a_modality_are_no_modalities(tmp_path):
    listing = imported(tmp_path, ["P1/T1/scan", "P1/T2/scan", "P1/T3/scan"])
    assert used(listing, tmp_path) == {}
    assert any("may be a visit or a modality" in case.error for case in listing.cases)


def test_scans_t1_to_t3_of_one_name_are_no_modalities(tmp_path):
    assert used(imported(tmp_path, ["P1_T1", "P1_T2", "P1_T3", "P2_T1", "P2_T2"]), tmp_path) == {
        "P2": {"T1": "P2_T1", "T2": "P2_T2"}
    }


@pytest.mark.parametrize("visits", [("time01", "time02"), ("pre", "post"), ("baseline", "fu1")])
def test_names_that_hold_a_visit_only_get_the_person_from_the_folder(tmp_path, visits):
    listing = predicted(tmp_path, [f"013/FLAIR_{visit}" for visit in visits])
    assert {case.name for case in listing.cases} == {f"013_{visit}" for visit in visits}
    assert {case.subject for case in listing.cases} == {"013"}


def test_variants_in_a_folder_are_called_by_it(tmp_path):
    assert set(used(predicted(tmp_path, ["s1/FLAIR", "s1/rFLAIR"]), tmp_path)) == {"s1", "s1_rflair"}


def test_a_doubtful_or_lost_file_costs_itself_only(tmp_path):
    names = ["sub-1/anat/sub-1_FLAIR", "sub-1/anat/sub-1_T1w", "sub-1/anat/sub-1_acq-FLAIR_T2w", "p_FLAIR", "p_T1"]
    (tmp_path / "p_T2.nii.gz").symlink_to("nowhere")
    listing = imported(tmp_path, names)
    assert {case.name: sorted(case.scans) for case in listing.cases} == {"sub-1": ["FLAIR", "T1"], "p": ["FLAIR", "T1"]}
    reasons = {item.path.name: item.reason for item in listing.left_out}
    assert "says FLAIR and T2" in reasons["sub-1_acq-FLAIR_T2w.nii.gz"]
    assert "a link to a file that is not there" in reasons["p_T2.nii.gz"]


def test_modalities_in_folders_of_their_own_are_one_case(tmp_path):
    listing = imported(tmp_path, ["IXI-T1/IXI002-T1", "IXI-T2/IXI002-T2", "IXI-FLAIR/IXI002-FLAIR"])
    assert used(listing, tmp_path) == {"IXI002": {kind: f"IXI-{kind}/IXI002-{kind}" for kind in ("FLAIR", "T1", "T2")}}


def test_scans_of_one_patient_by_their_protocols_are_one_case(tmp_path):
    names = ["anna/Ax_T2_FLAIR", "anna/SAG_3D_FSPGR", "anna/Ax_T2_PROPELLER", "anna/Ax_T1_SE_GD", "anna/ep2d_diff_b1000"]
    listing = imported(tmp_path, names)
    assert used(listing, tmp_path) == {
        "anna": {"FLAIR": "anna/Ax_T2_FLAIR", "T1": "anna/SAG_3D_FSPGR", "T2": "anna/Ax_T2_PROPELLER"}
    }
    assert {item.path.name[:-7] for item in listing.left_out} == {"Ax_T1_SE_GD", "ep2d_diff_b1000"}


def test_converted_series_of_one_study_are_one_case(tmp_path):
    stem = "DICOM_{}_20200101120000_{}"
    listing = imported(tmp_path, [stem.format("t1_mprage_sag_p2_iso", 5), stem.format("t2_space_dark-fluid_sag_p2_iso", 7)])
    assert {tuple(sorted(scans)) for scans in used(listing, tmp_path).values()} == {("FLAIR", "T1")}


BIDS = [
    f"sub-{person}/ses-1/{kind}/sub-{person}_ses-1_{rest}"
    for person in ("01", "02")
    for kind, rest in (
        *(("anat", "FLAIR"), ("anat", "T1w"), ("anat", "T2w"), ("anat", "T2starw"), ("func", "task-rest_bold")),
        *(("dwi", "dwi"), ("fmap", "phasediff"), ("perf", "asl")),
    )
]


def test_bids_with_everything_beside_the_scans(tmp_path):
    derived = "derivatives/x/sub-01/ses-1/anat/sub-01_ses-1_desc-preproc_FLAIR"
    listing = predicted(tmp_path, [*BIDS, derived])
    anat = "sub-{0}/ses-1/anat/sub-{0}_ses-1_FLAIR"
    assert used(listing, tmp_path) == {f"sub-{one}_ses-1": {"FLAIR": anat.format(one)} for one in ("01", "02")}
    assert [case.error for case in listing.cases] == [None, None]
    assert len(listing.left_out) == len(BIDS) - 2 + 1
    reasons = {item.path.name[:-7]: item.reason for item in listing.left_out}
    assert reasons["sub-01_ses-1_desc-preproc_FLAIR"] == "derived from the FLAIR that is there as well"
    assert reasons["sub-01_ses-1_task-rest_bold"].startswith("bold: ")
    lines = summarise_left_out(listing.left_out, tmp_path)
    assert sum(int(line.split(" x ")[0]) for line in lines) == len(listing.left_out)


def test_derivatives_alone_are_scans(tmp_path):
    listing = predicted(tmp_path, ["derivatives/x/sub-01/anat/sub-01_desc-preproc_FLAIR"])
    assert list(used(listing, tmp_path)) == ["sub-01"]


def test_runs_of_bids(tmp_path):
    names = ["sub-01/anat/sub-01_run-1_T1w", "sub-01/anat/sub-01_run-2_T1w", "sub-01/anat/sub-01_FLAIR"]
    listing = imported(tmp_path, names)
    assert used(listing, tmp_path) == {"sub-01": {"FLAIR": names[2], "T1": names[1]}}
    assert [item.reason for item in listing.left_out] == ["an earlier run: sub-01_run-2_T1w.nii.gz is used"]
    both = list_nifti_cases(tmp_path, ["T1"], ALL, alone=True)
    assert list(used(both, tmp_path)) == ["sub-01_run-1", "sub-01_run-2"]


def test_two_variants_of_a_modality_are_not_guessed(tmp_path):
    names = ["sub-01/anat/sub-01_acq-a_T1w", "sub-01/anat/sub-01_acq-b_T1w", "sub-01/anat/sub-01_FLAIR"]
    (case,) = imported(tmp_path, names).cases
    assert "several files that may be its T1" in case.error


def test_wmh_challenge(tmp_path):
    names = [f"Utrecht/0/{name}" for name in ("orig/FLAIR", "orig/T1", "orig/3DT1", "pre/FLAIR", "pre/T1", "wmh")]
    listing = imported(tmp_path, names)
    assert {case.subject for case in listing.cases} == {"Utrecht_0"}
    assert used(listing, tmp_path)["Utrecht_0_orig"] == {"FLAIR": "Utrecht/0/orig/FLAIR", "T1": "Utrecht/0/orig/T1"}
    assert {item.path.name: item.reason for item in listing.left_out} == {
        "3DT1.nii.gz": "another T1 of its case: T1.nii.gz is used",
        "wmh.nii.gz": "a label or mask by its name (wmh)",
    }


def test_a_person_without_the_scan_is_told_and_one_with_it_is_not(tmp_path):
    listing = predicted(tmp_path, ["a_FLAIR", "a_T1", "b_T1", "c_ses-1_FLAIR", "c_ses-2_T1", "d_bold"])
    cases = {case.name: case for case in listing.cases}
    assert set(used(listing, tmp_path)) == {"a", "c_ses-1"}
    assert "b has no FLAIR" in cases["b"].error
    assert not cases["b"].skipped
    assert cases["c_ses-2"].skipped
    assert {item.path.name for item in listing.left_out} == {"a_T1.nii.gz", "d_bold.nii.gz"}


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (channel, name)
        for channel in ("T2-FLAIR", "T2_FLAIR", "T2w_FLAIR", "FLAIR_3D", "flair", "FLAIR", "3D-FLAIR")
        for name in ("p_FLAIR", "p_T2-FLAIR", "p_T2_FLAIR", "p_T2w_FLAIR", "p_FLAIR_3D", "p_flair", "p_3DFLAIR", "p_t2f")
    ]
    + [("T1w", "p_T1"), ("T1", "p_T1w"), ("T1ce", "p_T1_Gd"), ("T1-Gd", "p_t1c"), ("T1_MPRAGE", "p_T1w"), ("MTC", "p_mtc")],
)
def test_channels_match_files_by_contrast(tmp_path, channel, name):
    write(tmp_path, [f"{name}.nii.gz", "p_bold.nii.gz"])
    (case,) = list_nifti_cases(tmp_path, [channel], (channel, "X"), alone=True).cases
    assert (case.name, case.error) == ("p", None)
    assert case.scans[channel].path.name == f"{name}.nii.gz"


@pytest.mark.parametrize("channel", ["T1", "T2", "PD"])
def test_a_channel_is_no_other_contrast(tmp_path, channel):
    (case,) = list_nifti_cases(write(tmp_path, ["p_T2starw.nii.gz"]), [channel], (channel, "FLAIR"), alone=True).cases
    assert case.scans == {}


@pytest.mark.parametrize("pair", [("P1", "p1"), ("José", unicodedata.normalize("NFD", "José")), ("STRASSE", "straße")])
def test_names_that_some_disks_do_not_distinguish_are_refused(tmp_path, pair):
    write(tmp_path, [f"{name}_FLAIR.nii.gz" for name in (*pair, "other")])
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this disk does not distinguish them")
    listing = predicted(tmp_path)
    assert list(used(listing, tmp_path)) == ["other"]
    errors = [case.error for case in listing.cases if case.error]
    assert len(errors) == 2
    assert all("whose results would be named" in error for error in errors)


def test_names_beyond_ascii_are_kept(tmp_path):
    listing = imported(tmp_path, [f"{name}_{kind}" for name in ("José", "山田", "鈴木", "Ψ 1") for kind in ("FLAIR", "T1")])
    assert set(used(listing, tmp_path)) == {"José", "山田", "鈴木", "Ψ 1"}


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
@pytest.mark.parametrize("name", [b"M\xfcller_FLAIR.nii.gz", b"Universit\xe4t/x_FLAIR.nii.gz"])
def test_bytes_that_are_no_text_are_refused_by_name(tmp_path, name):
    write(tmp_path, ["sound_FLAIR.nii.gz"])
    path = os.path.join(os.fsencode(tmp_path), name)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").close()
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    listing = predicted(tmp_path)
    assert list(used(listing, tmp_path)) == ["sound"]
    (case,) = [case for case in listing.cases if case.error]
    case.name.encode("utf-8")
    case.error.encode("utf-8")
    assert "no UTF-8" in case.error


def test_files_that_are_never_opened_are_listed(tmp_path):
    write(tmp_path, ["ok_FLAIR.nii.gz"])
    os.mkfifo(tmp_path / "pipe_FLAIR.nii.gz")
    (tmp_path / "self_FLAIR.nii.gz").symlink_to("self_FLAIR.nii.gz")
    (tmp_path / "annexed_FLAIR.nii.gz").symlink_to("../.git/annex/x.nii.gz")
    (tmp_path / "circle").symlink_to(tmp_path)
    listing = predicted(tmp_path)
    assert list(used(listing, tmp_path)) == ["ok"]
    reasons = {item.path.name: item.reason for item in listing.left_out}
    assert "no regular file" in reasons["pipe_FLAIR.nii.gz"]
    assert "leads back to itself" in reasons["self_FLAIR.nii.gz"]
    (broken,) = [case for case in listing.cases if case.error]
    assert "annexed_FLAIR.nii.gz is a link to a file that is not there" in broken.error


def test_formats_that_are_not_read_are_mentioned(tmp_path):
    write(tmp_path, ["p_FLAIR.nii.gz", "p_T1.mgz", "q_FLAIR.img", "q_FLAIR.hdr", "r.mnc", "report.pdf", "p.json"])
    listing = predicted(tmp_path)
    assert {item.path.name for item in listing.left_out} == {"p_T1.mgz", "q_FLAIR.img", "q_FLAIR.hdr", "r.mnc"}
    assert all("a format that is not read" in item.reason for item in listing.left_out)


def test_results_of_ours_are_no_scans(tmp_path):
    write(
        tmp_path, ["p_FLAIR.nii.gz", "q_brain.nii.gz", "q_scan.nii.gz", *(f"maps/p{ending}" for ending in PREDICTED_VOLUMES)]
    )
    listing = list_nifti_cases(tmp_path, ["FLAIR"], ALL, alone=True)
    ours = {item.path.name for item in listing.left_out if item.reason == "a result of an earlier prediction"}
    assert ours == {f"p{ending}" for ending in PREDICTED_VOLUMES}
    assert {file.path.name for case in listing.cases for file in case.files} >= {"q_brain.nii.gz", "q_scan.nii.gz"}


def test_a_number_against_the_name_is_refused(tmp_path):
    cases = {
        case.name: case for case in predicted(tmp_path, ["a_T1_0000", "a_T1_0001", "b_FLAIR_0000", "b_FLAIR_0001"]).cases
    }
    assert cases["a_T1"].error is None
    assert cases["b_FLAIR"].error is None
    (wrong,) = predicted(tmp_path / "other", ["c_T1ce_0000"]).cases
    assert "says T1C, and its number 0000 says FLAIR" in wrong.error


def test_control_characters_reach_no_name(tmp_path):
    (case,) = predicted(tmp_path, ["a\nb_FLAIR"]).cases
    assert case.name == "a_b"
    assert shown("a\nb") == "a\\nb"


def test_a_name_that_is_too_long_with_our_endings(tmp_path):
    assert too_long("n" * 235, tmp_path / "not there yet") is not None
    assert too_long("山" * 80, tmp_path) is not None
    assert too_long("n" * 150, tmp_path) is None
