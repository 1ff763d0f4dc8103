"""Real exports: a DICOM study, and sessions whose scans lie apart by their headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.datasets.integrity import verify_dataset
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.importing.import_dataset import ImportOptions, import_dataset
from mmccd_auto.preprocessing.brain_extraction import extract_brain
from mmccd_auto.preprocessing.registration import register, resample_onto

TEMPLATE = ImportOptions(health="healthy", backend="template")


@pytest.mark.real_data
def test_a_dicom_study_becomes_a_dataset(real_data: Path, tmp_path: Path) -> None:
    summary = import_dataset(real_data / "hospital_export", tmp_path / "Dataset007_Hospital", TEMPLATE, 0)
    assert summary.imported == ("case_0001",)
    assert summary.failed == []
    dataset = load_dataset(summary.dataset)
    assert dataset.modalities == ("FLAIR", "T1", "T2")
    assert verify_dataset(dataset, 0) == []
    lesion = read_volume(real_data / "hospital_export_truth" / "lesion_on_FLAIR_grid.nii.gz")
    assert lesion.geometry.differences(read_volume(dataset.channel_file("case_0001", "FLAIR")).geometry) == []
    brain = read_volume(dataset.brain_mask_file("case_0001")).array > 0
    assert np.mean(brain[lesion.array > 0]) > 0.9


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("case", ["MSlong12_study1", "TCGA-FG-6692"])
def test_brains_of_all_modalities_meet_after_registration(real_data: Path, case: str) -> None:
    volumes = {name: read_volume(real_data / "raw_nifti" / case / f"{name}.nii.gz") for name in ("FLAIR", "T1", "T2")}
    brains = {name: extract_brain(volume, name, "template", name).mask for name, volume in volumes.items()}
    fixed = brains["FLAIR"]
    for name in ("T1", "T2"):
        found = register(volumes["FLAIR"], volumes[name], fixed)
        assert found.convincing
        own = Volume(brains[name].astype(np.float32), volumes[name].geometry)
        laid = resample_onto(own, volumes["FLAIR"].geometry, found.transform).array > 0.5
        assert 2 * np.count_nonzero(laid & fixed) / (laid.sum() + fixed.sum()) >= 0.93
        if (case, name) == ("TCGA-FG-6692", "T1"):
            assert found.shift > 10


@pytest.mark.slow
@pytest.mark.real_data
def test_sessions_on_different_grids_become_a_dataset(real_data: Path, tmp_path: Path) -> None:
    summary = import_dataset(real_data / "raw_nifti", tmp_path / "Dataset008_Raw", TEMPLATE, 0)
    assert summary.imported == ("MSlong12_study1", "TCGA-FG-6692")
    assert verify_dataset(load_dataset(summary.dataset), 0) == []
    for case in summary.imported:
        assert load_json(summary.dataset / "import" / f"{case}.json")["modalities"] == ["FLAIR", "T1", "T2"]
