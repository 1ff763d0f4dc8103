"""The bias field against a simulated one, and where there is none to be found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.preprocessing.bias_field import bias_field
from mmccd_auto.preprocessing.preprocess_case import preprocess_case


@pytest.fixture(scope="module")
def scan() -> Volume:
    """A simulated FLAIR scan of 3 mm."""
    return simulate_subject(load_tissue_maps(3), Acquisition(3.0), (), np.random.default_rng(1)).scans["FLAIR"]


def shaded(volume: Volume, strength: float) -> np.ndarray:
    """The scan, brighter behind and at the left, by a factor of exp(+-strength)."""
    _, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in volume.array.shape), indexing="ij")
    return (volume.array * np.exp(strength * (0.8 * y + 0.4 * x * y + 0.3 * x))).astype(np.float32)


def test_shading_is_found(scan) -> None:
    brain = scan.array > 0
    before = bias_field(scan.array, brain, scan.geometry.spacing)
    after = bias_field(shaded(scan, 0.3), brain, scan.geometry.spacing)
    put_in = shaded(scan, 0.3)[brain] / scan.array[brain]
    found = after[brain] / before[brain]
    left = np.log(found) - np.log(put_in / np.exp(np.log(put_in).mean()))
    assert np.log(put_in).std() > 0.08
    assert left.std() < 0.15 * np.log(put_in).std()
    assert np.log(after[brain]).mean() == pytest.approx(0, abs=1e-4)


def test_one_field_for_one_scan(scan) -> None:
    brain = scan.array > 0
    first, again = (bias_field(scan.array, brain, scan.geometry.spacing) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32
    assert first.min() > 0


def test_a_gain_changes_nothing(scan) -> None:
    brain = scan.array > 0
    first, louder = (
        bias_field(scan.array.astype(np.float32) * np.float32(gain), brain, scan.geometry.spacing) for gain in (1, 1000)
    )
    np.testing.assert_allclose(first, louder, rtol=1e-3)


def test_scans_without_a_zero_or_without_depth_have_no_field(scan) -> None:
    brain = scan.array > 0
    standardised = np.where(brain, scan.array - np.percentile(scan.array[brain], 60), 0)
    assert (bias_field(standardised, brain, scan.geometry.spacing) == 1).all()
    middle = slice(len(brain) // 2, len(brain) // 2 + 3)
    assert (bias_field(scan.array[middle], brain[middle], (3.0, 3.0, 3.0)) == 1).all()


def test_fluid_without_any_signal_does_not_end_the_correction(scan) -> None:
    """FLAIR may show it as 0, here and there with the tiny values of an interpolation."""
    brain = scan.array > 0
    dark = brain & (scan.array < np.percentile(scan.array[brain], 8))
    nulled = shaded(scan, 0.3)
    nulled[dark] = np.random.default_rng(0).choice([0.0, -0.01, 0.01], np.count_nonzero(dark))
    expected = bias_field(shaded(scan, 0.3), brain, scan.geometry.spacing)
    found = bias_field(nulled, brain, scan.geometry.spacing)
    difference = np.log(found[brain]) - np.log(expected[brain])
    assert difference.std() < 0.25 * np.log(expected[brain]).std()


@pytest.mark.parametrize("code", ["RAS", "PIL"])
def test_preprocessing_corrects_whatever_the_orientation(scan, tiny_plan, code) -> None:
    plan = replace(tiny_plan, normalisation=dict.fromkeys(tiny_plan.modalities, "bias_corrected"))
    volume = Volume(shaded(scan, 0.3), scan.geometry)
    turned = Volume.from_image(sitk.DICOMOrient(volume.to_image(), code))
    first, other = (preprocess_case("a", {"FLAIR": one}, plan) for one in (volume, turned))
    np.testing.assert_allclose(first.image, other.image, atol=1e-4)
    assert first.normalisation["FLAIR"]["bias_field_p99"] > 1.15
    plain = preprocess_case("a", {"FLAIR": volume}, tiny_plan)
    halves = np.arange(first.image.shape[2]) < first.image.shape[2] / 2

    def unevenness(case) -> float:
        front, back = (case.image[0][:, part][case.brain[:, part]] for part in (halves, ~halves))
        return abs(np.median(front) - np.median(back))

    assert unevenness(first) < 0.5 * unevenness(plain)


def test_a_geometry_with_thick_slices_works() -> None:
    random = np.random.default_rng(0)
    array = np.zeros((20, 60, 60), dtype=np.float32)
    array[2:18, 8:52, 8:52] = 100 + 5 * random.standard_normal((16, 44, 44))
    geometry = Geometry((60, 60, 20), (0.8, 0.8, 6.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist()))
    field = bias_field(array, array > 0, geometry.spacing)
    assert np.percentile(np.abs(np.log(field[array > 0])), 95) < 0.05


def millimetres(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[np.ndarray, ...]:
    """z, y and x of every voxel, from the middle."""
    lines = ((np.arange(edge) - (edge - 1) / 2) * step for edge, step in zip(size, spacing[::-1], strict=True))
    return tuple(np.meshgrid(*lines, indexing="ij"))


def error_in_percent(
    brain: np.ndarray, logarithm: np.ndarray, tissue: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, float]:
    """How far the field of a made-up scan lies from the true one inside the brain, and the true one's deviation."""
    noise = np.random.default_rng(0).normal(0, 10, brain.shape)
    scan = np.where(brain, tissue * np.exp(logarithm) + noise, 0).astype(np.float32)
    true = (logarithm - logarithm[brain].mean())[brain]
    return 100 * (np.log(bias_field(scan, brain, spacing))[brain] - true), 100 * true.std()


