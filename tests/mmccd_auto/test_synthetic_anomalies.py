"""Synthetic anomalies: where they change a healthy block, by how much, and what each kind makes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.preprocessing.normalisation import normalise
from mmccd_auto.synthetic_anomalies.blob import EDGE_MM, Blob, depth_in_slice, draw_blob, fitting_radius, smooth_noise
from mmccd_auto.synthetic_anomalies.block import HealthyBlock, continued_beyond_brain
from mmccd_auto.synthetic_anomalies.donor import donor_on_grid
from mmccd_auto.synthetic_anomalies.make import (
    KINDS,
    LEAST_CHANGE,
    LEAST_CHANGE_OF_KIND,
    OF_ONE_SUBJECT,
    kinds_for,
    make_anomaly,
    mixed_anomalies,
)
from mmccd_auto.synthetic_anomalies.patches import cut_paste, interpolated, poisson, poisson_blend
from mmccd_auto.synthetic_anomalies.physical import SIGNAL_RATIOS, draw_signal_ratio, other_tissue
from mmccd_auto.synthetic_anomalies.picture import anomalies_picture, phantom_block
from mmccd_auto.synthetic_anomalies.structure import ADDED_NOISE, deformation, texture

SHAPE, SPACING = (6, 44, 40), (4.0, 2.0, 2.5)


def ellipse(shape: tuple[int, int, int], share: float = 0.9) -> np.ndarray:
    rows, columns = (np.linspace(-1, 1, edge) for edge in shape[1:])
    return np.broadcast_to(np.hypot(rows[:, None], columns[None]) <= share, shape).copy()


def block_of(raw: np.ndarray, brain: np.ndarray, case: str = "a", modality: str = "FLAIR", spacing=SPACING) -> HealthyBlock:
    image, parameters = normalise(raw, brain, "percentile", case)
    return HealthyBlock(case, modality, image, brain, spacing, parameters["shift"], parameters["scale"])


@cache
def noisy_block(case: str = "a", seed: int = 0, shape=SHAPE, spacing=SPACING, share: float = 0.9) -> HealthyBlock:
    random = np.random.default_rng(seed)
    raw = 1000 + 200 * smooth_noise(shape, spacing, 6.0, random) + 20 * random.standard_normal(shape)
    return block_of(raw, ellipse(shape, share), case, spacing=spacing)


def plain_block(values: np.ndarray, case: str = "a", brain: np.ndarray | None = None, spacing=SPACING) -> HealthyBlock:
    """Normalised values as they are."""
    brain = ellipse(values.shape) if brain is None else brain
    return HealthyBlock(case, "FLAIR", np.where(brain, values, BACKGROUND).astype(np.float32), brain, spacing, 100.0, 0.01)


def central_blob(block: HealthyBlock, radius: float = 12.0, seed: int = 0) -> Blob:
    depth = depth_in_slice(block.brain, block.spacing)
    only_centre = np.zeros_like(depth)
    only_centre[tuple(edge // 2 for edge in depth.shape)] = 1
    return draw_blob(only_centre, block.spacing, radius, np.random.default_rng(seed))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- every kind ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_changes_lie_in_and_around_the_marked_voxels(kind: str, seed: int) -> None:
    block, donor = noisy_block("a", 1), noisy_block("b", 2)
    made = make_anomaly(kind, block, donor, rng(seed))
    assert made.kind == kind
    assert made.image.dtype == np.float32
    assert made.anomaly.dtype == bool
    assert made.image.shape == made.anomaly.shape == SHAPE
    assert (made.image[~block.brain] == BACKGROUND).all()
    assert not made.anomaly[~block.brain].any()
    away = ndimage.distance_transform_edt(~made.anomaly, sampling=SPACING)
    assert away[made.image != block.image].max() < 2 * EDGE_MM
    assert np.isfinite(made.image).all()


@pytest.mark.parametrize("kind", KINDS)
def test_change_is_the_mean_inside_and_large_enough(kind: str) -> None:
    block, donor = noisy_block("a", 1), noisy_block("b", 2)
    for seed in range(6):
        made = make_anomaly(kind, block, donor, rng(seed))
        difference = np.abs(made.image.astype(float) - block.image)[made.anomaly]
        assert made.change == pytest.approx(difference.mean(), rel=1e-6)
        assert made.change >= LEAST_CHANGE_OF_KIND.get(kind, LEAST_CHANGE)


@pytest.mark.parametrize("kind", KINDS)
def test_is_drawn_from_the_generator_alone_and_leaves_its_input(kind: str) -> None:
    block, donor = noisy_block("a", 1), noisy_block("b", 2)
    before = [array.copy() for array in (block.image, block.brain, donor.image, donor.brain)]
    one, same, other = (make_anomaly(kind, block, donor, rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.image, same.image)
    assert not np.array_equal(one.image, other.image)
    for array, kept in zip((block.image, block.brain, donor.image, donor.brain), before, strict=True):
        assert np.array_equal(array, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_single_slice(kind: str) -> None:
    shape = (1, 44, 40)
    made = make_anomaly(kind, noisy_block("a", 1, shape), noisy_block("b", 2, shape), rng())
    assert made.image.shape == shape
    assert made.anomaly.any()


@pytest.mark.parametrize("kind", KINDS)
def test_donor_of_another_shape(kind: str) -> None:
    donor = noisy_block("b", 2, (9, 60, 70), (3.0, 1.5, 1.5))
    made = make_anomaly(kind, noisy_block("a", 1), donor, rng())
    assert made.image.shape == SHAPE
    assert made.anomaly.any()


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_brain(kind: str) -> None:
    brain = np.zeros((2, 12, 12), dtype=bool)
    brain[:, 4:8, 4:9] = True
    blocks = [block_of(rng(seed).uniform(0, 1000, brain.shape), brain, case) for seed, case in enumerate("ab")]
    made = make_anomaly(kind, *blocks, rng())
    assert 1 <= np.count_nonzero(made.anomaly) <= np.count_nonzero(brain)
    assert (made.image[~brain] == BACKGROUND).all()


@pytest.mark.parametrize("kind", KINDS)
def test_brain_that_touches_the_edge_of_the_grid(kind: str) -> None:
    blocks = [
        block_of(rng(seed).uniform(0, 1000, SHAPE), np.ones(SHAPE, dtype=bool), case) for seed, case in enumerate("ab")
    ]
    assert make_anomaly(kind, *blocks, rng()).anomaly.any()


def test_image_outside_the_brain_stays_whatever_it_was() -> None:
    block = noisy_block()
    beyond = np.where(block.brain, block.image, rng(9).normal(size=SHAPE)).astype(np.float32)
    made = make_anomaly("brighter", replace(block, image=beyond), None, rng(), radius_mm=20.0)
    assert np.array_equal(made.image[~block.brain], beyond[~block.brain])


# --- the place ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(3.0, 1.0, 1.5), (1.0, 1.0, 1.0), (2.0, 2.5, 1.0)])
def test_volume_and_extent_of_the_blob_in_mm(spacing: tuple[float, float, float]) -> None:
    radius = 9.0
    depth = np.zeros(tuple(int(60 / edge) for edge in spacing))
    depth[tuple(edge // 2 for edge in depth.shape)] = 1
    volumes, extents = [], []
    for seed in range(20):
        inside = draw_blob(depth, spacing, radius, rng(seed)).weight > 0.5
        volumes.append(np.count_nonzero(inside) * np.prod(spacing))
        extents.append(
            [np.count_nonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) * edge for axis, edge in enumerate(spacing)]
        )
    assert np.mean(volumes) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.15)
    assert np.mean(extents, axis=0) == pytest.approx(2 * radius, rel=0.25)


def test_blob_is_one_piece_with_a_soft_edge() -> None:
    block = plain_block(np.zeros((20, 60, 60)), spacing=(2.0, 1.0, 1.0))
    for seed in range(10):
        weight = central_blob(block, 10.0, seed).weight
        assert ndimage.label(weight > 0.5, np.ones((3, 3, 3)))[1] == 1
        assert weight.min() == 0
        assert weight.max() == 1
        assert ((weight > 0) & (weight < 1)).any()


def test_blob_is_centred_in_brain_away_from_its_edge() -> None:
    brain = ellipse((3, 60, 60))
    depth = depth_in_slice(brain, (4.0, 1.0, 1.0))
    for seed in range(30):
        assert depth[draw_blob(depth, (4.0, 1.0, 1.0), 10.0, rng(seed)).centre] >= 5


def test_depth_is_in_mm_and_ends_at_the_grid() -> None:
    depth = depth_in_slice(np.ones((2, 5, 9), dtype=bool), (1.0, 3.0, 2.0))
    assert depth[0, 2, 4] == 9
    assert depth[1, 0, 4] == 3
    assert depth[1, 2, 0] == 2


def test_depth_does_not_look_into_other_slices() -> None:
    brain = np.ones((2, 9, 9), dtype=bool)
    brain[1, 4, 4] = False
    depth = depth_in_slice(brain, (0.1, 1.0, 1.0))
    assert depth[0, 4, 4] == 5
    assert depth[1, 4, 4] == 0


def test_radius_is_kept_within_brain_and_pixels() -> None:
    brain = np.zeros((3, 40, 40), dtype=bool)
    brain[:, 5:35, 10:28] = True
    spacing = (5.0, 2.0, 3.0)
    assert fitting_radius(10.0, brain, spacing) == 10.0
    assert fitting_radius(50.0, brain, spacing) == pytest.approx(54 / 3)
    assert fitting_radius(1.0, brain, spacing) == pytest.approx(4.5)
    brain[:, 8:], brain[:, :, 13:] = False, False
    assert fitting_radius(10.0, brain, spacing) == pytest.approx(4.5)


def test_wanted_radius_gives_the_volume_of_a_ball() -> None:
    block = noisy_block(shape=(30, 60, 60), spacing=(2.0, 2.0, 2.0))
    volumes = [
        np.count_nonzero(make_anomaly("texture", block, None, rng(seed), radius_mm=10.0).anomaly) * 8 for seed in range(15)
    ]
    # Some of them reach over the edge of the brain or of the block.
    assert np.mean(volumes) == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.25)


def test_smooth_noise_is_equally_smooth_in_mm() -> None:
    noise = smooth_noise((40, 80, 120), (3.0, 1.5, 1.0), 6.0, rng())
    assert noise.mean() == pytest.approx(0, abs=1e-4)
    assert noise.std() == pytest.approx(1, abs=1e-3)
    # At a lag t, noise smoothed by s has the correlation exp(-t^2 / (4 s^2)): 0.78 at 6 mm.
    for axis, lag in enumerate((2, 4, 6)):
        assert np.mean(noise * np.roll(noise, lag, axis)) == pytest.approx(0.78, abs=0.06)


def test_continued_beyond_brain_takes_the_nearest_value_of_the_slice() -> None:
    brain = np.zeros((2, 3, 6), dtype=bool)
    brain[0, 1, 2:4] = True
    brain[1, :, 5] = True
    values = np.zeros(brain.shape)
    values[0, 1, 2:4], values[1, :, 5] = (1, 2), 3
    found = continued_beyond_brain(plain_block(values, brain=brain, spacing=(0.1, 1.0, 1.0)))
    assert np.array_equal(found[0], [[1, 1, 1, 2, 2, 2]] * 3)
    assert np.array_equal(found[1], [[3] * 6] * 3)


# --- another tissue -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantoms() -> dict[str, HealthyBlock]:
    return {modality: phantom_block(0, modality, resolution=4) for modality in ("FLAIR", "T1", "T2")}


@pytest.mark.parametrize("modality", ["FLAIR", "T1", "T2"])
@pytest.mark.parametrize(("kind", "sign"), [("brighter", 1), ("darker", -1)])
def test_brighter_is_brighter_and_darker_darker(
    phantoms: dict[str, HealthyBlock], modality: str, kind: str, sign: int
) -> None:
    block = phantoms[modality]
    for seed in range(8):
        made = make_anomaly(kind, block, None, rng(seed))
        difference = sign * (made.image - block.image)[made.anomaly]
        assert difference.mean() >= LEAST_CHANGE
        assert np.mean(difference > 0) > 0.5


def striped_block(scheme_shift: float = 0.0) -> HealthyBlock:
    """White matter of 1000 with stripes of 1300 and fluid of 50; every intensity moved by ``scheme_shift``."""
    brain = ellipse((6, 60, 60), 0.95)
    raw = np.full(brain.shape, 1000.0)
    raw[:, :, ::5], raw[:, ::7] = 1300, 50
    return block_of(raw + 5 * rng(4).standard_normal(raw.shape) + scheme_shift, brain, spacing=(4.0, 2.0, 2.0))


@pytest.mark.parametrize("kind", ["brighter", "darker", "equal"])
def test_tissue_has_the_signal_of_white_matter_times_its_ratio(kind: str) -> None:
    block = striped_block()
    blob = central_blob(block, 14.0)
    core = blob.weight == 1
    low, high = SIGNAL_RATIOS[kind]
    for seed in range(10):
        altered = other_tissue(kind, block, blob, rng(seed))
        raw = (altered[core] + 3) / block.scale + block.shift
        # A share of up to two fifths of what was there (mostly white matter) may shine through.
        lowest, highest = (1 + 0.6 * (low - 1), high) if kind == "brighter" else (low, 1 - 0.6 * (1 - high))
        if kind == "equal":
            lowest, highest = low, high
        assert lowest - 0.06 <= np.median(raw) / 1000 <= highest + 0.06


def test_equal_tissue_hides_the_structure_that_was_there() -> None:
    block = striped_block()
    blob = central_blob(block, 14.0)
    core = blob.weight == 1
    altered = other_tissue("equal", block, blob, rng(1))
    assert altered[core].std() < 0.5 * block.image[core].std()
    assert make_anomaly("equal", block, None, rng(1)).change > 0


def test_scan_without_a_zero_of_signal() -> None:
    # Standardised scans have negative intensities, which times a ratio would make nonsense: P2, here the fluid, is zero.
    block = striped_block(scheme_shift=-1000.0)
    blob = central_blob(block, 14.0)
    white = 1000 - 50
    for seed in range(5):
        altered = other_tissue("brighter", block, blob, rng(seed))[blob.weight == 1]
        ratio = 1 + np.median((altered + 3) / block.scale + block.shift) / white
        assert 1.06 <= ratio <= SIGNAL_RATIOS["brighter"][1] + 0.06


def test_tissue_ends_with_the_blob() -> None:
    block = striped_block()
    blob = central_blob(block, 14.0)
    altered = other_tissue("brighter", block, blob, rng())
    assert np.allclose(altered[blob.weight == 0], block.image[blob.weight == 0], atol=1e-5)


def test_brighter_is_never_put_where_fluid_is_brighter_still() -> None:
    brain = ellipse((3, 40, 40))
    raw = np.full(brain.shape, 1000.0)
    raw[:, :, 16:] = 4000
    block = block_of(raw, brain, modality="T2", spacing=(4.0, 2.0, 2.0))
    for seed in range(12):
        made = make_anomaly("brighter", block, None, rng(seed))
        assert (made.image - block.image)[made.anomaly].mean() >= LEAST_CHANGE


@pytest.mark.parametrize("modality", ["FLAIR", "T1", "T2", "T1C", "PD", "SWI"])
@pytest.mark.parametrize("kind", SIGNAL_RATIOS)
def test_signal_ratios_fit_the_kind(kind: str, modality: str) -> None:
    ratios = [draw_signal_ratio(kind, modality, rng(seed)) for seed in range(30)]
    low, high = SIGNAL_RATIOS[kind]
    assert low <= min(ratios) < max(ratios) <= high


@pytest.mark.parametrize(("modality", "stands_in"), [("T1ce", "T1"), ("t1_gd", "T1"), ("PD", "T2"), ("mprage", "T1")])
def test_foreign_modalities_take_the_nearest_sequence(modality: str, stands_in: str) -> None:
    assert draw_signal_ratio("darker", modality, rng(3)) == draw_signal_ratio("darker", stands_in, rng(3))


def test_nothing_gets_brighter_than_normalisation_allows() -> None:
    block = noisy_block()
    bright = replace(block, image=np.where(block.brain, 14.0 + 0.1 * block.image, BACKGROUND).astype(np.float32))
    made = make_anomaly("brighter", bright, None, rng())
    assert made.image.max() == 15


# --- structure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_deformation_moves_tissue_by_some_mm_without_folding_it(seed: int) -> None:
    shape, spacing = (3, 60, 60), (5.0, 1.5, 2.0)
    slope = 0.05
    ramp = np.broadcast_to(slope * spacing[2] * np.arange(60.0), shape)
    block = plain_block(ramp, brain=np.ones(shape, dtype=bool), spacing=spacing)
    blob = central_blob(block, 16.0, seed)
    altered = deformation(block, blob, rng(seed))
    moved = np.abs(altered - block.image) / slope
    assert 0.5 < moved.max() <= 8
    assert (np.diff(altered, axis=2) > 0).all()
    assert (moved[blob.weight == 0] < 1e-4).all()


def test_deformation_does_not_draw_the_background_in() -> None:
    block = plain_block(np.ones((2, 40, 40)))
    altered = deformation(block, central_blob(block, 40.0), rng())
    assert np.allclose(altered[block.brain], 1, atol=1e-5)


def test_texture_either_loses_detail_or_gains_noise() -> None:
    block = plain_block(rng().standard_normal((2, 60, 60)))
    blob = central_blob(block, 14.0)
    core = blob.weight == 1
    before = block.image[core].std()
    ratios = np.array([texture(block, blob, rng(seed))[core].std() / before for seed in range(20)])
    assert (ratios < 0.6).any()
    assert (ratios > np.hypot(1, ADDED_NOISE[0]) - 0.05).any()
    assert ((ratios < 0.6) | (ratios > 1)).all()


def test_texture_smooths_within_the_brain_only() -> None:
    block = plain_block(np.ones((2, 40, 40)))
    blob = central_blob(block, 40.0)
    smoothed = [texture(block, blob, rng(seed)) for seed in range(10)]
    assert any(np.allclose(image[block.brain], 1, atol=1e-5) for image in smoothed)


# --- patches ------------------------------------------------------------------------------------------------------------


def test_cut_paste_takes_its_values_from_elsewhere_in_the_brain() -> None:
    brain = ellipse(SHAPE)
    block = plain_block(rng().permutation(np.arange(brain.size, dtype=float)).reshape(SHAPE) / 1000, brain=brain)
    blob = central_blob(block, 10.0)
    core = (blob.weight == 1) & brain
    pasted = cut_paste(block, blob, rng()).astype(np.float32)[core]
    assert np.isin(pasted, block.image[brain]).all()
    assert not (pasted == block.image[core]).any()


def test_interpolated_blends_by_its_factor() -> None:
    block, donor = plain_block(np.zeros(SHAPE)), plain_block(np.full(SHAPE, 2.0), "b")
    blob = central_blob(block)
    factors = []
    for seed in range(12):
        altered = interpolated(block, blob, rng(seed), donor)[block.brain & (blob.weight == 1)]
        assert np.ptp(altered) < 1e-6
        factors.append(altered[0] / 2)
    assert 0.3 <= min(factors) < max(factors) <= 0.9


def test_poisson_gives_back_the_original_from_a_donor_that_differs_by_a_constant() -> None:
    block = noisy_block()
    donor = replace(block, case="b", image=np.where(block.brain, block.image + 2, BACKGROUND).astype(np.float32))
    altered = poisson(block, central_blob(block), rng(), donor)
    assert np.allclose(altered, block.image, atol=1e-4)


def by_brute_force(target: np.ndarray, source: np.ndarray, inside: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Least squares over all pairs of 4-neighbours in the brain that touch the region."""
    unknown = [tuple(pixel) for pixel in np.argwhere(inside)]
    rows, right = [], []
    for p in map(tuple, np.argwhere(brain)):
        for q in ((p[0] + 1, p[1]), (p[0], p[1] + 1)):
            if not (q[0] < brain.shape[0] and q[1] < brain.shape[1] and brain[q] and (inside[p] or inside[q])):
                continue
            row, value = np.zeros(len(unknown)), source[p] - source[q]
            for pixel, sign in ((p, 1), (q, -1)):
                if inside[pixel]:
                    row[unknown.index(pixel)] = sign
                else:
                    value -= sign * target[pixel]
            rows.append(row)
            right.append(value)
    result = target.astype(float)
    result[inside] = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return result


