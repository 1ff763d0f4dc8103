"""BIDS datasets become raw datasets: people and sessions, ages, lesion masks and brain masks of the derivatives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.cli.commands.import_export import _command
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.datasets.ages import read_ages
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.datasets.integrity import verify_dataset
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.importing.import_dataset import ImportOptions, import_dataset
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.plans.splits import make_splits

VISITS = ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1")
HEALTHY = ImportOptions(health="healthy", modalities=("FLAIR", "T1"))


def describe(folder: Path, **content) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_json({"Name": "People", "BIDSVersion": "1.10.0", **content}, folder / "dataset_description.json")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Two people, the first with two sessions: T1w and FLAIR, ages, a lesion mask and a brain mask for each visit."""
    root = tmp_path_factory.mktemp("people") / "bids"
    describe(root)
    manual, brains = root / "derivatives" / "manual", root / "derivatives" / "brains"
    describe(manual, DatasetType="derivative")
    for number, visit in enumerate(VISITS):
        scans = simulate_subject(load_tissue_maps(4), Acquisition(4), (), np.random.default_rng(number)).scans
        anat = Path(*visit.split("_"), "anat")
        for modality, suffix in (("FLAIR", "FLAIR"), ("T1", "T1w")):
            write_volume(scans[modality].array, scans[modality].geometry, root / anat / f"{visit}_{suffix}.nii.gz")
        lesion = np.zeros(scans["FLAIR"].array.shape, dtype=np.uint8)
        middle = np.argwhere(scans["FLAIR"].array > 0).mean(axis=0).astype(int)
        lesion[tuple(slice(place - 2, place + 3) for place in middle)] = 1
        word = "label-lesion" if number else "desc-lesion"
        write_volume(lesion, scans["FLAIR"].geometry, manual / anat / f"{visit}_{word}_mask.nii.gz")
        brain = (scans["FLAIR"].array > 0).astype(np.uint8)
        write_volume(brain, scans["FLAIR"].geometry, brains / anat / f"{visit}_space-FLAIR_desc-brain_mask.nii.gz")
    (root / "participants.tsv").write_bytes(b"\xef\xbb\xbfparticipant_id\tage\tsex\r\nsub-01\t71\tF\r\nsub-02\t90+\tM\r\n")
    (root / "sub-01" / "sub-01_sessions.tsv").write_text("session_id\tage\nses-2\t73.5\n")
    return root


def test_people_sessions_and_ages_are_kept(people: Path, tmp_path: Path) -> None:
    output = tmp_path / "Dataset007_People"
    summary = import_dataset(people, output, HEALTHY, 0)
    assert summary.imported == VISITS
    assert summary.failed == []
    dataset = load_dataset(output)
    assert dataset.subjects == {"sub-01_ses-1": "sub-01", "sub-01_ses-2": "sub-01", "sub-02_ses-1": "sub-02"}
    assert dataset.ages == {"sub-01_ses-1": 71.0, "sub-01_ses-2": 73.5, "sub-02_ses-1": 90.0}
    assert verify_dataset(dataset, 0) == []
    for split in make_splits({case: dataset.subject(case) for case in dataset.cases()}, 2, 0):
        assert not {dataset.subject(case) for case in split["train"]} & {dataset.subject(case) for case in split["val"]}
    told = " ".join(summary.notes)
    assert "1 age given as a lower bound (90+)" in told
    assert (
        f"2 imported people have lesion masks in the derivatives, which are not used: --labels {people} takes them." in told
    )


def test_lesion_masks_of_the_derivatives_are_the_labels(people: Path, tmp_path: Path) -> None:
    for number, labels in enumerate((people, people / "derivatives" / "manual")):
        output = tmp_path / f"Dataset00{number}_People"
        options = ImportOptions(health="labelled", labels=str(labels), modalities=("FLAIR", "T1"))
        summary = import_dataset(people, output, options, 0)
        assert summary.imported == VISITS
        assert summary.failed == []
        for case in VISITS:
            (mask,) = (people / "derivatives" / "manual").rglob(f"{case}_*_mask.nii.gz")
            label = read_volume(output / "labelsTr" / f"{case}.nii.gz")
            assert np.array_equal(label.array, read_volume(mask).array)


