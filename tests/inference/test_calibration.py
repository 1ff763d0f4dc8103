"""Units, thresholds and lesion sizes from healthy slices, and how the predictor uses them."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.held_out.healthy_slices import choose_healthy_slices, find_records
from mmccd_auto.inference.held_out.validation_maps import load_validation_maps, load_validation_record
from mmccd_auto.inference.maps.engine import MapMaker, SliceMaps, anomaly_maps
from mmccd_auto.inference.maps.fold_model import load_fold
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import SCORES, LoadOptions, MapOptions
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import (
    HELD_OUT,
    TRAINED_ON,
    Calibration,
    case_score,
    fit_calibration,
    load_calibration,
)
from mmccd_auto.inference.scores.score_units import scores_in_units
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.preprocessing.slices import CaseRecord, SliceRecord, load_case_records, read_slices
from mmccd_auto.trained.model_folder import ModelFolder

CPU = torch.device("cpu")


def record(case: str, count: int, healthy: int) -> CaseRecord:
    slices = tuple(SliceRecord(f"{case}/slice_{i:04d}.npz", i, 50, 0, i < healthy) for i in range(count))
    return CaseRecord(case, case, ("FLAIR",), False, slices, None, {}, {}, {})


def simulated(case: str, seed: int, spread: float = 1.0, subject: str | None = None, slices: int = 12) -> CaseMaps:
    """Errors of a known distribution: darker ones three times as large as brighter ones, twice as large near the edge."""
    random = np.random.default_rng(seed)
    brain = np.zeros((slices, 40, 40), dtype=bool)
    brain[:, 4:36, 4:36] = True
    near = np.zeros_like(brain)
    near[:, 4:36, 4:36] = True
    near[:, 7:33, 7:33] = False
    error = random.standard_normal(brain.shape).astype(np.float32) * spread * np.where(near, 2, 1)
    error = np.where(brain, np.where(error < 0, 3 * error, error), 0).astype(np.float32)
    cycle = np.where(brain, random.uniform(-3, 3, brain.shape), 0).astype(np.float32)
    maps = SliceMaps(error**2, error, cycle, brain.astype(np.float32), 0)
    return CaseMaps(case, subject or case, tuple(range(10, 10 + slices)), (2.0, 2.0, 2.0), maps, brain)


def fitted(cases: list[CaseMaps], score: ScorePlan | None = None) -> Calibration:
    return fit_calibration(cases, score or ScorePlan(), {}, "healthy validation slices", {"0": "a"})


def named(calibration, preprocessed) -> list[str]:
    """The people of a calibration, whom it knows by number."""
    link = {number: person for person, number in load_json(preprocessed.parent / "subject_numbers.json")["subjects"].items()}
    return [link[subject.subject] for subject in calibration.subjects]


@pytest.mark.parametrize(
    ("healthy", "limit", "expected"),
    [
        ({"a": 9}, 3, {"a": [1, 4, 7]}),
        ({"a": 2, "b": 9}, 6, {"a": [0, 1], "b": [1, 3, 5, 7]}),
        ({"a": 4, "b": 0}, 48, {"a": [0, 1, 2, 3]}),
        ({"a": 3, "b": 3, "c": 3, "d": 3}, 2, {"b": [1], "d": [1]}),
        ({"a": 40}, 8, {"a": [8, 9, 10, 11, 28, 29, 30, 31]}),
    ],
)
def test_slices_are_spread_over_cases_and_long_runs_stay_together(healthy, limit, expected):
    records = {case: record(case, 50, count) for case, count in healthy.items()}
    assert choose_healthy_slices(records, limit) == expected


def with_error(case, where, size):
    """Make the scan brighter by ``size`` than it was at some pixels [S, H, W]."""
    signed = case.maps.signed + np.float32(size) * where
    return replace(case, maps=replace(case.maps, signed=signed, squared=signed**2))


def test_a_narrow_smoothing_beside_the_wide_one_keeps_lesions_of_few_pixels():
    healthy = [simulated("a", 1, slices=40), simulated("b", 2, slices=40)]
    new = simulated("c", 3, slices=40)
    middle = tuple(edge // 2 for edge in new.brain.shape)
    small, large = np.zeros_like(new.brain), np.zeros_like(new.brain)
    small[middle] = True
    large[tuple(slice(place - 6, place + 7) for place in middle)] = True
    plans = {
        "wide": ScorePlan(smoothing_mm=4.0),
        "narrow": ScorePlan(smoothing_mm=0.5),
        "both": ScorePlan(smoothing_mm=4.0, fine_smoothing_mm=0.5),
    }
    found = {}
    for name, plan in plans.items():
        calibration = fitted(healthy, plan)
        of_small, of_large = (
            scores_in_units(with_error(new, where, size), calibration)["combined"][middle]
            for where, size in ((small, 12), (large, 1.5))
        )
        found[name] = of_small, of_large
    assert found["narrow"][0] > 3 > 1 > found["wide"][0]
    assert found["wide"][1] > 1.5 * found["narrow"][1]
    assert found["both"] == pytest.approx((found["narrow"][0], found["wide"][1]), rel=0.3)


def test_a_calibration_for_two_smoothings_comes_back_and_is_checked(tmp_path):
    calibration = fitted([simulated("a", 1), simulated("b", 2)], ScorePlan(fine_smoothing_mm=1.0))
    assert {"brighter_fine", "brighter_coarse", "darker_fine", "darker_coarse"} < set(calibration.units)
    save_json(asdict(calibration), tmp_path / "calibration.json")
    assert load_calibration(tmp_path / "calibration.json") == calibration
    calibration.units.pop("darker_fine")
    save_json(asdict(calibration), tmp_path / "calibration.json")
    with pytest.raises(MMCCDError, match=r"units\.darker_fine is missing"):
        load_calibration(tmp_path / "calibration.json")


@pytest.mark.parametrize("plan", [ScorePlan(smoothing_mm=0.0), ScorePlan(smoothing_mm=0.0, fine_smoothing_mm=0.0)])
def test_equal_smoothings_score_as_one(plan):
    cases = [simulated("a", 1), simulated("b", 2)]
    expected = scores_in_units(cases[0], fitted(cases, ScorePlan(smoothing_mm=0.0)))
    for name, values in scores_in_units(cases[0], fitted(cases, plan)).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("rate", [0.05, 0.01, 0.005, 0.001])
def test_the_promised_share_of_healthy_pixels_exceeds_the_threshold(score, rate):
    # Without smoothing, so that pixels are independent and enough to count on.
    calibration = fitted([simulated("a", 1, slices=80), simulated("b", 2, slices=40)], ScorePlan(smoothing_mm=0.0))
    new = simulated("c", 3, slices=100)
    scores = scores_in_units(new, calibration)[score]
    share = np.mean(scores[new.brain] > calibration.threshold(rate, score))
    assert share == pytest.approx(rate, rel=0.3)


def test_one_in_a_hundred_healthy_pixels_scores_above_1_whatever_the_sign():
    cases = [simulated("a", 1), simulated("b", 2)]
    calibration = fitted(cases)
    for score in SCORES:
        shares = [np.mean(scores_in_units(case, calibration)[score][case.brain] > 1) for case in cases]
        assert np.mean(shares) == pytest.approx(0.01, rel=0.02)


def test_errors_are_measured_against_what_is_usual_at_their_place():
    calibration = fitted([simulated("a", 1, slices=40)])
    table = calibration.healthy_error
    brighter, darker = np.array(table.brighter), np.array(table.darker)
    # The 95th percentile of max(e, 0) of a standard normal e is 1.645; the rim has pixels of twice the error.
    assert np.median(brighter[:, -1]) == pytest.approx(1.645, rel=0.1)
    assert np.median(darker[:, -1]) == pytest.approx(3 * 1.645, rel=0.1)
    assert (brighter[:, 0] > 1.5 * brighter[:, -1]).all()


def test_every_subject_counts_the_same_however_many_slices_it_has():
    quiet, noisy = simulated("a", 1, slices=60), simulated("b", 2, spread=3.0, slices=6)
    together = fitted([quiet, noisy])
    halves = [simulated("b", 2, spread=3.0, slices=6), replace(quiet, subject="a")]
    assert together.units == pytest.approx(fitted(halves).units)
    shares = [np.mean(scores_in_units(one, together)["squared"][one.brain] > 1) for one in (quiet, noisy)]
    assert np.mean(shares) == pytest.approx(0.01, rel=0.05)
    assert shares[0] < 0.002 < 0.01 < shares[1]


@pytest.mark.parametrize("spread", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("rate", [0.05, 0.005])
def test_the_promise_holds_for_a_scan_that_the_cycle_knows_better_or_worse(spread, rate):
    calibration = fitted([simulated("a", 1, slices=80), simulated("b", 2, slices=40)], ScorePlan(smoothing_mm=0.0))
    new = simulated("c", 3, spread=spread, slices=100)
    share = np.mean(scores_in_units(new, calibration)["combined"][new.brain] > calibration.threshold(rate))
    assert share == pytest.approx(rate, rel=0.3)


def test_a_scan_without_any_error_is_not_blown_up():
    calibration = fitted([simulated("a", 1, slices=40)], ScorePlan(smoothing_mm=0.0))
    explained = simulated("b", 2, spread=0.02, slices=40)
    assert scores_in_units(explained, calibration)["combined"].max() < 0.2


def test_a_large_lesion_hardly_lowers_the_scores_of_its_scan():
    calibration = fitted([simulated("a", 1, slices=40), simulated("b", 2, slices=40)], ScorePlan(smoothing_mm=0.0))
    healthy, ill = (simulated("c", 3, slices=40) for _ in range(2))
    lesion = (slice(10, 30), slice(10, 24), slice(10, 24))
    ill.maps.signed[lesion] += 8
    beside = healthy.brain.copy()
    beside[lesion] = False
    without, found = (scores_in_units(one, calibration)["combined"] for one in (healthy, ill))
    ratio = found[beside & (without > 0.1)] / without[beside & (without > 0.1)]
    # A tenth of the brain is lesion.
    assert 0.8 < ratio.min() <= ratio.max() < 1
    assert np.median(found[lesion]) > calibration.threshold(0.005)


def test_two_cases_of_a_subject_are_one_subject():
    both = [simulated("a1", 1, subject="a"), simulated("a2", 2, subject="a")]
    (subject,) = fitted(both).subjects
    assert (subject.subject, subject.slices) == ("a", 24)
    assert sum(subject.histograms["combined"]) == subject.pixels == sum(int(case.brain.sum()) for case in both)


@pytest.mark.parametrize(("sign", "expected"), [("brighter", "brighter"), ("darker", "darker")])
def test_the_expected_sign_counts_in_full_and_the_other_less(sign, expected):
    calibration = fitted([simulated("a", 1), simulated("b", 2)], ScorePlan(sign, 0.5, 0.0))
    case = simulated("c", 3)
    scores = scores_in_units(case, calibration)
    other = {"brighter": "darker", "darker": "brighter"}[expected]
    combined = np.maximum(scores[expected], 0.5 * scores[other]) / calibration.units["combined"]
    np.testing.assert_allclose(scores["combined"], combined, rtol=1e-5)


def test_case_scores_and_their_percentile():
    calibration = fitted([simulated(name, seed, slices=4) for seed, name in enumerate("abcdefghij")])
    values = np.linspace(0, 1, 1000)
    assert case_score(values) == pytest.approx(values[-10:].mean())
    assert calibration.healthy_percentile(-1) == 0
    assert calibration.healthy_percentile(1e6) == 100
    scores = sorted(subject.case_score for subject in calibration.subjects)
    assert calibration.healthy_percentile((scores[1] + scores[2]) / 2) == 20
    assert calibration.limits == ()


def test_people_of_about_the_age_alone_make_the_percentile_where_they_are_enough():
    calibration = fitted([simulated(f"p{seed:02d}", seed, slices=4) for seed in range(24)])
    ages = [30.0] * 12 + [70.0] * 9 + [80.0, 81.0, None]
    scores = np.arange(24.0)
    people = zip(calibration.subjects, ages, scores, strict=True)
    aged = replace(calibration, subjects=tuple(replace(one, age=age, case_score=score) for one, age, score in people))
    assert aged.healthy_percentile(6) == aged.healthy_percentile(6, None) == 25
    assert aged.healthy_percentile(6, 40) == aged.healthy_percentile(6, 20) == 50
    assert aged.healthy_percentile(21.5, 71) == pytest.approx(100 * 10 / 11)
    assert len(aged.of_age(71)) == 11
    assert len(aged.of_age(70)) == 10
    # Nine people of that age are too few, so all count.
    assert aged.of_age(69) == aged.of_age(41) == aged.of_age(None) == ()
    assert aged.healthy_percentile(6, 69) == 25
    few = replace(aged, subjects=aged.subjects[:9])
    assert few.healthy_percentile(6, 30) is None


def test_the_ages_of_dataset_json_are_calibrated_on_and_nobody_is_older_than_90(model_folder, quick_plan, preprocessed):
    model = ModelFolder(model_folder(plan=quick_plan))
    save_json({"ages": {"a": 71.6, "b": 97, "c": 20}}, preprocessed.parent / "dataset.json")
    calibration = calibrate_model(model.path, preprocessed, device=CPU, max_slices=4, fits=1)
    assert [subject.age for subject in calibration.subjects] == [72, 90]
    assert load_calibration(model.path / "fold_0" / "calibration.json") == calibration
    save_json({"ages": {"a": "old"}}, preprocessed.parent / "dataset.json")
    with pytest.raises(MMCCDError, match="ages must be an object of cases and years"):
        calibrate_model(model.path, preprocessed, device=CPU, max_slices=4, fits=1)


def test_fewer_than_ten_people_give_no_percentile():
    calibration = fitted([simulated(name, seed, slices=4) for seed, name in enumerate("abcdefghi")])
    assert calibration.healthy_percentile(1e6) is None
    assert calibration.limits[1] == "No percentile of healthy people is given: too few healthy people (9), 10 are needed."


@pytest.mark.parametrize(("people", "expected"), [(2, 100.0), (9, 100.0), (10, 216.0)])
def test_few_people_can_not_raise_the_least_lesion_volume_beyond_100_mm3(people, expected):
    """Everybody has a false component of 3 x 3 x 3 voxels of 8 mm3; the other errors are too small to matter."""
    cases = [simulated(f"p{seed}", seed, spread=0.001, slices=12) for seed in range(people)]
    for case in cases:
        case.maps.signed[2:5, 15:18, 15:18] = 40
    calibration = fitted(cases, ScorePlan(smoothing_mm=0.0))
    assert calibration.usual_false_component_mm3(0.001) == pytest.approx(216, abs=16)
    assert calibration.least_lesion_mm3(0.001) == pytest.approx(expected, abs=16 if expected > 100 else 0)
    assert any("least lesion volume is 100 mm3 at most" in text for text in calibration.limits) == (people < 10)


def test_the_least_lesion_is_the_median_of_the_largest_false_components():
    cases = [simulated(name, seed, slices=60) for seed, name in enumerate("abc")]
    for case, edge in zip(cases, (2, 3, 4), strict=True):
        case.maps.signed[2 : 2 + edge, 15 : 15 + edge, 15 : 15 + edge] = 40
    calibration = fitted(cases, ScorePlan(smoothing_mm=0.0))
    least = {rate: calibration.usual_false_component_mm3(rate) for rate in (0.001, 0.005, 0.05)}
    # The blob of 3 x 3 x 3 voxels of 8 mm3, and what of the noise touches it.
    assert 27 * 8 <= least[0.001] <= 30 * 8
    assert least[0.001] <= least[0.005] <= least[0.05]


def test_slices_that_are_no_neighbours_are_no_component():
    case = simulated("a", 0, slices=60)
    case.maps.signed[4:6, 15:19, 15:19] = 40
    apart = replace(case, indices=(*range(5), *range(20, 75)))
    together, separate = (
        fitted([one], ScorePlan(smoothing_mm=0.0)).usual_false_component_mm3(0.001) for one in (case, apart)
    )
    assert 32 * 8 <= together <= 34 * 8
    assert 16 * 8 <= separate <= 18 * 8


def test_calibration_survives_json(tmp_path):
    calibration = fitted([simulated("a", 1)])
    save_json(asdict(calibration), tmp_path / "calibration.json")
    assert load_calibration(tmp_path / "calibration.json") == calibration
    assert load_calibration(tmp_path / "none.json") is None


def test_a_calibration_of_another_version_is_refused_with_a_way_out(tmp_path):
    content = asdict(fitted([simulated("a", 1)]))
    del content["healthy_error"]["usual_median"]
    save_json(content, tmp_path / "calibration.json")
    with pytest.raises(
        MMCCDError, match=r"calibration.json: the entry healthy_error.usual_median is missing: .*mmccd_calibrate"
    ):
        load_calibration(tmp_path / "calibration.json")


def test_a_cycle_without_error_gives_finite_scores():
    case = simulated("a", 0)
    perfect = replace(case, maps=replace(case.maps, squared=0 * case.maps.squared, signed=0 * case.maps.signed))
    scores = scores_in_units(perfect, fitted([perfect]))
    assert all(np.isfinite(values).all() and not values.any() for values in scores.values())


def test_the_maps_of_healthy_held_out_slices_are_kept(model_folder, quick_plan, preprocessed):
    model = ModelFolder(model_folder(plan=quick_plan))
    calibration = calibrate_model(model.path, preprocessed, device=CPU, max_slices=100, fits=1)
    made = load_validation_record(model, "0", preprocessed)
    assert list(made.cases) == ["a", "b"]
    records = load_case_records(preprocessed)
    loaded, settings = load_fold(model, "0", CPU), make_settings(quick_plan, options=MapOptions(fits=1))
    for case in load_validation_maps(model, "0", made, preprocessed):
        healthy = [item.index for item in records[case.case].slices if item.healthy]
        assert list(case.indices) == healthy
        image, brain, anomaly = read_slices(preprocessed, records[case.case], healthy)
        assert not anomaly.any()
        maps = anomaly_maps(
            MapMaker(loaded.cycle, settings, CPU, quick_plan.patch_size), image[0], brain, case.case, slice_indices=healthy
        )
        np.testing.assert_array_equal(case.brain, brain)
        for name in ("signed", "squared", "cycle"):
            np.testing.assert_allclose(getattr(case.maps, name), getattr(maps, name), rtol=2e-3, atol=2e-3)
    assert len(healthy) < len(records["b"].slices)
    content = load_json(model.path / "fold_0" / "calibration.json")
    assert content["source"] == calibration.source == "healthy validation slices"
    assert [subject["subject"] for subject in content["subjects"]] == ["subject_01", "subject_02"]
    assert named(calibration, preprocessed) == ["a", "b"]
    assert content["settings"] == settings.to_json()


def test_the_mask_of_a_healthy_case_lets_about_the_asked_share_through(model_folder, quick_plan, preprocessed, make_scan):
    folder = model_folder(plan=quick_plan)
    calibration = calibrate_model(folder, preprocessed, device=CPU)
    predictor = Predictor.from_model_folder(folder, LoadOptions(false_positive_rate=0.02, least_lesion_mm3=0))
    assert predictor.scoring.threshold == calibration.threshold(0.02)
    assert predictor.scoring.source == "calibrated on healthy validation slices of 2 subjects"
    prediction = predictor.predict_volume(make_scan(0), "a")
    assert prediction.calibrated
    assert 0.002 < prediction.mask.sum() / prediction.brain.sum() < 0.06
    np.testing.assert_array_equal(prediction.mask, (prediction.anomaly > predictor.scoring.threshold) & prediction.brain)
    assert prediction.healthy_percentile is None


def test_small_components_leave_the_mask_and_are_candidates(model_folder, quick_plan, preprocessed, make_scan):
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU)
    everything = Predictor.from_model_folder(folder, LoadOptions(false_positive_rate=0.05, least_lesion_mm3=0))
    nothing = Predictor.from_model_folder(folder, LoadOptions(false_positive_rate=0.05, least_lesion_mm3=1e9))
    default = Predictor.from_model_folder(folder, LoadOptions(false_positive_rate=0.05))
    found = [one.predict_volume(make_scan(0), "a") for one in (everything, default, nothing)]
    assert found[0].mask.any()
    assert not found[0].candidates.any()
    for one in found:
        np.testing.assert_array_equal(one.mask + one.candidates, found[0].mask)
    assert not found[2].mask.any()
    assert found[2].findings.kind == "candidates only"
    assert 0 < default.scoring.least_lesion_mm3 <= 100


def test_a_case_of_candidates_alone_does_not_look_empty(model_folder, quick_plan, preprocessed, scans, tmp_path, caplog):
    """On the screen, in summary.csv, in CASE.json, and in files of their own."""
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU)
    assert any("too few healthy people (2)" in text for text in load_json(folder / "fold_0" / "calibration.json")["limits"])
    predictor = Predictor.from_model_folder(folder, LoadOptions(false_positive_rate=0.05, least_lesion_mm3=1e9))
    with caplog.at_level(logging.WARNING):
        (row,) = predictor.predict_folder(scans("p.nii.gz"), tmp_path / "out").rows
    assert any("p: no lesion, but" in text and "p_candidates.nii.gz" in text for text in caplog.messages)
    table = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert table.loc[0, ["finding", "lesions", "anomalous_ml"]].tolist() == ["candidates only", 0, 0.0]
    assert table.loc[0, "candidates"] == row.candidates > 0
    assert pd.isna(table.loc[0, "healthy_percentile"])
    written = read_volume(tmp_path / "out" / "p_candidates.nii.gz", dtype=None)
    assert not read_volume(tmp_path / "out" / "p_mask.nii.gz").array.any()
    assert written.array.dtype == np.uint8
    volume = np.count_nonzero(written.array) * written.geometry.voxel_volume / 1000
    assert table.loc[0, "candidates_ml"] == pytest.approx(volume, abs=1e-3)
    record = load_json(tmp_path / "out" / "p.json")
    assert (record["finding"], record["least_lesion_source"]) == ("candidates only", "given by the user")
    assert record["finding_in_words"].startswith("no lesion, but")
    assert (record["healthy_people"], record["healthy_percentile"]) == (2, None)
    assert record["healthy_percentile_note"] == "too few healthy people (2) to say"


@pytest.mark.parametrize("score", SCORES)
def test_any_score_can_be_asked_for(model_folder, quick_plan, preprocessed, make_scan, score):
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU)
    prediction = Predictor.from_model_folder(folder, LoadOptions(score=score)).predict_volume(make_scan(0), "a")
    combined = Predictor.from_model_folder(folder).predict_volume(make_scan(0), "a")
    halves = {"brighter": combined.brighter, "darker": combined.darker, "combined": combined.anomaly}
    if score in halves:
        np.testing.assert_array_equal(prediction.anomaly, halves[score])
    assert prediction.anomaly.min() == 0 < prediction.anomaly.max()
    assert prediction.mask is not None


@pytest.mark.parametrize(("fold", "cases"), [("all", ["a", "b", "c"]), ("1", ["a", "b", "c"])])
def test_without_unseen_slices_training_slices_are_taken(model_folder, quick_plan, preprocessed, caplog, fold, cases):
    folder = model_folder(folds=(fold,), plan=quick_plan)
    with caplog.at_level(logging.WARNING):
        calibration = calibrate_model(folder, preprocessed, device=CPU, max_slices=6)
    assert calibration.source == "healthy training slices"
    assert named(calibration, preprocessed) == cases
    assert any("training slices" in text for text in caplog.messages)
    assert "training slices" in Predictor.from_model_folder(folder).scoring.source


def test_few_subjects_are_said(model_folder, quick_plan, preprocessed, caplog):
    with caplog.at_level(logging.WARNING):
        calibrate_model(model_folder(plan=quick_plan), preprocessed, device=CPU, max_slices=6)
    assert any("only 2 healthy subjects" in text for text in caplog.messages)


def test_every_fold_is_calibrated_on_the_held_out_subjects_of_all(model_folder, quick_plan, preprocessed):
    folder = model_folder(folds=("0", "1", "2", "all"), plan=quick_plan)
    first = calibrate_model(folder, preprocessed, ["0"], device=CPU)
    assert named(first, preprocessed) == ["a", "b"]
    # Folds 1 and "all" have no held-out slices; what they were trained on doesn't count where others have some, and they are
    # calibrated by the held-out slices of the others.
    pooled = calibrate_model(folder, preprocessed, ["1", "2", "all"], device=CPU)
    assert named(pooled, preprocessed) == ["a", "b", "c"]
    assert set(pooled.weights_sha256) == {"0", "1", "2", "all"}
    contents = [load_json(folder / f"fold_{fold}" / "calibration.json") for fold in ("0", "1", "2", "all")]
    # But for the first look, by which the maps of each fold's own people were made.
    looks = [content.pop("first_look") for content in contents]
    assert all(look["units"].keys() == looks[0]["units"].keys() for look in looks)
    assert looks[0] != looks[2]
    assert all(content == contents[0] for content in contents)
    assert Predictor.from_model_folder(folder).scoring.calibrated


def test_other_settings_than_the_calibrated_ones_are_said(model_folder, quick_plan, preprocessed, caplog):
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU, max_slices=4)
    changed = Predictor.from_model_folder(folder, LoadOptions(sampling_steps=3))
    assert "steps 3 against 1" in changed.scoring.source
    assert any("may not fit" in text for text in caplog.messages)
    assert "against" not in Predictor.from_model_folder(folder, LoadOptions(batch_size=5)).scoring.source
    assert Predictor.from_model_folder(folder, LoadOptions(threshold=0.25)).scoring.threshold == 0.25


def test_a_calibration_of_other_weights_is_not_used(model_folder, quick_plan, preprocessed):
    folder = model_folder(plan=quick_plan)
    calibrate_model(folder, preprocessed, device=CPU, max_slices=2)
    path = folder / "fold_0" / "calibration.json"
    save_json({**load_json(path), "weights_sha256": {"0": "0" * 64}}, path)
    predictor = Predictor.from_model_folder(folder)
    assert (predictor.scoring.threshold, predictor.scoring.score) == (None, "squared")
    with pytest.raises(MMCCDError, match="mmccd_calibrate"):
        Predictor.from_model_folder(folder, LoadOptions(false_positive_rate=0.01))
    with pytest.raises(MMCCDError, match="the score darker needs a calibration"):
        Predictor.from_model_folder(folder, LoadOptions(score="darker"))


def test_whole_slices_are_calibrated_for_the_cyclic_unet(model_folder, quick_plan, preprocessed):
    calibration = calibrate_model(model_folder("cyclic_unet", plan=quick_plan), preprocessed, device=CPU, max_slices=4)
    assert min(calibration.units.values()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "best"}, "no score best"),
        ({"false_positive_rate": 1.0}, "false-positive rate of 1.0"),
        ({"false_positive_rate": 0.01, "threshold": 1.0}, "not both"),
        ({"threshold": float("nan")}, "no score"),
        ({"least_lesion_mm3": -1.0}, "least lesion volume"),
    ],
)
def test_impossible_wishes_are_one_sentence(model_folder, options, message):
    with pytest.raises(MMCCDError, match=message):
        Predictor.from_model_folder(model_folder(), LoadOptions(**options))


def test_nothing_to_calibrate_on_is_one_sentence(model_folder, quick_plan, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MMCCDError, match="no healthy slice"):
        calibrate_model(model_folder(folds=("all",), plan=quick_plan), tmp_path / "empty", device=CPU)


def test_a_case_that_the_fold_was_trained_on_is_not_held_out_whatever_the_splits_say(preprocessed, caplog):
    records, source = find_records(preprocessed, "0", "FLAIR", trained_on=["a", "c"])
    assert (sorted(records), source) == (["b"], HELD_OUT)
    assert "was trained on a, which" in caplog.text
    records, source = find_records(preprocessed, "0", "FLAIR", trained_on=["a", "b", "c"])
    assert (sorted(records), source) == (["a", "b", "c"], TRAINED_ON)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ({"train": []}, "it must be a list"),
        ([{"training": [], "val": []}], r"unknown entry \[0\].training"),
    ],
)
def test_missing_or_broken_splits_are_named(preprocessed, content, message):
    path = preprocessed.parent / "splits_final.json"
    path.unlink()
    if content is not None:
        save_json(content, path)
    with pytest.raises(MMCCDError, match=f"splits_final.json:? {message}"):
        find_records(preprocessed, "0", "FLAIR")


@pytest.mark.parametrize("max_slices", [0, -3])
def test_too_few_slices_are_refused_before_anything_is_removed(model_folder, quick_plan, preprocessed, max_slices):
    model = ModelFolder(model_folder(plan=quick_plan))
    calibrate_model(model.path, preprocessed, device=CPU, max_slices=4)
    with pytest.raises(MMCCDError, match="give at least 1"):
        calibrate_model(model.path, preprocessed, device=CPU, max_slices=max_slices)
    assert load_validation_record(model, "0", preprocessed) is not None


def test_a_score_that_was_planned_otherwise_since_is_said(model_folder, quick_plan, preprocessed):
    path = model_folder(plan=quick_plan)
    calibrate_model(path, preprocessed, device=CPU, max_slices=4)
    assert "against" not in Predictor.from_model_folder(path).scoring.source
    changed = replace(quick_plan.configurations["FLAIR-T1"], score=ScorePlan(smoothing_mm=6.0))
    replace(quick_plan, configurations={"FLAIR-T1": changed}).save(path / "plans.json")
    assert "smoothing_mm 6.0 against 3.0" in Predictor.from_model_folder(path).scoring.source