@pytest.mark.parametrize("seed", range(6))
def test_poisson_blend_against_brute_force(seed: int) -> None:
    random = rng(seed)
    target, source = random.normal(size=(2, 7, 6))
    brain = random.uniform(size=(7, 6)) < 0.9
    brain[0, 0] = True
    inside = brain & (random.uniform(size=(7, 6)) < 0.4)
    inside[0, 0] = False
    # A region cut off from the rest of the brain has no unique solution.
    parts, _ = ndimage.label(brain)
    for part in range(1, parts.max() + 1):
        if inside[parts == part].all():
            inside[parts == part] = False
    assert np.allclose(
        poisson_blend(target, source, inside, brain), by_brute_force(target, source, inside, brain), atol=1e-5
    )


def test_poisson_blend_of_a_flat_source_by_hand() -> None:
    target, brain = np.array([[0.0, 9, 9, 9, 9, 10]]), np.ones((1, 6), dtype=bool)
    inside = np.array([[False, True, True, True, True, False]])
    flat = np.zeros_like(target)
    assert np.allclose(poisson_blend(target, flat, inside, brain), [[0, 2, 4, 6, 8, 10]], atol=1e-5)
    # With background on the right there is nothing to hold that end.
    brain[0, 5] = False
    assert np.allclose(poisson_blend(target, flat, inside, brain), [[0, 0, 0, 0, 0, 10]], atol=1e-5)