def test_brain_masks_of_the_derivatives_are_used_and_their_change_is_seen(people: Path, tmp_path: Path) -> None:
    output, masks = tmp_path / "Dataset007_People", tmp_path / "masks"
    for file in (people / "derivatives" / "brains").rglob("*.nii.gz"):
        (masks / file.relative_to(people / "derivatives" / "brains")).parent.mkdir(parents=True)
        (masks / file.relative_to(people / "derivatives" / "brains")).write_bytes(file.read_bytes())
    arguments = ["-i", str(people), "-d", "7", "-n", "People", "--healthy", "--modalities", "FLAIR", "T1", "-np", "0"]
    arguments += ["--brain_masks", str(masks), "--raw_folder", str(tmp_path)]
    assert _command(arguments) == 0
    for case in VISITS:
        (mask,) = masks.rglob(f"{case}_*_mask.nii.gz")
        assert np.array_equal(read_volume(output / "brain_masksTr" / f"{case}.nii.gz").array, read_volume(mask).array)
        assert load_json(output / "import" / f"{case}.json")["brain_extraction"]["backend"] == "given"
    (mask,) = masks.rglob("sub-02_*_mask.nii.gz")
    smaller = read_volume(mask)
    smaller.array[: smaller.array.shape[0] // 2] = 0
    write_volume(smaller.array, smaller.geometry, mask)
    times = {path: path.stat().st_mtime_ns for path in output.glob("imagesTr/*")}
    assert _command(arguments) == 0
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"sub-02_ses-1_0000.nii.gz", "sub-02_ses-1_0001.nii.gz"}


def test_plain_brain_masks_and_those_that_are_missing(people: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    for case in VISITS[:2]:
        scan = read_volume(people / Path(*case.split("_"), "anat", f"{case}_FLAIR.nii.gz"))
        write_volume((scan.array > 0).astype(np.uint8), scan.geometry, masks / f"{case}.nii.gz")
    options = ImportOptions(health="healthy", modalities=("FLAIR", "T1"), brain_masks=str(masks))
    summary = import_dataset(people, tmp_path / "Dataset007_People", options, 0)
    assert summary.imported == VISITS[:2]
    assert len(summary.failed) == 1
    assert summary.failed[0].startswith("sub-02_ses-1 has no brain mask")
    with pytest.raises(MMCCDError, match=r"--brain_masks .*nowhere is no folder"):
        import_dataset(people, tmp_path / "Dataset008_X", ImportOptions(health="healthy", brain_masks="nowhere"), 0)


def test_an_age_that_somebody_corrected_stays_and_is_told(people: Path, tmp_path: Path) -> None:
    output = tmp_path / "Dataset007_People"
    import_dataset(people, output, HEALTHY, 0)
    content = load_json(output / "dataset.json")
    content["ages"]["sub-02_ses-1"] = 93
    save_json(content, output / "dataset.json")
    summary = import_dataset(people, output, HEALTHY, 0)
    assert load_dataset(output).ages["sub-02_ses-1"] == 93.0
    assert any("and the source differ in 1 age (sub-02_ses-1)" in note for note in summary.notes)
    content["ages"] = {}
    save_json(content, output / "dataset.json")
    import_dataset(people, output, HEALTHY, 0)
    assert load_dataset(output).ages["sub-02_ses-1"] == 90.0


@pytest.mark.parametrize("ages", [{"a": "71"}, {"a": -1}, {"a": 121}, {"a": True}, [71], None])
def test_ages_that_are_none_are_refused(ages: object) -> None:
    with pytest.raises(MMCCDError, match="ages must be an object of cases and years from 0 to 120"):
        read_ages(json.loads(json.dumps({"ages": ages})), "dataset.json")
    assert read_ages({}, "dataset.json") == {}
