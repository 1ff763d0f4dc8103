"""The lesion remover by the daily commands, alone and averaged with the cycle, on simulated brains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.imaging.io import read_volume
from mmccd_auto.phantom.dataset import PhantomPeople, write_phantom_dataset

pytestmark = pytest.mark.slow
REMOVER, CYCLE = "MMCCDTrainerLesionRemover", "CyclicUNetTrainer"
ON_CPU = ("-np", "0", "-device", "cpu")


def run(folder: Path, command: str, *options: str) -> None:
    """Run a console script from ``folder``, where its data folders are by default; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("mmccd_")}
    environment["OMP_NUM_THREADS"] = "1"
    result = subprocess.run(
        [str(Path(sys.executable).parent / command), *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def model(home: Path, trainer: str) -> Path:
    return home / "mmccd/results/Dataset007_Phantom" / f"{trainer}__mmccdPlansSmall_lowres__FLAIR-T1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the remover and the cycle were trained for a moment, and each and both have predicted."""
    folder = tmp_path_factory.mktemp("home")
    write_phantom_dataset(
        folder / "mmccd" / "raw", people=PhantomPeople(training_subjects=3, test_subjects=1, resolution=4), number=7
    )
    run(
        folder,
        "mmccd_plan_and_preprocess",
        *("-d", "7", "-pl", "MMCCDPlannerSmall", "--resolution", "lowres", "-overwrite_target_spacing", "5"),
        *("-gpu_memory_target", "1", "--time_budget", "0.02", *ON_CPU),
    )
    for trainer, epochs, iterations in ((REMOVER, "4", "20"), (CYCLE, "1", "2")):
        short = ("--num_epochs", epochs, "--iterations_per_epoch", iterations)
        run(folder, "mmccd_train", "7", "0", "-tr", trainer, *short, *ON_CPU)
    scans = "mmccd/raw/Dataset007_Phantom/imagesTs"
    run(folder, "mmccd_predict", "-d", "7", "-tr", REMOVER, "-i", scans, "-o", "alone", "-device", "cpu")
    run(folder, "mmccd_predict", "-d", "7", "-tr", CYCLE, "-i", scans, "-o", "cycle", "-device", "cpu")
    models = [str(model(folder, trainer)) for trainer in (REMOVER, CYCLE)]
    run(folder, "mmccd_predict", "-m", *models, "-i", scans, "-o", "both", "-device", "cpu")
    return folder


def maps(home: Path, folder: str) -> np.ndarray:
    (path,) = (home / folder).glob("*_anomaly.nii.gz")
    return read_volume(path).array


def test_it_is_trained_calibrated_and_drawn(home: Path) -> None:
    fold = model(home, REMOVER) / "fold_0"
    for name in ("checkpoint_final.pth", "calibration.json", "progress.png"):
        assert (fold / name).is_file()
    records = [json.loads(line) for line in (fold / "training_log.jsonl").read_text().splitlines()]
    assert len(records) == 4
    assert records[-1]["train"]["restoration"] < records[0]["train"]["restoration"]
    (record,) = [json.loads(path.read_text()) for path in (home / "alone").glob("test_*.json")]
    assert record["score_unit"] == "1 % of healthy tissue exceeds 1"


def test_lesions_score_higher_than_other_tissue(home: Path) -> None:
    """After eighty iterations, by the median, which a few voxels don't move."""
    (label,) = (home / "mmccd/raw/Dataset007_Phantom/labelsTs").glob("*.nii.gz")
    lesion, found = read_volume(label).array > 0, maps(home, "alone")
    assert np.median(found[lesion]) > 2 * np.median(found[~lesion & (found > 0)])


def test_it_is_averaged_with_the_cycle_in_calibrated_units(home: Path) -> None:
    expected = (maps(home, "alone") + maps(home, "cycle")) / 2
    np.testing.assert_allclose(maps(home, "both"), expected, rtol=1e-3, atol=1e-3)