def test_poisson_blend_of_a_region_that_fills_the_brain_keeps_its_mean() -> None:
    target, source = rng(1).normal(size=(2, 5, 5))
    brain = np.zeros((5, 5), dtype=bool)
    brain[1:4, 1:4] = True
    blended = poisson_blend(target, source, brain, brain)
    assert np.allclose(blended[brain] - blended[brain].mean(), source[brain] - source[brain].mean(), atol=1e-5)
    assert blended[brain].mean() == pytest.approx(target[brain].mean(), abs=1e-5)


# --- donors -------------------------------------------------------------------------------------------------------------


def test_donor_on_its_own_grid_is_itself() -> None:
    block = noisy_block()
    found = donor_on_grid(block, block, np.arange(SHAPE[0]))
    assert np.allclose(found[block.brain], block.image[block.brain], atol=1e-5)


def test_donor_is_laid_on_by_the_boxes_of_the_brains() -> None:
    def place(shape: tuple[int, int, int], rows: slice, columns: slice) -> HealthyBlock:
        """Intensity tells the relative place in the brain's box."""
        brain = np.zeros(shape, dtype=bool)
        brain[:, rows, columns] = True
        down = (np.arange(shape[1]) + 0.5 - rows.start) / (rows.stop - rows.start)
        across = (np.arange(shape[2]) + 0.5 - columns.start) / (columns.stop - columns.start)
        return plain_block(np.broadcast_to(2 * down[:, None] + across[None], shape), brain=brain)

    block, donor = place((2, 30, 28), slice(4, 24), slice(5, 21)), place((2, 70, 60), slice(20, 60), slice(3, 51))
    found = donor_on_grid(donor, block, np.array([0, 1]))[:, 6:22, 7:19]
    assert np.allclose(found, block.image[:, 6:22, 7:19], atol=0.01)


