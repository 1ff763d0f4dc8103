"""The second fit against a phantom whose field, scale and lesion are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.preprocessing.bias_field import bias_field, field_change, field_samples
from mmccd_auto.preprocessing.preprocess_case import PreprocessedCase, preprocess_case
from mmccd_auto.preprocessing.second_fit import FirstFit, Refitted, refit
from mmccd_auto.preprocessing.stored_samples import read_samples, write_samples

CENTRE_MM, RADIUS_MM, GAIN = (10.0, 20.0, 30.0), 28.0, 1.6


@pytest.fixture(scope="module")
def healthy() -> Volume:
    """A simulated FLAIR scan of 3 mm."""
    return simulate_subject(load_tissue_maps(3), Acquisition(3.0), (), np.random.default_rng(1)).scans["FLAIR"]


def millimetres(volume: Volume) -> list[np.ndarray]:
    """z, y and x of every voxel from the middle of the brain's voxels."""
    axes = np.meshgrid(*(np.arange(edge, dtype=float) for edge in volume.array.shape), indexing="ij")
    return [(axis - axis[volume.array > 0].mean()) * 3.0 for axis in axes]


def shaded(volume: Volume, lesion: np.ndarray) -> Volume:
    """The scan under a strong smooth field, and brighter in the lesion."""
    z, y, x = millimetres(volume)
    field = np.exp(0.35 * x / 70 - 0.3 * y / 80 + 0.15 * np.sin(z / 40))
    return Volume((volume.array * field * np.where(lesion, GAIN, 1)).astype(np.float32), volume.geometry)


def lesion_of(volume: Volume) -> np.ndarray:
    """A ball, as large as a large glioma with its oedema."""
    distances = [axis - centre for axis, centre in zip(millimetres(volume), CENTRE_MM, strict=True)]
    return (sum(one**2 for one in distances) < RADIUS_MM**2) & (volume.array > 0)


def refitted(case: PreprocessedCase, leave_out: np.ndarray, scheme: str = "bias_corrected") -> Refitted:
    samples = case.field_samples.get("FLAIR")
    found = refit(
        case.image[0], case.brain, leave_out, FirstFit(case.normalisation["FLAIR"], scheme, case.geometry, samples)
    )
    assert found is not None
    return found


def contrast(image: np.ndarray, reference: np.ndarray, lesion: np.ndarray) -> float:
    """By how much the lesion is brighter than the same tissue without it."""
    return float((image - reference)[lesion].mean())


@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
def test_the_second_fit_restores_a_lesion_that_the_first_one_takes_for_shading(healthy, tiny_plan, slice_axis) -> None:
    plan = replace(
        tiny_plan,
        normalisation=dict.fromkeys(tiny_plan.modalities, "bias_corrected"),
        slice_axis=slice_axis,
        patch_size=(64, 64),
    )
    lesion = lesion_of(healthy)
    assert 0.05 < lesion.sum() / (healthy.array > 0).sum() < 0.12
    none = np.zeros_like(lesion)
    label = Volume(lesion.astype(np.uint8), healthy.geometry)
    without = preprocess_case("a", {"FLAIR": shaded(healthy, none)}, plan)
    case = preprocess_case("a", {"FLAIR": shaded(healthy, lesion)}, plan, label)
    marked = case.anomaly.astype(bool) & case.brain
    around = ndimage.binary_dilation(marked, iterations=1) & case.brain
    # What it would be if field and scale were known: the lesion multiplies intensities by GAIN.
    parameters = without.normalisation["FLAIR"]
    expected = float((((without.image[0] + 3) / parameters["scale"] + parameters["shift"])[marked] * (GAIN - 1)).mean())
    expected *= parameters["scale"]
    first = contrast(case.image[0], without.image[0], marked)
    second = contrast(refitted(case, around).image, without.image[0], marked)
    assert first < 0.75 * expected
    assert second == pytest.approx(expected, rel=0.12)
    healthy_tissue = case.brain & ~around
    first_error, second_error = (
        np.abs((image - without.image[0])[healthy_tissue]).mean() for image in (case.image[0], refitted(case, around).image)
    )
    assert second_error < 0.6 * first_error


def test_with_nothing_left_out_the_scale_stays(healthy, tiny_plan) -> None:
    case = preprocess_case("a", {"FLAIR": healthy}, tiny_plan)
    found = refitted(case, np.zeros_like(case.brain), "percentile")
    np.testing.assert_allclose(found.image, case.image[0], atol=1e-4)
    assert (found.image[~case.brain] == BACKGROUND).all()
    assert found.image.dtype == np.float32


def test_the_scale_is_that_of_the_tissue_that_is_left(healthy, tiny_plan) -> None:
    """Without a bias field: leaving the lesion out gives nearly the scale of the healthy scan."""
    lesion = lesion_of(healthy)
    brighter = Volume(np.where(lesion, 3 * healthy.array, healthy.array), healthy.geometry)
    plain = preprocess_case("a", {"FLAIR": healthy}, tiny_plan)
    case = preprocess_case("a", {"FLAIR": brighter}, tiny_plan, Volume(lesion.astype(np.uint8), healthy.geometry))
    scales = [one.normalisation["FLAIR"]["scale"] for one in (plain, case)]
    found = refitted(case, case.anomaly.astype(bool), "percentile").parameters["scale"]
    assert abs(found - scales[0]) < 0.5 * abs(scales[1] - scales[0])


def test_tissue_without_contrast_gives_no_fit(healthy, tiny_plan) -> None:
    case = preprocess_case("a", {"FLAIR": healthy}, tiny_plan)
    first = FirstFit(case.normalisation["FLAIR"], "percentile", case.geometry, None)
    assert refit(case.image[0], case.brain, case.brain, first) is None
    even = np.where(case.brain & (case.image[0] < 0), np.float32(0.5), case.image[0])
    left = case.brain & (even != np.float32(0.5))
    assert refit(even, case.brain, left, first) is None


def test_what_is_left_out_has_no_say_in_the_field(healthy) -> None:
    brain, lesion, spacing = healthy.array > 0, lesion_of(healthy), healthy.geometry.spacing
    scan, nowhere = shaded(healthy, lesion).array, np.zeros_like(lesion)
    whole = np.where(lesion, 5 * scan, scan)
    origin = (0.0, 0.0, 0.0)
    fields = []
    for array in (scan, whole):
        samples = field_samples(array, brain, spacing)
        first = bias_field(array, brain, spacing)
        second = first * field_change(samples, lesion, origin, spacing)
        fields.append(np.log(second[brain]) - np.log(second[brain]).mean())
        assert (field_change(samples, nowhere, origin, spacing) == 1).all()
    np.testing.assert_allclose(*fields, atol=1e-3)
    assert field_change(samples, brain, origin, spacing) is None


def test_samples_survive_the_disk(healthy, tmp_path) -> None:
    samples = field_samples(healthy.array, healthy.array > 0, healthy.geometry.spacing)
    write_samples(tmp_path, {"FLAIR": samples})
    found = read_samples(tmp_path, "FLAIR")
    for name in ("values", "usable", "origin", "spacing"):
        np.testing.assert_array_equal(getattr(found, name), getattr(samples, name))
    assert read_samples(tmp_path, "T1") is None
    (tmp_path / "field_samples.npz").write_bytes(b"PK")
    with pytest.raises(MMCCDError, match=r"field_samples.npz can't be read"):
        read_samples(tmp_path, "FLAIR")
