"""Measures against known answers."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy import ndimage

from mmccd_auto.plans import measures
from mmccd_auto.plans.case_fingerprint import Percentile


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((1.0, 1.0, 1.0), "axial"),
        ((1.2, 1.0, 1.0), "axial"),
        ((1.5, 1.0, 1.0), "axial"),
        ((1.6, 1.0, 1.0), "sagittal"),
        ((0.8, 6.0, 0.8), "coronal"),
        ((0.8, 0.8, 6.0), "axial"),
        ((0.5, 3.0, 5.0), "axial"),
    ],
)
def test_the_coarsest_axis(spacing, axis):
    assert measures.coarsest_axis(spacing) == axis


def test_brain_box_is_in_mm():
    mask = np.zeros((10, 20, 30), dtype=bool)
    mask[2:7, 4:5, 10:30] = True
    assert measures.brain_box(mask, (0.5, 2.0, 3.0)) == (15.0, 2.0, 10.0)


def test_healthy_slices_leave_out_small_ones_and_the_neighbours_of_abnormal_ones():
    brain = np.array([0, 5, 10, 50, 100, 100, 100, 100, 100, 80, 9])
    anomaly = np.zeros(11, dtype=int)
    assert np.flatnonzero(measures.healthy_slices(brain, anomaly)).tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    anomaly[6] = 1
    assert np.flatnonzero(measures.healthy_slices(brain, anomaly)).tolist() == [2, 3, 9]
    assert not measures.healthy_slices(np.zeros(5, dtype=int), np.zeros(5, dtype=int)).any()


def test_mean_section_averages_over_the_slices_with_brain():
    mask = np.zeros((4, 20, 30), dtype=bool)
    mask[1, 5:15, 3:9] = True
    mask[2, 0, 29] = mask[2, 19, 20] = True
    assert measures.mean_section(mask, (2.0, 0.5)) == (2.0 * (10 + 20) / 2, 0.5 * (6 + 10) / 2)


@pytest.mark.parametrize("sigma", [2.0, 15.0])
def test_noise_sigma_of_smooth_anatomy_with_known_noise(sigma):
    generator = np.random.default_rng(0)
    z, y, x = np.mgrid[:12, :64, :64]
    anatomy = 300 + 100 * np.sin(y / 12) * np.cos(x / 15) + z
    mask = (y - 32) ** 2 + (x - 32) ** 2 < 28**2
    found = measures.noise_sigma(anatomy + generator.normal(0, sigma, anatomy.shape), mask)
    assert found == pytest.approx(sigma, rel=0.05)
    assert measures.noise_sigma(anatomy, mask) < 0.5


@pytest.mark.parametrize("voxels", [2400, 30_000])
@pytest.mark.parametrize("slices", [12, 60])
def test_the_noise_of_all_depths_counts(slices, voxels):
    """Also where one slice, of 4096 voxels, holds more than are to be looked at; here the noise grows with the depth."""
    sigma = np.linspace(1, 19, slices)[:, None, None]
    scan = 300 + np.random.default_rng(0).normal(0, sigma, (slices, 64, 64))
    mask = np.ones(scan.shape, dtype=bool)
    assert measures.noise_sigma(scan, mask, voxels) == pytest.approx(measures.noise_sigma(scan, mask), rel=0.15)


def test_noise_is_not_looked_for_in_every_voxel_of_a_large_scan(monkeypatch):
    """A slice has 4096; a few slices are looked at even where one has enough."""
    looked_at = []
    convolve = ndimage.convolve
    monkeypatch.setattr(
        measures.ndimage,
        "convolve",
        lambda array, *rest, **more: looked_at.append(len(array)) or convolve(array, *rest, **more),
    )
    scan = np.random.default_rng(0).normal(0, 1, (200, 64, 64))
    for voxels in (100, 10_000, 40_960, 10_000_000):
        measures.noise_sigma(scan, np.ones(scan.shape, dtype=bool), voxels)
    assert looked_at == [5, 5, 10, 200]


@pytest.mark.parametrize("spacing", [1.0, 2.0])
@pytest.mark.parametrize("width", [2.0, 3.0])
def test_correlation_length_of_smoothed_noise(width, spacing):
    """White noise smoothed by a Gaussian of sd w has the autocorrelation exp(-d^2 / 4 w^2), which is 1/e at d = 2 w."""
    field = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(80, 80, 80)), width)
    mask = np.ones(field.shape, dtype=bool)
    for axis in range(3):
        assert measures.correlation_length(field, mask, axis, spacing) == pytest.approx(2 * width * spacing, rel=0.1)


def test_correlation_length_is_each_axis_own_and_ends_at_the_brain():
    field = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(60, 60, 60)), (0, 1, 3))
    mask = np.ones(field.shape, dtype=bool)
    lengths = [measures.correlation_length(field, mask, axis, 1.0) for axis in range(3)]
    assert lengths[0] < 1 < lengths[1] < 3 < lengths[2]
    same_everywhere = np.ones((20, 20, 20))
    assert measures.correlation_length(same_everywhere, same_everywhere > 0, 0, 1.0) >= 10


def test_a_bias_field_does_not_lengthen_the_correlation():
    field = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(60, 90, 90)), 2)
    field /= field.std()
    y, x = np.mgrid[:90, :90]
    biased = field + 8 * np.cos(np.pi * x / 90) + 5 * y / 90
    mask = np.ones(field.shape, dtype=bool)
    mask[:, :6] = False
    found = [
        measures.correlation_length(measures.without_slow_changes(one, mask, (1.0, 1.0, 1.0)), mask, 2, 1.0)
        for one in (field, biased)
    ]
    assert found[0] == pytest.approx(4, rel=0.15)
    assert found[1] == pytest.approx(found[0], rel=0.2)
    assert measures.correlation_length(biased - biased.mean(), mask, 2, 1.0) > 3 * found[1]


@pytest.mark.parametrize(("spacing", "size"), [((1.0, 1.0, 1.0), 97), ((2.5, 2.5, 2.5), 39), ((0.5, 0.5, 0.5), 161)])
def test_the_depth_profile_of_a_ball_whose_intensity_is_its_depth(spacing, size):
    """Shells of equal volume of a ball end at radii of (1 - k / 5) ** (1/3); the mean radius in each is 3/4 of their
    fourth powers' difference over that of the third ones."""
    middle = (size - 1) / 2
    z, y, x = np.mgrid[:size, :size, :size] - middle
    radius = np.sqrt(z**2 + y**2 + x**2) * spacing[0]
    end = (middle - 2) * spacing[0]
    profile = measures.depth_profile(1000 - 3 * radius, radius < end, spacing)
    edges = (1 - np.arange(6) / 5) ** (1 / 3)
    mean = 3 / 4 * (edges[:-1] ** 4 - edges[1:] ** 4) / (edges[:-1] ** 3 - edges[1:] ** 3)
    # The radii of the percentiles 2 and 90: so much of the volume lies outside.
    rim, depth = 0.98 ** (1 / 3), 0.1 ** (1 / 3)
    np.testing.assert_allclose(profile, (rim - mean) / (rim - depth), atol=0.03)


def test_dice():
    first, second = np.array([1, 1, 0, 0], dtype=bool), np.array([0, 1, 1, 0], dtype=bool)
    assert measures.dice(first, second) == 0.5
    assert measures.dice(first, first) == 1


def test_percentiles_are_kept_under_their_names_in_their_order():
    assert [float(name) for name in get_args(Percentile)] == list(measures.PERCENTILES)
