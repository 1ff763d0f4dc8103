"""Model folders: names, folds, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.model_folder import ModelFolder, find_models, fold_folder, model_folder_name
from mmccd_auto.training.resume import clear_for_new_training, prepare_model_folder


def make_model(results: Path, plan: Plan, trainer: str, folds: tuple[str, ...], dataset: str = "Dataset900_Tiny") -> Path:
    """A model folder whose checkpoints are empty files."""
    path = results / dataset / model_folder_name(trainer, plan.plans_name, "FLAIR-T1")
    plan.save(path / "plans.json")
    save_json({"channel_names": {"0": "FLAIR", "1": "T1"}}, path / "dataset.json")
    for fold in folds:
        folder = fold_folder(path, fold)
        folder.mkdir()
        (folder / "checkpoint_final.pth").touch()
    fold_folder(path, 4).mkdir(exist_ok=True)
    return path


def test_reads_its_name_and_files(tmp_path: Path, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_model(tmp_path, tiny_plan, "MMCCDTrainer", ("1", "all", "0"))
    model = ModelFolder(path)
    assert (model.trainer, model.plans_name, model.configuration) == ("MMCCDTrainer", "mmccdPlans", "FLAIR-T1")
    assert model.plan == tiny_plan
    assert model.dataset["channel_names"] == {"0": "FLAIR", "1": "T1"}
    assert model.folds() == ["0", "1", "all"]
    assert model.fold("all") == path / "fold_all"
    monkeypatch.chdir(path)
    assert ModelFolder(Path(".")).trainer == "MMCCDTrainer"


def test_a_fold_that_is_not_finished_is_told(tmp_path: Path, tiny_plan: Plan) -> None:
    model = ModelFolder(make_model(tmp_path, tiny_plan, "MMCCDTrainer", ("1",)))
    with pytest.raises(MMCCDError, match=r"train fold 4 to its end first \(finished folds: 1\)"):
        model.checkpoint(4)
    with pytest.raises(MMCCDError, match="is damaged"):
        model.checkpoint(1)


def test_another_fold_leaves_the_edited_plan_of_a_trained_model_alone(tmp_path: Path, tiny_plan: Plan) -> None:
    path = make_model(tmp_path, tiny_plan, "MMCCDTrainer", ("0",))
    cycle = replace(tiny_plan.configurations["FLAIR-T1"], sampling_steps=7)
    edited = replace(tiny_plan, configurations=tiny_plan.configurations | {"FLAIR-T1": cycle})
    edited.save(path / "plans.json")
    prepare_model_folder(fold_folder(path, 1), tiny_plan, None)
    assert ModelFolder(path).plan == edited


def test_the_only_fold_trained_anew_takes_the_new_plan(tmp_path: Path, tiny_plan: Plan) -> None:
    path = make_model(tmp_path, tiny_plan, "MMCCDTrainer", ("0",))
    wider = replace(tiny_plan, strip_width=2 * tiny_plan.strip_width)
    clear_for_new_training(fold_folder(path, 0))
    prepare_model_folder(fold_folder(path, 0), wider, None)
    assert Plan.load(path / "plans.json") == wider


@pytest.mark.parametrize("name", ["MMCCDTrainer", "MMCCDTrainer__mmccdPlans", "A__B__C__D", "____"])
def test_other_names_are_told(tmp_path: Path, tiny_plan: Plan, name: str) -> None:
    tiny_plan.save(tmp_path / name / "plans.json")
    with pytest.raises(MMCCDError, match="its name must be TRAINER__PLANS__"):
        ModelFolder(tmp_path / name)


def test_missing_folder_and_missing_plan_are_told(tmp_path: Path) -> None:
    with pytest.raises(MMCCDError, match="is no folder"):
        ModelFolder(tmp_path / "A__B__C")
    (tmp_path / "A__B__C").mkdir()
    with pytest.raises(MMCCDError, match=r"holds no plans\.json"):
        ModelFolder(tmp_path / "A__B__C")


def test_finds_models_with_a_finished_fold(tmp_path: Path, tiny_plan: Plan) -> None:
    one = make_model(tmp_path, tiny_plan, "MMCCDTrainer", ("0",))
    make_model(tmp_path, tiny_plan, "UnfinishedTrainer", ())
    other = make_model(tmp_path, tiny_plan, "CyclicUNetTrainer", ("all",), "Dataset901_Other")
    for name in ("notes", "____", "A____B"):
        tiny_plan.save(tmp_path / "Dataset900_Tiny" / name / "plans.json")
    assert [model.path for model in find_models(tmp_path)] == [one, other]
    assert [model.path for model in find_models(tmp_path, "Dataset901_Other")] == [other]
    assert find_models(tmp_path, "Dataset902_None") == []
    assert find_models(tmp_path / "nowhere") == []
