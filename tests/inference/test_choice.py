"""mmccd_find_best_configuration changes what it can show to be better, keeps the rest, and can be undone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.choice.compare import Tried
from mmccd_auto.inference.choice.decide import decide_choice, decide_models
from mmccd_auto.inference.choice.ensembles import TriedEnsemble
from mmccd_auto.inference.choice.paired_difference import paired_difference
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.scores.calibration import HELD_OUT
from mmccd_auto.plans.plan import ConfigurationPlan, ScorePlan
from mmccd_auto.trained.model_folder import ModelFolder
from mmccd_auto.workflows.find_best_configuration import describe_best, find_best_configuration, restore_configuration

CPU = torch.device("cpu")
NOISE = np.random.default_rng(0).normal(0, 0.1, 24)
BASE = np.linspace(0.2, 0.6, 24)


def line(model: str, each: np.ndarray, stride: int = 8, evaluations: float = 10) -> Tried:
    mean = float(np.mean(each))
    values = tuple(each.tolist())
    return Tried(
        model, "0", HELD_OUT, ("a",), 1, stride, 1, ScorePlan(), False, mean, {}, (mean,), evaluations, by_anomaly=values
    )


def ensemble(models: tuple[str, ...], each: np.ndarray) -> TriedEnsemble:
    return TriedEnsemble(models, float(np.mean(each)), {}, 20, tuple(each.tolist()))


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    pairs = [(draw.normal(0.05, 0.1, 12), np.zeros(12)) for _ in range(1000)]
    found = [paired_difference(new, old) for new, old in pairs]
    assert 0.93 < np.mean([one.low < 0.05 < one.high for one in found]) < 0.97


def test_nothing_can_be_said_of_other_anomalies_or_of_one() -> None:
    for new, old in (([0.9, 0.9], [0.1]), ([0.9], [0.1]), ([0.9, 0.8], [])):
        assert not paired_difference(new, old).is_gain


@pytest.mark.parametrize(("gain", "stays"), [(0.012, True), (0.2, False)])
def test_a_choice_stays_within_noise(gain: float, stays: bool) -> None:
    before = ConfigurationPlan("FLAIR", "T1", 1, 4)
    standing, other = line("m", BASE, stride=4, evaluations=20), line("m", BASE + gain + NOISE - NOISE.mean())
    chosen, reason = decide_choice([standing, other], before)
    assert chosen == (standing if stays else other)
    assert ("no more than chance" in reason) == stays
    assert decide_choice([standing, other], None)[0] == other


@pytest.mark.parametrize(("gain", "stays"), [(0.012, True), (0.2, False)])
@pytest.mark.parametrize("before", [None, ("a",)])
def test_an_ensemble_has_to_be_better_beyond_chance(gain: float, stays: bool, before: tuple | None) -> None:
    best = {"a": line("a", BASE), "b": line("b", BASE - 0.3)}
    lines = [ensemble(("a", "b"), BASE + gain + NOISE - NOISE.mean())]
    chosen, reason = decide_models(best["a"], lines, best, before)
    assert chosen == (("a",) if stays else ("a", "b"))
    assert "24 anomalies" in reason


def test_another_model_within_noise_does_not_take_the_place_of_the_one_before() -> None:
    best = {"a": line("a", BASE), "b": line("b", BASE + 0.01 + NOISE - NOISE.mean())}
    assert decide_models(best["b"], [], best, ("a",))[0] == ("a",)
    assert decide_models(best["b"], [], best, None)[0] == ("b",)
    best["b"] = line("b", BASE + 0.1)
    assert decide_models(best["b"], [], best, ("a",))[0] == ("b",)


@pytest.fixture
def model(model_folder, quick_plan, preprocessed, monkeypatch) -> ModelFolder:
    """Quickly tried: it hides no strips, and of two scores."""
    monkeypatch.setattr("mmccd_auto.inference.choice.compare.SMOOTHING_MM", (2.0, 4.0))
    monkeypatch.setattr("mmccd_auto.inference.choice.compare.OTHER_WEIGHTS", (0.5,))
    found = ModelFolder(model_folder("cyclic_unet", plan=quick_plan))
    calibrate_model(found.path, preprocessed, device=CPU, max_slices=6)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")


def find(data: Folders):
    return find_best_configuration(data, "Dataset900_Tiny", PredictionOptions(), CPU, per_kind=1, max_slices=3)


def state_of(results: Path) -> dict[str, bytes]:
    names = ("inference.json", "calibration.json", "best_configuration.json")
    paths = [path for name in names for path in results.rglob(name) if "previous_configuration" not in path.parts]
    return {str(path.relative_to(results)): path.read_bytes() for path in paths}


def test_what_was_there_is_kept_restored_and_calibrated_on_no_fewer_slices(
    model: ModelFolder, preprocessed: Path, data: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    results = model.path.parent
    before = state_of(results)
    slices = [one["slices"] for one in load_json(model.fold("0") / "calibration.json")["subjects"]]
    with caplog.at_level(logging.INFO):
        found = find(data)
    assert set(state_of(results)) == {*before, "best_configuration.json", f"{model.path.name}/inference.json"}
    assert f"{model.path.name}: nothing was chosen before" in describe_best(found)
    after = [one["slices"] for one in load_json(model.fold("0") / "calibration.json")["subjects"]]
    assert sum(after) >= sum(slices)
    assert "previous_configuration (--restore puts it back)" in caplog.text
    changed = state_of(results)
    # A second run finds nothing that is better beyond chance, so that it changes nothing, also of what is kept.
    find(data)
    again = state_of(results)
    assert {name: again[name] for name in again if name != "best_configuration.json"} == {
        name: changed[name] for name in changed if name != "best_configuration.json"
    }
    assert restore_configuration(data, "Dataset900_Tiny")
    assert state_of(results) == before


def test_nothing_is_restored_where_nothing_was_changed_or_of_folds_that_were_trained_since(
    model: ModelFolder, preprocessed: Path, data: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MMCCDError, match="has changed nothing here"):
        restore_configuration(data, "Dataset900_Tiny")
    find(data)
    final = model.fold("0") / "checkpoint_final.pth"
    final.write_bytes(final.read_bytes())
    calibration = (model.fold("0") / "calibration.json").read_bytes()
    restore_configuration(data, "Dataset900_Tiny")
    assert (model.fold("0") / "calibration.json").read_bytes() == calibration
    assert "the fold was trained since" in caplog.text


def test_a_score_that_was_chosen_by_hand_is_tried_and_stays_within_noise(
    model: ModelFolder, preprocessed: Path, data: Folders
) -> None:
    """It would not be tried otherwise."""
    find(data)
    choice = load_json(model.path / "inference.json")
    save_json({**choice, "score": {**choice["score"], "smoothing_mm": 2.1}}, model.path / "inference.json")
    found = find(data)
    (line,) = [one for one in found.tried if one.score.smoothing_mm == 2.1]
    best = found.best[model.path.name]
    assert best == line or paired_difference(best.by_anomaly, line.by_anomaly).is_gain
    assert load_json(model.path / "inference.json")["score"]["smoothing_mm"] == best.score.smoothing_mm
