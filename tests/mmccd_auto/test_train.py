"""Training as the command does it: what is there is continued or kept, and one run at a time works on a fold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmccd_auto.core.locks import folder_lock
from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import save_json
from mmccd_auto.paths import Folders
from mmccd_auto.pipeline import TrainingOptions, train
from mmccd_auto.plans.plan import Plan

CPU = torch.device("cpu")
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
        return train(self.folders, 900, 0, TrainingOptions(**given), CPU, 0, overwrite)


@pytest.fixture
def home(tmp_path: Path, preprocessed: Path, splits: list, tiny_plan: Plan) -> Home:
    replace(tiny_plan, training=replace(tiny_plan.training, batch_size=2)).save(preprocessed / "plans.json")
    save_json(splits, preprocessed.parent / "splits_final.json")
    save_json({"channel_names": {"0": "FLAIR", "1": "T1"}}, preprocessed.parent / "dataset.json")
    save_json({}, preprocessed.parent / "dataset_fingerprint.json")
    return Home(Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results"))


def test_a_finished_and_calibrated_training_is_left_as_it_is(home: Home, caplog: Any) -> None:
    home.train()
    times = {path: path.stat().st_mtime_ns for path in home.fold.rglob("*") if path.is_file()}
    assert home.fold / "calibration.json" in times
    with caplog.at_level("INFO"):
        home.train()
    assert {path: path.stat().st_mtime_ns for path in home.fold.rglob("*") if path.is_file()} == times
    assert "the calibration fits and is kept" in caplog.text


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
        train(home.folders, 901, 0, TrainingOptions(), CPU, 0)


def test_the_results_folder_is_tried_before_the_work(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("mmccd_auto.training.trainer.Trainer.train", lambda *_: pytest.fail("has begun"))
    with pytest.raises(MMCCDError, match="file"):
        Home(replace(home.folders, results=tmp_path / "file" / "results")).train()
