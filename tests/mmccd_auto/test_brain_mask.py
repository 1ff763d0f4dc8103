"""Brain masks of stripped volumes, and the refusal of volumes that are not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.brain_mask import examine_brain, find_brain
from mmccd_auto.imaging.io import read_volume

SPACING = (3.0, 3.0, 3.0)


def ellipsoid(shape: tuple[int, int, int], fraction: float) -> np.ndarray:
    """Semi-axes are ``fraction`` of half the edges."""
    places = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in shape), indexing="ij")
    return sum(place**2 for place in places) < fraction**2


@pytest.fixture
def brain() -> np.ndarray:
    return ellipsoid((50, 64, 54), 0.8)


@pytest.fixture
def tissue(brain: np.ndarray) -> np.ndarray:
    """Positive values of a plausible spread."""
    return np.random.default_rng(0).uniform(200, 900, brain.shape)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32, np.float64])
def test_zero_background(brain: np.ndarray, tissue: np.ndarray, dtype: type) -> None:
    array = np.where(brain, tissue, 0).astype(dtype)
    assert np.array_equal(find_brain(array, SPACING, "a"), brain)


def test_constant_negative_background_of_a_z_scored_volume(brain: np.ndarray, tissue: np.ndarray) -> None:
    array = np.where(brain, tissue, 0)
    array = ((array - array.mean()) / array.std()).astype(np.float32)
    report = examine_brain(array, SPACING)
    assert np.array_equal(report.mask, brain)
    assert report.usable
    assert report.background == pytest.approx(array.min())


def test_zero_background_around_z_scores(brain: np.ndarray, tissue: np.ndarray) -> None:
    scores = (tissue - tissue[brain].mean()) / tissue[brain].std()
    found = find_brain(np.where(brain, scores, 0).astype(np.float32), SPACING, "a")
    assert not (found & ~brain).any()
    assert overlap(found, brain) > 0.9999


def test_few_negative_voxels_are_ringing(brain: np.ndarray, tissue: np.ndarray) -> None:
    array = np.where(brain, tissue, 0)
    outside = np.flatnonzero(~brain)
    ringing = np.random.default_rng(1).choice(outside, np.count_nonzero(brain) // 100, replace=False)
    array.flat[ringing] = -20
    assert np.array_equal(find_brain(array, SPACING, "a"), brain)


def test_tightly_cut_volume_whose_brain_touches_every_face(brain: np.ndarray, tissue: np.ndarray) -> None:
    array = np.where(brain, tissue, 0)
    where = np.argwhere(brain)
    box = tuple(slice(low, high + 1) for low, high in zip(where.min(axis=0), where.max(axis=0), strict=True))
    assert np.array_equal(find_brain(array[box], SPACING, "a"), brain[box])


def test_slab_that_cuts_the_brain(brain: np.ndarray, tissue: np.ndarray) -> None:
    array = np.where(brain, tissue, 0)[20:30]
    assert np.array_equal(find_brain(array, SPACING, "a"), brain[20:30])


def test_empty_ventricles_are_filled_also_where_the_slab_cuts_them(brain: np.ndarray, tissue: np.ndarray) -> None:
    array = np.where(brain, tissue, 0)
    array[15:35, 28:36, 24:30] = 0
    assert np.array_equal(find_brain(array, SPACING, "a"), brain)
    assert np.array_equal(find_brain(array[20:30], SPACING, "a"), brain[20:30])


def test_dust_goes_and_a_second_part_stays(brain: np.ndarray, tissue: np.ndarray) -> None:
    expected = np.zeros((90, 64, 54), dtype=bool)
    expected[:50] = brain
    expected[60:75, 20:40, 20:40] = True
    array = np.where(expected, 500.0, 0.0)
    array[85, 5, 5] = 500
    assert np.array_equal(find_brain(array, SPACING, "a"), expected)


def test_axes_and_flips_make_no_difference(brain: np.ndarray, tissue: np.ndarray) -> None:
    array = np.where(brain, tissue, 0)
    array[15:35, 28:36, 24:30] = 0
    spacing = np.array([2.0, 2.5, 3.0])
    expected = find_brain(array, tuple(spacing[::-1]), "a")
    for order, flips in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        turn = tuple(slice(None, None, flip) for flip in flips)
        found = find_brain(array.transpose(order)[turn], tuple(spacing[list(order)][::-1]), "a")
        assert np.array_equal(found, expected.transpose(order)[turn])


def test_noise_around_the_head_is_refused(brain: np.ndarray, tissue: np.ndarray) -> None:
    array = np.where(brain, tissue, np.random.default_rng(2).rayleigh(15, brain.shape))
    report = examine_brain(array, SPACING)
    assert report.skull
    assert report.background is None
    with pytest.raises(MMCCDError, match=r"^subject_0000\.nii\.gz still has the skull .* brain mask file .*\.$"):
        find_brain(array, SPACING, "subject_0000.nii.gz")


def test_a_volume_larger_than_any_brain_is_refused(brain: np.ndarray, tissue: np.ndarray) -> None:
    report = examine_brain(np.where(brain, tissue, 0), (4.5, 4.5, 4.5))
    assert report.skull
    assert "still has the skull" in report.reason


def test_a_thin_slab_with_a_section_larger_than_any_brains_is_refused(brain: np.ndarray, tissue: np.ndarray) -> None:
    array = np.where(brain, tissue, 0)[24:27]
    report = examine_brain(array, (4.0, 4.0, 3.0))
    assert report.skull
    assert "section" in report.reason


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "constant value"), (7.0, "constant value"), (np.nan, "not finite"), (np.inf, "not finite")]
)
def test_volumes_without_content_are_refused(value: float, words: str) -> None:
    array = np.zeros((10, 10, 10))
    array[4:6] = value
    if value == 7.0:
        array[:] = value
    with pytest.raises(MMCCDError, match=rf"^scan\.nii holds .*{words}"):
        find_brain(array, SPACING, "scan.nii")


@pytest.mark.real_data
def test_real_stripped_volumes_have_brains_that_agree(real_data) -> None:
    folder = real_data / "Dataset001_RealBrain"
    for case in ("imagesTr/BraTS2021_01484", "imagesTr/Kirby_113", "imagesTr/TCGA-FG-6692", "imagesTs/MS_patient26"):
        masks = []
        for channel in range(3):
            path = folder / f"{case}_{channel:04d}.nii.gz"
            volume = read_volume(path)
            masks.append(find_brain(volume.array, volume.geometry.spacing, path.name))
            assert 1000 < np.count_nonzero(masks[-1]) * volume.geometry.voxel_volume / 1000 < 1700, path.name
        assert min(overlap(masks[0], mask) for mask in masks[1:]) > 0.99, case


@pytest.mark.real_data
def test_real_volumes_with_the_skull_are_refused(real_data) -> None:
    paths = sorted((real_data / "raw_nifti").glob("*/*.nii.gz"))
    assert len(paths) == 7
    for path in paths:
        volume = read_volume(path)
        with pytest.raises(MMCCDError, match="still has the skull"):
            find_brain(volume.array, volume.geometry.spacing, path.name)
