"""Prediction of BIDS datasets: which scans are predicted, and brain masks of derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.options import ExportOptions, LoadOptions, OutputOptions
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.sources.bids.options import BidsOptions

QUICK = {"sampling_steps": 1, "strip_stride": 8, "threshold": 1.0}


@pytest.fixture
def predictor(model_folder) -> Predictor:
    return Predictor.from_model_folder(model_folder("cyclic_unet"), LoadOptions(**QUICK))


@pytest.fixture
def bids(tmp_path: Path, make_scan) -> Callable[..., Path]:
    """Writes scans with the given paths into a BIDS dataset; returns its folder."""

    def write(*names: str) -> Path:
        root = tmp_path / "bids"
        for seed, name in enumerate(names):
            volume = make_scan(seed)
            write_volume(volume.array, volume.geometry, root / f"{name}.nii.gz")
        save_json({"Name": "Test", "BIDSVersion": "1.10.0"}, root / "dataset_description.json")
        return root

    return write


def rows(summary) -> dict[str, str]:
    return {row.case: row.status for row in summary.rows}


def test_the_scans_of_a_dataset_are_predicted(predictor, bids, tmp_path, caplog):
    root = bids(
        *("sub-01/ses-1/anat/sub-01_ses-1_run-1_FLAIR", "sub-01/ses-1/anat/sub-01_ses-1_run-2_FLAIR"),
        *("sub-02/anat/sub-02_FLAIR", "sub-03/anat/sub-03_T1w", "sourcedata/sub-02/sub-02_FLAIR"),
    )
    summary = predictor.predict_folder(root, tmp_path / "maps")
    assert rows(summary) == {"sub-01_ses-1": "done", "sub-02": "done", "sub-03": "skipped"}
    assert summary.failed == []
    assert load_json(tmp_path / "maps" / "sub-01_ses-1.json")["input_file"].endswith("run-2_FLAIR.nii.gz")
    assert "1 x an earlier run: sub-01_ses-1_run-2_FLAIR.nii.gz is used" in caplog.text
    chosen = ExportOptions(bids=BidsOptions(participants=("01",), all_runs=True))
    summary = predictor.predict_folder(root, tmp_path / "all", OutputOptions(export=chosen))
    assert rows(summary) == {"sub-01_ses-1_run-1": "done", "sub-01_ses-1_run-2": "done"}


def test_brain_masks_of_derivatives_are_used(predictor, bids, make_scan, tmp_path):
    root = bids("sub-01/anat/sub-01_FLAIR", "sub-02/anat/sub-02_FLAIR", "sub-03/anat/sub-03_FLAIR")
    derived = root / "derivatives" / "brains"
    for seed, name in enumerate(("sub-01/anat/sub-01_desc-brain", "sub-02/sub-02_desc-brain")):
        scan = make_scan(seed)
        inner = replace(scan, array=(scan.array > 0).astype(np.uint8))
        inner.array[-1] = 0
        write_volume(inner.array, inner.geometry, derived / f"{name}_mask.nii.gz")
    summary = predictor.predict_folder(root, tmp_path / "maps", OutputOptions(brain_masks=derived))
    assert rows(summary) == {"sub-01": "done", "sub-02": "done", "sub-03": "failed"}
    assert summary.failed == [f"sub-03 has no brain mask in {derived}: add it, or leave out --brain_masks."]
    record = load_json(tmp_path / "maps" / "sub-01.json")
    assert (record["brain_mask_file"], record["brain_found_by"]) == ("sub-01_desc-brain_mask.nii.gz", "given")


def with_ages(model: Path, *ages: float | None) -> None:
    """Let a calibration be of as many healthy people as there are ages, all alike but for the case score: 0, 1, 2, ..."""
    for file in model.glob("fold_*/calibration.json"):
        content = load_json(file)
        alike = content["subjects"][0]
        content["subjects"] = [
            alike | {"subject": f"subject_{number + 1:02d}", "age": age, "case_score": float(number)}
            for number, age in enumerate(ages)
        ]
        save_json(content, file)


def test_the_age_of_participants_decides_whom_a_scan_is_compared_with(
    model_folder, quick_plan, preprocessed, bids, tmp_path
):
    model = model_folder(plan=quick_plan)
    calibrate_model(model, preprocessed, device=torch.device("cpu"), max_slices=4)
    with_ages(model, *[25.0] * 10, *[70.0 + number for number in range(12)])
    predictor = Predictor.from_model_folder(model)
    root = bids("sub-01/anat/sub-01_FLAIR", "sub-02/anat/sub-02_FLAIR", "sub-03/anat/sub-03_FLAIR")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t74\nsub-02\tn/a\nsub-03\t99\n")
    output = tmp_path / "maps"
    assert rows(predictor.predict_folder(root, output)) == {"sub-01": "done", "sub-02": "done", "sub-03": "done"}
    old, unknown, oldest = (load_json(output / f"sub-0{number}.json") for number in (1, 2, 3))
    assert (old["age"], old["healthy_percentile_of"]) == (74.0, "12 healthy people of 70 to 81 years")
    scores = [number for number in range(22) if number >= 10]
    assert old["healthy_percentile"] == pytest.approx(100 * np.mean([score < old["case_score"] for score in scores]))
    assert "age" not in unknown
    assert "healthy_percentile_of" not in unknown
    assert unknown["healthy_percentile"] == pytest.approx(100 * np.mean([one < unknown["case_score"] for one in range(22)]))
    assert "healthy_percentile_of" not in oldest
    warning = "the person is 99 years old, the healthy people by whom scores are calibrated are 25 to 81"
    assert [any(warning in text for text in one["warnings"]) for one in (old, unknown, oldest)] == [False, False, True]
    again = predictor.predict_folder(root, output, OutputOptions(continue_prediction=True))
    assert rows(again) == {"sub-01": "kept", "sub-02": "kept", "sub-03": "kept"}
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t75\nsub-02\tn/a\nsub-03\t99\n")
    again = predictor.predict_folder(root, output, OutputOptions(continue_prediction=True))
    assert rows(again) == {"sub-01": "done", "sub-02": "kept", "sub-03": "kept"}


def test_ages_of_few_people_or_of_some_alone_change_nothing(model_folder, quick_plan, preprocessed, make_scan):
    model = model_folder(plan=quick_plan)
    calibrate_model(model, preprocessed, device=torch.device("cpu"), max_slices=4)
    with_ages(model, *[25.0] * 12, None)
    scoring = Predictor.from_model_folder(model).scoring
    assert scoring.age_warning(99) == ""
    assert scoring.percentile_of(70) == ""
    assert scoring.healthy_percentile(6.5, 70) == scoring.healthy_percentile(6.5)
    with_ages(model, 25.0, 25.0)
    scoring = Predictor.from_model_folder(model).scoring
    assert "are 25: what is usual at this age" in scoring.age_warning(31)
    assert scoring.age_warning(30) == scoring.age_warning(None) == ""
    assert scoring.healthy_percentile(6.5, 25) is None
