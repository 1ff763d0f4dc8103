"""The intensity of no signal: scans of known zeros, whatever was added to them."""

from __future__ import annotations

import numpy as np
import pytest

from mmccd_auto.imaging.true_zero import find_true_zero, without_offset
from mmccd_auto.imaging.volume import Geometry, Volume

EDGES = (40, 44, 40)


def volume(array: np.ndarray) -> Volume:
    size = tuple(reversed(array.shape))
    return Volume(array, Geometry(size, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist())))


def brain(scale: float = 1.0) -> np.ndarray:
    """A ball of two tissues and fluid on a background of 0; float32."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in EDGES), indexing="ij")
    distance = np.sqrt(z**2 + y**2 + x**2) / scale
    noise = np.random.default_rng(0).normal(0, 12, EDGES)
    array = np.where(distance < 0.32, 90, np.where(distance < 0.5, 300, 400)) + noise
    return np.where(distance < 0.75, array, 0).astype(np.float32)


def head() -> np.ndarray:
    """The ball in a dark and a bright shell, in air with the noise of a magnitude image."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in EDGES), indexing="ij")
    distance = np.sqrt(z**2 + y**2 + x**2)
    array = np.where((distance >= 0.82) & (distance < 0.92), 700, brain())
    random = np.random.default_rng(1)
    return np.hypot(array + random.normal(0, 8, EDGES), random.normal(0, 8, EDGES)).astype(np.float32)


def with_padding(array: np.ndarray, value: float) -> np.ndarray:
    """A scanner's filler in a third of the air."""
    padded = array.copy()
    padded[:, :, :3] = padded[:, :3] = value
    return padded


GAINS_AND_OFFSETS = [(1, 0), (1, 1000), (1, -1024), (0.01, -3.2), (37, 5e4), (1, 1e6)]


@pytest.mark.parametrize(("gain", "offset"), GAINS_AND_OFFSETS)
@pytest.mark.parametrize("scan", [brain(), np.round(brain()), brain() - 5 * (brain() > 500), head(), np.round(head())])
def test_the_zero_follows_a_gain_and_an_offset(scan, gain, offset) -> None:
    expected = find_true_zero(volume(scan))
    changed = (gain * scan.astype(np.float64) + offset).astype(np.float32)
    found = find_true_zero(volume(changed))
    assert (expected.known, found.known) == (True, True)
    precision = float(np.spacing(np.float32(max(abs(changed.min()), changed.max()))))
    assert found.value == pytest.approx(gain * expected.value + offset, abs=2 * precision)
    recovered = without_offset(volume(changed)).array
    np.testing.assert_allclose(recovered, gain * (scan - expected.value), atol=3 * precision, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float64, np.float32])
def test_whole_numbers_come_back_to_the_last_bit(dtype) -> None:
    scan = np.round(brain())
    for offset in (0, -1024, 1000):
        recovered = without_offset(volume((scan + offset).astype(dtype))).array
        np.testing.assert_array_equal(recovered, scan)


def test_a_scan_whose_zero_is_at_0_stays_the_very_object() -> None:
    lowest_is_zero = head() - head().min()
    for scan in (brain(), lowest_is_zero, np.round(lowest_is_zero).astype(np.int16)):
        given = volume(scan)
        assert without_offset(given) is given


def test_ringing_below_the_background_does_not_move_the_zero() -> None:
    scan = brain()
    scan[20, 20, 1:3] = -30
    scan[5, 20, 20:24] = -4
    assert find_true_zero(volume(scan)).value == 0
    assert find_true_zero(volume(scan + 1000)).value == 1000


def test_single_dark_voxels_are_no_air() -> None:
    scan = np.round(head())
    expected = find_true_zero(volume(scan)).value
    scan[3, 3, 3] = -5000
    assert find_true_zero(volume(scan)).value == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("filler", [-2000, -32768])
def test_a_filler_is_no_air(filler) -> None:
    scan = np.round(head())
    expected = find_true_zero(volume(scan)).value
    assert find_true_zero(volume(with_padding(scan, filler))).value == pytest.approx(expected, abs=1)


def test_a_filler_is_no_background_of_a_brain_but_0_is_even_of_one_without_contrast() -> None:
    filled = np.where(brain() == 0, -32768, brain())
    found = find_true_zero(volume(filled))
    assert not found.known
    assert abs(found.value) < 120
    even = np.where(brain() == 0, 0, 600 + 10 * np.random.default_rng(0).standard_normal(EDGES))
    assert find_true_zero(volume(even)) == find_true_zero(volume(brain()))


def test_z_scores_inside_the_brain_have_lost_their_zero_and_get_one_that_fits_their_own_scale() -> None:
    scan = brain()
    inside = scan > 0
    mean, deviation = scan[inside].mean(), scan[inside].std()
    scored = np.where(inside, (scan - mean) / deviation, 0).astype(np.float32)
    found = find_true_zero(volume(scored))
    assert not found.known
    assert found.value < scored.min()
    # In the scan's own units it lies near 0, against a brain of 90 to 400.
    assert abs(found.value * deviation + mean) < 120
    above = find_true_zero(volume(np.where(inside, scan, 1000)))
    assert not above.known


def test_constants_and_broken_values_have_no_zero() -> None:
    assert find_true_zero(volume(np.full(EDGES, 7.0))).value == 0
    broken = brain()
    broken[3, 3, 3] = np.nan
    given = volume(broken)
    assert without_offset(given) is given
