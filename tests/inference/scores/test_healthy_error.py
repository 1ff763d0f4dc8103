"""The healthy error by place, from errors of a known size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.scores.healthy_error import (
    LEAST_OWN_ERROR,
    LEAST_SPREAD,
    HealthyError,
    Place,
    fit_healthy_error,
    place_of,
    weighted_quantile,
)

KNOWN = HealthyError((-1.0, 1.0), (5.0,), ((1.0, 2.0), (3.0, 4.0)), ((0.5, 0.5), (0.5, 0.5)), 0.5)


@pytest.mark.parametrize(
    ("values", "weights", "probability", "found"),
    [
        ([3, 1, 2], [1, 1, 1], 0.5, 2),
        ([3, 1, 2], [1, 1, 1], 1 / 3, 1),
        ([3, 1, 2], [1, 1, 1], 1.0, 3),
        ([1, 2], [1, 9], 0.5, 2),
        ([1, 2], [9, 1], 0.5, 1),
    ],
)
def test_a_weighted_quantile(values: list, weights: list, probability: float, found: float) -> None:
    assert weighted_quantile(np.array(values, float), np.array(weights, float), probability) == found


def test_distance_is_measured_to_the_border_of_the_brain_and_of_the_slice() -> None:
    brain = np.zeros((1, 5, 9), dtype=bool)
    brain[0, :, :5] = True
    place = place_of(np.zeros(brain.shape), brain, pixel_mm=2.0)
    assert place.distance[0, 2].tolist() == [2, 4, 6, 4, 2, 0, 0, 0, 0]
    assert place.distance[0, 0, :5].tolist() == [2] * 5


@pytest.mark.parametrize(
    ("intensity", "distance", "expected"),
    [(-1, 0, 1.0), (1, 0, 3.0), (0, 0, 2.0), (-9, 0, 1.0), (9, 9, 4.0), (0, 5, 3.0)],
)
def test_the_error_to_expect_is_linear_between_intensities(intensity: float, distance: float, expected: float) -> None:
    place = Place(np.float32([intensity]), np.float32([distance]))
    assert KNOWN.spread("brighter", place).tolist() == [expected]
    relative = KNOWN.relative(np.float32([2.0]), place)
    assert relative["brighter"].tolist() == pytest.approx([2 / expected])
    assert relative["darker"].tolist() == [0]


def test_a_scan_is_compared_with_what_is_usual() -> None:
    brain = np.ones((1, 2, 2), dtype=bool)
    relative = {"brighter": np.full(brain.shape, 1.0), "darker": np.zeros(brain.shape)}
    assert KNOWN.own_error(relative, brain) == 2.0
    assert KNOWN.own_error({name: np.zeros(brain.shape) for name in relative}, brain) == LEAST_OWN_ERROR


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"intensity_centres": (1.0, -1.0)}, "intensity_centres must ascend"),
        ({"brighter": ((1.0, 2.0),)}, "brighter must have 2 rows of 2 numbers"),
        ({"darker": ((1.0,), (2.0,))}, "darker must have 2 rows of 2 numbers"),
    ],
)
def test_tables_that_do_not_fit_are_refused(changed: dict, words: str) -> None:
    with pytest.raises(MMCCDError, match=words):
        replace(KNOWN, **changed)


def test_errors_of_a_known_spread_are_found_again() -> None:
    random = np.random.default_rng(0)
    places, errors = [], []
    for _ in range(3):
        intensity = random.uniform(-3, 3, 40_000).astype(np.float32)
        places.append(Place(intensity, random.uniform(0, 30, intensity.shape).astype(np.float32)))
        errors.append((random.standard_normal(intensity.shape) * np.where(intensity > 0, 2, 1)).astype(np.float32))
    found = fit_healthy_error(errors, places)
    where = Place(np.float32([-2, 2]), np.float32([8, 8]))
    # The 95th percentile of the larger of a normal error and 0.
    assert found.spread("brighter", where) == pytest.approx(1.645 * np.array([1, 2]), rel=0.06)
    shares = [
        float((one["darker"] > 1).mean()) for one in (found.relative(*pair) for pair in zip(errors, places, strict=True))
    ]
    assert shares == pytest.approx([0.05] * 3, abs=0.005)
    assert fit_healthy_error([0 * errors[0]], places[:1]).spread("darker", where).tolist() == pytest.approx(
        [LEAST_SPREAD] * 2
    )
