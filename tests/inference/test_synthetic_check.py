"""Synthetic anomalies through the cycle, and what is chosen by them."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.choice.choose_steps import PER_KIND, choose_steps, describe_choice
from mmccd_auto.inference.choice.compare import Tried, best_of, candidate_settings, try_choices
from mmccd_auto.inference.choice.race import race_steps
from mmccd_auto.inference.choice.synthetic_check import AlteredMaps, alter_cases, auprc_by_kind, maps_of_altered
from mmccd_auto.inference.choice.trial import SyntheticTrial
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.held_out.healthy_slices import find_records, healthy_maps
from mmccd_auto.inference.maps.engine import MapMaker, SliceMaps, anomaly_maps
from mmccd_auto.inference.maps.fold_model import load_fold
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import HELD_OUT, TRAINED_ON, fit_calibration
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.trained.inference_choice import InferenceChoice, PlannedInference, chosen_plan, load_choice
from mmccd_auto.trained.model_folder import ModelFolder
from mmccd_auto.trained.select import choose_model

CPU = torch.device("cpu")


@pytest.fixture
def healthy(model_folder, quick_plan, preprocessed: Path):
    """The model, its cycle, settings, records and the maps of its healthy held-out slices."""
    model = ModelFolder(model_folder(plan=quick_plan))
    loaded, settings = load_fold(model, "0", CPU), make_settings(quick_plan)
    records, _ = find_records(preprocessed, "0", "FLAIR")
    maps = [
        healthy_maps(
            MapMaker(loaded.cycle, settings, CPU, quick_plan.patch_size),
            "FLAIR",
            preprocessed,
            record,
            [item.index for item in record.slices if item.healthy],
        )
        for record in records.values()
    ]
    return model, loaded, settings, records, maps


def trial_of(fold: str, preprocessed: Path) -> SyntheticTrial:
    return SyntheticTrial(fold, preprocessed, CPU, PER_KIND, 4)


def test_slices_that_an_anomaly_does_not_touch_keep_their_maps(healthy, quick_plan, preprocessed) -> None:
    _, loaded, settings, records, maps = healthy
    altered = alter_cases(maps, "FLAIR", preprocessed, records, per_kind=1)
    assert len({one.anomaly.kind for one in altered}) == len(altered) >= 6
    found = maps_of_altered(altered, MapMaker(loaded.cycle, settings, CPU, quick_plan.patch_size))
    for one, result in zip(altered, found, strict=True):
        indices = one.run.indices
        whole = anomaly_maps(
            MapMaker(loaded.cycle, settings, CPU, quick_plan.patch_size),
            one.anomaly.image,
            one.run.brain,
            one.run.case,
            slice_indices=indices,
        )
        for name in ("signed", "squared", "cycle"):
            np.testing.assert_allclose(getattr(result.case.maps, name), getattr(whole, name), rtol=1e-4, atol=1e-4)
        assert 0 < len(one.touched) <= len(indices)
        assert not one.anomaly.anomaly[[place for place in range(len(indices)) if place not in one.touched]].any()


def test_anomalies_are_the_same_whatever_made_the_maps(healthy, preprocessed) -> None:
    _, _, _, records, maps = healthy
    other = [replace(case, maps=replace(case.maps, signed=-case.maps.signed)) for case in maps]
    first, second = (alter_cases(one, "FLAIR", preprocessed, records, per_kind=1) for one in (maps, other))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.anomaly.image, two.anomaly.image)


def noise(seed: int, case: str = "a") -> CaseMaps:
    random = np.random.default_rng(seed)
    brain = np.ones((6, 20, 20), dtype=bool)
    error = random.standard_normal(brain.shape).astype(np.float32)
    maps = SliceMaps(error**2, error, random.uniform(-3, 3, brain.shape).astype(np.float32), 1 + 0 * error, 0)
    return CaseMaps(case, case, tuple(range(6)), (2.0, 2.0, 2.0), maps, brain)


def test_auprc_of_what_is_found_and_of_what_is_not() -> None:
    calibration = fit_calibration([noise(0), noise(1, "b")], ScorePlan(smoothing_mm=0.0), {}, "", {})
    anomaly = np.zeros((6, 20, 20), dtype=bool)
    anomaly[2:4, 5:15, 5:15] = True
    seen, unseen = noise(2), noise(3)
    seen.maps.signed[anomaly] = 30
    found = auprc_by_kind(
        [AlteredMaps("brighter", anomaly, seen), AlteredMaps("equal", anomaly, unseen)], calibration, "combined"
    )
    assert found["brighter"] == pytest.approx(1)
    assert found["equal"] == pytest.approx(anomaly.mean(), abs=0.03)


def tried(each: np.ndarray, evaluations: float, published: bool = False, smoothing: float = 4.0) -> Tried:
    mean, score = float(np.mean(each)), ScorePlan(smoothing_mm=smoothing)
    values = tuple(each.tolist())
    rung = (1, round(evaluations), 1)
    return Tried("m", "0", HELD_OUT, ("a",), *rung, score, published, mean, {}, (mean,), evaluations, by_anomaly=values)


def test_the_cheapest_is_chosen_unless_a_dearer_one_finds_more_beyond_the_interval() -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0.2, 0.8, 24)
    within = base + 0.01 + random.normal(0, 0.1, 24)
    beyond = base + 0.1 + random.normal(0, 0.02, 24)
    cheap, other = tried(base, 1), tried(base - 0.01, 1, smoothing=2.0)
    published = tried(base + 0.3, 1, published=True)
    assert best_of([tried(within, 10), other, cheap, published]) is cheap
    dear = tried(beyond, 10)
    assert best_of([dear, tried(beyond + random.normal(0.001, 0.02, 24), 100), other, cheap, published]) is dear


def test_what_is_tried_is_cheaper_than_planned_and_strips_overlap_by_half_at_most(healthy, quick_plan, model_folder) -> None:
    model, loaded, *_ = healthy
    plan = replace(
        quick_plan,
        configurations={"FLAIR-T1": replace(quick_plan.configurations["FLAIR-T1"], sampling_steps=10, strip_stride=2)},
    )
    plan.save(model.path / "plans.json")
    found = candidate_settings(ModelFolder(model.path), loaded)
    assert [(one.sampling.steps, one.strip_stride, one.strips_per_pass) for one in found] == [
        (1, 8, 4),
        (1, 4, 4),
        (1, 8, 2),
        (1, 4, 2),
        (1, 8, 1),
        (1, 4, 1),
        (5, 8, 1),
        (10, 4, 1),
    ]
    cyclic = ModelFolder(model_folder("cyclic_unet", plan=quick_plan))
    assert len(candidate_settings(cyclic, load_fold(cyclic, "0", CPU))) == 1


def test_a_choice_is_obeyed_before_the_plan(healthy, preprocessed) -> None:
    model, *_ = healthy
    assert load_choice(model) is None
    assert chosen_plan(model) == model.plan
    score = ScorePlan("darker", 0.25, 5.0)
    InferenceChoice(2, 4, score, "tested", strips_per_pass=3).save(model)
    calibration = calibrate_model(model.path, preprocessed, device=CPU, max_slices=4)
    assert calibration.score == score
    predictor = Predictor.from_model_folder(model.path)
    assert (predictor.settings.sampling.steps, predictor.settings.strip_stride) == (2, 4)
    assert predictor.settings.strips_per_pass == 3
    assert "against" not in predictor.scoring.source
    save_json({"sampling_steps": 2}, model.path / "inference.json")
    with pytest.raises(MMCCDError, match=r"inference.json: the entry .* is missing"):
        Predictor.from_model_folder(model.path)


def test_of_several_models_the_best_is_taken(model_folder, tmp_path) -> None:
    folders = [model_folder(method) for method in ("mmccd", "cyclic_unet")]
    data = Folders(tmp_path / "raw", tmp_path / "preprocessed", tmp_path / "results")
    with pytest.raises(MMCCDError, match="mmccd_find_best_configuration"):
        choose_model(data, PredictionOptions())
    for folder in folders:
        save_json(
            {"models": {"FLAIR": [folder.name]}, "default_modality": "FLAIR"}, folder.parent / "best_configuration.json"
        )
        assert choose_model(data, PredictionOptions()).path == folder
    assert choose_model(data, PredictionOptions(trainer="MMCCDTrainer")).path.name != folders[1].name
    save_json({"model": "of an older version"}, folders[0].parent / "best_configuration.json")
    with pytest.raises(MMCCDError, match="the entry models is missing: run mmccd_find_best_configuration"):
        choose_model(data, PredictionOptions())


def test_steps_are_chosen_over_three_seeds_and_a_choice_stays(healthy, preprocessed, caplog) -> None:
    model, loaded, *_ = healthy
    with caplog.at_level(logging.INFO):
        choice = choose_steps(model.path, trial_of("0", preprocessed))
    assert re.search(r"steps and strips: \d+ (of 18 )?tries in [^;]+(; all of them would have taken about .+)?", caplog.text)
    assert re.search(r"[+-]0\.\d{3} \([+-]\d\.\d{3} to [+-]\d\.\d{3}\)", caplog.text)
    assert load_choice(model) == choice
    rungs = [(one.sampling_steps, one.strip_stride, one.strips_per_pass) for one in choice.tried]
    assert set(rungs) == {(1, stride, together) for stride in (8, 4) for together in (4, 2, 1)}
    assert [one.evaluations_per_slice for one in choice.tried] == sorted(one.evaluations_per_slice for one in choice.tried)
    for one in choice.tried:
        assert len(set(one.by_seed)) == len(one.by_seed) == (len(one.by_seed) if one.given_up else 3)
        assert one.auprc == pytest.approx(np.mean(one.by_seed))
    place = rungs.index((choice.sampling_steps, choice.strip_stride, choice.strips_per_pass))
    assert [number for number, one in enumerate(choice.tried) if one.interval is None] == [place]
    for one in choice.tried[place + 1 :]:
        assert one.interval[0] <= one.difference <= one.interval[1]
        assert one.interval[0] <= 0
    assert f"the cheapest of {len(rungs)} " in choice.why
    planned = model.plan.configuration("FLAIR-T1")
    assert choice.score == planned.score
    assert (choice.fold, choice.source, choice.weights_sha256) == ("0", HELD_OUT, loaded.weights_sha256)
    assert choice.planned == PlannedInference(1, 8, planned.strips_per_pass, planned.score)
    assert describe_choice(choice).count("chosen") == 1
    other = replace(choice, sampling_steps=3)
    other.save(model)
    assert choose_steps(model.path, trial_of("0", preprocessed)) == other


def test_each_seed_has_its_own_anomalies_and_every_rung_the_same(healthy, preprocessed, monkeypatch) -> None:
    model, loaded, settings, *_ = healthy
    trial = SyntheticTrial("0", preprocessed, CPU, 1, 4)
    first, again, other = (
        trial.maps(model, loaded, one, draw).altered
        for one, draw in ((settings, 0), (replace(settings, seed=9), 0), (settings, 1))
    )
    assert all(np.array_equal(one.anomaly, two.anomaly) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one.anomaly, two.anomaly) for one, two in zip(first, other, strict=True))
    draws: list[int] = []
    monkeypatch.setattr(
        SyntheticTrial,
        "maps",
        lambda self, model, loaded, settings, draw=0, real=trial.maps: (
            draws.append(draw),
            real(model, loaded, settings, draw),
        )[1],
    )
    try_choices(model, trial, scores=[])
    assert draws == [0, 1, 2] * 6


def edit(model: ModelFolder, **changes: object) -> ModelFolder:
    """The model with other values in its plans.json."""
    configuration = replace(model.plan.configuration("FLAIR-T1"), **changes)
    replace(model.plan, configurations={"FLAIR-T1": configuration}).save(model.path / "plans.json")
    return ModelFolder(model.path)


def test_what_a_person_edits_after_a_choice_is_obeyed(healthy, preprocessed, caplog) -> None:
    model, *_ = healthy
    planned = model.plan.configuration("FLAIR-T1")
    choice = InferenceChoice(2, 4, planned.score, "tested", 4, planned=PlannedInference.of(planned))
    choice.save(model)
    score = ScorePlan("darker", 0.25, 5.0)
    edited = edit(model, score=score)
    found = chosen_plan(edited).configuration("FLAIR-T1")
    assert (found.sampling_steps, found.strip_stride, found.strips_per_pass, found.score) == (2, 4, 4, score)
    assert "of score counts" in caplog.text
    edited = edit(edited, sampling_steps=7)
    found = chosen_plan(edited).configuration("FLAIR-T1")
    assert (found.sampling_steps, found.strip_stride, found.strips_per_pass) == (7, 8, planned.strips_per_pass)
    assert Predictor.from_model_folder(edited.path).settings.sampling.steps == 7
    back = edit(edited, sampling_steps=planned.sampling_steps, score=planned.score)
    assert chosen_plan(back).configuration("FLAIR-T1").sampling_steps == 2


def test_of_folds_that_end_together_the_first_one_chooses(healthy, preprocessed, monkeypatch) -> None:
    model, *_ = healthy
    other = InferenceChoice(2, 4, ScorePlan(), "of another fold", fold="1", source=HELD_OUT)

    def meanwhile(*given, **options):
        found = race_steps(*given, **options)
        other.save(model)
        return found

    monkeypatch.setattr("mmccd_auto.inference.choice.choose_steps.race_steps", meanwhile)
    assert choose_steps(model.path, trial_of("0", preprocessed)) == other
    assert load_choice(model) == other


@pytest.mark.parametrize(
    ("known", "stays"),
    [
        ({"fold": "0", "source": HELD_OUT, "weights_sha256": "of a shorter training"}, False),
        ({"fold": "1", "source": HELD_OUT, "weights_sha256": "of another fold"}, True),
        # By mmccd_find_best_configuration.
        ({"fold": "0", "source": HELD_OUT}, True),
        ({"fold": "all", "source": TRAINED_ON, "weights_sha256": "of the fold all"}, False),
        ({}, True),
    ],
)
def test_a_choice_is_made_anew_where_it_was_of_a_shorter_training_or_on_training_slices(
    healthy, preprocessed, known, stays
) -> None:
    model, *_ = healthy
    before = InferenceChoice(3, 4, ScorePlan(), "before", **known)
    before.save(model)
    assert (choose_steps(model.path, trial_of("0", preprocessed)) == before) == stays
    assert (load_choice(model) == before) == stays


def test_a_choice_on_training_slices_says_so(model_folder, quick_plan, preprocessed, caplog) -> None:
    model = ModelFolder(model_folder(folds=("all",), plan=quick_plan))
    choice = choose_steps(model.path, trial_of("all", preprocessed))
    assert choice.source == TRAINED_ON
    assert "no healthy slice was held out" in caplog.text