@pytest.mark.parametrize("empty", [0, 12])
@pytest.mark.parametrize(("slices", "thickness"), [(4, 8.0), (7, 6.0), (11, 3.0), (15, 2.5), (39, 1.0)])
def test_a_thin_slab_is_corrected_too(slices, thickness, empty) -> None:
    """Along one axis it spans few voxels of 10 mm; so many empty slices may lie on either side."""
    size, spacing = (slices + 2 * empty, 110, 95), (1.6, 1.6, thickness)
    z, y, x = millimetres(size, spacing)
    brain = ((z / 60) ** 2 + (y / 85) ** 2 + (x / 70) ** 2 < 1) & (np.abs(z) < slices * thickness / 2)
    tissue = np.where((np.abs(x) < 25) & (np.abs(y) < 30), 600, 1000)
    error, strength = error_in_percent(brain, 0.3 * x / 70 + 0.2 * np.sin(2 * y / 85) - 0.15 * z / 60, tissue, spacing)
    assert strength > 15
    assert error.std() < 0.2 * strength


@pytest.mark.parametrize("slices", [22, 25, 26, 30])
def test_the_field_lies_where_it_was_found(slices) -> None:
    """Of 5 mm slices every second is looked at: a field that is taken for half a slice higher has a one-sided error."""
    size, spacing = (slices, 110, 95), (1.6, 1.6, 5.0)
    z, y, x = millimetres(size, spacing)
    brain = (z / (slices * 2.4)) ** 2 + (y / 85) ** 2 + (x / 70) ** 2 < 1
    tissue = np.where((np.abs(x) < 25) & (np.abs(y) < 30), 600, 1000)
    error, _ = error_in_percent(brain, 0.3 * np.cos(z / 30), tissue, spacing)
    assert abs(np.polyfit(np.sin(z[brain] / 30), error, 1)[0]) < 1
    assert error.std() < 5


@pytest.mark.parametrize("size", [(61, 99, 99), (59, 95, 101)])
def test_the_field_is_not_stretched_where_the_working_grid_ends_elsewhere(size) -> None:
    """N4 works on every fifth voxel here; evaluated on all of them it was stretched to their ends, by 7 % and 4 %."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in size), indexing="ij")
    brain = (z / 0.8) ** 2 + (y / 0.85) ** 2 + (x / 0.9) ** 2 < 1
    tissue = np.where((np.abs(x) < 0.3) & (np.abs(y) < 0.3), 600, 1000)
    noise = np.random.default_rng(0).normal(0, 10, size)
    scan = np.where(brain, tissue * np.exp(0.4 * x + 0.25 * np.sin(2.2 * y) - 0.2 * z) + noise, 0).astype(np.float32)
    found = np.log(bias_field(scan, brain, (2.0, 2.0, 2.0)))[brain]
    assert np.polyfit(x[brain], found, 1)[0] == pytest.approx(0.4, rel=0.01)


def test_the_field_does_not_depend_on_the_number_of_threads(scan: Volume) -> None:
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    fields = []
    try:
        for threads in (1, 2, 4):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            fields.append(bias_field(scan.array, scan.array > 0, scan.geometry.spacing))
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    np.testing.assert_array_equal(fields[0], fields[1])
    np.testing.assert_array_equal(fields[0], fields[2])
