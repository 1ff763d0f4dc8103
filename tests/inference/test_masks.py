"""Masks of lesions: which components stay, and how large they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mmccd_auto.inference.masks import component_volumes, lesion_mask


@pytest.mark.parametrize("density", [0.0, 0.02, 0.08, 1.0])
@pytest.mark.parametrize("least", [0.0, 2.0, 5.0, 40.0])
def test_small_components_are_removed_wherever_they_lie(density: float, least: float) -> None:
    """Against one component after the other of the whole volume."""
    random = np.random.default_rng(3)
    score = (random.random((9, 14, 11)) < density).astype(np.float32)
    brain = np.ones(score.shape, dtype=bool)
    brain[:, :3] = False
    labels, count = ndimage.label((score > 0.5) & brain, structure=np.ones((3, 3, 3)))
    components = [labels == number for number in range(1, count + 1)]
    expected = np.zeros(score.shape, dtype=bool)
    for component in components:
        expected |= component & (1.5 * np.count_nonzero(component) >= least)
    found = lesion_mask(score, brain, 0.5, least, 1.5)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, expected)
    kept = sorted((1.5 * np.count_nonzero(one) for one in components if 1.5 * np.count_nonzero(one) >= least), reverse=True)
    np.testing.assert_allclose(component_volumes(found.astype(np.uint8), 1.5), kept)