@pytest.mark.parametrize(("slices", "expected"), [(3, [0, 2, 4]), (1, [2]), (5, [0, 1, 2, 3, 4]), (9, [0, 0, 1, 1, 2])])
def test_donor_slices_lie_at_the_same_relative_place(slices: int, expected: list[int]) -> None:
    donor = plain_block(np.broadcast_to(np.arange(5.0)[:, None, None], (5, 20, 20)), "b")
    block = plain_block(np.zeros((slices, 20, 20)))
    found = donor_on_grid(donor, block, np.arange(slices))[: len(expected), 10, 10]
    assert np.allclose(found, expected, atol=1e-5)


def test_slices_without_brain_do_not_count_for_the_relative_place() -> None:
    values = np.broadcast_to(np.arange(6.0)[:, None, None], (6, 20, 20))
    brain = ellipse((6, 20, 20))
    brain[[0, 5]] = False
    found = donor_on_grid(plain_block(values, "b", brain), plain_block(np.zeros((4, 20, 20))), np.arange(4))
    assert np.allclose(found[:, 10, 10], [1, 2, 3, 4], atol=1e-5)


def test_donor_continues_beyond_its_brain() -> None:
    brain = ellipse((2, 20, 20), 0.9)
    values = np.ones(brain.shape)
    values[1] = 0
    found = donor_on_grid(
        plain_block(values, "b", brain), plain_block(values, brain=np.ones(brain.shape, dtype=bool)), np.array([0])
    )
    assert np.allclose(found, 1, atol=1e-5)


