"""What an import tells of brains that look wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mmccd_auto.imaging.io import write_volume
from mmccd_auto.importing.import_dataset import ImportOptions, import_dataset
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps


def test_sessions_of_one_person_whose_brains_differ_in_volume_are_told(tmp_path: Path) -> None:
    for person, shrunk in (("01", 0.92), ("02", 1.0)):
        scans = simulate_subject(load_tissue_maps(4), Acquisition(4), (), np.random.default_rng(int(person))).scans
        for session, scale in (("1", 1.0), ("2", shrunk)):
            for modality in ("FLAIR", "T1w"):
                volume = scans[modality.removesuffix("w")]
                grid = replace(volume.geometry, spacing=tuple(edge * scale for edge in volume.geometry.spacing))
                name = f"sub-{person}_ses-{session}"
                write_volume(volume.array, grid, tmp_path / "in" / f"{name}_{modality}.nii.gz")
    summary = import_dataset(tmp_path / "in", tmp_path / "Dataset007_X", ImportOptions(health="healthy"), 0)
    assert len(summary.imported) == 4
    told = [note for note in summary.notes if "brain of one person" in note]
    assert len(told) == 1
    assert "sub-01_ses-2" in told[0]
    assert all((tmp_path / "Dataset007_X/import" / f"{case}.png").stat().st_size > 10_000 for case in summary.imported)
