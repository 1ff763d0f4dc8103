"""What goes wrong with simulated scans, by answers that are known beforehand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage, special

from mmccd_auto.phantom.label_maps.anatomy import Anatomy
from mmccd_auto.phantom.label_maps.faults.artefacts import (
    SPIKE_FREQUENCY,
    add_ghosts,
    add_motion,
    add_spikes,
    combine_segments,
    with_stripes,
    with_swinging_phase,
)
from mmccd_auto.phantom.label_maps.faults.coils import coil_gain
from mmccd_auto.phantom.label_maps.faults.extraction import add_leftovers, bite, closeness
from mmccd_auto.phantom.label_maps.faults.field_of_view import beside_plane, draw_field_of_view
from mmccd_auto.phantom.label_maps.scanner import STRENGTHS, add_rician_noise, draw_faults
from mmccd_auto.phantom.label_maps.wetness import denser_in_the_depth, uneven_wetness, ventricle_rim

SPACING = (3.0, 2.0, 2.0)
SHAPE = (16, 48, 40)
BONE, WHITE, VENTRICLES = 515, 2, (4, 43)

Fault = Callable[[np.ndarray, np.random.Generator, float], np.ndarray]
FAULTS: dict[str, Fault] = {
    "motion": lambda volume, random, strength: add_motion(volume, SPACING, random, strength, 1),
    "ghosts": lambda volume, random, strength: add_ghosts(volume, random, strength, 2),
    "spikes": lambda volume, random, strength: add_spikes(volume, random, strength, True),
    "spike in a volume": lambda volume, random, strength: add_spikes(volume, random, strength, False),
    "noise": add_rician_noise,
    "coils": lambda volume, random, strength: volume * coil_gain(volume.shape, SPACING, random, strength),
}


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """A smooth ball with structure in it, far from the borders."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    ball = ndimage.gaussian_filter((z**2 + y**2 + x**2 < 0.36).astype(np.float32), 1)
    return (ball * (1 + 0.3 * np.sin(9 * x) * np.cos(7 * y))).astype(np.float32)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    """Brain (a ball of 30 mm) with a pair of ventricles, within bone."""
    z, y, x = np.meshgrid(*(np.arange(-40.0, 41) for _ in range(3)), indexing="ij")
    numbers = np.where(z**2 + y**2 + x**2 < 30**2, WHITE, BONE).astype(np.int16)
    for number, middle in zip(VENTRICLES, (5, -5), strict=True):
        numbers[((x - middle) / 4) ** 2 + (y / 16) ** 2 + (z / 6) ** 2 < 1] = number
    return Anatomy(numbers, 1.0, (0.0, 0.0, 0.0))


@pytest.mark.parametrize("name", FAULTS)
def test_a_strength_of_zero_changes_nothing(volume: np.ndarray, name: str) -> None:
    np.testing.assert_array_equal(FAULTS[name](volume, np.random.default_rng(1), 0.0), volume)


