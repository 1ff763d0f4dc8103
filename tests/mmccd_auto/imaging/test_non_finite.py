"""Voxels that are NaN or infinite: background around the brain, filled in where few are inside, else refused."""

from __future__ import annotations

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.non_finite import settle_non_finite, with_zeros
from mmccd_auto.imaging.volume import Geometry, Volume

SIZE, EDGES = (60, 64, 30), (2.0, 2.0, 5.0)
GEOMETRY = Geometry(SIZE, EDGES, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
Z, Y, X = np.meshgrid(
    *((np.arange(n) - (n - 1) / 2) * e for n, e in zip(SIZE[::-1], EDGES[::-1], strict=True)), indexing="ij"
)
BRAIN = (X / 50) ** 2 + (Y / 55) ** 2 + (Z / 60) ** 2 < 1
# As tight as a brain extraction cuts: with a fissure from above.
FISSURE = (np.abs(X) < 2.5) & (Z > 25)


@pytest.fixture
def scan():
    array = np.where(BRAIN, 300 + 40 * np.sin(X / 9) * np.cos(Y / 11), 0).astype(np.float32)
    return Volume(array, GEOMETRY, ("said before",))


def settle(volume: Volume) -> Volume:
    """As a scan without skull is settled everywhere: the brain is found where NaN was set to 0."""
    return settle_non_finite(volume, find_brain(with_zeros(volume).array, volume.geometry.spacing, "a"), "a")


def changed(volume: Volume, where: np.ndarray, value=np.nan) -> Volume:
    return Volume(np.where(where, np.float32(value), volume.array), volume.geometry, volume.warnings)


def test_a_finite_volume_is_itself(scan):
    assert with_zeros(scan) is scan
    assert settle(scan) is scan


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_background_becomes_0_without_a_word(scan, value):
    outside = changed(scan, scan.array == 0, value)
    settled = settle(outside)
    np.testing.assert_array_equal(settled.array, scan.array)
    assert settled.warnings == ("said before",)


def test_background_that_reaches_into_a_fissure(scan):
    without = Volume(np.where(FISSURE, 0, scan.array), GEOMETRY)
    settled = settle(changed(without, without.array == 0))
    np.testing.assert_array_equal(settled.array, without.array)
    assert settled.warnings == ()


def test_background_inside_a_generous_mask(scan):
    settled = settle_non_finite(changed(scan, scan.array == 0), (X / 54) ** 2 + (Y / 59) ** 2 + (Z / 66) ** 2 < 1, "a")
    np.testing.assert_array_equal(settled.array, scan.array)


def test_what_a_turned_grid_leaves_at_the_sides(scan):
    settled = settle(changed(scan, X + Y > 75))
    assert settled.warnings == ("said before",)
    assert np.isfinite(settled.array).all()


@pytest.mark.parametrize("background", [0, np.nan])
def test_single_voxels_are_filled_in_and_told(scan, background):
    inside = np.argwhere(BRAIN & (Z**2 < 400) & (X**2 + Y**2 < 900))
    few = np.zeros_like(BRAIN)
    few[tuple(inside[::2500].T)] = True
    count = int(few.sum())
    assert 0 < count <= 0.001 * BRAIN.sum()
    settled = settle(changed(changed(scan, scan.array == 0, background), few, np.inf))
    assert settled.warnings[0] == "said before"
    assert settled.warnings[1].startswith(f"{count} voxels inside the brain (")
    np.testing.assert_allclose(settled.array[few], scan.array[few], rtol=0.1)
    np.testing.assert_array_equal(settled.array[~few], scan.array[~few])


def scattered(share: float) -> np.ndarray:
    return BRAIN & (np.random.default_rng(0).random(BRAIN.shape) < share)


BAD = {
    "scattered": scattered(0.01),
    "scattered in everything": np.random.default_rng(0).random(BRAIN.shape) < 0.01,
    "half": scattered(0.5),
    "axial slice": np.broadcast_to((np.arange(SIZE[2]) == 14)[:, None, None], BRAIN.shape),
    "axial slice of the brain": BRAIN & (np.arange(SIZE[2]) == 14)[:, None, None],
    "two sagittal slices": np.broadcast_to((np.arange(SIZE[0]) // 2 == 12)[None, None], BRAIN.shape),
    "slab": np.broadcast_to((np.arange(SIZE[2]) // 5 == 2)[:, None, None], BRAIN.shape),
    "ball": X**2 + Y**2 + Z**2 < 12**2,
    "ball at the surface": (X - 42) ** 2 + Y**2 + Z**2 < 12**2,
    "small ball": (X - 20) ** 2 + Y**2 + Z**2 < 4**2,
}


# A ball at the surface hangs together with a background of NaN, and may well be a part of it.
@pytest.mark.parametrize(
    ("kind", "background"),
    [(kind, background) for kind in BAD for background in (0, np.nan) if background == 0 or kind != "ball at the surface"],
)
def test_more_than_that_is_refused(scan, kind, background):
    words = r"^a holds \d+ voxels that are NaN or infinite inside the brain \(.* % of it, up to"
    with pytest.raises(MMCCDError, match=words):
        settle(changed(changed(scan, scan.array == 0, background), BAD[kind]))


def test_nothing_but_nan(scan):
    with pytest.raises(MMCCDError, match="constant value and no brain"):
        settle(changed(scan, np.ones_like(BRAIN)))
