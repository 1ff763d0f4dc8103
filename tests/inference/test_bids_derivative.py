"""Maps of a BIDS dataset as a derivative: its files, what the validator says, and where the maps lie."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mmccd_auto.cli.commands.bids import _command as bids_command
from mmccd_auto.cli.commands.predict import _command as predict_command
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.lesions.records import LESION_LIST
from mmccd_auto.sources.bids.options import BidsOptions
from mmccd_auto.workflows.bids.predict import run_name
from mmccd_auto.workflows.bids.validate import find_validator, validation_errors

ANAT = Path("sub-01", "ses-1", "anat")
STEM = "sub-01_ses-1_acq-ax"
SCANS = (f"{ANAT}/{STEM}_FLAIR", "sub-02/anat/sub-02_FLAIR")


@pytest.fixture
def model(model_folder, quick_plan, preprocessed) -> Path:
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=torch.device("cpu"), max_slices=4)
    return folder


@pytest.fixture
def with_lesion(make_scan) -> Callable[[int], Volume]:
    """A scan with a bright ball, lying obliquely."""

    def make(seed: int) -> Volume:
        scan = make_scan(seed)
        turned = Rotation.from_euler("xyz", (12, -7, 21), degrees=True).as_matrix()
        geometry = replace(scan.geometry, direction=tuple(turned.ravel()), origin=(-41.5, 17.25, 33.0))
        array = scan.array.copy()
        array[2:5, 10:15, 9:13] = 3 * array.max()
        return Volume(array, geometry)

    return make


@pytest.fixture
def dataset(tmp_path: Path, with_lesion) -> Path:
    """Two people, the first with a session; raw data that the validator accepts."""
    root = tmp_path / "bids"
    for seed, name in enumerate(SCANS):
        scan = with_lesion(seed)
        write_volume(scan.array, scan.geometry, root / f"{name}.nii.gz")
        save_json({"Modality": "MR"}, root / f"{name}.json")
    save_json({"Name": "Test", "BIDSVersion": "1.10.0", "Authors": ["A", "B"]}, root / "dataset_description.json")
    (root / "README").write_text("Scans that look like brains, made for tests and nothing else whatsoever.\n")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t71\nsub-02\tn/a\n")
    return root


def predicted(model: Path, *arguments: str | Path) -> int:
    quick = ["-m", str(model), "-device", "cpu", "--fpr", "0.02", "--min_lesion", "30"]
    return bids_command([*map(str, arguments), *quick, "--skip-bids-validation"])


def files(folder: Path) -> set[str]:
    """The names of all files but those of the runs and the hidden ones."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if path.parts[0] != "runs" and not path.name.startswith(".")}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_derivative_holds_maps_masks_and_tables_that_lie_on_the_oblique_scan(model, dataset, tmp_path, capsys) -> None:
    output = dataset / "derivatives" / "mmccd_auto"
    assert predicted(model, dataset, output, "participant") == 0
    of_case = {
        *(f"desc-anomaly_probseg.{ending}" for ending in ("nii.gz", "json")),
        *(f"label-lesion_mask.{ending}" for ending in ("nii.gz", "json")),
        *(f"desc-candidates_mask.{ending}" for ending in ("nii.gz", "json")),
        *(f"desc-lesions_dseg.{ending}" for ending in ("nii.gz", "json", "tsv")),
    }
    expected = {f"{ANAT.as_posix()}/{STEM}_{name}" for name in of_case} | {f"sub-02/anat/sub-02_{name}" for name in of_case}
    assert files(output) == expected | {"dataset_description.json", "README.md"}
    scan = nibabel.load(dataset / f"{SCANS[0]}.nii.gz")
    for name in ("desc-anomaly_probseg", "label-lesion_mask", "desc-candidates_mask", "desc-lesions_dseg"):
        image = nibabel.load(output / ANAT / f"{STEM}_{name}.nii.gz")
        assert image.shape == scan.shape
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
        assert (int(image.header["sform_code"]) > 0, int(image.header["qform_code"]) > 0) == (True, True)
    # The same voxels as without BIDS, and the lesion where it was put.
    plain = ["-i", str(dataset), "-o", str(tmp_path / "plain"), "-m", str(model), "-device", "cpu", "--fpr", "0.02"]
    assert predict_command([*plain, "--min_lesion", "30"]) == 0
    score = read_volume(output / ANAT / f"{STEM}_desc-anomaly_probseg.nii.gz")
    assert np.array_equal(score.array, read_volume(tmp_path / "plain" / "sub-01_ses-1_anomaly.nii.gz").array)
    mask = read_volume(output / ANAT / f"{STEM}_label-lesion_mask.nii.gz", dtype=None).array
    assert mask[3, 12, 11] == 1
    assert mask.dtype == np.uint8


