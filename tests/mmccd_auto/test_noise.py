"""Keyed noise: it is normal, independent between keys, draws and pixels, and does not know the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from mmccd_auto.model.noise import combine_keys, standard_normal


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(np.corrcoef(first.flatten().numpy(), second.flatten().numpy())[0, 1])


def test_known_values():
    """The numbers are part of the maps' reproducibility: a change of them changes every map."""
    key = combine_keys(0, "case", 70, 3)
    assert key == 6609949813426456219
    first = standard_normal(torch.tensor([key]), 0, (2, 2))
    np.testing.assert_allclose(first.flatten().numpy(), [1.0442131, 0.6936908, -0.6543766, 1.5584408], rtol=1e-4)


def test_bits_are_splitmix64_and_numbers_box_muller():
    """Written out with Python's unbounded integers."""

    def mix(value: int) -> int:
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
        return value ^ (value >> 31)

    golden = 0x9E3779B97F4A7C15
    key, draw = -12345, 4
    stream = mix(mix((key + golden) % 2**64) ^ (combine_keys(draw) % 2**64))
    bits = [mix((stream + counter * golden) % 2**64) for counter in range(1, 7)]
    radius = [math.sqrt(-2 * math.log(((value >> 32) + 0.5) / 2**32)) for value in bits]
    angle = [2 * math.pi * ((value & 0xFFFFFFFF) + 0.5) / 2**32 for value in bits]
    expected = [r * math.cos(a) for r, a in zip(radius, angle, strict=True)]
    expected += [r * math.sin(a) for r, a in zip(radius, angle, strict=True)]
    found = standard_normal(torch.tensor([key]), draw, (3, 4)).flatten().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_distribution_is_the_standard_normal_one():
    numbers = standard_normal(torch.arange(32), 0, (128, 128)).flatten().double()
    count = numbers.numel()
    for power, expected, spread in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        error = float((numbers**power).mean()) - expected
        assert abs(error) < 4.5 * math.sqrt(spread / count), power
    assert kstest(numbers.numpy(), "norm").pvalue > 1e-3
    assert 4.0 < float(numbers.abs().max()) < 6.8


def test_pixels_keys_and_draws_are_uncorrelated():
    shape, limit = (128, 128), 4.5 / 128
    keys = torch.arange(8)
    numbers = standard_normal(keys, 0, shape)
    for first in range(8):
        for second in range(first):
            assert abs(correlation(numbers[first], numbers[second])) < limit
    for draw in range(1, 6):
        assert abs(correlation(numbers, standard_normal(keys, draw, shape))) < limit / math.sqrt(8)
    for rows, columns in ((1, 0), (0, 1), (1, 1), (64, 0), (0, 64)):
        assert abs(correlation(numbers, numbers.roll((rows, columns), dims=(2, 3)))) < limit / math.sqrt(8)


def test_mean_map_over_many_keys_has_no_pattern():
    mean = standard_normal(torch.arange(4096), 3, (8, 8)).mean(dim=0) * 64
    assert kstest(mean.flatten().numpy(), "norm").pvalue > 1e-3


@settings(max_examples=20, deadline=None)
@given(keys=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6), draw=st.integers(0, 1000))
def test_the_batch_does_not_matter(keys, draw):
    together = standard_normal(torch.tensor(keys), draw, (6, 5))
    for entry, key in enumerate(keys):
        assert torch.allclose(together[entry], standard_normal(torch.tensor([key]), draw, (6, 5))[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 4), (128, 96)])
def test_shapes_even_and_odd(shape):
    numbers = standard_normal(torch.arange(3), 0, shape)
    assert numbers.shape == (3, 1, *shape)
    assert numbers.dtype == torch.float32
    assert torch.isfinite(numbers).all()
    assert len(numbers.unique()) > 0.999 * numbers.numel()


def test_combined_keys_differ():
    parts = [(), (0,), (0, 0), (1, 0), (0, 1), ("a", "b"), ("ab",), ("b", "a"), ("a", 0), (-1,), (2**63,), ("1",), (1,)]
    keys = [combine_keys(*part) for part in parts]
    assert len(set(keys)) == len(parts)
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_combined_keys_of_a_grid_do_not_collide():
    keys = {
        combine_keys(seed, "case", position, strip) for seed in range(3) for position in range(60) for strip in range(60)
    }
    assert len(keys) == 3 * 60 * 60
