"""Lesions drawn in batches: the same by the seed, in the brain only, as large as said, with contrasts that fit together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from mmccd_auto.imaging.intensity_scale import UPPER_LIMIT
from mmccd_auto.phantom.signal import HEALTHY, Relaxation
from mmccd_auto.synthetic_anomalies.batched.draw import BatchedLesions
from mmccd_auto.synthetic_anomalies.batched.draws import Draws
from mmccd_auto.synthetic_anomalies.batched.geometry import augmented, sample_at
from mmccd_auto.synthetic_anomalies.batched.scanner_effects import draw_effects
from mmccd_auto.synthetic_anomalies.batched.shapes import RADIUS_MM, draw_shapes
from mmccd_auto.synthetic_anomalies.batched.tissues import (
    ModalityScale,
    draw_levels,
    draw_signs,
    ratio_table,
    signal_ratio,
)

BACKGROUND = -3.0
SPACING = 3.0
SCALES = tuple(ModalityScale(name, 1.0, -4.0) for name in ("FLAIR", "T1", "T2"))
LESIONS = BatchedLesions(SCALES, SPACING, mirror=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_slices(count: int = 8, modalities: int = 3, edge: int = 64) -> Tensor:
    """Smooth tissue in an ellipse, -3 around it; [N, M, edge, edge]."""
    rows, columns = np.mgrid[:edge, :edge] - (edge - 1) / 2
    inside = torch.from_numpy(np.hypot(rows / 0.44, columns / 0.36) < edge)
    tissue = 0.5 + Draws(count, seeded(99)).smooth((edge, edge), 5, modalities)
    return torch.where(inside, tissue, BACKGROUND)


def test_the_seed_alone_decides_and_another_one_draws_something_else() -> None:
    images = make_slices()
    first, again, other = (LESIONS.draw(images, seeded(seed)) for seed in (1, 1, 2))
    torch.rand(5)
    for name in ("altered", "healthy", "lesion"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.lesion, other.lesion)
    assert not torch.equal(first.healthy, other.healthy)


def test_torchs_own_generator_and_the_slices_are_left_alone() -> None:
    images = make_slices()
    before, state = images.clone(), torch.get_rng_state()
    LESIONS.draw(images, seeded())
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_but_brain_is_ever_altered(seed: int) -> None:
    made = LESIONS.draw(make_slices(16), seeded(seed))
    background = made.healthy == BACKGROUND
    assert background.float().mean() > 0.3
    assert torch.equal(made.altered == BACKGROUND, background)
    assert not made.lesion[background.any(dim=1, keepdim=True)].any()
    assert torch.isfinite(made.altered).all()
    assert made.altered.max() <= UPPER_LIMIT


def test_slices_differ_where_lesions_are_and_hardly_far_from_them() -> None:
    made = LESIONS.draw(make_slices(64), seeded(3))
    changed = (made.altered - made.healthy).abs().mean(dim=1, keepdim=True)
    brain = made.healthy[:, :1] != BACKGROUND
    assert made.lesion.any(dim=(1, 2, 3)).float().mean() > 0.9
    assert changed[made.lesion].mean() > 5 * changed[brain & ~made.lesion].mean()
    assert changed[made.lesion].mean() > 0.4


def test_small_lesions_stand_beside_large_ones() -> None:
    made = LESIONS.draw(make_slices(64), seeded(4))
    parts = [np.bincount(ndimage.label(lesion)[0].ravel())[1:] * SPACING**2 for lesion in made.lesion[:, 0].numpy()]
    sizes = np.concatenate(parts)
    smallest, largest = (math.pi * radius**2 for radius in LESIONS.small_radius_mm)
    assert np.mean([len(one) for one in parts]) > 1.5
    assert np.mean((sizes > smallest / 2) & (sizes < largest)) > 0.5
    assert (sizes > 4 * largest).any()


@pytest.mark.parametrize("spacing", [1.5, 3.0])
@pytest.mark.parametrize("radius", [9.0, 18.0])
def test_lesions_have_their_size_in_mm_whatever_the_pixels(spacing: float, radius: float) -> None:
    brain = torch.ones(40, 1, round(240 / spacing), round(240 / spacing), dtype=torch.bool)
    shapes = draw_shapes(brain, spacing, Draws(40, seeded()), (radius, radius + 1e-6), roughness=0.0)
    middle = (shapes.centre * spacing - 120).abs().amax(dim=1) < 120 - 2 * radius
    area = (shapes.weight > 0.5).sum(dim=(1, 2, 3))[middle] * spacing**2
    assert middle.sum() > 10
    assert float(area.float().mean()) == pytest.approx(math.pi * radius**2, rel=0.06)


def test_radii_are_drawn_over_their_whole_range_and_fit_the_brain() -> None:
    brain = torch.ones(400, 1, 80, 80, dtype=torch.bool)
    radii = SPACING * draw_shapes(brain, SPACING, Draws(400, seeded())).radius
    assert radii.min() < 1.2 * RADIUS_MM[0]
    assert 0.8 * RADIUS_MM[1] < radii.max() <= RADIUS_MM[1] + 1e-3
    small = torch.zeros_like(brain)
    small[..., 30:40, 30:40] = True
    shapes = draw_shapes(small, SPACING, Draws(400, seeded()))
    assert shapes.radius.max() <= 0.6 * math.sqrt(100 / math.pi) + 1e-4
    assert small[torch.arange(400), 0, shapes.centre[:, 0], shapes.centre[:, 1]].all()


def test_slices_without_brain_stay_as_they_are() -> None:
    empty = torch.full((3, 3, 64, 64), BACKGROUND)
    made = LESIONS.draw(empty, seeded())
    assert torch.equal(made.altered, empty)
    assert torch.equal(made.healthy, empty)
    assert not made.lesion.any()


def test_fluid_is_dark_on_flair_and_t1_and_bright_on_t2() -> None:
    fluid = HEALTHY["fluid"]
    assert signal_ratio(fluid, "FLAIR") < 0.2
    assert signal_ratio(fluid, "T1w") < 0.6
    assert signal_ratio(fluid, "T2") > 1.5
    assert signal_ratio(fluid, "ADC") is None
    assert signal_ratio(HEALTHY["white matter"], "T2") == pytest.approx(1)
    oedema = Relaxation(1000, 130, 0.88)
    assert signal_ratio(oedema, "FLAIR") > 1.2
    assert signal_ratio(oedema, "T1") < 0.9


def test_the_contrasts_of_a_drawn_tissue_fit_over_the_modalities() -> None:
    """What holds much water is bright on T2 and dark on T1; the fluid-like part of it is dark on FLAIR as well."""
    ratios = ratio_table(("FLAIR", "T1", "T2"))
    very_bright = ratios[ratios[:, 2] > 2]
    assert len(very_bright) > 500
    assert (very_bright[:, 1] < 1).float().mean() > 0.8
    fluid_like = very_bright[very_bright[:, 0] < 0.5]
    assert len(fluid_like) > 20
    assert (fluid_like[:, 1] < 0.8).all()
    levels = draw_levels(SCALES, Draws(4000, seeded()))[:, :, 0, 0]
    signs = torch.sign(levels - 1)
    bright = signs[levels[:, 2] > 4]
    assert (bright[:, 1] < 0).float().mean() > 0.75


def test_the_zero_of_signal_bounds_what_is_drawn() -> None:
    levels = draw_levels(SCALES, Draws(2000, seeded()))
    assert levels.min() >= -4.0
    assert levels.max() <= UPPER_LIMIT


def test_unknown_modalities_get_levels_of_their_own_on_both_sides_of_white_matter() -> None:
    known, unknown = ratio_table(("T2", "ADC")).T
    assert 0.2 < (unknown < 1).float().mean() < 0.8
    assert abs(float(torch.corrcoef(torch.stack([known, unknown]))[0, 1])) < 0.05


def test_signs_go_together() -> None:
    signs = draw_signs(["FLAIR", "T1", "T2"], Draws(1000, seeded()))[:, :, 0, 0]
    assert torch.equal(signs[:, 0], signs[:, 2])
    assert torch.equal(signs[:, 0], -signs[:, 1])
    assert float((signs[:, 0] > 0).float().mean()) == pytest.approx(0.75, abs=0.05)


def test_a_scanner_treats_both_slices_alike_and_keeps_the_background() -> None:
    images = make_slices(16)
    brain = images != BACKGROUND
    effects = draw_effects(brain, SPACING, Draws(16, seeded()))
    shown = effects.apply(images, brain)
    assert torch.equal(shown, effects.apply(images, brain))
    assert torch.equal(shown == BACKGROUND, ~brain)
    assert (shown - images)[brain].abs().mean() > 0.1
    altered = images.clone()
    altered[:, :, 30, 30] += 4
    difference = effects.apply(altered, brain) - shown
    assert (difference[:, :, 30, 30] > 0.2).all()
    assert difference[:, :, 40:].abs().max() == 0


def test_smooth_noise_has_one_deviation_and_is_correlated_over_its_smoothness() -> None:
    noise = Draws(600, seeded()).smooth((48, 40), 4.0)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    np.testing.assert_allclose(noise.std(dim=0).numpy(), 1, atol=0.15)
    correlations = [float((noise[..., lag:] * noise[..., : 40 - lag]).mean()) for lag in (4, 20)]
    assert correlations[0] == pytest.approx(math.exp(-0.25), abs=0.05)
    assert correlations[1] == pytest.approx(0, abs=0.05)


def test_sampling_moves_tissue_and_mixes_none_with_background() -> None:
    images = make_slices(2)
    rows, columns = (axis.float().expand(2, 64, 64) for axis in torch.meshgrid(*[torch.arange(64)] * 2, indexing="ij"))
    torch.testing.assert_close(sample_at(images, rows, columns), images, rtol=0, atol=2e-4)
    torch.testing.assert_close(sample_at(images, rows + 2, columns)[:, :, :62], images[:, :, 2:], rtol=0, atol=2e-4)
    flat = torch.where(images != BACKGROUND, 4.0, BACKGROUND)
    moved = sample_at(flat, rows + 0.4, columns - 0.3)
    torch.testing.assert_close(moved, torch.where(moved == BACKGROUND, BACKGROUND, 4.0), rtol=0, atol=1e-4)
    assert float((moved != BACKGROUND).sum() / (flat != BACKGROUND).sum()) == pytest.approx(1, abs=0.03)


def test_slices_are_mirrored_only_where_that_is_right() -> None:
    """The left half is brighter in all slices; augmentation turns by little, so mirrored ones show it on the right."""
    images = make_slices(60, 1)
    left = torch.arange(64) < 32
    images = torch.where(images != BACKGROUND, torch.where(left, 5.0, 0.0), BACKGROUND)

    def share_of_mirrored(mirror: bool) -> float:
        made = augmented(images, SPACING, mirror, Draws(60, seeded()))
        bright = (made > 2.5).float()
        return float((bright[..., 32:].sum(dim=(1, 2, 3)) > bright[..., :32].sum(dim=(1, 2, 3))).float().mean())

    assert share_of_mirrored(False) == 0
    assert share_of_mirrored(True) == pytest.approx(0.5, abs=0.2)
