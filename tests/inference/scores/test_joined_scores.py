"""The network's score and that of its control together: known answers, the file of a calibration, and predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.maps.engine import SliceMaps
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import Calibration, fit_calibration, load_calibration
from mmccd_auto.inference.scores.control import control_scores, fit_control
from mmccd_auto.inference.scores.score_units import scores_in_units
from mmccd_auto.plans.plan import Plan, ScorePlan

ALONE = ScorePlan(smoothing_mm=2.0)


def healthy(seed: int, subject: str) -> CaseMaps:
    """Slices of smooth noise, and a reconstruction that knows three quarters of it."""
    brain = np.zeros((6, 30, 34), dtype=bool)
    brain[:, 3:27, 4:30] = True
    noise = np.random.default_rng(seed).standard_normal((2, *brain.shape))
    scan, error = (np.where(brain, ndimage.gaussian_filter(one, 1.0) * 4 + 0.5, 0).astype(np.float32) for one in noise)
    signed = (0.25 * error).astype(np.float32)
    maps = SliceMaps(signed**2, signed, scan - signed, brain.astype(np.float32), 1)
    return CaseMaps(f"{subject}{seed}", subject, tuple(range(6)), (3.0, 2.0, 2.0), maps, brain)


CASES = [healthy(1, "a"), healthy(2, "b"), healthy(3, "c")]


def calibrated(weight: float) -> Calibration:
    return fit_calibration(CASES, replace(ALONE, control_weight=weight), {}, "healthy validation slices", {})


def test_without_weight_the_network_s_score_is_alone() -> None:
    calibration = calibrated(0.0)
    assert "joined" not in calibration.units
    for name, values in calibration.scores(healthy(9, "d")).items():
        np.testing.assert_array_equal(values, scores_in_units(healthy(9, "d"), calibration)[name])


@pytest.mark.parametrize("weight", [0.25, 0.5, 1.0])
def test_the_joined_score_is_the_geometric_mean_in_units_of_healthy_tissue(weight: float) -> None:
    calibration, alone, control = calibrated(weight), calibrated(0.0), fit_control(CASES, ALONE)
    new = healthy(9, "d")
    found, network = calibration.scores(new), scores_in_units(new, alone)
    of_control = control_scores(new, control, ALONE)["combined"]
    raw = np.exp((1 - weight) * np.log(network["combined"][new.brain]) + weight * np.log(of_control[new.brain]))
    ratio = found["combined"][new.brain] / raw
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    shares = [np.mean(calibration.scores(case)["combined"][case.brain] > 1) for case in CASES]
    assert np.mean(shares) == pytest.approx(0.01, abs=5e-4)
    for name in ("brighter", "darker", "squared"):
        np.testing.assert_array_equal(found[name], network[name])
    assert not found["combined"][~new.brain].any()


def test_threshold_and_case_scores_are_of_the_joined_score() -> None:
    calibration = calibrated(0.5)
    for rate in (0.01, 0.05):
        limit = calibration.threshold(rate)
        shares = [np.mean(calibration.scores(case)["combined"][case.brain] > limit) for case in CASES]
        assert np.mean(shares) == pytest.approx(rate, rel=0.1)
    for case, subject in zip(CASES, calibration.subjects, strict=True):
        values = np.sort(calibration.scores(case)["combined"][case.brain])
        assert subject.case_score == pytest.approx(values[-round(0.01 * len(values)) :].mean(), rel=1e-5)


def test_a_joined_calibration_comes_back_and_is_checked(tmp_path: Path) -> None:
    calibration, path = calibrated(0.5), tmp_path / "calibration.json"
    save_json(asdict(calibration), path)
    assert load_calibration(path) == calibration
    content = load_json(path)
    for lacking, told in (("joined", r"units\.joined"), ("control", "control")):
        damaged = {**content, "units": dict(content["units"])}
        (damaged["units"] if lacking == "joined" else damaged).pop(lacking)
        save_json(damaged, path)
        with pytest.raises(MMCCDError, match=f"the entry {told} is missing"):
            load_calibration(path)


@pytest.mark.parametrize("weight", [-0.1, 1.5])
def test_a_weight_beyond_its_range_is_refused(tiny_plan: Plan, tmp_path: Path, weight: float) -> None:
    content = tiny_plan.to_json()
    content["configurations"]["FLAIR-T1"]["score"]["control_weight"] = weight
    save_json(content, tmp_path / "plans.json")
    with pytest.raises(MMCCDError, match="control_weight"):
        Plan.load(tmp_path / "plans.json")


def test_maps_are_joined_as_the_plan_says(
    model_folder: Callable[..., Path], quick_plan: Plan, preprocessed: Path, make_scan: Callable[..., Volume]
) -> None:
    maps = {}
    for weight in (0.0, 0.5):
        cycle = quick_plan.configurations["FLAIR-T1"]
        changed = replace(cycle, score=replace(cycle.score, control_weight=weight))
        plan = replace(quick_plan, configurations={**quick_plan.configurations, "FLAIR-T1": changed})
        folder = model_folder("mmccd", ("0",), plan)
        calibrate_model(folder, preprocessed, device=torch.device("cpu"))
        predictor = Predictor.from_model_folder(folder)
        (maps[weight],) = predictor.predict_volumes([Scan(make_scan(11), "p")], control=True)
    inside = maps[0.0].brain & (maps[0.0].anomaly > 0.05) & (maps[0.0].control > 0.05)
    expected = np.sqrt(maps[0.0].anomaly * maps[0.0].control)[inside]
    ratio = maps[0.5].anomaly[inside] / expected
    assert inside.sum() > 50
    assert np.quantile(ratio, 0.95) / np.quantile(ratio, 0.05) < 1.2
    np.testing.assert_allclose(maps[0.5].control, maps[0.0].control, rtol=1e-5)
