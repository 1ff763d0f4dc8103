"""Masks of lesions: which components stay, and how large they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mmccd_auto.inference.scores.findings import CANDIDATES, LESIONS, NO_MASK, NOTHING, find_findings
from mmccd_auto.inference.scores.masks import component_volumes, lesions_and_candidates


@pytest.mark.parametrize("density", [0.0, 0.02, 0.08, 1.0])
@pytest.mark.parametrize("least", [0.0, 2.0, 5.0, 40.0])
def test_small_components_are_candidates_wherever_they_lie(density: float, least: float) -> None:
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
    found, candidates = lesions_and_candidates(score, brain, 0.5, least, 1.5)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(candidates, (score > 0.5) & brain & ~expected)
    kept = sorted((1.5 * np.count_nonzero(one) for one in components if 1.5 * np.count_nonzero(one) >= least), reverse=True)
    np.testing.assert_allclose(component_volumes(found.astype(np.uint8), 1.5), kept)


def with_cubes(*edges: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 2 and more in cubes of these edges, apart from each other, and a brain around them."""
    score = np.zeros((12, 12, 10 * len(edges)), dtype=np.float32)
    for number, edge in enumerate(edges):
        score[2 : 2 + edge, 3 : 3 + edge, 10 * number + 1 : 10 * number + 1 + edge] = 2 + number
    return score, np.ones(score.shape, dtype=bool)


def test_findings_count_and_measure_parts_of_known_volumes():
    """Cubes of 27, 8 and 1 voxels of 4 mm3: 108, 32 and 4 mm3 around a least lesion volume of 100 mm3."""
    score, brain = with_cubes(3, 2, 1)
    mask, candidates = lesions_and_candidates(score, brain, 1.0, 100.0, 4.0)
    found = find_findings(score, mask, candidates, 100.0, 4.0)
    assert (found.lesions, found.lesions_ml) == (1, pytest.approx(0.108))
    assert (found.candidates, found.candidates_ml) == (2, pytest.approx(0.036))
    assert (found.largest_candidate_mm3, found.candidates_max_score, found.kind) == (32.0, 4.0, LESIONS)
    assert found.describe().startswith("1 lesion (0.11 ml) and 2 candidates below the least lesion volume of 100 mm3")


@pytest.mark.parametrize(
    ("edges", "least", "kind", "words"),
    [
        ((2, 1), 100.0, CANDIDATES, "no lesion, but 2 candidates below the least lesion volume of 100 mm3 (0.04 ml;"),
        ((1,), 100.0, CANDIDATES, "no lesion, but 1 candidate below"),
        ((), 100.0, NOTHING, "nothing above the threshold"),
        ((2, 1), 0.0, LESIONS, "2 lesions (0.04 ml)"),
    ],
)
def test_candidates_alone_are_told_from_nothing(edges, least, kind, words):
    score, brain = with_cubes(*edges) if edges else with_cubes(0)
    parts = lesions_and_candidates(score, brain, 1.0, least, 4.0)
    found = find_findings(score, *parts, least, 4.0)
    assert found.kind == kind
    assert found.describe().startswith(words)


def test_without_a_threshold_nothing_is_counted():
    score, _ = with_cubes(2)
    found = find_findings(score, None, None, 0.0, 4.0)
    assert (found.lesions, found.candidates, found.kind) == (None, None, NO_MASK)
