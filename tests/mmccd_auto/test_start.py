"""Training from the weights of a finished model: it begins there, and isn't mixed with a training from nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.subject_numbers import NUMBERS_FILE
from mmccd_auto.trained.checkpoint import CHECKPOINT_FINAL, load_checkpoint
from mmccd_auto.trained.model_folder import ModelFolder, fold_folder, model_folder_name
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.start import STARTED_FROM, load_start, refuse_seen_people
from mmccd_auto.training.trainer import Trainer
from mmccd_auto.training.trainers import CyclicUNetTrainerShort, MMCCDTrainerLesionRemover

NAMES = {CyclicUNetTrainerShort: "CyclicUNetTrainerShort", MMCCDTrainerLesionRemover: "MMCCDTrainerLesionRemover"}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "picture_interval", float("inf"))


@pytest.fixture
def make_trainer(tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list):
    """A trainer of fold 0, of one iteration an epoch, in the results folder that is named."""

    def make(
        results: str,
        trainer=MMCCDTrainerLesionRemover,
        epochs: int = 1,
        configuration: str = "FLAIR-T1",
        seed: int = 0,
        fold: int = 0,
    ) -> Trainer:
        other = replace(tiny_plan.configurations["FLAIR-T1"], input_modality="T1", translation_modality="FLAIR")
        plan = replace(tiny_plan, configurations={**tiny_plan.configurations, "T1-FLAIR": other})
        output = fold_folder(tmp_path / results / model_folder_name(NAMES[trainer], plan.plans_name, configuration), fold)
        made = trainer(
            plan,
            configuration,
            fold,
            preprocessed,
            output,
            splits,
            TrainerOptions(num_epochs=epochs, iterations_per_epoch=1, seed=seed, dataset_content={}),
        )
        made.judge = None
        return made

    return make


@pytest.fixture
def finished(make_trainer) -> ModelFolder:
    """Trained from another seed, so that its weights are far from those that the others begin with."""
    final = make_trainer("finished", epochs=3, seed=7).train()
    return ModelFolder(final.parents[1])


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(path).raw_weights)


def _distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_it_begins_where_the_finished_model_ended(finished: ModelFolder, make_trainer) -> None:
    trainer = make_trainer("next")
    trainer.start = load_start(finished, trainer.plan, "FLAIR", 0)
    trained = trainer.train()
    known = dict(finished.checkpoint("0").weights)
    # One step of Adam moves a weight by about the learning rate.
    step = 1.1 * trainer.learning_rate(0)
    assert 0 < _distance(_weights(trained), known) < step + 1e-6
    from_nothing = make_trainer("nothing").train()
    assert _distance(_weights(from_nothing), known) > 10 * step


def test_its_steps_are_smaller_than_those_of_a_new_one(finished: ModelFolder, make_trainer) -> None:
    trainer = make_trainer("next", epochs=10)
    before = [trainer.learning_rate(epoch) for epoch in range(10)]
    trainer.start = load_start(finished, trainer.plan, "FLAIR", 0)
    assert [trainer.learning_rate(epoch) for epoch in range(10)] == pytest.approx([rate / 4 for rate in before])


def test_it_is_recorded_and_continued_only_from_the_same(finished: ModelFolder, make_trainer) -> None:
    def started(epochs: int) -> Trainer:
        trainer = make_trainer("next", epochs=epochs)
        trainer.start = load_start(finished, trainer.plan, "FLAIR", 0)
        return trainer

    final = started(1).train()
    told = load_checkpoint(final).record[STARTED_FROM]
    assert told.startswith("MMCCDTrainerLesionRemover__mmccdPlans__FLAIR-T1 (")
    started(2).train()
    with pytest.raises(MMCCDError, match=r"started from MMCCDTrainerLesionRemover.* against nothing"):
        make_trainer("next", epochs=3).train()
    make_trainer("nothing").train()
    late = make_trainer("nothing", epochs=2)
    late.start = started(1).start
    with pytest.raises(MMCCDError, match="started from nothing against MMCCD"):
        late.train()


def test_another_method_is_a_sentence(finished: ModelFolder, make_trainer) -> None:
    trainer = make_trainer("cycle", CyclicUNetTrainerShort)
    trainer.start = load_start(finished, trainer.plan, "FLAIR", 0)
    with pytest.raises(MMCCDError, match=r"it is a lesion_remover whose networks don't fit the cyclic_unet.*-tr"):
        trainer.train()


def test_another_modality_is_a_sentence(finished: ModelFolder, make_trainer) -> None:
    trainer = make_trainer("other", configuration="T1-FLAIR")
    with pytest.raises(MMCCDError, match="it examines FLAIR, and the configuration T1"):
        load_start(finished, trainer.plan, "T1", 0)


@pytest.mark.parametrize(("factor", "told"), [(1.0, False), (1.2, False), (1.6, True), (0.5, True)])
def test_other_pixels_are_told(finished: ModelFolder, make_trainer, factor: float, told: bool, caplog) -> None:
    plans = finished.path / "plans.json"
    content = load_json(plans)
    save_json({**content, "target_spacing": content["target_spacing"] * factor}, plans)
    load_start(ModelFolder(finished.path), make_trainer("next").plan, "FLAIR", 0)
    assert ("--target_spacing" in caplog.text) == told


def test_it_begins_at_the_same_fold_else_at_the_first(make_trainer) -> None:
    finals = [make_trainer("several", epochs=2, seed=7 + fold, fold=fold).train() for fold in (0, 1)]
    model = ModelFolder(finals[0].parents[1])
    found = {fold: load_start(model, make_trainer("next").plan, "FLAIR", fold).weights_sha256 for fold in (0, 1, 4)}
    assert found == {fold: model.weights_sha256(str(other)) for fold, other in ((0, 0), (1, 1), (4, 0))}


def test_weights_that_know_the_held_out_people_are_refused(
    finished: ModelFolder, make_trainer, preprocessed: Path, caplog
) -> None:
    home, people = preprocessed.parent, {"a_1": "a", "a_2": "a", "b_1": "b", "c_1": "c"}
    start = load_start(finished, make_trainer("next").plan, "FLAIR", 1)
    refuse_seen_people(start, home, 0, people, ["a_1", "a_2"])
    refuse_seen_people(start, home.with_name("Dataset901_Other"), 1, people, ["b_1"])
    with pytest.raises(MMCCDError, match="it was trained on 1 person whom fold 1 holds out"):
        refuse_seen_people(start, home, 1, people, ["b_1"])
    (home / NUMBERS_FILE).unlink()
    refuse_seen_people(start, home, 1, people, ["b_1"])
    assert "doesn't say on whom" in caplog.text


def test_a_model_without_a_finished_fold_is_a_sentence(finished: ModelFolder, make_trainer) -> None:
    (finished.fold("0") / CHECKPOINT_FINAL).unlink()
    with pytest.raises(MMCCDError, match="none of its folds is trained to the end"):
        load_start(ModelFolder(finished.path), make_trainer("next").plan, "FLAIR", 0)
