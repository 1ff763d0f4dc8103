"""Scans that aren't what the model was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.prediction.input_check import input_warnings
from mmccd_auto.phantom.dataset import PhantomPeople, write_phantom_dataset
from mmccd_auto.plans.fingerprint import DatasetFingerprint, fingerprint_dataset


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DatasetFingerprint]:
    folder = tmp_path_factory.mktemp("home")
    raw = write_phantom_dataset(folder, people=PhantomPeople(training_subjects=5, test_subjects=2, resolution=4))
    return raw, fingerprint_dataset(load_dataset(raw), folder / "dataset_fingerprint.json", 0)


def scan_of(raw: Path, channel: int) -> Volume:
    return to_canonical(read_volume(raw / "imagesTs" / f"test_00_{channel:04d}.nii.gz"))


def warnings_of(volume: Volume, fingerprint: DatasetFingerprint, **others: object) -> list[str]:
    options = {"spacing": volume.geometry.spacing, "slice_axis": "axial", "modality": "FLAIR", **others}
    return input_warnings(volume.array, volume.array > 0, fingerprint=fingerprint, **options)


def test_a_scan_of_the_kind_that_was_trained_on_gives_no_warning(home) -> None:
    raw, fingerprint = home
    for channel, modality in enumerate(("FLAIR", "T1", "T2")):
        assert warnings_of(scan_of(raw, channel), fingerprint, modality=modality) == []


@pytest.mark.parametrize(("channel", "modality"), [(1, "T1"), (2, "T2")])
def test_another_modality_is_named_whatever_its_scale(home, channel: int, modality: str) -> None:
    raw, fingerprint = home
    volume = scan_of(raw, channel)
    for factor in (1.0, 137.0):
        scaled = Volume(volume.array * np.float32(factor), volume.geometry)
        assert warnings_of(scaled, fingerprint) == [f"this looks like a {modality}, the model expects FLAIR"]


def test_noise_is_unlike_everything(home) -> None:
    raw, fingerprint = home
    volume = scan_of(raw, 0)
    noise = np.random.default_rng(0).exponential(1, volume.array.shape) ** 3 + 1
    noisy = Volume(np.where(volume.array > 0, noise, 0).astype(np.float32), volume.geometry)
    assert any("unlike" in warning or "looks like" in warning for warning in warnings_of(noisy, fingerprint))


def test_spacing_and_volume_outside_of_the_training_scans_are_told(home) -> None:
    raw, fingerprint = home
    volume = scan_of(raw, 0)
    x, y, z = volume.geometry.spacing
    thick = warnings_of(volume, fingerprint, spacing=(x, y, 3 * z))
    assert any(warning.startswith("the slices are") for warning in thick)
    assert any(warning.startswith("the brain takes") for warning in thick)
    fine = warnings_of(volume, fingerprint, spacing=(x / 4, y / 4, z))
    assert any(warning.startswith("the pixels are") for warning in fine)


def with_tumour(volume: Volume, factor: float, radius_mm: float = 30.0) -> Volume:
    """A ball in the left half, ``factor`` times as bright as the brain's median."""
    inside = volume.array > 0
    places = np.indices(volume.array.shape).transpose(1, 2, 3, 0) * volume.geometry.spacing[::-1]
    middle = places[inside].mean(axis=0) + (10, 5, 28)
    ball = inside & (np.linalg.norm(places - middle, axis=-1) < radius_mm)
    assert 0.03 < np.count_nonzero(ball) / np.count_nonzero(inside) < 0.2
    noise = np.random.default_rng(0).normal(1, 0.08, volume.array.shape)
    return Volume(
        np.where(ball, factor * np.median(volume.array[inside]) * noise, volume.array).astype(np.float32), volume.geometry
    )


def few_of(fingerprint: DatasetFingerprint, count: int) -> DatasetFingerprint:
    cases = dict(list(fingerprint.cases.items())[:count])
    return DatasetFingerprint.of_cases(fingerprint.dataset, fingerprint.modalities, cases)


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize(
    ("channel", "modality", "factor"), [(0, "FLAIR", 1.7), (0, "FLAIR", 2.2), (1, "T1", 0.45), (2, "T2", 2.5)]
)
def test_a_large_tumour_is_no_reason_to_doubt_the_modality(home, channel, modality, factor, count) -> None:
    raw, fingerprint = home
    volume = with_tumour(scan_of(raw, channel), factor)
    found = warnings_of(volume, few_of(fingerprint, count), modality=modality)
    assert [text for text in found if "looks like" in text or "contrast" in text] == []


@pytest.mark.parametrize("count", [2, 5])
def test_a_t2_with_a_tumour_is_no_flair(home, count) -> None:
    raw, fingerprint = home
    volume = with_tumour(scan_of(raw, 2), 2.5)
    assert "this looks like a T2, the model expects FLAIR" in warnings_of(volume, few_of(fingerprint, count))


def uneven_tumour(volume: Volume, radius_mm: float) -> Volume:
    """A bright tumour with dark and very bright parts and a faint rim, off the middle: no threshold finds it as a whole."""
    inside = volume.array > 0
    places = np.indices(volume.array.shape).transpose(1, 2, 3, 0) * volume.geometry.spacing[::-1]
    away = np.linalg.norm(places - (places[inside].mean(axis=0) + (10, 5, 0.9 * radius_mm)), axis=-1)
    wave = np.sin(places / 7).prod(axis=-1)
    factor = np.select([away < 0.8 * radius_mm, away < radius_mm], [2.0 + 1.2 * wave, 1.5], 1.0)
    lesion = inside & (away < radius_mm)
    assert 0.05 < np.count_nonzero(lesion) / np.count_nonzero(inside) < 0.35
    values = np.where(lesion, factor * np.median(volume.array[inside]), volume.array)
    return Volume(values.astype(np.float32), volume.geometry)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("radius_mm", [30, 40, 50])
def test_a_flair_with_a_large_uneven_tumour_is_a_flair(home, count: int, radius_mm: float) -> None:
    raw, fingerprint = home
    volume = uneven_tumour(scan_of(raw, 0), radius_mm)
    found = warnings_of(volume, few_of(fingerprint, count))
    assert [text for text in found if "looks like" in text or "contrast" in text] == []
    assert "this looks like a T2, the model expects FLAIR" in warnings_of(scan_of(raw, 2), few_of(fingerprint, count))


def real_scan(folder: Path, case: str, channel: int) -> Volume:
    return to_canonical(read_volume(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"))


@pytest.mark.slow
@pytest.mark.real_data
def test_real_scans_with_tumours_are_told_from_other_modalities(real_data: Path, tmp_path: Path) -> None:
    """Each by the fingerprint of the others; and with a tumour of a seventh or a fifth of the brain drawn into the FLAIR."""
    folder = real_data / "Dataset001_RealBrain"
    fingerprint = fingerprint_dataset(load_dataset(folder), tmp_path / "dataset_fingerprint.json", 0)
    told = "this looks like a T2, the model expects FLAIR"
    warned = []
    for case in fingerprint.cases:
        others = {name: one for name, one in fingerprint.cases.items() if name != case}
        without = DatasetFingerprint.of_cases(fingerprint.dataset, fingerprint.modalities, others)
        flair = real_scan(folder, case, 0)
        for volume in (flair, with_tumour(flair, 2.4, 34.0), uneven_tumour(flair, 40.0)):
            assert [text for text in warnings_of(volume, without) if "looks like" in text] == []
        warned.append(told in warnings_of(real_scan(folder, case, 2), without))
    assert sum(warned) >= 5
