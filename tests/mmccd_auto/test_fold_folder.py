"""A fold's folder: no training is lost without --overwrite, and no kill mixes two of them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.checkpoint import CHECKPOINT_FINAL, CHECKPOINT_LATEST, load_checkpoint
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.resume import clear_for_new_training, remove_unfinished_files
from mmccd_auto.training.trainer import Trainer
from mmccd_auto.training.trainers import CyclicUNetTrainer

MakeTrainer = Callable[..., Trainer]
OLD = {"checkpoint_final.pth", "checkpoint_best.pth", "training_log.jsonl", "progress.png", "calibration.json", "gain.json"}
CHANGING = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "shutil.copyfile", "shutil.rmtree", "open"}


@pytest.fixture
def make_trainer(tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list) -> MakeTrainer:
    """Makes a trainer of one epoch of one iteration; any argument can be given another value."""

    def make(kind: type[Trainer] = CyclicUNetTrainer, **changed: Any) -> Trainer:
        arguments = {
            "plan": tiny_plan,
            "configuration": None,
            "fold": 0,
            "preprocessed": preprocessed,
            "output": tmp_path / "results" / "CyclicUNetTrainer__mmccdPlans__FLAIR-T1" / "fold_0",
            "splits": splits,
        }
        own = {name: value for name, value in changed.items() if name in arguments}
        options = {"num_epochs": 1, "iterations_per_epoch": 1} | {
            name: changed[name] for name in changed.keys() - own.keys()
        }
        return kind(**(arguments | own), options=TrainerOptions(**options))

    return make


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Interrupted(CyclicUNetTrainer):
    """Ctrl-C in the second epoch."""

    def on_epoch_end(self, record, state):
        if record.epoch == 1:
            raise KeyboardInterrupt


def test_the_same_call_goes_on_after_an_interruption(make_trainer: MakeTrainer, caplog: Any) -> None:
    trainer = make_trainer(Interrupted, num_epochs=3)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    begun = load_checkpoint(trainer.output / CHECKPOINT_LATEST)
    assert begun.epoch == 1
    with caplog.at_level("INFO"):
        assert load_checkpoint(make_trainer(Interrupted, num_epochs=3).train()).epoch == 3
    assert "continues after epoch 1 (begun for 3 epochs)" in caplog.text
    assert [record["epoch"] for record in trainer.log.read()] == [1, 2, 3]


def test_a_half_finished_training_of_other_settings_is_not_touched(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Interrupted, num_epochs=3)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    before = content_of(trainer.output.parent)
    with pytest.raises(MMCCDError, match=r"seed: 0 against 1.*--overwrite"):
        make_trainer(Interrupted, num_epochs=3, seed=1).train()
    assert content_of(trainer.output.parent) == before
    assert load_checkpoint(make_trainer(num_epochs=1, seed=1).train(overwrite=True)).plan.training.seed == 1
    assert not (trainer.output / "previous").exists()


def test_a_finished_training_is_kept_and_said_to_be(make_trainer: MakeTrainer, caplog: Any) -> None:
    trainer = make_trainer(num_epochs=2)
    trainer.train()
    (trainer.output.parent / "inference.json").write_text("{}")
    before = content_of(trainer.output.parent)
    with caplog.at_level("INFO"):
        make_trainer(num_epochs=2).train()
    assert content_of(trainer.output.parent) == before
    assert "fold_0 is trained, for 2 epochs: it is kept" in caplog.text
    # As handed on without what is only needed to go on.
    (trainer.output / CHECKPOINT_LATEST).unlink()
    make_trainer(num_epochs=2).train()
    assert not (trainer.output / CHECKPOINT_LATEST).exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_epochs": 1}, r"checkpoint_final\.pth is of 2 epochs, and num_epochs is 1 now.*--overwrite"),
        ({"num_epochs": 2, "iterations_per_epoch": 3}, r"iterations_per_epoch: 1 against 3.*--overwrite"),
        ({"num_epochs": 2, "seed": 4}, r"seed: 0 against 4.*--overwrite"),
    ],
)
def test_a_finished_training_of_other_settings_is_not_touched(
    make_trainer: MakeTrainer, changed: dict, message: str
) -> None:
    trainer = make_trainer(num_epochs=2)
    trainer.train()
    before = content_of(trainer.output.parent)
    with pytest.raises(MMCCDError, match=message):
        make_trainer(**changed).train()
    assert content_of(trainer.output.parent) == before


def test_overwriting_keeps_a_finished_training_as_the_previous_one(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    finished = trainer.train().read_bytes()
    again = make_trainer(seed=1)
    assert again.train(overwrite=True).read_bytes() != finished
    assert (again.output / "previous" / CHECKPOINT_FINAL).read_bytes() == finished
    assert [record["epoch"] for record in again.log.read()] == [1]


def test_overwriting_one_fold_by_a_plan_that_others_do_not_have_changes_nothing(
    make_trainer: MakeTrainer, tiny_plan: Plan
) -> None:
    first = make_trainer()
    first.train()
    second = {"fold": 1, "output": first.output.parent / "fold_1"}
    make_trainer(**second).train()
    before = content_of(first.output.parent)
    with pytest.raises(MMCCDError, match="holds fold_0, trained by another plan"):
        make_trainer(**second, plan=dataclasses.replace(tiny_plan, strip_width=9)).train(overwrite=True)
    assert content_of(first.output.parent) == before


def test_a_final_checkpoint_can_not_be_continued(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    final = trainer.train()
    latest = trainer.output / CHECKPOINT_LATEST
    latest.unlink()
    with pytest.raises(MMCCDError, match=r"without its checkpoint_latest\.pth"):
        make_trainer(num_epochs=2).train()
    final.rename(latest)
    with pytest.raises(MMCCDError, match=r"checkpoint_latest\.pth lacks the optimiser's state"):
        make_trainer(num_epochs=2).train()


def test_an_edited_plan_of_a_finished_model_stays_when_it_is_prolonged(make_trainer: MakeTrainer, tiny_plan: Plan) -> None:
    trainer = make_trainer()
    trainer.train()
    configuration = dataclasses.replace(tiny_plan.configuration("FLAIR-T1"), sampling_steps=7)
    edited = dataclasses.replace(tiny_plan, configurations={**tiny_plan.configurations, "FLAIR-T1": configuration})
    edited.save(trainer.output.parent / "plans.json")
    make_trainer(num_epochs=2).train()
    assert Plan.load(trainer.output.parent / "plans.json") == edited


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.parametrize("with_previous", [False, True])
def test_a_kill_while_room_is_made_leaves_the_old_training_or_nothing_of_it(tmp_path: Path, with_previous: bool) -> None:
    """Killed before each change of the disk in turn."""
    fold = tmp_path / "whole" / "fold_0"
    (fold / "validation").mkdir(parents=True)
    for name in (*OLD, CHECKPOINT_LATEST):
        (fold / name).write_text(f"old {name}")
    (fold.parent / "inference.json").write_text("old choice")
    if with_previous:
        (fold / "previous").mkdir()
        (fold / "previous" / CHECKPOINT_FINAL).write_text("older")
    steps = 0
    while True:
        steps += 1
        copy = tmp_path / f"killed_{steps}"
        shutil.copytree(fold.parent, copy)
        if _clear_killed_before(copy / "fold_0", steps):
            break
        _check_not_mixed(copy, with_previous)
    assert steps > 10
    assert not [name for name in OLD | {CHECKPOINT_LATEST} if (copy / "fold_0" / name).exists()]


def _clear_killed_before(fold: Path, step: int) -> bool:
    """Clear a fold's folder in a process that ends before its change number ``step``; whether it came to its end."""
    child = os.fork()
    if child == 0:
        changes = 0

        def kill(event: str, arguments: tuple) -> None:
            nonlocal changes
            changing = event in CHANGING and (event != "open" or "w" in str(arguments[1]))
            if changing and str(arguments[0]).startswith(str(fold.parent)):
                changes += 1
                if changes == step:
                    os._exit(9)

        sys.addaudithook(kill)
        clear_for_new_training(fold)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _check_not_mixed(model: Path, with_previous: bool) -> None:
    fold = model / "fold_0"
    remove_unfinished_files(fold)
    there = {path.name for path in fold.iterdir() if path.is_file()}
    assert all((fold / name).read_text() == f"old {name}" for name in there)
    previous = fold / "previous"
    kept = {path.name for path in previous.iterdir()} if previous.exists() else set()
    if CHECKPOINT_FINAL in there:
        # Nothing of the old training is gone yet.
        assert there == OLD | {CHECKPOINT_LATEST}
        assert (model / "inference.json").is_file()
        assert kept in (OLD, {CHECKPOINT_FINAL} if with_previous else set())
        return
    assert kept == OLD
    assert all((previous / name).read_text() == f"old {name}" for name in OLD)
    if CHECKPOINT_LATEST in there:
        # It goes on to the same end.
        assert {"training_log.jsonl", "checkpoint_best.pth"} <= there
        assert (model / "inference.json").is_file()
    assert not list(fold.glob(".incomplete-*"))


