"""Several models as one: what is averaged, in which unit, who may join, and how one is chosen."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tqdm import TMonitor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.core.processes.streams import Settled
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.choice.compare import Tried, best_single
from mmccd_auto.inference.choice.ensembles import TriedEnsemble, best_members, try_ensembles
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.prediction.ensemble import Ensemble
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import HELD_OUT, TRAINED_ON
from mmccd_auto.plans.plan import PLANS_FILE, Plan, ScorePlan
from mmccd_auto.trained.checkpoint import load_checkpoint, save_checkpoint
from mmccd_auto.trained.model_folder import ModelFolder
from mmccd_auto.trained.select import choose_model, choose_models
from mmccd_auto.workflows.find_best_configuration import describe_best, find_best_configuration
from mmccd_auto.workflows.predict import load_predictor, predict

CPU = torch.device("cpu")
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def two_models(model_folder, quick_plan, preprocessed) -> tuple[Path, Path]:
    """MMCCD and Cyclic U-Net of one input modality, calibrated."""
    paths = tuple(model_folder(method, plan=quick_plan) for method in ("mmccd", "cyclic_unet"))
    for path in paths:
        calibrate_model(path, preprocessed, device=CPU, max_slices=4)
    return paths


@pytest.fixture
def data(tmp_path) -> Folders:
    return Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")


def twin(folder: Path, *, trainer: str | None = None, configuration: str | None = None) -> Path:
    """A copy of a model folder under the name of another trainer or modality cycle."""
    own_trainer, plans_name, own_configuration = folder.name.split("__")
    target = folder.with_name(f"{trainer or own_trainer}__{plans_name}__{configuration or own_configuration}")
    shutil.copytree(folder, target)
    return target


def test_the_map_is_the_mean_of_the_models_on_the_scans_grid(two_models, make_scan):
    level = make_scan()
    scan = Volume(level.array, Geometry(level.geometry.size, level.geometry.spacing, (7.0, 3.0, -9.0), OBLIQUE))
    ensemble = Ensemble.from_model_folders(two_models)
    alone = [Predictor.from_model_folder(path).predict_volume(scan, "a") for path in two_models]
    together = ensemble.predict_volume(scan, "a")
    assert together.geometry == scan.geometry
    assert (alone[0].anomaly != alone[1].anomaly).any()
    for name in ("anomaly", "brighter", "darker", "signed", "cycle"):
        mean = (getattr(alone[0], name) + getattr(alone[1], name)) / 2
        np.testing.assert_allclose(getattr(together, name), mean, rtol=1e-5, atol=1e-6)
    assert together.threshold == pytest.approx((alone[0].threshold + alone[1].threshold) / 2)
    assert together.network_evaluations == sum(one.network_evaluations for one in alone)
    assert together.case_score <= max(one.case_score for one in alone)
    assert not together.anomaly[~together.brain].any()


@pytest.mark.parametrize("models", [1, 2])
def test_where_only_the_score_is_asked_for_it_is_the_same_and_nothing_else_is_made(two_models, make_scan, models):
    predictor = Predictor.from_model_folder(two_models[0]) if models == 1 else Ensemble.from_model_folders(two_models)
    scan = Scan(make_scan(), "a")
    (whole,), (score,) = predictor.predict_volumes([scan]), predictor.predict_volumes([scan], only_score=True)
    np.testing.assert_array_equal(score.anomaly, whole.anomaly)
    np.testing.assert_array_equal(score.mask, whole.mask)
    assert (score.case_score, score.geometry) == (whole.case_score, whole.geometry)
    for name in ("brighter", "darker", "signed", "cycle"):
        assert getattr(whole, name) is not None
        assert getattr(score, name) is None


def test_models_of_different_slice_axes_and_spacings_can_join(two_models, make_scan, preprocessed):
    second = two_models[1]
    plan = Plan.load(second / PLANS_FILE)
    other = second.with_name("CyclicUNetTrainer__coarse__FLAIR-T1")
    second.rename(other)
    members = [Predictor.from_model_folder(path) for path in (two_models[0], other)]
    members[1].plan = replace(plan, slice_axis="coronal", target_spacing=6.0)
    scan = make_scan()
    maps = [one.predict_volume(scan, "a").anomaly for one in members]
    np.testing.assert_allclose(
        Ensemble(members).predict_volume(scan, "a").anomaly, np.mean(maps, axis=0), rtol=1e-5, atol=1e-6
    )


def test_the_files_name_every_model_and_finished_cases_are_kept(two_models, scans, tmp_path, data):
    source, output = scans("a_0000.nii.gz"), tmp_path / "maps"
    options = PredictionOptions(models=tuple(str(path) for path in two_models))
    assert predict(data, source, output, options, CPU) == []
    record = load_json(output / "a.json")
    names = [path.name for path in two_models]
    assert record["model"] == " + ".join(names)
    assert [one["model"] for one in record["members"]] == names
    assert record["folds"] == [f"{name}/fold_0" for name in names]
    assert set(record["settings"]) == set(names)
    assert read_volume(output / "a_anomaly.nii.gz").geometry == read_volume(source / "a_0000.nii.gz").geometry
    options = replace(options, continue_prediction=True)
    predict(data, source, output, options, CPU)
    assert "kept" in (output / "summary.csv").read_text()
    predict(data, source, output, replace(options, models=options.models[::-1]), CPU)
    assert "done" in (output / "summary.csv").read_text()


def working_threads() -> set[threading.Thread]:
    """All but the one that watches progress bars and stays."""
    return {one for one in threading.enumerate() if not isinstance(one, TMonitor)}


@pytest.mark.parametrize("member", [0, 1])
def test_an_error_of_one_model_is_each_cases_and_ends_the_threads_of_all(two_models, make_scan, monkeypatch, member):
    ensemble = Ensemble.from_model_folders(two_models)

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(ensemble.members[member].folds[0].cycle, "reconstruct", fail)
    before = working_threads()
    outcomes = list(ensemble.predict_volumes(Scan(make_scan(number), f"case {number}") for number in range(4)))
    assert len(outcomes) == 4
    assert all(isinstance(one, Settled) and "ZeroDivisionError" in str(one.outcome) for one in outcomes)
    assert working_threads() <= before


def test_models_that_do_not_fit_together_are_refused(two_models):
    first, second = two_models
    with pytest.raises(MMCCDError, match=f"{first.name} is named twice"):
        Ensemble.from_model_folders([first, first])
    with pytest.raises(MMCCDError, match="needs two models"):
        Ensemble.from_model_folders([first])
    members = [Predictor.from_model_folder(path) for path in two_models]
    members[1].identity = replace(members[1].identity, input_modality="T1")
    with pytest.raises(MMCCDError, match=f"examine different scans.* {second.name} of T1"):
        Ensemble(members)
    members = [Predictor.from_model_folder(path) for path in two_models]
    members[1].plan = replace(members[1].plan, modalities=("T1", "FLAIR"))
    with pytest.raises(MMCCDError, match="number the modalities differently"):
        Ensemble(members)
    (second / "fold_0" / "calibration.json").unlink()
    with pytest.raises(MMCCDError, match=f"{second.name} has no calibration"):
        Ensemble.from_model_folders(two_models)


def test_an_ensemble_is_named_by_its_configurations_or_by_the_best(two_models, data):
    first, second = two_models
    other = twin(first, configuration="FLAIR-T2")
    chosen = choose_models(data, PredictionOptions(configurations=("FLAIR-T2", "FLAIR-T1"), trainer="MMCCDTrainer"))
    assert [one.path.name for one in chosen] == [other.name, first.name]
    with pytest.raises(MMCCDError, match="several models are trained"):
        choose_models(data, PredictionOptions(configurations=("FLAIR-T2", "FLAIR-T1")))
    with pytest.raises(MMCCDError, match=r"-p \(of T2-T1\); there are"):
        choose_models(data, PredictionOptions(configurations=("FLAIR-T2", "T2-T1")))
    shutil.rmtree(other)
    names = {"FLAIR": [first.name, second.name], "T1": [first.name]}
    save_json({"models": names, "default_modality": "FLAIR"}, first.parent / "best_configuration.json")
    assert [one.path.name for one in choose_models(data, PredictionOptions())] == [first.name, second.name]
    assert isinstance(load_predictor(data, PredictionOptions(), CPU, "scans", "maps"), Ensemble)
    with pytest.raises(MMCCDError, match="needs one model at a time"):
        choose_model(data, PredictionOptions())


def test_each_input_modality_has_its_own_best(model_folder, quick_plan, data):
    cycle = quick_plan.configurations["FLAIR-T1"]
    backwards = replace(cycle, input_modality="T1", translation_modality="FLAIR")
    plan = replace(quick_plan, configurations={"FLAIR-T1": cycle, "T1-FLAIR": backwards})
    flair = [model_folder(method, plan=plan) for method in ("mmccd", "cyclic_unet")]
    t1 = [twin(folder, configuration="T1-FLAIR") for folder in flair]
    names = {"FLAIR": [flair[0].name], "T1": [t1[0].name, t1[1].name]}
    save_json({"models": names, "default_modality": "FLAIR"}, flair[0].parent / "best_configuration.json")
    assert [one.path for one in choose_models(data, PredictionOptions())] == flair[:1]
    assert [one.path for one in choose_models(data, PredictionOptions(configurations=("T1-FLAIR",)))] == t1


def tried(model: str, auprc: float, evaluations: float = 10, source: str = HELD_OUT) -> Tried:
    return Tried(model, "0", source, ("a",), 1, 8, 1, ScorePlan(), False, auprc, {}, (auprc,), evaluations)


@pytest.mark.parametrize(
    ("auprcs", "expected"),
    [
        ({("a", "b"): (0.504, 20)}, ("a",)),
        ({("a", "b"): (0.506, 20)}, ("a", "b")),
        ({("a", "b"): (0.60, 20), ("a", "b", "c"): (0.605, 30)}, ("a", "b")),
        ({("a", "b"): (0.60, 20), ("a", "b", "c"): (0.61, 30)}, ("a", "b", "c")),
        ({}, ("a",)),
    ],
)
def test_an_ensemble_has_to_be_better_by_more_than_one_percent(auprcs, expected):
    lines = [TriedEnsemble(models, auprc, {}, evaluations) for models, (auprc, evaluations) in auprcs.items()]
    assert best_members(tried("a", 0.5), lines) == expected


def test_a_model_that_was_tried_on_its_training_slices_is_not_the_best(caplog):
    assert best_single([tried("a", 0.5), tried("b", 0.6)]).model == "b"
    assert best_single([tried("a", 0.5), tried("b", 0.9, source=TRAINED_ON)]).model == "a"
    assert "b was tried on slices that it was trained on" in caplog.text
    assert best_single([tried("b", 0.9, source=TRAINED_ON)]).model == "b"


@pytest.mark.slow
def test_a_model_beside_its_twin_finds_what_it_finds_alone(model_folder, quick_plan, preprocessed, data):
    # The same weights under two names.
    first = model_folder(plan=quick_plan)
    calibrate_model(first, preprocessed, device=CPU, max_slices=4)
    second = twin(first, trainer="TwinTrainer")
    found = find_best_configuration(data, "Dataset900_Tiny", PredictionOptions(), CPU, per_kind=1, max_slices=4)
    (line,) = found.ensembles
    assert set(line.models) == {first.name, second.name}
    single = found.best[first.name]
    assert line.auprc == pytest.approx(single.auprc)
    assert line.evaluations_per_slice == pytest.approx(2 * single.evaluations_per_slice)
    assert found.models["FLAIR"] in ((first.name,), (second.name,))
    assert found.default_modality == "FLAIR"
    assert load_json(first.parent / "best_configuration.json")["models"] == {"FLAIR": list(found.models["FLAIR"])}
    assert "mean of" in describe_best(found)


def test_two_models_are_tried_together_and_one_alone_is_not(two_models, preprocessed):
    models = [ModelFolder(path) for path in two_models]
    best = {one.path.name: tried(one.path.name, 0.1, evaluations) for one, evaluations in zip(models, (8, 1), strict=True)}
    trial = SyntheticTrial("0", preprocessed, CPU, per_kind=1, max_slices=4)
    (line,) = try_ensembles(models, best, trial)
    assert line.models == tuple(path.name for path in two_models)
    assert line.evaluations_per_slice == 9
    assert 0 < line.auprc < 1
    assert len(line.by_kind) > 1
    assert try_ensembles(models[:1], best, trial) == []


def test_models_that_were_tried_on_other_cases_are_not_averaged(two_models, quick_plan, data, preprocessed, caplog):
    """Fold "all" of the one was trained before a case came, which the other one knows."""
    for path, cases in zip(two_models, (("a",), ("c",)), strict=True):
        shutil.move(path / "fold_0", path / "fold_all")
        final = path / "fold_all" / "checkpoint_final.pth"
        checkpoint = load_checkpoint(final)
        save_checkpoint(replace(checkpoint, fold="all", record={**checkpoint.record, "training_cases": list(cases)}), final)
    found = find_best_configuration(data, "Dataset900_Tiny", PredictionOptions(), CPU, per_kind=1, max_slices=4)
    assert {one.cases for one in found.best.values()} == {("a",), ("c",)}
    assert found.ensembles == ()
    assert "slices of different cases" in caplog.text


def test_what_can_not_work_is_told_before_anything_is_written(two_models, data, preprocessed):
    shutil.move(two_models[1] / "fold_0", two_models[1] / "fold_all")
    before = {path: (path / "fold_0" / "calibration.json").read_bytes() for path in two_models[:1]}
    with pytest.raises(MMCCDError, match="no finished fold 0"):
        find_best_configuration(data, "Dataset900_Tiny", PredictionOptions(folds=("0",)), CPU, per_kind=1, max_slices=4)
    assert not any((path / "inference.json").exists() for path in two_models)
    assert all((path / "fold_0" / "calibration.json").read_bytes() == content for path, content in before.items())


def test_slices_of_another_plan_are_refused(two_models, quick_plan, data, preprocessed):
    replace(quick_plan, target_spacing=3.0).save(preprocessed / PLANS_FILE)
    with pytest.raises(MMCCDError, match=r"slices of another plan .*target_spacing: 4.0 against 3.0"):
        find_best_configuration(data, "Dataset900_Tiny", PredictionOptions(), CPU, per_kind=1, max_slices=4)


def test_a_choice_among_some_models_does_not_replace_one_among_all(two_models, data, preprocessed, caplog):
    best = two_models[0].parent / "best_configuration.json"
    save_json({"models": {"FLAIR": [two_models[0].name], "T2": ["gone"]}, "default_modality": "FLAIR"}, best)
    only = PredictionOptions(trainer=two_models[1].name.split("__")[0])
    found = find_best_configuration(data, "Dataset900_Tiny", only, CPU, per_kind=1, max_slices=4)
    assert found.models == {"FLAIR": (two_models[0].name,)}
    assert "not every model of FLAIR was tried" in caplog.text
    best.write_text("[")
    found = find_best_configuration(data, "Dataset900_Tiny", only, CPU, per_kind=1, max_slices=4)
    assert found.models == {"FLAIR": (two_models[1].name,)}
