"""A small preprocessed dataset, whose translation modality is a function of its input modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.preprocessing.preprocess_case import CaseGeometry, PreprocessedCase
from mmccd_auto.preprocessing.slices import write_case

SLICES, EDGE = 6, 32
SUBJECTS = {"a_1": "a", "a_2": "a", "b_1": "b", "c_1": "c"}
WritePreprocessed = Callable[..., Path]


@pytest.fixture
def write_preprocessed() -> WritePreprocessed:
    """Writes cases of 6 slices of 32 x 32 px into a folder and returns it: FLAIR is smooth noise, T1 is 0.5 - FLAIR.

    Arguments: the folder, subjects by case, whether all slices are labelled abnormal, the modalities and the slices' edge.
    """

    def write(
        folder: Path,
        subjects: Mapping[str, str] = SUBJECTS,
        abnormal: bool = False,
        modalities: tuple[str, ...] = ("FLAIR", "T1"),
        edge: int = EDGE,
    ) -> Path:
        for number, (case, subject) in enumerate(subjects.items()):
            write_case(folder, _make_case(case, number, abnormal, modalities, edge), subject)
        return folder

    return write


@pytest.fixture
def preprocessed(tmp_path: Path, write_preprocessed: WritePreprocessed) -> Path:
    """Four cases of three subjects, all healthy."""
    return write_preprocessed(tmp_path / "preprocessed" / "Dataset900_Tiny" / "mmccdPlans")


@pytest.fixture
def splits() -> list[dict[str, list[str]]]:
    """Fold 0 leaves subject a out, fold 1 subject b."""
    return [{"train": ["b_1", "c_1"], "val": ["a_1", "a_2"]}, {"train": ["a_1", "a_2", "c_1"], "val": ["b_1"]}]


def _make_case(case: str, seed: int, abnormal: bool, modalities: tuple[str, ...], edge: int) -> PreprocessedCase:
    rows, columns = np.mgrid[:edge, :edge] - (edge - 1) / 2
    disc = np.hypot(rows / 0.9, columns / 0.75) < edge / 2 - 1
    brain = np.broadcast_to(disc, (SLICES, edge, edge)).copy()
    noise = np.random.default_rng(seed).normal(size=brain.shape)
    flair = 8 * gaussian_filter(noise, (0, 3, 3))
    images = {"FLAIR": flair, "T1": 0.5 - flair}
    image = np.stack([np.where(brain, images[name], -3) for name in modalities]).astype(np.float32)
    geometry = Geometry(
        (edge, edge, SLICES), (4.0, 4.0, 5.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    )
    return PreprocessedCase(
        case=case,
        modalities=modalities,
        image=image,
        brain=brain,
        anomaly=brain.astype(np.uint8) if abnormal else None,
        geometry=CaseGeometry(geometry, geometry, "axial", geometry),
        native_brain=brain,
        normalisation={name: {"shift": 0.0, "scale": 1.0, "upper": 15.0} for name in modalities},
    )
