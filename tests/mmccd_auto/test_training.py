"""Training: it learns, stands being killed at any moment, keeps folds apart, and tells why it can't begin."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.checkpoint import load_checkpoint, save_checkpoint
from mmccd_auto.training.best_state import epoch_to_predict_with
from mmccd_auto.training.data.data_loading import MEMORY_LIMIT, SliceStore
from mmccd_auto.training.data.fold_data import validation_images
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.ranks import Ranks
from mmccd_auto.training.trainer import Trainer
from mmccd_auto.training.trainers import CyclicUNetTrainer, MMCCDPublishedTrainer, MMCCDTrainer

MakeTrainer = Callable[..., Trainer]

KILLED_TRAINING = """
import json, os, signal, sys
from pathlib import Path
import torch
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained import checkpoint
from mmccd_auto.training import trainer, trainers
from mmccd_auto.training.options import TrainerOptions

given = json.loads(sys.argv[1])
torch.set_num_threads(given["threads"])
left = given["count"]


def kill_at_last():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


class MMCCDTrainer(trainers.MMCCDTrainer):
    def training_losses(self, cycle, x, y):
        if cycle.training and given["moment"] == "in a step":
            kill_at_last()
        return super().training_losses(cycle, x, y)


def save_half(content, file):
    if left == 1:
        file.write(b"half of a checkpoint")
        file.flush()
    kill_at_last()
    real_save(content, file)


def save_late(*arguments):
    kill_at_last()
    real_save_checkpoint(*arguments)


real_save, real_save_checkpoint = torch.save, trainer.save_checkpoint
if given["moment"] == "while the checkpoint is written":
    torch.save = save_half
if given["moment"] == "between log and checkpoint":
    trainer.save_checkpoint = save_late
