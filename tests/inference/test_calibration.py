"""The threshold from healthy slices, and how the predictor uses it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import load_json, save_json
from mmccd_auto.image_io import Volume
from mmccd_auto.inference.calibration import calibrate_fold, choose_healthy_slices
from mmccd_auto.inference.engine import anomaly_maps
from mmccd_auto.inference.fold_models import load_fold
from mmccd_auto.inference.predictor import Predictor
from mmccd_auto.inference.settings import make_settings
from mmccd_auto.preprocessing.preprocess_case import preprocess_case
from mmccd_auto.preprocessing.slices import CaseRecord, SliceRecord, load_case_records, read_slices, write_case
from mmccd_auto.training.model_folder import ModelFolder

CPU = torch.device("cpu")


@pytest.fixture
def plan(tiny_plan):
    """One diffusion step and no overlap of strips, to be quick."""
    quick = replace(tiny_plan.configurations["FLAIR-T1"], sampling_steps=1, strip_stride=8)
    return replace(tiny_plan, configurations={"FLAIR-T1": quick})


@pytest.fixture
def preprocessed(tmp_path: Path, plan, make_scan) -> Path:
    """Four preprocessed cases; d has no FLAIR, and in b an abnormality is marked. Fold 0 validates on a and b."""
    folder = tmp_path / "preprocessed" / plan.dataset_name / plan.plans_name
    for seed, case in enumerate("abcd"):
        scan = make_scan(seed)
        label = None
        if case == "b":
            marked = np.zeros(scan.array.shape, dtype=np.uint8)
            marked[1, 12, 10] = 1
            label = Volume(marked, scan.geometry)
        volumes = {"T1": scan} if case == "d" else {"FLAIR": scan, "T1": scan}
        write_case(folder, preprocess_case(case, volumes, plan, label=label))
    save_json(
        [{"train": ["c", "d"], "val": ["a", "b"]}, {"train": ["a", "b", "c"], "val": ["d"]}],
        folder.parent / "splits_final.json",
    )
    return folder


def record(case: str, count: int, healthy: int) -> CaseRecord:
    slices = tuple(SliceRecord(f"{case}/slice_{i:04d}.npz", i, 50, 0, i < healthy) for i in range(count))
    return CaseRecord(case, case, ("FLAIR",), False, slices, None, {}, {}, {})


@pytest.mark.parametrize(
    ("healthy", "limit", "expected"),
    [
        ({"a": 9}, 3, {"a": [1, 4, 7]}),
        ({"a": 2, "b": 9}, 6, {"a": [0, 1], "b": [1, 3, 5, 7]}),
        ({"a": 4, "b": 0}, 48, {"a": [0, 1, 2, 3]}),
        ({"a": 3, "b": 3, "c": 3, "d": 3}, 2, {"b": [1], "d": [1]}),
    ],
)
def test_slices_are_spread_over_cases_and_heights(healthy, limit, expected):
    records = {case: record(case, 12, count) for case, count in healthy.items()}
    assert choose_healthy_slices(records, limit) == expected


def test_the_threshold_is_the_quantile_of_the_healthy_scores(model_folder, plan, preprocessed):
    model = ModelFolder(model_folder(plan=plan))
    path = calibrate_fold(model.path, 0, preprocessed, device=CPU, max_slices=100, false_positive_rate=0.02)
    assert path == model.path / "fold_0" / "calibration.json"
    cycle, settings, scores, slices = load_fold(model, "0", CPU).cycle, make_settings(plan), [], 0
    records = load_case_records(preprocessed)
    for case in ("a", "b"):
        indices = [item.index for item in records[case].slices if item.healthy]
        slices += len(indices)
        image, brain, anomaly = read_slices(preprocessed, records[case], indices)
        assert not anomaly.any()
        maps = anomaly_maps(cycle, image[0], brain, settings, case, CPU, plan.patch_size, slice_indices=indices)
        scores.append(maps.squared[brain])
    scores = np.concatenate(scores)
    assert len([item for item in records["b"].slices if item.healthy]) < len(records["b"].slices)
    content = load_json(path)
    assert content["threshold"] == pytest.approx(np.quantile(scores, 0.98))
    assert content["quantiles"]["0.999"] == pytest.approx(np.quantile(scores, 0.999))
    assert (content["slices"], content["pixels"], content["cases"]) == (slices, scores.size, ["a", "b"])
    assert content["source"] == "healthy validation slices"
    assert content["settings"] == settings.to_json()


def test_the_mask_of_a_calibration_case_lets_about_the_asked_share_through(model_folder, plan, preprocessed, make_scan):
    folder = model_folder(plan=plan)
    calibrate_fold(folder, 0, preprocessed, device=CPU, false_positive_rate=0.02)
    predictor = Predictor.from_model_folder(folder)
    assert predictor.threshold == load_json(folder / "fold_0" / "calibration.json")["threshold"]
    assert predictor.threshold_source == "calibrated on healthy validation slices of fold 0"
    prediction = predictor.predict_volume(make_scan(0), "a")
    assert 0.002 < prediction.mask.sum() / prediction.brain.sum() < 0.06


@pytest.mark.parametrize(("fold", "cases"), [("all", ["a", "b", "c"]), ("1", ["a", "b", "c"])])
def test_without_unseen_slices_training_slices_are_taken_and_said(model_folder, plan, preprocessed, caplog, fold, cases):
    folder = model_folder(folds=(fold,), plan=plan)
    with caplog.at_level(logging.WARNING):
        path = calibrate_fold(folder, fold, preprocessed, device=CPU, max_slices=6)
    assert load_json(path)["source"] == "healthy training slices"
    assert load_json(path)["cases"] == cases
    assert any("training slices" in text for text in caplog.messages)
    assert "training slices" in Predictor.from_model_folder(folder).threshold_source


def test_thresholds_of_folds_are_averaged_and_other_settings_are_said(model_folder, plan, preprocessed, caplog):
    folder = model_folder(folds=("0", "1"), plan=plan)
    paths = [calibrate_fold(folder, fold, preprocessed, device=CPU, max_slices=4) for fold in (0, 1)]
    thresholds = [load_json(path)["threshold"] for path in paths]
    both = Predictor.from_model_folder(folder, sampling_steps=3)
    assert both.threshold == pytest.approx(np.mean(thresholds))
    assert "steps 3 against 1" in both.threshold_source
    assert any("may not fit" in text for text in caplog.messages)
    assert "against" not in Predictor.from_model_folder(folder, batch_size=5).threshold_source
    assert Predictor.from_model_folder(folder, threshold=0.25).threshold == 0.25


def test_a_calibration_of_other_weights_is_not_used(model_folder, plan, preprocessed):
    folder = model_folder(plan=plan)
    path = calibrate_fold(folder, 0, preprocessed, device=CPU, max_slices=2)
    save_json({**load_json(path), "weights_sha256": "0" * 64}, path)
    assert Predictor.from_model_folder(folder).threshold is None


def test_whole_slices_are_calibrated_for_the_cyclic_unet(model_folder, plan, preprocessed):
    path = calibrate_fold(model_folder("cyclic_unet", plan=plan), 0, preprocessed, device=CPU, max_slices=4)
    assert load_json(path)["threshold"] > 0


def test_nothing_to_calibrate_on_is_one_sentence(model_folder, plan, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MMCCDError, match="no healthy slice"):
        calibrate_fold(model_folder(folds=("all",), plan=plan), "all", tmp_path / "empty", device=CPU)
    with pytest.raises(MMCCDError, match="false_positive_rate"):
        calibrate_fold(tmp_path, 0, tmp_path, device=CPU, false_positive_rate=1.0)
