"""BIDS datasets as they are: which scan of which visit is used, and one reason for everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.sources.bids.cases import BidsListing, list_bids_cases
from mmccd_auto.sources.bids.dataset import is_bids
from mmccd_auto.sources.bids.options import BidsOptions
from mmccd_auto.sources.cases import SourceListing, SourceOptions, list_source_cases


@pytest.fixture
def bids(tmp_path: Path):
    """Writes files with the given paths into a BIDS dataset (``.nii.gz`` where no ending is given); returns its folder."""

    def write(*names: str, description: dict | None = None) -> Path:
        root = tmp_path / "bids"
        for name in names:
            path = root / (name if "." in Path(name).name else f"{name}.nii.gz")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"only its name is looked at")
        content = {"Name": "Test", "BIDSVersion": "1.9.0"} if description is None else description
        root.mkdir(exist_ok=True)
        (root / "dataset_description.json").write_text(json.dumps(content))
        return root

    return write


SUFFIXES = {"FLAIR": "FLAIR", "T1": "T1w", "T2": "T2w"}


def used(listing: BidsListing, root: Path) -> dict[str, dict[str, str]]:
    return {
        case.name: {name: file.path.relative_to(root).as_posix() for name, file in case.scans.items()}
        for case in listing.files.cases
        if case.scans
    }


def reasons(listing: BidsListing) -> dict[str, str]:
    return {item.path.name.split(".")[0]: item.reason for item in listing.files.left_out}


def imported(root: Path, **options) -> BidsListing:
    return list_bids_cases(root, ["FLAIR", "T1", "T2"], **options)


def predicted(root: Path, modality: str = "FLAIR", **options) -> BidsListing:
    return list_bids_cases(root, [modality], alone=True, **options)


def test_a_dataset_is_known_by_its_description(bids, tmp_path):
    assert is_bids(bids("sub-01/anat/sub-01_T1w"))
    assert not is_bids(bids(description={"Name": "something else"}))
    (tmp_path / "other").mkdir()
    assert not is_bids(tmp_path / "other")
    (tmp_path / "bids" / "dataset_description.json").write_text("{")
    with pytest.raises(MMCCDError, match=r"dataset_description\.json is not valid JSON"):
        is_bids(tmp_path / "bids")


def test_sessions_and_people_without_sessions_are_cases_of_their_people(bids):
    root = bids(
        *(f"sub-01/ses-{session}/anat/sub-01_ses-{session}_{suffix}" for session in "ab" for suffix in ("T1w", "FLAIR")),
        *(f"sub-02/anat/sub-02_{suffix}" for suffix in ("T1w", "T2w", "FLAIR")),
    )
    listing = imported(root)
    anat = "sub-01/ses-{0}/anat/sub-01_ses-{0}_"
    assert used(listing, root) == {
        **{
            f"sub-01_ses-{one}": {"FLAIR": f"{anat.format(one)}FLAIR.nii.gz", "T1": f"{anat.format(one)}T1w.nii.gz"}
            for one in "ab"
        },
        "sub-02": {name: f"sub-02/anat/sub-02_{suffix}.nii.gz" for name, suffix in SUFFIXES.items()},
    }
    assert {case.name: case.subject for case in listing.files.cases} == {
        "sub-01_ses-a": "sub-01",
        "sub-01_ses-b": "sub-01",
        "sub-02": "sub-02",
    }
    assert listing.files.left_out == ()


def test_the_last_run_stands_for_its_visit_unless_all_are_wanted(bids):
    root = bids(*(f"sub-01/anat/sub-01_run-{run}_FLAIR" for run in (1, 2, 10)), "sub-01/anat/sub-01_T1w")
    listing = imported(root)
    anat = "sub-01/anat/sub-01_"
    assert used(listing, root) == {"sub-01": {"FLAIR": f"{anat}run-10_FLAIR.nii.gz", "T1": f"{anat}T1w.nii.gz"}}
    why = "an earlier run: sub-01_run-10_FLAIR.nii.gz is used"
    assert reasons(listing) == {"sub-01_run-1_FLAIR": why, "sub-01_run-2_FLAIR": why}
    every = imported(root, options=BidsOptions(all_runs=True))
    assert used(every, root) == {
        f"sub-01_run-{run}": {"FLAIR": f"{anat}run-{run}_FLAIR.nii.gz", "T1": f"{anat}T1w.nii.gz"} for run in (1, 2, 10)
    }
    assert every.files.left_out == ()
    assert list(used(predicted(root), root)) == ["sub-01"]
    alone = predicted(root, options=BidsOptions(all_runs=True))
    assert list(used(alone, root)) == ["sub-01_run-1", "sub-01_run-10", "sub-01_run-2"]
    assert {case.subject for case in alone.files.cases} == {"sub-01"}


def test_runs_of_two_modalities_go_together(bids):
    root = bids(
        *(f"sub-01/anat/sub-01_run-{run}_FLAIR" for run in (1, 2)), *(f"sub-01/anat/sub-01_run-{run}_T1w" for run in (2, 3))
    )
    found = used(imported(root, options=BidsOptions(all_runs=True)), root)
    runs = {case: {name: path.split("run-")[1][0] for name, path in scans.items()} for case, scans in found.items()}
    assert runs == {
        "sub-01_run-1": {"FLAIR": "1", "T1": "2"},
        "sub-01_run-2": {"FLAIR": "2", "T1": "2"},
        "sub-01_run-3": {"FLAIR": "2", "T1": "3"},
    }


def test_capitals_count_for_nothing(bids):
    root = bids("Sub-01/Anat/SUB-01_t1W.NII.GZ", "Sub-01/Anat/sub-01_Flair.nii")
    assert used(imported(root), root) == {
        "sub-01": {"FLAIR": "Sub-01/Anat/sub-01_Flair.nii", "T1": "Sub-01/Anat/SUB-01_t1W.NII.GZ"}
    }


def test_people_whose_names_differ_by_capitals_are_refused(bids):
    listing = imported(bids("sub-A1/anat/sub-A1_T1w", "sub-a1/anat/sub-a1_T1w"))
    assert len(listing.files.cases) == 2
    assert all("one of several files whose results would be named" in case.error for case in listing.files.cases)


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("sub-01_T1w", "T1"),
        ("sub-01_ce-gadolinium_T1w", "T1C"),
        ("sub-01_ce-none_T1w", "T1"),
        ("sub-01_acq-postgd_T1w", "T1C"),
        ("sub-01_acq-mprage_T1w", "T1"),
        ("sub-01_ce-gadolinium_FLAIR", "FLAIR"),
        ("sub-01_UNIT1", "T1"),
        ("sub-01_space-T1w_desc-preproc_FLAIR", "FLAIR"),
        ("sub-01_acq-FLAIR_T2w", "T2"),
    ],
)
def test_what_a_name_shows(bids, name, modality):
    root = bids(f"sub-01/anat/{name}")
    listing = list_bids_cases(root, ["FLAIR", "T1", "T1C", "T2"])
    assert used(listing, root) == {"sub-01": {modality: f"sub-01/anat/{name}.nii.gz"}}


@pytest.mark.parametrize(
    ("chosen", "other", "why"),
    [
        ("sub-01_T1w", "sub-01_UNIT1", "a UNIT1 beside a T1w"),
        ("sub-01_T1w", "sub-01_desc-preproc_T1w", "computed from a scan that is there"),
        ("sub-01_T1w", "sub-01_space-MNI152NLin6Asym_T1w", "computed from a scan that is there"),
        ("sub-01_desc-preproc_T1w", "sub-01_space-MNI152_desc-preproc_T1w", "in a template's space, and there is another"),
        ("sub-01_desc-preproc_T1w", "sub-01_desc-n4_T1w", "another T1 of its visit: sub-01_desc-preproc_T1w.nii.gz is used"),
        ("sub-01_T1w", "sub-01_rec-defaced_T1w", "a defaced copy of a scan that is there"),
        ("sub-01_T1w", "sub-01_acq-highres_T1w", "another T1 of its visit: sub-01_T1w.nii.gz is used"),
        ("sub-01_T1w", "sub-01_inv-1_MP2RAGE", "MP2RAGE: only FLAIR, T1, T2 needed"),
        ("sub-01_T1w", "sub-01_mod-T1w_defacemask", "a label or mask (defacemask)"),
        ("sub-01_T1w", "sub-01_part-phase_T1w", "part-phase: only magnitude is read"),
        ("sub-01_T1w", "sub-02_T1w", "lies in the folder of another person than its name says"),
        ("sub-01_T1w", "sub-01_ses-1_T1w", "lies in the folder of another session than its name says"),
        ("sub-01_T1w", "sub-01_T1w(1)", "not named by BIDS"),
        ("sub-01_T1w", "T1w", "not named by BIDS"),
    ],
)
def test_of_several_one_is_used_and_the_other_is_told(bids, chosen, other, why):
    root = bids("sub-01/anat/sub-01_FLAIR", *(f"sub-01/anat/{name}" for name in (chosen, other)))
    listing = imported(root)
    assert used(listing, root)["sub-01"]["T1"] == f"sub-01/anat/{chosen}.nii.gz"
    assert reasons(listing) == {other: why}


def test_a_copy_without_an_original_is_used(bids):
    root = bids("sub-01/anat/sub-01_rec-defaced_T1w", "sub-01/anat/sub-01_space-MNI152_desc-preproc_FLAIR")
    assert sorted(used(imported(root), root)["sub-01"]) == ["FLAIR", "T1"]


def test_scans_that_differ_are_not_guessed_among_but_can_be_chosen(bids):
    root = bids("sub-01/anat/sub-01_FLAIR", *(f"sub-01/anat/sub-01_acq-{acq}_T1w" for acq in ("ax", "sag")))
    (case,) = imported(root).files.cases
    assert "several scans that may be its T1, sub-01_acq-ax_T1w.nii.gz, sub-01_acq-sag_T1w.nii.gz" in case.error
    assert "--series T1=PART" in case.error
    chosen = imported(root, patterns={"T1w": "ACQ-SAG"})
    assert used(chosen, root)["sub-01"]["T1"] == "sub-01/anat/sub-01_acq-sag_T1w.nii.gz"
    assert reasons(chosen) == {"sub-01_acq-ax_T1w": "not what --series names"}
    (none,) = imported(root, patterns={"T1": "cor"}).files.cases
    assert "--series T1=cor is in the name of none of its files" in none.error
    with pytest.raises(MMCCDError, match="--series ADC: ADC is not needed here"):
        imported(root, patterns={"ADC": "x"})


def test_scans_that_differ_are_predicted_as_cases_of_their_own(bids):
    root = bids(*(f"sub-01/anat/sub-01_{acq}FLAIR" for acq in ("", "acq-ax_", "acq-sag_run-1_", "acq-sag_run-2_")))
    assert {case: scans["FLAIR"].split("sub-01_")[1] for case, scans in used(predicted(root), root).items()} == {
        "sub-01": "FLAIR.nii.gz",
        "sub-01_acq-ax": "acq-ax_FLAIR.nii.gz",
        "sub-01_acq-sag": "acq-sag_run-2_FLAIR.nii.gz",
    }


def test_of_two_endings_the_compressed_one_is_used(bids):
    root = bids("sub-01/anat/sub-01_FLAIR.nii", "sub-01/anat/sub-01_FLAIR.nii.gz")
    listing = predicted(root)
    assert used(listing, root) == {"sub-01": {"FLAIR": "sub-01/anat/sub-01_FLAIR.nii.gz"}}
    assert [item.path.suffix for item in listing.files.left_out] == [".nii"]


def test_what_is_not_anatomy_is_told_once_for_each_reason(bids):
    root = bids(
        *(f"sub-0{one}/anat/sub-0{one}_FLAIR" for one in (1, 2)),
        *(f"sub-0{one}/func/sub-0{one}_task-rest_bold" for one in (1, 2)),
        *("sub-01/dwi/sub-01_dwi", "sub-01/sub-01_T1w", "sub-02/anat/sub-02_T1w.mgz", "sub-01/anat/sub-01_T1w.json"),
        *("derivatives/x/sub-01/anat/sub-01_desc-preproc_T1w", "sourcedata/sub-01/T1.nii.gz", "sub-01/.hidden/a.nii.gz"),
    )
    listing = imported(root)
    assert reasons(listing) == {
        "sub-01_task-rest_bold": "lies outside of anat, in func",
        "sub-02_task-rest_bold": "lies outside of anat, in func",
        "sub-01_dwi": "lies outside of anat, in dwi",
        "sub-02_T1w": "a volume in a format that is not read (.mgz)",
        "sub-01_T1w": "lies outside of anat",
    }
    assert [item.path.name for item in listing.files.left_out if not item.unneeded] == ["sub-02_T1w.mgz"]


def test_bidsignore_is_obeyed(bids):
    root = bids("sub-01/anat/sub-01_FLAIR", "sub-01/anat/sub-01_T1w", "sub-02/anat/sub-02_FLAIR", "sub-02/anat/sub-02_T1w")
    (root / ".bidsignore").write_bytes("\ufeff# not yet\r\n/sub-02/\r\n*_T1w*\r\n!sub-01_T1w.nii.gz\r\n".encode())
    listing = imported(root)
    assert used(listing, root) == {
        "sub-01": {"FLAIR": "sub-01/anat/sub-01_FLAIR.nii.gz", "T1": "sub-01/anat/sub-01_T1w.nii.gz"}
    }
    assert set(reasons(listing).values()) == {"named by .bidsignore"}


def test_a_pattern_that_is_none_is_an_error(bids):
    root = bids("sub-01/anat/sub-01_FLAIR")
    (root / ".bidsignore").write_text("!\n")
    with pytest.raises(MMCCDError, match=r"\.bidsignore holds a pattern that can't be read"):
        imported(root)


def test_a_dataset_can_be_the_current_folder(bids, monkeypatch):
    root = bids("sub-01/anat/sub-01_FLAIR", "sub-01/func/sub-01_task-x_bold")
    monkeypatch.chdir(root)
    assert used(predicted(Path(".")), Path(".")) == {"sub-01": {"FLAIR": "sub-01/anat/sub-01_FLAIR.nii.gz"}}


def test_files_that_datalad_has_not_fetched_name_the_command(bids, tmp_path):
    root = bids("sub-01/anat/sub-01_FLAIR", "sub-04/anat/sub-04_FLAIR", "sub-05/anat/sub-05_FLAIR", "sub-06/anat/x.json")
    key = "../../.git/annex/objects/xX/0k/MD5E-s1.nii.gz/MD5E-s1.nii.gz"
    for person in ("02", "03"):
        (root / f"sub-{person}" / "anat").mkdir(parents=True)
        (root / f"sub-{person}" / "anat" / f"sub-{person}_FLAIR.nii.gz").symlink_to(key)
    there = tmp_path / "store.nii.gz"
    there.write_bytes(b"volume")
    (root / "sub-03" / "anat" / "sub-03_T1w.nii.gz").symlink_to(there)
    (root / "sub-04" / "anat" / "sub-04_FLAIR.nii.gz").write_text("/annex/objects/MD5E-s1--0.nii.gz\n")
    (root / "sub-05" / "anat" / "sub-05_FLAIR.nii.gz").write_text("version https://git-lfs.github.com/spec/v1\noid sha\n")
    (root / "sub-07").mkdir()
    errors = {case.name: case.error for case in predicted(root).files.cases}
    assert errors.pop("sub-01") is None
    assert sorted(errors) == ["sub-02", "sub-03", "sub-04", "sub-05"]
    for case, error in errors.items():
        assert error.startswith(f"{case}_FLAIR.nii.gz is not on this disk")
        assert "datalad get" in error
    listing = imported(root)
    assert used(listing, root)["sub-03"] == {"T1": "sub-03/anat/sub-03_T1w.nii.gz"}
    assert "datalad get" in reasons(listing)["sub-03_FLAIR"]
    assert listing.notes == (
        "2 folders of people hold no volume at all (sub-06, sub-07): where the data are kept by datalad, run datalad get on "
        "them.",
    )


def test_people_and_sessions_can_be_chosen(bids):
    root = bids(*(f"sub-{p}/ses-{s}/anat/sub-{p}_ses-{s}_FLAIR" for p in ("01", "02", "AB") for s in ("1", "2")))
    chosen = predicted(root, options=BidsOptions(participants=("01", "sub-ab"), sessions=("ses-2",)))
    assert list(used(chosen, root)) == ["sub-01_ses-2", "sub-AB_ses-2"]
    assert chosen.files.left_out == ()
    with pytest.raises(MMCCDError, match="no anatomical scan of sub-99: choose among sub-01, sub-02, sub-AB"):
        predicted(root, options=BidsOptions(participants=("99",)))
    with pytest.raises(MMCCDError, match="no anatomical scan of ses-3"):
        predicted(root, options=BidsOptions(sessions=("3",)))


def test_a_visit_without_the_scan_is_no_failure(bids):
    root = bids("sub-01/anat/sub-01_FLAIR", "sub-02/anat/sub-02_T1w")
    cases = {case.name: case for case in predicted(root).files.cases}
    assert cases["sub-02"].error == "sub-02 has no FLAIR, only T1w."
    assert cases["sub-02"].skipped


def listed(root: Path, tmp_path: Path, **options) -> SourceListing:
    return list_source_cases(root, ["FLAIR", "T1"], tmp_path / "work", SourceOptions(**options))


def test_import_and_prediction_read_a_dataset_by_its_description(bids, tmp_path):
    names = ["sub-01/anat/sub-01_run-1_T1w", "sub-01/anat/sub-01_run-2_T1w", "sub-01/anat/sub-01_FLAIR"]
    root = bids(*names, "sourcedata/sub-01/sub-01_T1w")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t71\n")
    (case,) = listed(root, tmp_path).cases
    assert (case.case, case.subject) == ("sub-01", "sub-01")
    assert case.scans["T1"].name == "sub-01_run-2_T1w.nii.gz"
    assert listed(root, tmp_path).ages == {"sub-01": 71.0}
    every = listed(root, tmp_path, bids=BidsOptions(all_runs=True))
    assert [case.case for case in every.cases] == ["sub-01_run-1", "sub-01_run-2"]
    assert {case.subject for case in every.cases} == {"sub-01"}


def test_a_dataset_without_scans_is_refused_by_what_was_found(bids, tmp_path):
    root = bids("sub-01/func/sub-01_task-rest_bold", "derivatives/x/sub-01/anat/sub-01_T1w")
    (root / "sub-02").mkdir()
    with pytest.raises(
        MMCCDError, match=r"no scan that can be used .*sub-02.*datalad get.*1 x lies outside of anat, in func"
    ):
        listed(root, tmp_path)
