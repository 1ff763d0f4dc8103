"""Plan and training without a choice by the user but the time, by the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmccd_auto.phantom.dataset import PhantomPeople, write_phantom_dataset


def run(folder: Path, command: str, *options: str) -> str:
    """Run a console script from ``folder``; gives what it tells."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("mmccd_")}
    script = Path(sys.executable).parent / command
    finished = subprocess.run(
        [str(script), *options, "-device", "cpu", "-np", "0"],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stderr


@pytest.mark.slow
def test_a_tiny_budget_trains_through_the_commands(tmp_path: Path) -> None:
    write_phantom_dataset(
        tmp_path / "mmccd" / "raw", people=PhantomPeople(training_subjects=3, test_subjects=0, resolution=4), number=7
    )
    options = ("-d", "7", "--training_hours", "0.003", "-overwrite_target_spacing", "5")
    planned = run(tmp_path, "mmccd_plan_and_preprocess", *options)
    assert "8 channels, " in planned
    assert "a fold on this CPU (1 thread)" in planned
    assert "with a GPU: 32 channels, " in planned
    path = tmp_path / "mmccd/preprocessed/Dataset007_Phantom/mmccdPlans/plans.json"
    first = path.read_bytes()
    budget = json.loads(first)["budget"]
    assert budget["training_hours"] == 0.003
    assert "would now be planned otherwise" not in run(tmp_path, "mmccd_plan_and_preprocess", *options)
    assert path.read_bytes() == first

    # The plan of a machine ten times as slow.
    content = json.loads(first)
    content["budget"]["seconds_per_slice"] = {name: 10 * value for name, value in budget["seconds_per_slice"].items()}
    path.write_text(json.dumps(content))
    trained = run(tmp_path, "mmccd_train", "7", "0")
    assert "a fold on this CPU" in trained
    assert "times as quick: about" in trained
    assert "Plan again for this machine with mmccd_plan_and_preprocess --overwrite" in trained
    assert "longer training is worthwhile" in trained
    fold = tmp_path / "mmccd/results/Dataset007_Phantom/MMCCDTrainer__mmccdPlans__FLAIR-T1/fold_0"
    epochs = [json.loads(line) for line in (fold / "training_log.jsonl").read_text().splitlines()]
    assert len(epochs) == content["training"]["num_epochs"]
    assert epochs[0]["learning_rate"] == 1e-3
    assert epochs[-1]["learning_rate"] < 2e-4
    calibration = json.loads((fold / "calibration.json").read_text())
    assert sum(subject["slices"] for subject in calibration["subjects"]) > 0
