"""Training as the command does it: what is there is continued or kept, and one run at a time works on a fold."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.plans.fingerprint import CaseFingerprint, DatasetFingerprint, ModalityFingerprint, SlicesFingerprint
from mmccd_auto.plans.plan import Plan
from mmccd_auto.synthetic_anomalies.make import OF_ONE_SUBJECT
from mmccd_auto.trained.checkpoint import load_checkpoint, save_checkpoint
from mmccd_auto.training.options import TrainingMachine
from mmccd_auto.workflows.train import TrainingOptions, train

CPU = torch.device("cpu")
PERCENTILES = ("0.5", "2", "10", "25", "50", "75", "90", "98", "99.5")
MODEL = "CyclicUNetTrainerShort__mmccdPlans__FLAIR-T1"


@dataclass(frozen=True)
class Home:
    """Folders with a tiny preprocessed dataset."""

    folders: Folders

    @property
    def fold(self) -> Path:
        return self.folders.results / "Dataset900_Tiny" / MODEL / "fold_0"

    def train(self, overwrite: bool = False, **options: Any) -> Path:
        given = {"trainer": "CyclicUNetTrainerShort", "num_epochs": 1, "iterations_per_epoch": 1, **options}
        return train(self.folders, 900, 0, TrainingOptions(**given), TrainingMachine(CPU), overwrite)


def write_fingerprint(home: Path, subjects: dict[str, str]) -> None:
    one = ModalityFingerprint(
        {key: 10 + float(key) for key in PERCENTILES}, 30.0, 10.0, 1.0, (5.0, 5.0, 5.0), (0.5, 0.6), "stripped"
    )
    slices = dict.fromkeys(("axial", "coronal", "sagittal"), SlicesFingerprint(6, 6, (100.0, 90.0)))
    rest = ((32, 32, 6), (4.0, 4.0, 5.0), "axial", (30.0, 120.0, 100.0), 900.0, False, True, 1.0, slices)
    cases = {case: CaseFingerprint(person, "LPS", *rest, {"FLAIR": one, "T1": one}) for case, person in subjects.items()}
    failed = {"Failed_1": "Failed_1_0000.nii.gz is cut off."}
    DatasetFingerprint("Dataset900_Tiny", ("FLAIR", "T1"), cases, failed, {}).save(home / "dataset_fingerprint.json")


@pytest.fixture
def home(tmp_path: Path, preprocessed: Path, splits: list, tiny_plan: Plan) -> Home:
    replace(tiny_plan, training=replace(tiny_plan.training, batch_size=2)).save(preprocessed / "plans.json")
    save_json(splits, preprocessed.parent / "splits_final.json")
    subjects = {"a_1": "a", "a_2": "a", "b_1": "b", "c_1": "c"}
    dataset = {"channel_names": {"0": "FLAIR", "1": "T1"}, "subjects": subjects, "cases": {"a_1": {"age": 50}}}
    save_json(dataset, preprocessed.parent / "dataset.json")
    write_fingerprint(preprocessed.parent, subjects)
    return Home(Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results"))


def test_a_finished_and_calibrated_training_is_left_as_it_is(home: Home, caplog: Any) -> None:
    home.train()
    times = {path: path.stat().st_mtime_ns for path in home.fold.rglob("*") if path.is_file()}
    assert home.fold / "calibration.json" in times
    with caplog.at_level("INFO"):
        home.train()
    assert {path: path.stat().st_mtime_ns for path in home.fold.rglob("*") if path.is_file()} == times
    assert "the calibration fits and is kept" in caplog.text


def test_a_training_ends_with_what_its_networks_add(home: Home, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    # There is nothing in smooth noise that a displacement would change enough.
    monkeypatch.delitem(OF_ONE_SUBJECT, "deformation")
    with caplog.at_level("INFO"):
        home.train()
    gain, calibration = (load_json(home.fold / name) for name in ("gain.json", "calibration.json"))
    assert list(gain["auprc"]) == ["map", "control", "smoothed intensity", "intensity"]
    assert gain["reconstruction_r2"] == pytest.approx(calibration["subjects"][0]["reconstruction_r2"])
    for told in ("the reconstruction explains R2", "gain over the control", "smoothed intensity"):
        assert told in caplog.text


def test_what_can_not_be_told_of_a_training_does_not_end_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def without_contrast(*_: Any, **__: Any) -> None:
        raise MMCCDError("a: no synthetic anomaly changes its FLAIR enough.")

    monkeypatch.setattr("mmccd_auto.inference.choice.fold_gain.alter_cases", without_contrast)
    home.train()
    assert (home.fold / "calibration.json").is_file()
    assert not (home.fold / "gain.json").exists()
    assert "can't be measured: a: no synthetic anomaly" in caplog.text


def test_only_what_is_missing_is_made_for_a_finished_training(home: Home) -> None:
    home.train()
    final = (home.fold / "checkpoint_final.pth").read_bytes()
    calibration = (home.fold / "calibration.json").read_bytes()
    (home.fold / "calibration.json").unlink()
    home.train()
    assert (home.fold / "calibration.json").read_bytes() == calibration
    assert (home.fold / "checkpoint_final.pth").read_bytes() == final


def test_a_fold_that_another_run_trains_is_refused_and_left_alone(home: Home, on_another_thread: Callable) -> None:
    home.train()
    before = (home.fold / "training_log.jsonl").read_bytes()
    refusal = pytest.raises(MMCCDError, match=r"fold_0 is in use: .* writes the training of fold 0 there")
    with on_another_thread(lambda: folder_lock(home.fold, "the training of fold 0")), refusal:
        home.train(overwrite=True)
    assert (home.fold / "training_log.jsonl").read_bytes() == before
    home.train(overwrite=True)


@pytest.fixture
def on_another_thread() -> Callable:
    """Gives a context that another thread is in."""

    class Elsewhere:
        def __init__(self, make: Callable) -> None:
            self.inside, self.leave = threading.Event(), threading.Event()

            def hold() -> None:
                with make():
                    self.inside.set()
                    self.leave.wait(600)

            self.thread = threading.Thread(target=hold)

        def __enter__(self) -> None:
            self.thread.start()
            assert self.inside.wait(600)

        def __exit__(self, *_: object) -> None:
            self.leave.set()
            self.thread.join()

    return Elsewhere


def test_a_dataset_that_is_not_preprocessed_is_named_with_the_remedy(home: Home, tmp_path: Path) -> None:
    empty = replace(home.folders, preprocessed=tmp_path / "nowhere")
    with pytest.raises(MMCCDError, match=r"nowhere does not exist: run mmccd_plan_and_preprocess first"):
        Home(empty).train()
    with pytest.raises(MMCCDError, match=r"has no dataset 901: .*run mmccd_plan_and_preprocess first"):
        train(home.folders, 901, 0, TrainingOptions(), TrainingMachine(CPU))


def test_the_results_folder_is_tried_before_the_work(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("mmccd_auto.training.trainer.Trainer.train", lambda *_: pytest.fail("has begun"))
    with pytest.raises(MMCCDError, match="file"):
        Home(replace(home.folders, results=tmp_path / "file" / "results")).train()


def test_a_model_folder_names_and_shows_nobody(
    tmp_path: Path, write_preprocessed: Callable, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte of every file, the contents of the checkpoints' archives included."""
    people = {"Mustermann_1": "Mustermann", "Mustermann_2": "Mustermann", "Doe_1": "Doe", "Roe_1": "Roe"}
    folder = write_preprocessed(tmp_path / "preprocessed" / "Dataset900_Tiny" / "mmccdPlans", subjects=people)
    tiny_plan.save(folder / "plans.json")
    splits = [{"train": ["Doe_1", "Roe_1"], "val": ["Mustermann_1", "Mustermann_2"]}]
    save_json(splits, folder.parent / "splits_final.json")
    content = {"channel_names": {"0": "FLAIR", "1": "T1"}, "subjects": people, "description": "Mustermann and others"}
    save_json(content, folder.parent / "dataset.json")
    write_fingerprint(folder.parent, people)
    drawn = []
    monkeypatch.setattr("mmccd_auto.training.progress._draw_example", lambda figure, example: drawn.append(example))
    home = Home(Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results"))
    home.train()
    assert drawn
    model = home.fold.parent
    for path in (path for path in model.rglob("*") if path.is_file()):
        parts = [str(path.relative_to(model)).encode(), path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                parts += [archive.read(name) for name in archive.namelist()]
        for name in (b"Mustermann", b"Doe", b"Roe", b"Failed"):
            assert not any(name in part for part in parts), path
    assert not list(model.rglob("*.npz"))
    assert not (home.fold / "example.png").exists()
    assert (folder.parent / "models" / model.name / "fold_0" / "example.png").is_file()
    calibration = json.loads((home.fold / "calibration.json").read_text())
    assert [one["subject"] for one in calibration["subjects"]] == ["subject_02"]
    fingerprint = json.loads((model / "dataset_fingerprint.json").read_text())
    assert set(fingerprint["cases"]) == {"subject_01_scan_1", "subject_02_scan_1", "subject_02_scan_2", "subject_03_scan_1"}


def test_a_training_that_was_begun_by_an_earlier_version_goes_on(home: Home) -> None:
    """Its checkpoint names the cases."""
    home.train()
    latest = home.fold / "checkpoint_latest.pth"
    found = load_checkpoint(latest)
    record = {**found.record, "training_cases": ["b_1", "c_1"], "validation_cases": ["a_1", "a_2"]}
    del record["numbered_by"]
    save_checkpoint(replace(found, record=record), latest)
    (home.fold / "checkpoint_final.pth").unlink()
    home.train(num_epochs=2)
    assert load_checkpoint(home.fold / "checkpoint_final.pth").record["training_cases"] == [
        "subject_02_scan_1",
        "subject_03_scan_1",
    ]


def test_numbers_of_other_people_are_refused_where_it_matters_who_was_trained_on(home: Home) -> None:
    home.train()
    numbers = home.folders.preprocessed / "Dataset900_Tiny" / "subject_numbers.json"
    content = json.loads(numbers.read_text())
    cases = content["cases"]
    cases["a_1"], cases["b_1"] = cases["b_1"], cases["a_1"]
    save_json(content, numbers)
    (home.fold / "calibration.json").unlink()
    with pytest.raises(MMCCDError, match=r"comes from another training \(.*another subject_numbers\.json"):
        home.train()
    with pytest.raises(MMCCDError, match=r"subject_numbers\.json doesn't say whom this model was trained on"):
        calibrate_model(home.fold.parent, home.folders.preprocessed / "Dataset900_Tiny" / "mmccdPlans", device=CPU)