# --- a selection --------------------------------------------------------------------------------------------------------


def test_selection_is_balanced_and_drawn_from_its_seed() -> None:
    blocks = [noisy_block(case, seed, (3, 30, 28)) for seed, case in enumerate("aabcd")]
    made = mixed_anomalies(blocks, seed=3, per_kind=5)
    assert [anomaly.kind for _, anomaly in made] == [kind for kind in KINDS for _ in range(5)]
    for kind in KINDS:
        assert sorted(index for index, anomaly in made if anomaly.kind == kind) == [0, 1, 2, 3, 4]
    again = mixed_anomalies(blocks, seed=3, per_kind=5)
    assert all(one[0] == two[0] and np.array_equal(one[1].image, two[1].image) for one, two in zip(made, again, strict=True))
    other = mixed_anomalies(blocks, seed=4, per_kind=5)
    assert any(not np.array_equal(one[1].anomaly, two[1].anomaly) for one, two in zip(made, other, strict=True))
    for index, anomaly in made:
        assert (anomaly.image[~blocks[index].brain] == BACKGROUND).all()
        assert (anomaly.image != blocks[index].image).any()


def test_small_selection_is_spread_over_the_blocks() -> None:
    blocks = [noisy_block(str(case), case, (2, 30, 28)) for case in range(8)]
    indices = [index for index, _ in mixed_anomalies(blocks, seed=0, per_kind=1)]
    assert sorted(indices) == list(range(8))


