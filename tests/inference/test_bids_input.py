"""Prediction of BIDS datasets: which scans are predicted, and brain masks of derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.inference.options import ExportOptions
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.sources.bids.options import BidsOptions

QUICK = {"sampling_steps": 1, "strip_stride": 8, "threshold": 1.0}


@pytest.fixture
def predictor(model_folder) -> Predictor:
    return Predictor.from_model_folder(model_folder("cyclic_unet"), **QUICK)


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
    summary = predictor.predict_folder(root, tmp_path / "all", export=chosen)
    assert rows(summary) == {"sub-01_ses-1_run-1": "done", "sub-01_ses-1_run-2": "done"}


def test_brain_masks_of_derivatives_are_used(predictor, bids, make_scan, tmp_path):
    root = bids("sub-01/anat/sub-01_FLAIR", "sub-02/anat/sub-02_FLAIR", "sub-03/anat/sub-03_FLAIR")
    derived = root / "derivatives" / "brains"
    for seed, name in enumerate(("sub-01/anat/sub-01_desc-brain", "sub-02/sub-02_desc-brain")):
        scan = make_scan(seed)
        inner = replace(scan, array=(scan.array > 0).astype(np.uint8))
        inner.array[-1] = 0
        write_volume(inner.array, inner.geometry, derived / f"{name}_mask.nii.gz")
    summary = predictor.predict_folder(root, tmp_path / "maps", brain_masks=derived)
    assert rows(summary) == {"sub-01": "done", "sub-02": "done", "sub-03": "failed"}
    assert summary.failed == [f"sub-03 has no brain mask in {derived}: add it, or leave out --brain_masks."]
    record = load_json(tmp_path / "maps" / "sub-01.json")
    assert (record["brain_mask_file"], record["brain_found_by"]) == ("sub-01_desc-brain_mask.nii.gz", "given")
