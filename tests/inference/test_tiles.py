"""Tiles cover every pixel, overlap by a half and stay inside."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmccd_auto.inference.maps.tiles import tile_corners


def test_a_slice_of_the_patch_size_is_one_tile():
    assert tile_corners((64, 32), (64, 32)) == [(0, 0)]


def test_known_tiles():
    assert tile_corners((48, 32), (32, 32)) == [(0, 0), (16, 0)]
    assert tile_corners((64, 40), (32, 32)) == [(0, 0), (0, 8), (16, 0), (16, 8), (32, 0), (32, 8)]


@given(patch=st.tuples(st.integers(2, 40), st.integers(2, 40)), extra=st.tuples(st.integers(0, 90), st.integers(0, 90)))
def test_tiles_cover_everything_and_overlap_by_half(patch, extra):
    shape = (patch[0] + extra[0], patch[1] + extra[1])
    corners = tile_corners(shape, patch)
    covered = np.zeros(shape, dtype=int)
    for row, column in corners:
        assert 0 <= row <= shape[0] - patch[0]
        assert 0 <= column <= shape[1] - patch[1]
        covered[row : row + patch[0], column : column + patch[1]] += 1
    assert covered.min() >= 1
    assert len(set(corners)) == len(corners)
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in corners})
        assert all(after - before <= -(-patch[axis] // 2) for before, after in itertools.pairwise(starts))


def test_a_slice_smaller_than_the_patch_is_an_error():
    with pytest.raises(ValueError, match="smaller"):
        tile_corners((31, 64), (32, 32))