MMCCDTrainer(
    Plan.from_json(given["plan"]), None, 0, Path(given["preprocessed"]), Path(given["output"]), given["splits"],
    TrainerOptions(processes=given["processes"]),
).train()
"""


@pytest.fixture
def make_trainer(tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list) -> MakeTrainer:
    """Makes a trainer of one epoch of one iteration; any argument can be given another value."""

    def make(kind: type[Trainer] = CyclicUNetTrainer, **changed: Any) -> Trainer:
        arguments = {
            "plan": tiny_plan,
            "configuration": None,
            "fold": 0,
            "preprocessed": preprocessed,
            "output": tmp_path / "results" / f"{kind.__name__}__mmccdPlans__FLAIR-T1" / f"fold_{changed.get('fold', 0)}",
            "splits": splits,
        }
        own = {name: value for name, value in changed.items() if name in arguments}
        options = {"num_epochs": 1, "iterations_per_epoch": 1} | {
            name: changed[name] for name in changed.keys() - own.keys()
        }
        return kind(**(arguments | own), options=TrainerOptions(**options))

    return make


def with_training(plan: Plan, **changed: Any) -> Plan:
    return dataclasses.replace(plan, training=dataclasses.replace(plan.training, **changed))


@pytest.mark.parametrize(("kind", "iterations"), [(MMCCDTrainer, 25), (MMCCDPublishedTrainer, 10)])
def test_learns_how_one_modality_follows_from_the_other(
    make_trainer: MakeTrainer, tiny_plan: Plan, kind: type[Trainer], iterations: int
) -> None:
    """MMCCDTrainer takes longer to this: it shows its backward network a real pair every other time only."""
    plan = with_training(tiny_plan, learning_rate=5e-3)
    trainer = make_trainer(kind, plan=plan, num_epochs=6, iterations_per_epoch=iterations)
    store = SliceStore(trainer.data.validation)
    brains = [store[index][0][store[index][0] != -3] for index in range(len(store))]
    without_the_relation = sum(((one - one.mean()) ** 2).sum() for one in brains) / sum(store[0][0].size for _ in brains)
    cycle = load_checkpoint(trainer.train()).build_cycle()
    records = trainer.log.read()
    first, last = records[0], records[-1]
    for network in ("forward", "backward"):
        assert last["train"][network] < 0.25 * first["train"][network]
    # On real pairs, whatever the trainer feeds the backward network: that is what the relation is between.
    x, y = torch.from_numpy(validation_images(trainer.data, tiny_plan.patch_size)).split(1, dim=1)
    with torch.inference_mode():
        assert float((cycle.backward_network(y) - x).square().mean()) < 0.6 * without_the_relation
    assert [record["iterations"] for record in records] == [iterations * epoch for epoch in range(1, 7)]
    assert {record["validation_on"] for record in records} == {"validation"}


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX systems")
def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, make_trainer: MakeTrainer, tiny_plan: Plan, preprocessed: Path, splits: list
) -> None:
    plan = with_training(tiny_plan, num_epochs=3, iterations_per_epoch=2, learning_rate=1e-3)
    options = {"plan": plan, "num_epochs": None, "iterations_per_epoch": None}
    moments = [("in a step", 4, 2), ("between log and checkpoint", 2, 0), ("while the checkpoint is written", 2, 0)]
    started = []
    for moment, count, processes in moments:
        output = tmp_path / moment / "fold_0"
        given = {
            "moment": moment,
            "count": count,
            "processes": processes,
            "plan": plan.to_json(),
            "preprocessed": str(preprocessed),
            "output": str(output),
            "splits": splits,
            "threads": torch.get_num_threads(),
        }
        arguments = [sys.executable, "-c", KILLED_TRAINING, json.dumps(given)]
        started.append((output, subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)))
    undisturbed = make_trainer(MMCCDTrainer, output=tmp_path / "undisturbed" / "fold_0", **options)
    expected = load_checkpoint(undisturbed.train())
    for output, process in started:
        # reading to the end of the output waits for the workers, too, which must end when their parent is killed
        said = process.communicate(timeout=600)[0]
        assert process.returncode == -signal.SIGKILL, said
        assert not (output / "checkpoint_final.pth").exists()
        trainer = make_trainer(MMCCDTrainer, output=output, **options)
        found = load_checkpoint(trainer.train())
        assert (found.epoch, found.step) == (expected.epoch, expected.step) == (3, 6)
        for name in ("weights", "raw_weights"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-7)
        records = trainer.log.read()
        assert [record["epoch"] for record in records] == [1, 2, 3]
        for one, other in zip(records, undisturbed.log.read(), strict=True):
            for losses in ("train", "validation"):
                assert one[losses] == pytest.approx(other[losses], rel=1e-4)
        names = {"checkpoint_final.pth", "checkpoint_latest.pth", "training_log.jsonl", "progress.png"}
        assert {path.name for path in output.iterdir()} == names


def test_a_training_killed_before_its_first_checkpoint_begins_anew(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.output.mkdir(parents=True)
    (trainer.output / "training_log.jsonl").write_text('{"epoch": 1, "iterat')
    trainer.train()
    assert [record["epoch"] for record in trainer.log.read()] == [1]


def test_the_same_seed_gives_the_same_training_and_another_one_does_not(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    state = torch.get_rng_state()
    weights = []
    for number, seed in enumerate((1, 1, 2)):
        trainer = make_trainer(MMCCDTrainer, output=tmp_path / f"run{number}" / "fold_0", seed=seed, processes=number % 2)
        weights.append(torch.cat([one.flatten() for one in load_checkpoint(trainer.train()).raw_weights.values()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights[0], weights[2], atol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


def test_no_epoch_repeats_the_random_numbers_of_another(make_trainer: MakeTrainer) -> None:
    drawn = []

    class Watched(CyclicUNetTrainer):
        def training_losses(self, cycle, x, y):
            if cycle.training:
                drawn.append(torch.rand(()).item())
            return super().training_losses(cycle, x, y)

    make_trainer(Watched, num_epochs=2, iterations_per_epoch=2).train()
    assert len(set(drawn)) == 4


def test_the_checkpoint_holds_the_running_mean_and_how_it_was_made(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(iterations_per_epoch=3, dataset_content={"name": "Tiny"})
    checkpoint = load_checkpoint(trainer.train())
    assert (checkpoint.method, checkpoint.trainer, checkpoint.fold) == ("cyclic_unet", "CyclicUNetTrainer", "0")
    assert (checkpoint.plan.training.num_epochs, checkpoint.plan.training.iterations_per_epoch) == (1, 3)
    assert checkpoint.record["training_cases"] == ["subject_02_scan_1", "subject_03_scan_1"]
    assert (checkpoint.record["healthy_slices"], checkpoint.record["subjects"]) == (12, 2)
    assert any(not torch.equal(mean, checkpoint.raw_weights[name]) for name, mean in checkpoint.weights.items())
    model_folder = trainer.output.parent
    assert Plan.load(model_folder / "plans.json") == trainer.dataset_plan
    assert load_json(model_folder / "dataset.json") == {"name": "Tiny"}


def test_a_fold_keeps_its_subjects_apart(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    assert (trainer.training_cases, trainer.validation_cases) == (["b_1", "c_1"], ["a_1", "a_2"])
    assert not {one.subject for one in trainer.data.training} & {one.subject for one in trainer.data.validation}
    everything = make_trainer(fold="all", splits=None)
    assert everything.training_cases == ["a_1", "a_2", "b_1", "c_1"]
    everything.train()
    assert everything.log.read()[0]["validation_on"] == "train-sample"
    assert load_checkpoint(everything.output / "checkpoint_final.pth").record["validation_cases"] == []


def test_a_subject_on_both_sides_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(MMCCDError, match="fold 0: a is in train and in val"):
        make_trainer(splits=[{"train": ["a_1", "c_1"], "val": ["a_2"]}])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fold": 7}, "there is no fold 7"),
        ({"configuration": "T2-T1"}, "no configuration T2-T1"),
        ({"num_epochs": 0}, "num_epochs 0 must be at least 1"),
        (
            {"splits": [{"train": ["gone"], "val": ["a_1"]}]},
            "no healthy slice to train on: of 1 training cases of fold 0, 0 are",
        ),
    ],
)
def test_why_a_training_can_not_begin_is_told(make_trainer: MakeTrainer, changed: dict, message: str) -> None:
    with pytest.raises(MMCCDError, match=message):
        make_trainer(**changed)


def test_no_healthy_slices_and_no_slices_at_all_are_told(
    make_trainer: MakeTrainer, tmp_path: Path, write_preprocessed: Callable
) -> None:
    abnormal = write_preprocessed(tmp_path / "abnormal", abnormal=True)
    with pytest.raises(MMCCDError, match=r"abnormal: no healthy slice .* of 2 training cases of fold 0, 2 are preprocessed"):
        make_trainer(preprocessed=abnormal)
    with pytest.raises(MMCCDError, match="holds no preprocessed case: run mmccd_plan_and_preprocess first"):
        make_trainer(preprocessed=tmp_path / "empty")


def test_continuing_by_another_plan_is_refused_and_changes_nothing(make_trainer: MakeTrainer, tiny_plan: Plan) -> None:
    trainer = make_trainer()
    trainer.train()
    files = {path: path.read_bytes() for path in trainer.output.parent.rglob("*") if path.is_file()}
    others = {
        "strip_width: 8 against 9": {"plan": dataclasses.replace(tiny_plan, strip_width=9)},
        "batch_size: 4 against 3": {"plan": with_training(tiny_plan, batch_size=3)},
        "seed: 0 against 5": {"seed": 5},
        "other training cases; another subject_numbers.json; other slices": {"splits": [{"train": ["b_1"], "val": ["a_1"]}]},
        "configuration: FLAIR-T1 against T1-FLAIR": {"configuration": "T1-FLAIR"},
    }
    for message, changed in others.items():
        with pytest.raises(MMCCDError, match=message):
            make_trainer(**changed).train()
        assert files == {path: path.read_bytes() for path in trainer.output.parent.rglob("*") if path.is_file()}


def test_more_epochs_prolong_a_training(make_trainer: MakeTrainer) -> None:
    make_trainer().train()
    trainer = make_trainer(num_epochs=2)
    assert load_checkpoint(trainer.train()).step == 2
    assert [record["epoch"] for record in trainer.log.read()] == [1, 2]


def test_a_training_goes_on_alike_from_a_checkpoint_of_another_memory_layout(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    """As one on the CPU does that was begun on a GPU."""
    weights = []
    for layout in (torch.contiguous_format, torch.channels_last):
        output = tmp_path / str(layout) / "fold_0"
        make_trainer(MMCCDTrainer, output=output, iterations_per_epoch=3).train()
        path = output / "checkpoint_latest.pth"
        found = load_checkpoint(path)
        for state in found.optimizer["state"].values():
            for name, value in state.items():
                state[name] = value.contiguous(memory_format=layout) if value.ndim == 4 else value
        save_checkpoint(found, path)
        trainer = make_trainer(MMCCDTrainer, output=output, iterations_per_epoch=3, num_epochs=2)
        weights.append(load_checkpoint(trainer.train()).raw_weights)
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_a_training_in_parts_goes_on_in_as_many(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    class Small(MMCCDTrainer):
        """Has room for half a batch; what did not fit has drawn random numbers already."""

        def training_losses(self, cycle, x, y):
            losses = super().training_losses(cycle, x, y)
            if cycle.training and len(x) > 2:
                raise torch.cuda.OutOfMemoryError
            return losses

    undisturbed = make_trainer(Small, num_epochs=2, output=tmp_path / "undisturbed" / "fold_0")
    expected = load_checkpoint(undisturbed.train())
    assert expected.record["batch_parts"] == 2
    make_trainer(Small).train()
    found = load_checkpoint(make_trainer(Small, num_epochs=2).train())
    torch.testing.assert_close(found.raw_weights, expected.raw_weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({"processes": 4}, ["4 processes, and goes on with 1"]),
        ({"precision": "float16"}, ["float16, and goes on with float32"]),
        ({"processes": 1, "precision": "float32"}, []),
        # as a checkpoint of an earlier version
        ({"processes": None, "precision": None, "batch_parts": None}, []),
    ],
)
def test_going_on_with_other_processes_or_another_precision_is_told(
    make_trainer: MakeTrainer, caplog: Any, before: dict, told: list[str]
) -> None:
    trainer = make_trainer()
    trainer.train()
    path = trainer.output / "checkpoint_latest.pth"
    found = load_checkpoint(path)
    record = {name: value for name, value in {**found.record, **before}.items() if value is not None}
    save_checkpoint(dataclasses.replace(found, record=record), path)
    caplog.clear()
    assert load_checkpoint(make_trainer(num_epochs=2).train()).epoch == 2
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == len(told)
    assert all(text in warning for text, warning in zip(told, warnings, strict=True))


def test_processes_of_one_machine_hold_their_part_of_the_slices_memory(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    class Noting(SliceStore):
        def __init__(self, slices, memory_limit):
            limits.append(memory_limit)
            super().__init__(slices, memory_limit)

    monkeypatch.setattr("mmccd_auto.training.trainer.SliceStore", Noting)
    make_trainer(ranks=Ranks(local_count=4)).train()
    assert limits == [MEMORY_LIMIT // 4]


def test_folds_of_one_model_must_have_one_plan(make_trainer: MakeTrainer, tiny_plan: Plan) -> None:
    first = make_trainer()
    first.train()
    other = make_trainer(fold=1, plan=dataclasses.replace(tiny_plan, strip_width=9))
    with pytest.raises(MMCCDError, match=r"holds fold_0, trained by another plan \(strip_width: 8 against 9\)"):
        other.train()
    assert Plan.load(first.output.parent / "plans.json").strip_width == 8


def test_losses_that_are_not_finite_end_the_training_before_they_are_saved(make_trainer: MakeTrainer) -> None:
    class Diverging(CyclicUNetTrainer):
        def training_losses(self, cycle, x, y):
            losses = super().training_losses(cycle, x, y)
            return {name: loss * (float("nan") if len(self.log.read()) == 1 else 1) for name, loss in losses.items()}

    trainer = make_trainer(Diverging, num_epochs=3)
    with pytest.raises(MMCCDError, match="the losses of epoch 2 are not finite"):
        trainer.train()
    assert [record["epoch"] for record in trainer.log.read()] == [1]
    weights = load_checkpoint(trainer.output / "checkpoint_latest.pth").raw_weights
    assert all(one.isfinite().all() for one in weights.values())


def judge_that_says(*judgements: float) -> Callable[[Any], float]:
    words = iter(judgements)

    def judge(cycle: Any) -> float:
        assert not cycle.training
        return next(words)

    return judge


def test_the_best_state_is_kept(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(num_epochs=4, judge=judge_that_says(0.2, 0.6, 0.4, 0.595))
    final = load_checkpoint(trainer.train())
    best = load_checkpoint(trainer.output / "checkpoint_best.pth")
    assert (best.epoch, final.epoch) == (2, 4)
    assert [record["synthetic_auprc"] for record in trainer.log.read()] == [0.2, 0.6, 0.4, 0.595]
    alone = make_trainer(num_epochs=4, output=trainer.output.parent / "fold_1")
    weights = load_checkpoint(alone.train()).weights
    assert all(torch.equal(value, final.weights[name]) for name, value in weights.items())
    assert not (alone.output / "checkpoint_best.pth").exists()


def test_a_state_that_is_clearly_better_than_the_last_one_is_the_final_one(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(num_epochs=3, judge=judge_that_says(0.2, 0.7, 0.6))
    final = load_checkpoint(trainer.train())
    assert (final.epoch, load_checkpoint(trainer.output / "checkpoint_latest.pth").epoch) == (2, 3)


def test_a_continued_training_remembers_its_best_state(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(num_epochs=2, judge=judge_that_says(0.5, 0.9))
    trainer.train()
    make_trainer(num_epochs=4, judge=judge_that_says(0.6, 0.8)).train()
    assert load_checkpoint(trainer.output / "checkpoint_best.pth").epoch == 2


def test_a_judge_that_fails_does_not_stop_the_training(make_trainer: MakeTrainer, caplog: Any) -> None:
    def judge(cycle: Any) -> float:
        raise MMCCDError("no anomaly fits.")

    trainer = make_trainer(num_epochs=2, judge=judge)
    trainer.train()
    assert [record["synthetic_auprc"] for record in trainer.log.read()] == [None, None]
    assert "epoch 1 can't be judged (no anomaly fits.)" in caplog.text


def test_a_last_state_that_was_not_judged_is_not_replaced() -> None:
    judged = [{"epoch": 2, "synthetic_auprc": 0.3}, {"epoch": 4, "synthetic_auprc": 0.3}]
    assert epoch_to_predict_with([*judged, {"epoch": 5, "synthetic_auprc": None}], 5) == 5
    assert epoch_to_predict_with([*judged, {"epoch": 5, "synthetic_auprc": 0.2}], 5) == 2


def test_a_new_training_removes_what_was_chosen_for_the_one_before(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(num_epochs=1)
    trainer.train()
    choice = trainer.output.parent / "inference.json"
    choice.write_text("{}")
    make_trainer(num_epochs=2).train()
    assert choice.is_file()
    make_trainer(num_epochs=1).train(overwrite=True)
    assert not choice.exists()


def test_a_long_training_is_judged_ten_times_and_at_its_end(make_trainer: MakeTrainer) -> None:
    asked: list[int] = []
    trainer = make_trainer(num_epochs=23, iterations_per_epoch=1, judge=lambda cycle: float(len(asked)))
    trainer.on_epoch_end = lambda record, state: asked.append(record.epoch) if record.synthetic_auprc is not None else None
    trainer.train()
    assert asked == [3, 6, 9, 12, 15, 18, 21, 23]
    assert load_checkpoint(trainer.output / "checkpoint_best.pth").epoch == 23
