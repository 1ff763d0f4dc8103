"""The whole job in one call: killed and continued, refused where inputs differ, and with a model that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.phantom.dataset import PhantomPeople, write_phantom_dataset
from mmccd_auto.workflows.run import place_page

DATASET = "Dataset007_Phantom"
SMALL_JOB = """
import logging, os, signal, sys
from dataclasses import replace
import torch
from mmccd_auto.cli.common import run_command
from mmccd_auto.workflows.train import TrainingOptions
from mmccd_auto.workflows.plan_and_preprocess import PlanningOptions
from mmccd_auto.workflows.run import RunOptions, run_all

controls, patients, output, kill_at, seed, *wishes = sys.argv[1:]

class Killer(logging.Handler):
    def emit(self, record):
        if record.getMessage() == f"{kill_at} ...":
            os.kill(os.getpid(), signal.SIGKILL)

def small(plan):
    network = replace(plan.network, base_channels=8, channel_multipliers=(1, 2), residual_blocks=1, attention_edges=())
    configurations = {
        name: replace(one, sampling_steps=1, strip_stride=plan.strip_width) for name, one in plan.configurations.items()
    }
    training = replace(plan.training, batch_size=2)
    return replace(plan, network=network, training=training, configurations=configurations, cost={})

def work(_):
    logging.getLogger().addHandler(Killer())
    planning = PlanningOptions("MMCCDPlannerSmall", "lowres", 1.0, 6.0, time_budget_minutes=0.02)
    training = TrainingOptions(None, "MMCCDTrainerShort", "mmccdPlansSmall_lowres", 2 + int(seed), 2, choose_steps=False)
    beside = ("MMCCDTrainerLesionRemover",)
    options = RunOptions(
        planning=planning,
        training=training,
        edit_plan=small,
        beside=beside,
        choose="choose" in wishes,
        overwrite="overwrite" in wishes,
    )
    result = run_all(patients, output, options, torch.device("cpu"), 0, healthy=controls)
    print(result.table)
    return 1 if result.failed else 0

sys.exit(run_command(work))
"""


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("mmccd_")}
    return subprocess.run(
        arguments,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def small_job(
    home: Path, kill_at: str = "", seed: int = 0, *wishes: str, controls: Path | None = None
) -> subprocess.CompletedProcess[str]:
    dataset = home / "raw" / DATASET
    places = [controls or dataset, dataset / "imagesTs", home / "out"]
    return run([sys.executable, "-c", SMALL_JOB, *map(str, places), kill_at, str(seed), *wishes])


def mmccd_run(*options: str) -> subprocess.CompletedProcess[str]:
    return run([str(Path(sys.executable).parent / "mmccd_run"), *options, "-device", "cpu", "-np", "0"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with controls, and a job of which every run but the last was killed where a stage began."""
    folder = tmp_path_factory.mktemp("run")
    write_phantom_dataset(folder / "raw", people=PhantomPeople(training_subjects=3, test_subjects=1, resolution=4), number=7)
    for stage in ("preprocess", "train fold 0", "train fold 0 by MMCCDTrainerLesionRemover", "predict"):
        killed = small_job(folder, stage)
        assert killed.returncode == -9, killed.stderr
    ended = small_job(folder)
    assert ended.returncode == 0, ended.stderr
    said = (ended.stdout + ended.stderr).splitlines()
    assert len(said) < 40
    for stage in ("import", "plan", "preprocess", "train fold 0"):
        assert any(line.startswith(f"{stage}: finished before") for line in said)
    assert len(list((folder / "out/maps").glob("*_anomaly.nii.gz"))) == 1
    return folder


def test_a_finished_job_does_nothing_again_and_other_options_are_refused(home: Path) -> None:
    again = small_job(home)
    assert again.returncode == 0, again.stderr
    assert "..." not in again.stderr
    other = small_job(home, seed=1)
    assert other.returncode == 1
    last = other.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "--overwrite" in last


def test_a_trained_model_predicts_without_training(home: Path, tmp_path: Path) -> None:
    results = home / "out/results" / DATASET
    scans = str(home / "raw" / DATASET / "imagesTs")
    ended = mmccd_run("--model", str(results), "-i", scans, "-o", str(tmp_path / "out"))
    assert ended.returncode == 0, ended.stderr
    assert len((ended.stdout + ended.stderr).splitlines()) < 40
    assert len(list((tmp_path / "out/maps").glob("*_anomaly.nii.gz"))) == 1
    assert (tmp_path / "out/run.log").is_file()


@pytest.mark.slow
def test_controls_are_imported_steps_chosen_and_changed_options_begin_again_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = write_phantom_dataset(
        tmp_path / "raw", people=PhantomPeople(training_subjects=3, test_subjects=1, resolution=4), number=7
    )
    dataset, controls = load_dataset(folder), tmp_path / "controls"
    for case in dataset.cases("Tr"):
        (controls / case).mkdir(parents=True)
        for modality in dataset.modalities:
            shutil.copy(dataset.channel_file(case, modality, "Tr"), controls / case / f"{modality}.nii.gz")
    first = small_job(tmp_path, "", 0, "choose", controls=controls)
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "out/raw/Dataset001_Controls/dataset.json").is_file()
    results = tmp_path / "out/results/Dataset001_Controls"
    (model,) = results.glob("MMCCDTrainerShort__*")
    log = model / "fold_0/training_log.jsonl"
    assert len(log.read_text().splitlines()) == 2
    best = load_json(results / "best_configuration.json")
    assert set(best["best"]) == {model.name}
    assert [name.split("__")[0] for name in best["models"]["FLAIR"]] == ["MMCCDTrainerShort", "MMCCDTrainerLesionRemover"]
    assert small_job(tmp_path, "", 1, "choose", controls=controls).returncode == 1
    again = small_job(tmp_path, "", 1, "choose", "overwrite", controls=controls)
    assert again.returncode == 0, again.stderr
    said = (again.stdout + again.stderr).splitlines()
    for stage, finished in (("import", True), ("plan", True), ("preprocess", True), ("train fold 0", False)):
        assert any(line.startswith(f"{stage}: finished before") for line in said) == finished, stage
    assert len(log.read_text().splitlines()) == 3


def test_results_cannot_lie_in_the_scans(home: Path) -> None:
    scans = home / "raw" / DATASET / "imagesTs"
    ended = mmccd_run("--model", "none", "-i", str(scans), "-o", str(scans / "out"))
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: -i ")
    assert not (scans / "out").exists()


def test_a_single_page_is_copied_and_an_index_is_linked(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    assert place_page(maps, tmp_path) is None
    (maps / "report.html").write_text("<p>page</p>")
    assert place_page(maps, tmp_path).read_text() == "<p>page</p>"
    (maps / "report").mkdir()
    assert "url=maps/report.html" in place_page(maps, tmp_path).read_text()