def test_lesions_are_numbered_as_in_their_table(model, dataset, tmp_path) -> None:
    output = tmp_path / "out"
    assert predicted(model, dataset, output, "participant", "--participant-label", "01") == 0
    numbered = read_volume(output / ANAT / f"{STEM}_desc-lesions_dseg.nii.gz", dtype=None)
    mask = read_volume(output / ANAT / f"{STEM}_label-lesion_mask.nii.gz", dtype=None).array
    assert np.array_equal(numbered.array > 0, mask > 0)
    rows = table(output / ANAT / f"{STEM}_desc-lesions_dseg.tsv")
    assert [int(row["index"]) for row in rows] == sorted(np.unique(numbered.array[numbered.array > 0]).tolist())
    for row in rows:
        voxels = np.count_nonzero(numbered.array == int(row["index"]))
        assert float(row["volume_ml"]) == pytest.approx(voxels * numbered.geometry.voxel_volume / 1000, rel=1e-3)
    sidecar = load_json(output / ANAT / f"{STEM}_desc-lesions_dseg.json")
    assert all(sidecar[column]["Description"] for column in list(rows[0])[2:])


def test_sidecars_tell_what_a_map_is_and_of_which_scan(model, dataset, tmp_path) -> None:
    output = dataset / "derivatives" / "maps"
    assert predicted(model, dataset, output, "participant") == 0
    sidecar = load_json(output / ANAT / f"{STEM}_desc-anomaly_probseg.json")
    scan = f"bids:raw:{SCANS[0]}.nii.gz"
    assert (sidecar["Sources"], sidecar["SpatialReference"]) == ([scan], scan)
    assert "no probability" in sidecar["Description"]
    assert sidecar["Units"] == "1 % of healthy tissue exceeds 1"
    record = sidecar["Prediction"]
    assert record["age"] == 71.0
    assert sidecar["Threshold"] == record["threshold"] > 0
    assert record["input_file"] == f"{SCANS[0]}.nii.gz"
    assert "files" not in record
    description = load_json(output / "dataset_description.json")
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "mmccd_auto"
    assert (output / description["DatasetLinks"]["raw"]).resolve() == dataset.resolve()
    assert load_json(output / ANAT / f"{STEM}_label-lesion_mask.json")["Type"] == "Lesion"


def test_the_validator_finds_no_error(model, dataset, tmp_path) -> None:
    program = find_validator()
    if program is None:
        pytest.skip("bids-validator-deno is not installed (pip install bids-validator-deno)")
    output = dataset / "derivatives" / "mmccd_auto"
    scan = read_volume(dataset / f"{SCANS[0]}.nii.gz")
    masks = tmp_path / "masks"
    for case in ("sub-01_ses-1", "sub-02"):
        write_volume((scan.array > 0).astype(np.uint8), scan.geometry, masks / f"{case}.nii.gz")
    assert predicted(model, dataset, output, "participant", "--brain_masks", masks) == 0
    assert (output / ANAT / f"{STEM}_desc-brain_mask.nii.gz").is_file()
    assert bids_command([str(dataset), str(output), "group"]) == 0
    assert validation_errors(output, program) == []
    assert validation_errors(dataset, program) == []
    # That it would find one:
    (output / ANAT / f"{STEM}_desc-anomaly_statmap.nii.gz").write_bytes(
        (output / ANAT / f"{STEM}_desc-anomaly_probseg.nii.gz").read_bytes()
    )
    assert any("statmap" in error for error in validation_errors(output, program))