@pytest.mark.parametrize(("epoch", "gone"), [(1, r"plans\.json was removed"), (2, "was removed while the fold")])
def test_a_results_folder_that_vanishes_ends_the_training_with_an_error(
    make_trainer: MakeTrainer, epoch: int, gone: str
) -> None:
    class Vanishing(CyclicUNetTrainer):
        def learning_rate(self, number: int) -> float:
            if number == epoch - 1:
                shutil.rmtree(self.output.parent)
            return super().learning_rate(number)

    trainer = make_trainer(Vanishing, num_epochs=3)
    with pytest.raises(MMCCDError, match=gone):
        trainer.train()
    assert not (trainer.output / CHECKPOINT_FINAL).exists()


def test_preprocessed_slices_that_vanish_end_the_training_with_an_error(make_trainer: MakeTrainer) -> None:
    """They are in memory by then, but what is trained on slices that are gone can't be calibrated or trained again."""

    class Vanishing(CyclicUNetTrainer):
        def learning_rate(self, number: int) -> float:
            self.data.training[0].file.unlink(missing_ok=True)
            return super().learning_rate(number)

    trainer = make_trainer(Vanishing)
    with pytest.raises(MMCCDError, match=r"1 preprocessed slices were removed .*slice_"):
        trainer.train()
