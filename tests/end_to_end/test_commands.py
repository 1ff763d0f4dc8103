"""The daily commands, as a user runs them, on simulated brains."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.phantom.dataset import PhantomPeople, write_phantom_dataset

MODEL = "MMCCDTrainer__mmccdPlansSmall_lowres__FLAIR-T1"
SLICES = 32


def run(folder: Path, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a console script from ``folder``, where its data folders are by default."""
    script = Path(sys.executable).parent / command
    environment = {name: value for name, value in os.environ.items() if not name.startswith("mmccd_")}
    # Networks this small gain nothing from threads, which wait for each other where the machine is busy.
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        [str(script), *options], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which plan, training and prediction have been run by the commands with their default folders."""
    folder = tmp_path_factory.mktemp("home")
    write_phantom_dataset(
        folder / "mmccd" / "raw", people=PhantomPeople(training_subjects=4, test_subjects=3, resolution=4), number=7
    )
    planned = run(
        folder,
        "mmccd_plan_and_preprocess",
        *("-d", "7", "-pl", "MMCCDPlannerSmall", "--resolution", "lowres", "-overwrite_target_spacing", "5"),
        *("-gpu_memory_target", "1", "--time_budget", "0.02"),
        *("--verify_dataset_integrity", "-np", "0", "-device", "cpu"),
    )
    assert planned.returncode == 0, planned.stderr
    assert "network evaluations a case" in planned.stderr
    # A person may edit a plan: by default the work after the last epoch takes minutes.
    plans = folder / "mmccd/preprocessed/Dataset007_Phantom/mmccdPlansSmall_lowres/plans.json"
    content = json.loads(plans.read_text())
    content["after_training"] = {"trial_slices": 12, "trial_seeds": 1, "calibration_slices": SLICES}
    plans.write_text(json.dumps(content))
    trained = run(
        folder,
        "mmccd_train",
        *("7", "0", "-p", "mmccdPlansSmall_lowres", "--num_epochs", "2", "--iterations_per_epoch", "2"),
        *("-np", "0", "-device", "cpu"),
    )
    assert trained.returncode == 0, trained.stderr
    scans = folder / "mmccd" / "raw" / "Dataset007_Phantom" / "imagesTs"
    predicted = run(folder, "mmccd_predict", "-i", str(scans), "-o", "maps", "-device", "cpu", "--preset", "fast")
    assert predicted.returncode == 0, predicted.stderr
    return folder


def cases(home: Path) -> list[str]:
    return sorted(path.name[: -len(".nii.gz")] for path in (home / "mmccd/raw/Dataset007_Phantom/labelsTs").iterdir())


def test_results_folder_can_be_handed_on(home: Path, tmp_path: Path) -> None:
    model = home / "mmccd/results/Dataset007_Phantom" / MODEL
    for name in ("plans.json", "dataset.json"):
        assert (model / name).is_file()
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth", "progress.png", "training_log.jsonl", "calibration.json"):
        assert (model / "fold_0" / name).is_file()
    moved = tmp_path / MODEL
    shutil.copytree(model, moved)
    case = cases(home)[0]
    scan = home / "mmccd/raw/Dataset007_Phantom/imagesTs" / f"{case}_0000.nii.gz"
    elsewhere = run(
        tmp_path, "mmccd_predict", "-m", str(moved), "-i", str(scan), "-o", "out", "--preset", "fast", "-device", "cpu"
    )
    assert elsewhere.returncode == 0, elsewhere.stderr
    np.testing.assert_allclose(
        read_volume(tmp_path / "out" / f"{case}_anomaly.nii.gz").array,
        read_volume(home / "maps" / f"{case}_anomaly.nii.gz").array,
        rtol=1e-4,
        atol=1e-5,
    )


def test_outputs_lie_on_the_scans(home: Path) -> None:
    for case in cases(home):
        scan = read_volume(home / "mmccd/raw/Dataset007_Phantom/imagesTs" / f"{case}_0000.nii.gz")
        anomaly = read_volume(home / "maps" / f"{case}_anomaly.nii.gz", dtype=None)
        mask = read_volume(home / "maps" / f"{case}_mask.nii.gz", dtype=None)
        assert anomaly.geometry.differences(scan.geometry) == []
        assert mask.geometry.differences(scan.geometry) == []
        assert anomaly.array.dtype == np.float32
        assert mask.array.dtype == np.uint8
        assert np.isfinite(anomaly.array).all()
        brain = find_brain(scan.array, scan.geometry.spacing, case)
        assert not anomaly.array[~brain].any()
        assert (anomaly.array[brain] > 0).mean() > 0.9
        assert (home / "maps" / f"{case}.png").stat().st_size > 10_000
        assert json.loads((home / "maps" / f"{case}.json").read_text())["case"] == case
    summary = pd.read_csv(home / "maps" / "summary.csv")
    assert sorted(summary["case"].dropna()) == cases(home)
    # The other modalities of the test cases are counted, and nothing else is left out.
    assert set(summary[summary["case"].isna()]["status"]) <= {"left out"}


def test_evaluation_sets_the_intensity_beside_the_model(home: Path) -> None:
    labels = home / "mmccd/raw/Dataset007_Phantom/labelsTs"
    evaluated = run(home, "mmccd_evaluate", "-ref", str(labels), "-pred", "maps", "-o", "figures.json", "-np", "0")
    assert evaluated.returncode == 0, evaluated.stderr
    figures = json.loads((home / "figures.json").read_text())
    assert set(figures["methods"]) == {"anomaly_map", "intensity", "smoothed intensity"}
    assert 0 < figures["prevalence"] < 0.2
    for method in figures["methods"].values():
        assert 0 < method["pooled"]["auprc"] <= 1
    assert "intensity" in evaluated.stdout


def test_missing_predictions_are_an_error(home: Path, tmp_path: Path) -> None:
    labels = home / "mmccd/raw/Dataset007_Phantom/labelsTs"
    evaluated = run(home, "mmccd_evaluate", "-ref", str(labels), "-pred", str(tmp_path), "-np", "0")
    assert evaluated.returncode == 1
    assert "Traceback" not in evaluated.stderr
    assert all(case in evaluated.stderr for case in cases(home))


def test_commands_can_be_run_again(home: Path) -> None:
    plan = home / "mmccd/preprocessed/Dataset007_Phantom/mmccdPlansSmall_lowres/plans.json"
    edited = json.loads(plan.read_text())
    edited["training"]["learning_rate"] = 2e-4
    plan.write_text(json.dumps(edited))
    again = run(
        home,
        "mmccd_plan_and_preprocess",
        *("-d", "Phantom", "-pl", "MMCCDPlannerSmall", "--resolution", "lowres", "-overwrite_target_spacing", "5"),
        *("-gpu_memory_target", "1", "--time_budget", "0.02"),
        *("-np", "0", "-device", "cpu"),
    )
    assert again.returncode == 0, again.stderr
    assert "is obeyed" in again.stderr
    assert json.loads(plan.read_text())["training"]["learning_rate"] == 2e-4


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("mmccd_plan_and_preprocess", ("-d", "99"), "99"),
        ("mmccd_train", ("7", "0", "-p", "nonsense"), "mmccd_plan_and_preprocess"),
        ("mmccd_train", ("7", "9", "-p", "mmccdPlansSmall_lowres"), "fold 9"),
        ("mmccd_train", ("7", "0", "-p", "mmccdPlansSmall_lowres", "-tr", "NoTrainer"), "MMCCDTrainer"),
        ("mmccd_train", ("7", "0", "-p", "mmccdPlansSmall_lowres", "-c", "T1-PET"), "FLAIR-T1"),
        ("mmccd_predict", ("-i", "nowhere", "-o", "x"), "nowhere"),
        ("mmccd_predict", ("-i", "maps", "-o", "x", "-device", "cuda:77"), "cuda:77"),
        ("mmccd_predict", ("-i", "maps", "-o", "x", "-f", "3"), "3"),
        ("mmccd_demo", ("-o", "mmccd"), "not empty"),
    ],
)
def test_bad_input_gives_one_sentence(home: Path, command: str, options: tuple[str, ...], words: str) -> None:
    result = run(home, command, *options)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last


def test_labels_of_test_cases_are_never_read_and_choices_are_obeyed(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home / "mmccd", copy / "mmccd")
    labels = copy / "mmccd/raw/Dataset007_Phantom/labelsTs"
    for path in labels.iterdir():
        path.write_bytes(b"whoever reads this fails")
    model = copy / "mmccd/results/Dataset007_Phantom" / MODEL
    before = json.loads((model / "fold_0/calibration.json").read_text())
    (model / "fold_0/calibration.json").unlink()
    case = cases(home)[0]
    scan = str(copy / "mmccd/raw/Dataset007_Phantom/imagesTs" / f"{case}_0000.nii.gz")
    for command, options in (
        ("mmccd_calibrate", ("7", "--max_slices", str(SLICES))),
        ("mmccd_predict", ("-i", scan, "-o", "maps", "--preset", "fast")),
        ("mmccd_find_best_configuration", ("Phantom", "--per_kind", "1", "--max_slices", "12")),
        ("mmccd_predict", ("-i", scan, "-o", "chosen")),
    ):
        result = run(copy, command, *options, "-device", "cpu")
        assert result.returncode == 0, result.stderr
        if command == "mmccd_calibrate":
            assert json.loads((model / "fold_0/calibration.json").read_text()) == before
    expected, found = (read_volume(one / "maps" / f"{case}_anomaly.nii.gz").array for one in (home, copy))
    np.testing.assert_array_equal(found, expected)
    choice = json.loads((model / "inference.json").read_text())
    assert json.loads((model.parent / "best_configuration.json").read_text())["models"] == {"FLAIR": [MODEL]}
    record = json.loads((copy / "chosen" / f"{case}.json").read_text())
    assert (record["settings"]["steps"], record["settings"]["strip_stride"]) == (
        choice["sampling_steps"],
        choice["strip_stride"],
    )
    assert "other settings" not in record["threshold_source"]


def test_prediction_of_a_damaged_scan_leaves_the_others(home: Path, tmp_path: Path) -> None:
    scans = home / "mmccd/raw/Dataset007_Phantom/imagesTs"
    good, bad = cases(home)[:2]
    (tmp_path / f"{good}_0000.nii.gz").write_bytes((scans / f"{good}_0000.nii.gz").read_bytes())
    (tmp_path / f"{bad}_0000.nii.gz").write_bytes((scans / f"{bad}_0000.nii.gz").read_bytes()[:2000])
    result = run(home, "mmccd_predict", "-i", str(tmp_path), "-o", "partly", "--preset", "fast", "-device", "cpu")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert f"{bad}_0000.nii.gz" in result.stderr
    assert (home / "partly" / f"{good}_anomaly.nii.gz").is_file()
    assert not list((home / "partly").glob(f"{bad}_*.nii.gz"))