def test_a_dataset_that_is_not_valid_is_refused_unless_it_shall_not_be_checked(model, dataset, tmp_path) -> None:
    if find_validator() is None:
        pytest.skip("bids-validator-deno is not installed (pip install bids-validator-deno)")
    (dataset / "sub-01" / "ses-1" / "anat" / "wrong.nii.gz").write_bytes(b"x")
    arguments = [str(dataset), str(tmp_path / "out"), "participant", "-m", str(model), "-device", "cpu"]
    with pytest.raises(MMCCDError, match=r"is no valid BIDS dataset by bids-validator-deno: .*--skip-bids-validation"):
        bids_command(arguments)
    assert not (tmp_path / "out").exists()
    assert bids_command([*arguments, "--skip-bids-validation"]) == 0


def test_without_the_validator_a_run_says_that_nothing_was_checked(model, dataset, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    arguments = [str(dataset), str(tmp_path / "out"), "participant", "-m", str(model), "-device", "cpu"]
    assert bids_command(arguments) == 0
    assert "was not validated, since bids-validator-deno is not installed" in caplog.text


def test_a_validator_that_ends_without_a_result_is_told(dataset, tmp_path) -> None:
    program = tmp_path / "validator"
    program.write_text("#!/bin/sh\necho nothing that is JSON\n")
    program.chmod(0o755)
    with pytest.raises(MMCCDError, match="gave no result"):
        validation_errors(dataset, str(program))
    with pytest.raises(MMCCDError, match="gave no result"):
        validation_errors(dataset, str(tmp_path / "nowhere"))


def test_a_run_goes_on_where_it_was_and_people_are_predicted_one_by_one(model, dataset, tmp_path) -> None:
    output = tmp_path / "out"
    assert predicted(model, dataset, output, "participant", "--participant-label", "sub-02") == 0
    assert not (output / "sub-01").exists()
    assert predicted(model, dataset, output, "participant", "--participant_label", "01", "--session-label", "1") == 0
    assert sorted(path.name for path in (output / "runs").iterdir()) == ["sub-01_ses-1", "sub-02"]
    image = output / ANAT / f"{STEM}_desc-anomaly_probseg.nii.gz"
    before = image.stat().st_mtime_ns
    image.with_name(image.name.replace(".nii.gz", ".json")).unlink()
    assert predicted(model, dataset, output, "participant", "--participant-label", "01", "--session-label", "1") == 0
    assert image.stat().st_mtime_ns == before
    assert image.with_name(image.name.replace(".nii.gz", ".json")).is_file()
    assert predicted(model, dataset, output, "participant", "--participant-label", "02", "--overwrite") == 0
    with pytest.raises(MMCCDError, match="no anatomical scan of sub-07"):
        predicted(model, dataset, output, "participant", "--participant-label", "07")


def test_what_is_no_longer_true_of_a_scan_goes(model, dataset, tmp_path) -> None:
    output = tmp_path / "out"
    chosen = ("--participant-label", "02")
    assert predicted(model, dataset, output, "participant", *chosen) == 0
    uncalibrated = ["-m", str(model), "-device", "cpu", "--score", "squared"]
    for file in model.glob("fold_*/calibration.json"):
        file.unlink()
    assert bids_command([str(dataset), str(output), "participant", *chosen, *uncalibrated, "--skip-bids-validation"]) == 0
    anomaly = {f"sub-02/anat/sub-02_desc-anomaly_probseg.{ending}" for ending in ("nii.gz", "json")}
    assert files(output) == anomaly | {"dataset_description.json", "README.md"}


def test_the_group_level_lists_all_maps_that_are_there(model, dataset, tmp_path, capsys) -> None:
    output = tmp_path / "out"
    with pytest.raises(MMCCDError, match="holds no anomaly map: run mmccd_bids"):
        bids_command([str(dataset), str(output), "group"])
    for person in ("01", "02"):
        assert predicted(model, dataset, output, "participant", "--participant-label", person) == 0
    capsys.readouterr()
    assert bids_command([str(dataset), str(output), "group"]) == 0
    cases, lesions = table(output / "group_cases.tsv"), table(output / "group_lesions.tsv")
    assert [(row["participant_id"], row["session_id"], row["case"]) for row in cases] == [
        ("sub-01", "ses-1", "sub-01_ses-1"),
        ("sub-02", "n/a", "sub-02"),
    ]
    records = [load_json(path)["Prediction"] for path in sorted(output.glob("sub-*/**/*_probseg.json"))]
    assert len(lesions) == sum(len(record[LESION_LIST]) for record in records) > 0
    assert [float(row["case_score"]) for row in cases] == [record["case_score"] for record in records]
    assert capsys.readouterr().out == f"2 cases with {len(lesions)} lesion{'s' * (len(lesions) > 1)}: {output}\n"
    sidecar = output / "sub-02" / "anat" / "sub-02_desc-anomaly_probseg.json"
    save_json({"Prediction": {"case": "sub-02"}}, sidecar)
    with pytest.raises(MMCCDError, match=r"sub-02_desc-anomaly_probseg\.json lacks an entry of Prediction"):
        bids_command([str(dataset), str(output), "group"])


def test_other_people_s_folders_are_not_written_to(model, dataset, tmp_path) -> None:
    with pytest.raises(MMCCDError, match="is the dataset of the scans"):
        predicted(model, dataset, dataset, "participant")
    save_json(
        {"Name": "fMRIPrep", "BIDSVersion": "1.4.0", "DatasetType": "derivative"}, tmp_path / "dataset_description.json"
    )
    with pytest.raises(MMCCDError, match="holds a BIDS dataset that mmccd_auto has not written"):
        predicted(model, dataset, tmp_path, "participant")
    output = tmp_path / "out"
    ours = {"Name": "Maps", "BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": "mmccd_auto"}], "InputModality": "T1"}
    save_json(ours, output / "dataset_description.json")
    with pytest.raises(MMCCDError, match="holds the maps of T1 scans, and those of FLAIR have the same names"):
        predicted(model, dataset, output, "participant")