@pytest.mark.parametrize("name", FAULTS)
def test_a_seed_gives_one_fault_and_leaves_the_volume_as_it_is(volume: np.ndarray, name: str) -> None:
    before = volume.copy()
    first, again, other = (FAULTS[name](volume, np.random.default_rng(seed), 0.5) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(volume, before)
    assert np.abs(first - other).max() > 1e-3
    assert first.shape == volume.shape
    assert first.dtype == np.float32
    assert first.min() >= 0


@pytest.mark.parametrize("name", FAULTS)
def test_faults_grow_with_their_strength(volume: np.ndarray, name: str) -> None:
    changes = [
        np.abs(FAULTS[name](volume, np.random.default_rng(4), strength) - volume).mean() for strength in (0.05, 0.2, 0.8)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_every_second_line_from_another_place_gives_a_ghost_half_a_field_away(volume: np.ndarray) -> None:
    """With poses a and b: half of their sum, and half of their difference displaced by half the field of view."""
    moved = np.roll(volume, 2, axis=1)
    size = volume.shape[1]
    image = combine_segments([volume, moved], np.arange(size) % 2, axis=1)
    expected = np.abs((volume + moved) / 2 + np.roll((volume - moved) / 2, size // 2, axis=1))
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_a_pose_for_all_lines_gives_that_pose(volume: np.ndarray) -> None:
    moved = np.roll(volume, 3, axis=2)
    np.testing.assert_allclose(combine_segments([volume, moved], np.ones(40, dtype=int), axis=2), moved, atol=1e-5)


def test_movement_does_not_change_what_is_the_same_everywhere() -> None:
    even = np.full(SHAPE, 0.7, dtype=np.float32)
    for seed in range(5):
        np.testing.assert_allclose(add_motion(even, SPACING, np.random.default_rng(seed), 3.0, 1), even, rtol=1e-4)


def test_movement_keeps_the_power_and_the_place(volume: np.ndarray) -> None:
    """The power of each line, of whichever pose, is about the same; and the head is seen where it lay most of the time."""
    changes = []
    power, there = (volume**2).sum(), np.array(ndimage.center_of_mass(volume)) * SPACING
    for seed in range(8):
        moved = add_motion(volume, SPACING, np.random.default_rng(seed), 2.0, 1)
        assert (moved**2).sum() == pytest.approx(power, rel=0.02)
        assert np.linalg.norm(np.array(ndimage.center_of_mass(moved**2)) * SPACING - there) < 1.5
        changes.append(np.abs(moved - volume).max())
    assert 0.05 < np.median(changes) < max(changes) < volume.max()


def test_a_ghost_has_the_strength_of_a_bessel_function() -> None:
    point = np.zeros(SHAPE, dtype=np.float32)
    point[8, 10, 20] = 1
    swung = with_swinging_phase(point, 0.3, shift=10, start=0.4, axis=1)
    assert swung[8, 10, 20] == pytest.approx(special.jv(0, 0.3), abs=1e-5)
    for number, place in ((1, 20), (-1, 0), (2, 30), (-2, -10)):
        assert swung[8, place, 20] == pytest.approx(abs(special.jv(number, 0.3)), abs=1e-4)
    assert swung[8, [5, 15, 45], 20].max() < 1e-5


def test_ghosts_lose_no_power(volume: np.ndarray) -> None:
    for seed in range(5):
        image = add_ghosts(volume, np.random.default_rng(seed), 0.2, 1)
        assert (image**2).sum() == pytest.approx((volume**2).sum(), rel=1e-4)


def test_stripes_have_the_frequency_of_the_spike() -> None:
    even = np.full((1, 40, 60), 2.0, dtype=np.float32)
    striped = with_stripes(even, 0.1, (0.0, 5 / 40, 9 / 60), 0.7)[0]
    power = np.abs(np.fft.rfft2(striped - striped.mean())) / striped.size
    assert np.unravel_index(power.argmax(), power.shape) == (5, 9)
    # A cosine of the amplitude 0.1, half of it on each side.
    assert power.max() == pytest.approx(0.05, rel=0.01)
    assert np.sort(power.ravel())[-2] < 0.03 * power.max()


def test_spikes_hit_some_slices_and_no_others() -> None:
    even = np.ones((30, 32, 32), dtype=np.float32)
    for seed in range(5):
        change = np.abs(add_spikes(even, np.random.default_rng(seed), 0.2, True) - even).max(axis=(1, 2))
        assert 1 <= np.count_nonzero(change) < 15
        np.testing.assert_allclose(change[change > 0], 0.2, rtol=0.1)
    assert (np.abs(add_spikes(even, np.random.default_rng(0), 0.2, False) - even).max(axis=(1, 2)) > 0.15).all()


def test_drawn_spikes_stay_within_their_frequencies() -> None:
    even = np.ones((1, 128, 128), dtype=np.float32)
    for seed in range(10):
        striped = add_spikes(even, np.random.default_rng(seed), 0.1, True)[0]
        power = np.abs(np.fft.fft2(striped - striped.mean()))
        place = np.unravel_index(power.argmax(), power.shape)
        cycles = np.hypot(*(np.fft.fftfreq(128)[index] for index in place))
        assert SPIKE_FREQUENCY[0] - 0.01 < cycles < SPIKE_FREQUENCY[1] + 0.01


def test_noise_is_rician() -> None:
    """Rayleigh's mean and deviation without signal; far above it the noise is normal, and lifts the signal a little."""
    air, tissue = (np.full((40, 60, 60), level, dtype=np.float32) for level in (0.0, 1.0))
    noisy = add_rician_noise(air, np.random.default_rng(0), 0.1)
    assert noisy.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)
    assert noisy.std() == pytest.approx(0.1 * np.sqrt(2 - np.pi / 2), rel=0.01)
    noisy = add_rician_noise(tissue, np.random.default_rng(1), 0.1)
    assert noisy.mean() == pytest.approx(1 + 0.1**2 / 2, abs=0.001)
    assert noisy.std() == pytest.approx(0.1, rel=0.01)


def test_coils_brighten_the_rim() -> None:
    shape = (30, 90, 70)
    radius = np.sqrt(sum(grid**2 for grid in np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")))
    for seed in range(10):
        gain = coil_gain(shape, (5.0, 2.0, 2.0), np.random.default_rng(seed), 0.7)
        assert gain[radius <= 1].mean() == pytest.approx(1, abs=0.02)
        assert gain.min() > 0
        assert gain[(radius > 0.85) & (radius <= 1)].max() > 1.2 * gain[radius < 0.3].mean()
        # Smooth: no step between neighbours is large.
        assert max(np.abs(np.diff(np.log(gain), axis=axis)).max() for axis in (1, 2)) < 0.15


def test_a_plane_divides_the_voxels_exactly() -> None:
    kept = beside_plane((10, 4, 6), (2.0, 1.0, 1.0), 0, 3.0, (0.0, 0.0), above=True)
    np.testing.assert_array_equal(kept, np.broadcast_to((np.arange(10) >= 3)[:, None, None], (10, 4, 6)))
    np.testing.assert_array_equal(beside_plane((10, 4, 6), (2.0, 1.0, 1.0), 0, 3.0, (0.0, 0.0), above=False), ~kept)
    # A slope of one voxel along x for each along z: the diagonal.
    tilted = beside_plane((5, 1, 5), (2.0, 1.0, 2.0), 0, 2.0, (0.0, 1.0), above=True)[:, 0]
    np.testing.assert_array_equal(tilted, np.arange(5)[:, None] >= np.arange(5)[None])


def test_a_field_of_view_loses_one_end_of_the_brain_and_nothing_else(anatomy: Anatomy) -> None:
    brain = anatomy.numbers != BONE
    ends = set()
    for seed in range(30):
        seen = draw_field_of_view(brain, (1.0, 1.0, 1.0), np.random.default_rng(seed), 20.0)
        lost = brain & ~seen
        # The whole of a brain 60 mm long, but for at most 20 mm in the middle and what the tilt takes.
        assert lost.sum() < 0.6 * brain.sum()
        if lost.any():
            place = np.array(ndimage.center_of_mass(lost)) - 40
            axis = int(np.abs(place).argmax())
            ends.add((axis, bool(place[axis] > 0)))
            assert np.abs(place[axis]) > 8
    assert {(0, False), (0, True)} <= ends <= {(0, False), (0, True), (2, False), (2, True)}
    assert draw_field_of_view(brain, (1.0, 1.0, 1.0), np.random.default_rng(0), 0.0).all()
    assert draw_field_of_view(np.zeros_like(brain), (1.0, 1.0, 1.0), np.random.default_rng(0), 20.0).all()


def test_leftovers_add_patches_of_bone_and_bites_take_brain(anatomy: Anatomy) -> None:
    brain, near = anatomy.numbers != BONE, closeness(anatomy)
    depth = ndimage.distance_transform_edt(brain) - ndimage.distance_transform_edt(~brain)
    more = less = 0
    for seed in range(6):
        added = add_leftovers(brain, near, 1.0, np.random.default_rng(seed), 6.0)
        assert added[brain].all()
        assert depth[added].min() > -8
        # In patches: never all around.
        assert np.count_nonzero(added & ~brain) < 0.5 * np.count_nonzero((depth > -6) & (depth < 0))
        more += np.count_nonzero(added & ~brain)
        bitten = bite(brain, near, 1.0, np.random.default_rng(seed), 6.0)
        assert not bitten[~brain].any()
        assert bitten[depth > 8].all()
        less += np.count_nonzero(brain & ~bitten)
        for change in (add_leftovers, bite):
            np.testing.assert_array_equal(change(brain, near, 1.0, np.random.default_rng(seed), 0.0), brain)
    assert more > 500
    assert less > 500


def test_a_rim_lies_in_white_matter_beside_the_ventricles(anatomy: Anatomy) -> None:
    ventricles = np.isin(anatomy.numbers, VENTRICLES)
    away = ndimage.distance_transform_edt(~ventricles)
    for seed in range(5):
        rim = ventricle_rim(anatomy, np.random.default_rng(seed), 0.8)
        assert not rim[anatomy.numbers != WHITE].any()
        assert 0.4 < rim.max() <= 0.8
        at_wall, beyond = rim[(away > 0) & (away <= 1.1)].mean(), rim[(away > 6) & (anatomy.numbers == WHITE)].mean()
        assert at_wall > 0.25
        assert beyond < 0.03
    assert not ventricle_rim(anatomy, np.random.default_rng(0), 0.0).any()


def test_caps_reach_further_at_the_ends_of_the_ventricles(anatomy: Anatomy) -> None:
    """Without a cap the rim, which is as thin everywhere, is brighter at the flat walls than at the horns' tips."""
    wider = 0
    for seed in range(12):
        rim = ventricle_rim(anatomy, np.random.default_rng(seed), 1.0)
        # Straight in front of a horn's tip, and straight above the middle of its body; both 2.5 to 5 mm away.
        tip, body = rim[40, 19:22, 45].mean(), rim[49:52, 40, 45].mean()
        wider += tip > 1.2 * body
    assert wider >= 3


def test_the_depth_is_denser_and_the_surface_is_not(anatomy: Anatomy) -> None:
    density = denser_in_the_depth(anatomy, 0.8)
    depth = ndimage.distance_transform_edt(anatomy.numbers != BONE)
    assert density[depth > 20].min() > 0.7
    assert density[(depth > 0) & (depth < 2)].mean() < 0.15
    assert 0 <= density.min() <= density.max() <= 0.8
    assert density[depth == 0].mean() < 0.01
    assert not denser_in_the_depth(anatomy, 0.0).any()


def test_unevenness_has_the_deviation_that_is_asked_for(anatomy: Anatomy) -> None:
    field = uneven_wetness(anatomy, np.random.default_rng(3), 0.2)
    assert field.shape == anatomy.numbers.shape
    assert abs(field.mean()) < 0.05
    assert 0.1 < field.std() < 0.25


def test_faults_are_drawn_for_some_scans_within_their_limits() -> None:
    drawn = [draw_faults(np.random.default_rng(seed), 1.0) for seed in range(300)]
    for name, (low, high) in STRENGTHS.items():
        values = np.array([getattr(faults, name) for faults in drawn])
        assert 0 < np.count_nonzero(values) < 300
        assert low <= values[values > 0].min() <= values.max() <= high
    assert draw_faults(np.random.default_rng(0), 0.0) == type(drawn[0])()
