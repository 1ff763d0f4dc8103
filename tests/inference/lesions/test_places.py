"""Places of lesions in the phantom, whose label maps say what lies where, and a brain that the template doesn't fit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.lesions import places
from mmccd_auto.inference.lesions.atlas import load_atlas
from mmccd_auto.inference.lesions.places import PLACES, Places, place_by, side_of

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from measure_lesion_places import judge, right_side, within_a_layer


def check(seed: int, grid: str, modality: str, each: int) -> None:
    judged, found, _ = judge(seed, grid, modality, each)
    clear = [one for one in judged if one.sphere.clear]
    assert {one.sphere.truth for one in clear} == set(PLACES)
    assert np.mean([one.place.place == one.sphere.truth for one in clear]) >= 0.85
    assert all(within_a_layer(one) for one in judged)
    sided = [one for one in judged if abs(one.sphere.centre[0]) > one.sphere.radius + 5]
    assert all(right_side(one) for one in sided)
    assert found.fit.overlap > 0.85
    for one in sided:
        assert np.sign(one.place.mni_mm[0]) == -np.sign(one.sphere.centre[0])


def test_places_in_the_phantom():
    check(100, "axial, 6 mm", "FLAIR", 4)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "grid", "modality"), [(101, "sagittal, 5 mm", "T1"), (102, "oblique, 4 mm", "T2")])
def test_places_on_other_grids(seed, grid, modality):
    check(seed, grid, modality, 8)


def test_a_brain_that_the_template_does_not_fit_gets_no_place():
    array = np.zeros((20, 40, 40), np.float32)
    array[3:17, 4:36, 4:36] = np.random.default_rng(0).uniform(50, 100, (14, 32, 32))
    scan = Volume(array, Geometry((40, 40, 20), (1.0, 5.0, 5.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel())))
    marked = np.zeros(array.shape, bool)
    marked[8:11, 10:13, 30:34] = True
    found = Places.by_template(scan, array > 0, marked).find(np.array([[33.0, 60.0, 45.0]]))
    assert found.place.startswith(places.UNKNOWN)
    assert found.side == "left"
    assert (found.mni_mm, found.ventricle_mm, found.cortex_mm) == (None, None, None)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ((0.6, 0.9, 0.0, 0.0), "infratentorial"),
        ((0.4, 0.6, 0.0, 0.0), "deep grey matter"),
        ((0.0, 0.0, 3.0, 0.0), "periventricular"),
        ((0.0, 0.0, 3.1, 2.0), "juxtacortical"),
        ((0.0, 0.0, 3.1, 2.1), "deep white matter"),
    ],
)
def test_the_rules(figures, expected):
    assert place_by(*figures) == expected


def test_the_sides():
    assert side_of(np.array([1.0, 2, 3, -1])) == "left"
    assert side_of(np.array([-1.0, -2, -3, 1])) == "right"
    assert side_of(np.array([-1.0, -2, 3, 1])) == "midline"


def test_the_regions_of_the_average_brain_lie_where_they_are_known_to_lie():
    atlas = load_atlas()

    def at(image, x, y, z):
        return image[image.TransformPhysicalPointToIndex((-float(x), -float(y), float(z)))]

    assert at(atlas.ventricles, 12, -14, 20) + at(atlas.ventricles, 10, -10, 22) > 0
    assert at(atlas.infratentorial, 30, -60, -34) == at(atlas.infratentorial, 2, -28, -32) == 1
    assert at(atlas.infratentorial, 30, -80, 10) == at(atlas.infratentorial, 50, -20, -20) == 0
    assert at(atlas.deep_grey, 26, 4, 0) == at(atlas.deep_grey, -12, -18, 8) == 1
    assert at(atlas.left, 40, 0, 0) == -40