def test_single_subject_leaves_out_the_kinds_that_need_two() -> None:
    blocks = [noisy_block("a", seed, (2, 30, 28)) for seed in range(2)]
    kinds = [anomaly.kind for _, anomaly in mixed_anomalies(blocks, seed=0, per_kind=2)]
    assert kinds == [kind for kind in OF_ONE_SUBJECT for _ in range(2)]
    assert kinds_for(None) == tuple(OF_ONE_SUBJECT)
    assert kinds_for(blocks[0]) == KINDS


def test_donors_come_from_other_cases_of_the_same_modality(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [noisy_block(case, seed, (2, 30, 28)) for seed, case in enumerate("aabb")]
    blocks.append(replace(noisy_block("c", 9, (2, 30, 28)), modality="T2"))
    seen = []

    def remember(kind, block, donor, random):
        seen.append((block, donor))
        return make_anomaly(kind, block, donor, random)

    monkeypatch.setattr("mmccd_auto.synthetic_anomalies.make.make_anomaly", remember)
    mixed_anomalies(blocks, seed=0, per_kind=5)
    assert {donor.case for _, donor in seen if donor is not None} == {"a", "b"}
    assert all(donor.case != block.case for block, donor in seen if donor is not None)
    assert all(donor is None for block, donor in seen if block.case == "c")


def test_block_that_takes_nothing_gives_way_to_the_next() -> None:
    flat = replace(noisy_block("flat", 0, (2, 30, 28)), image=np.full((2, 30, 28), BACKGROUND, dtype=np.float32))
    made = mixed_anomalies([flat, noisy_block("a", 1, (2, 30, 28))], seed=0, per_kind=2)
    assert all(index == 1 for index, anomaly in made if anomaly.kind in ("deformation", "cut_paste"))


# --- faults -------------------------------------------------------------------------------------------------------------


def test_unknown_kind_lists_what_there_is() -> None:
    with pytest.raises(MMCCDError, match=r"no kind of synthetic anomaly tumour: choose one of brighter, .*poisson"):
        make_anomaly("tumour", noisy_block(), None, rng())


@pytest.mark.parametrize("kind", ["interpolated", "poisson"])
def test_missing_donor_is_told(kind: str) -> None:
    with pytest.raises(MMCCDError, match=f"a: a synthetic anomaly of the kind {kind} needs another subject's slices"):
        make_anomaly(kind, noisy_block(), None, rng())


def test_donor_of_another_modality_is_refused() -> None:
    with pytest.raises(MMCCDError, match="T2 of b can't be put into FLAIR"):
        make_anomaly("poisson", noisy_block(), replace(noisy_block("b"), modality="T2"), rng())


@pytest.mark.parametrize("radius", [0.0, -3.0, float("nan"), float("inf")])
def test_impossible_radius_is_refused(radius: float) -> None:
    with pytest.raises(MMCCDError, match="give a length above 0"):
        make_anomaly("brighter", noisy_block(), None, rng(), radius)


def test_block_without_contrast_is_named() -> None:
    with pytest.raises(MMCCDError, match="flat: no synthetic anomaly of the kind cut_paste changes its FLAIR enough"):
        make_anomaly("cut_paste", plain_block(np.zeros(SHAPE), "flat"), None, rng())
    with pytest.raises(MMCCDError, match="none of 1 healthy blocks"):
        mixed_anomalies([plain_block(np.zeros(SHAPE), "flat")], seed=0, per_kind=1)


@pytest.mark.parametrize(("blocks", "per_kind"), [(0, 3), (1, 0)])
def test_selection_of_nothing_is_refused(blocks: int, per_kind: int) -> None:
    with pytest.raises(MMCCDError, match="give at least one of both"):
        mixed_anomalies([noisy_block()] * blocks, seed=0, per_kind=per_kind)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"image": np.zeros((2, 3, 4), np.float32)}, "must have one shape"),
        ({"brain": np.zeros(SHAPE, bool)}, "mark some brain"),
        ({"brain": np.ones(SHAPE, np.uint8)}, "of type bool"),
        ({"image": np.full(SHAPE, np.nan, np.float32)}, "not finite"),
        ({"spacing": (4.0, 0.0, 2.0)}, "three lengths above 0 mm"),
        ({"scale": 0.0}, "can't be undone"),
        ({"shift": float("nan")}, "can't be undone"),
    ],
)
def test_faulty_block_is_named(changes: dict, fault: str) -> None:
    with pytest.raises(MMCCDError, match=f"a: no synthetic anomaly can be put into its FLAIR, .*{fault}"):
        replace(noisy_block(), **changes)


def test_picture(tmp_path: Path) -> None:
    anomalies_picture(tmp_path / "picture.png", seed=0, resolution=4)
    assert imread(tmp_path / "picture.png").shape[1] > 500
