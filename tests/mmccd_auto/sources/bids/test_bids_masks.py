"""Which mask of the derivatives is whose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.sources.bids.masks import BRAIN, LESION, choose_masks, find_masks, holds_bids_masks


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"only its name is looked at")
    return root


def chosen(root: Path, kind: str = LESION, **scans: tuple[str, ...]) -> dict[str, str]:
    """The names of masks by case; the scans of a case by their names."""
    cases = {case.replace("__", "-"): [Path(f"{name}.nii.gz") for name in names] for case, names in scans.items()}
    return {case: path.name[:-7] for case, path in choose_masks(root, kind, cases).by_case.items()}


@pytest.mark.parametrize(
    "mask",
    [
        "sub-01_label-lesion_mask",
        "sub-01_desc-lesion_mask",
        "sub-01_label-L_mask",
        "sub-01_label-L_desc-T1lesion_mask",
        "sub-01_space-orig_label-lesion_mask",
        "sub-01_label-lesion_roi",
        "sub-01_desc-WMH_mask",
        "sub-01_label-tumor_dseg",
        "SUB-01_Label-Lesion_Mask",
        "sub-01_acq-ax_label-lesion_mask",
    ],
)
@pytest.mark.parametrize("place", ["derivatives/manual/sub-01/anat", "derivatives/sub-01/anat", "sub-01/anat", "sub-01"])
def test_lesion_masks_as_people_call_them(tmp_path, mask, place):
    put(tmp_path, f"{place}/{mask}", "sub-02/anat/sub-02_label-lesion_mask")
    assert chosen(tmp_path, a=("sub-01_acq-ax_FLAIR", "sub-01_T1w")) == {"a": mask}


@pytest.mark.parametrize(
    "mask",
    [
        "sub-01_desc-brain_mask",
        "sub-01_label-GM_probseg",
        "sub-01_label-lesion_probseg",
        "sub-01_space-MNI152NLin2009cAsym_label-lesion_mask",
        "sub-01_label-left_mask",
        "sub-01_label-lesion_T1w",
        "sub-01_ses-2_label-lesion_mask",
        "sub-01_run-2_label-lesion_mask",
        "lesion",
    ],
)
def test_what_is_no_lesion_mask_of_the_case(tmp_path, mask):
    put(tmp_path, f"sub-01/anat/{mask}", "sub-02/anat/sub-02_label-lesion_mask")
    found = choose_masks(tmp_path, LESION, {"sub-01": [Path("sub-01_run-1_FLAIR.nii.gz")]})
    assert found.by_case == {}
    assert found.errors["sub-01"].startswith(f"sub-01 has no lesion mask in {tmp_path}: add it")
    assert found.unused == len(find_masks(tmp_path, LESION))


def test_the_mask_that_names_the_scan_best_is_taken(tmp_path):
    names = ("sub-01_label-lesion_mask", "sub-01_run-1_label-lesion_mask", "sub-01_space-FLAIR_label-lesion_mask")
    put(tmp_path, *(f"derivatives/x/sub-01/anat/{name}" for name in names[:2]))
    assert chosen(tmp_path, a=("sub-01_run-1_T1w",), b=("sub-01_run-2_T1w",)) == {"a": names[1], "b": names[0]}
    (tmp_path / f"derivatives/x/sub-01/anat/{names[1]}.nii.gz").unlink()
    put(tmp_path, f"derivatives/x/sub-01/anat/{names[2]}")
    assert chosen(tmp_path, a=("sub-01_FLAIR", "sub-01_T1w"), b=("sub-01_T1w",)) == {"a": names[2]}


def test_several_masks_are_not_guessed_among(tmp_path):
    put(tmp_path, *(f"derivatives/{who}/sub-01/anat/sub-01_label-lesion_mask" for who in ("anna", "carl")))
    found = choose_masks(tmp_path, LESION, {"sub-01": [Path("sub-01_FLAIR.nii.gz")]})
    assert (
        "sub-01 has 2 lesion masks, derivatives/anna/sub-01/anat/sub-01_label-lesion_mask.nii.gz" in found.errors["sub-01"]
    )
    assert chosen(tmp_path / "derivatives" / "anna", a=("sub-01_FLAIR",)) == {"a": "sub-01_label-lesion_mask"}


def test_what_our_own_prediction_marked_is_no_label(tmp_path):
    put(tmp_path, "derivatives/maps/sub-01/anat/sub-01_label-lesion_mask", "derivatives/manual/sub-02/sub-02_label-L_mask")
    description = {"Name": "maps", "BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": "mmccd_auto"}]}
    (tmp_path / "derivatives" / "maps" / "dataset_description.json").write_text(json.dumps(description))
    assert [mask.name.person for mask in find_masks(tmp_path, LESION)] == ["sub-02"]


def test_a_derivative_that_can_not_tell_who_wrote_it_stops_nothing(tmp_path, caplog):
    put(tmp_path, "derivatives/broken/sub-01/sub-01_label-lesion_mask", "derivatives/manual/sub-02/sub-02_label-L_mask")
    (tmp_path / "derivatives" / "broken" / "dataset_description.json").write_text("{")
    assert [mask.name.person for mask in find_masks(tmp_path, LESION)] == ["sub-02"]
    assert "dataset_description.json is not valid JSON" in caplog.text
    assert "Masks in this dataset are not used." in caplog.text


def test_a_mask_that_was_not_fetched_names_the_command(tmp_path):
    put(tmp_path, "sub-02/anat/sub-02_label-lesion_mask")
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01" / "sub-01_label-lesion_mask.nii.gz").symlink_to(".git/annex/objects/x")
    found = choose_masks(tmp_path, LESION, {"sub-01": [Path("sub-01_FLAIR.nii.gz")]})
    assert found.errors["sub-01"].startswith("sub-01: its lesion mask sub-01_label-lesion_mask.nii.gz is not on this disk")
    assert "datalad get" in found.errors["sub-01"]


def test_brain_masks_and_folders_without_masks(tmp_path):
    put(tmp_path, "derivatives/fmriprep/sub-01/anat/sub-01_desc-brain_mask", "plain/case_1")
    assert chosen(tmp_path, BRAIN, a=("sub-01_T1w",)) == {"a": "sub-01_desc-brain_mask"}
    assert holds_bids_masks(tmp_path)
    assert not holds_bids_masks(tmp_path / "plain")
    with pytest.raises(MMCCDError, match="holds no lesion mask that was drawn: call it sub-LABEL_label-lesion_mask"):
        choose_masks(tmp_path, LESION, {})