def test_predict_writes_a_derivative_of_a_bids_dataset_only(model, dataset, tmp_path) -> None:
    arguments = ["-m", str(model), "-device", "cpu", "--bids"]
    assert predict_command(["-i", str(dataset), "-o", str(tmp_path / "out"), *arguments]) == 0
    assert (tmp_path / "out" / ANAT / f"{STEM}_desc-anomaly_probseg.json").is_file()
    (dataset / "dataset_description.json").unlink()
    with pytest.raises(MMCCDError, match=r"is no BIDS dataset: it has no dataset_description\.json"):
        predict_command(["-i", str(dataset), "-o", str(tmp_path / "other"), *arguments])


def test_scans_that_datalad_has_fetched_keep_their_names(model, dataset, tmp_path) -> None:
    scan = dataset / f"{SCANS[1]}.nii.gz"
    store = dataset / ".git" / "annex" / "objects" / "xX" / "MD5E-s1.nii.gz" / "MD5E-s1.nii.gz"
    store.parent.mkdir(parents=True)
    scan.rename(store)
    scan.symlink_to(os.path.relpath(store, scan.parent))
    assert predicted(model, dataset, tmp_path / "out", "participant", "--participant-label", "02") == 0
    sidecar = load_json(tmp_path / "out" / "sub-02" / "anat" / "sub-02_desc-anomaly_probseg.json")
    assert sidecar["Sources"] == [f"bids:raw:{SCANS[1]}.nii.gz"]


def test_runs_for_different_people_write_one_derivative_at_once(model, dataset, tmp_path) -> None:
    program = "import sys; from mmccd_auto.cli.commands.bids import main; main()"
    rest = ["participant", "-m", str(model), "-device", "cpu", "--skip-bids-validation", "--participant-label"]
    commands = [
        [sys.executable, "-c", program, str(dataset), str(tmp_path / "out"), *rest, person] for person in ("01", "02")
    ]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    ended = [(one.wait(timeout=300), one.stderr.read()) for one in running]
    assert [code for code, _ in ended] == [0, 0], ended
    assert len(list((tmp_path / "out").glob("sub-*/**/*_desc-anomaly_probseg.json"))) == 2


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (BidsOptions(), "all"),
        (BidsOptions(participants=("sub-02", "01")), "sub-01_sub-02"),
        (BidsOptions(participants=("01",), sessions=("ses-1",)), "sub-01_ses-1"),
        (BidsOptions(sessions=("1", "2")), "ses-1_ses-2"),
    ],
)
def test_a_run_is_called_by_its_people(options: BidsOptions, name: str) -> None:
    assert run_name(options) == name
    many = run_name(BidsOptions(participants=tuple(f"{number:03d}" for number in range(500))))
    assert many.startswith("sub-000_and-499-more-")
    assert many != run_name(BidsOptions(participants=tuple(f"{number:03d}" for number in (0, *range(2, 501)))))
