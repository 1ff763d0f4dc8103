"""CASE.png: the scale is the model's, the slices are the right ones, and right is right."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.reporting.alignment import alignment_picture
from mmccd_auto.reporting.drawn_text import drawable
from mmccd_auto.reporting.pictures import CANDIDATE_OUTLINE, OUTLINE, DrawnCase, case_picture, choose_slices, colour_limit

GEOMETRY = Geometry((24, 30, 16), (2.0, 1.5, 3.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def scan_and_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A brain with one hot spot."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, edge) for edge in (16, 30, 24)), indexing="ij")
    brain = x**2 + y**2 + z**2 < 0.9
    scan = np.where(brain, 100 + 30 * x, 0).astype(np.float32)
    score = np.where(brain, 0.1, 0).astype(np.float32)
    score[10:12, 8:12, 5:9] = 3.0
    return scan, score, brain


def draw(path: Path, **options) -> np.ndarray:
    scan, score, brain = scan_and_maps()
    case_picture(path, DrawnCase("case", scan, score, brain, GEOMETRY, **options))
    return imread(path)


@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
def test_a_picture_is_drawn_along_every_axis(tmp_path, slice_axis):
    _, score, _ = scan_and_maps()
    picture = draw(tmp_path / "case.png", mask=score > 1, threshold=1.0, slice_axis=slice_axis, modality="FLAIR")
    assert picture.shape[0] > 300
    assert picture.shape[1] > 600
    assert [path.name for path in tmp_path.iterdir()] == ["case.png"]


def test_a_picture_without_mask(tmp_path):
    assert draw(tmp_path / "case.png").std() > 0.05


def test_the_picture_does_not_depend_on_how_the_scan_is_stored(tmp_path):
    scan, score, brain = scan_and_maps()
    expected = draw(tmp_path / "case.png", mask=score > 1, threshold=1.0)
    for orientation in ("RAS", "PIR", "SAL"):
        turned = [
            Volume.from_image(sitk.DICOMOrient(Volume(array, GEOMETRY).to_image(), orientation))
            for array in (scan, score, brain.astype(np.uint8), (score > 1).astype(np.uint8))
        ]
        arrays = [volume.array for volume in turned]
        case_picture(
            tmp_path / "turned.png", DrawnCase("case", *arrays[:2], arrays[2] > 0, turned[0].geometry, arrays[3], 1.0)
        )
        np.testing.assert_array_equal(imread(tmp_path / "turned.png"), expected)


def test_the_scale_is_the_models_and_never_the_cases(tmp_path):
    """A case with a tenth of the scores gets a darker map, not the same one."""
    scan, score, brain = scan_and_maps()
    case_picture(tmp_path / "bright.png", DrawnCase("case", scan, score, brain, GEOMETRY, score > 1, 1.0))
    case_picture(tmp_path / "dark.png", DrawnCase("case", scan, score / 10, brain, GEOMETRY, score > 9, 1.0))
    bright, dark = (imread(tmp_path / f"{name}.png") for name in ("bright", "dark"))
    middle = slice(bright.shape[1] // 3, bright.shape[1] * 3 // 5)
    assert dark[100:-30, middle, :3].max(axis=(0, 1))[0] < bright[100:-30, middle, :3].max(axis=(0, 1))[0]
    assert colour_limit(2.0) == 8.0
    assert colour_limit(None) == 4.0


def test_the_most_anomalous_slices_are_chosen_apart_and_the_middle_too():
    brain = np.zeros((40, 10, 10), dtype=bool)
    brain[4:36, 2:8, 2:8] = True
    score = np.where(brain, 0.1, 0.0)
    score[[9, 10, 27], 4, 4] = 6.0, 5.0, 4.0
    chosen = choose_slices(score, brain, slice_distance=2.0, threshold=1.0, count=2)
    assert chosen == [9, 19, 27]
    assert all(after - before >= 4 for before, after in itertools.pairwise(chosen))


def test_a_thick_slice_scan_and_an_empty_brain_have_slices_to_show():
    brain = np.ones((3, 4, 4), dtype=bool)
    assert choose_slices(np.zeros((3, 4, 4)), brain, slice_distance=10.0) == [0, 1, 2]
    assert choose_slices(np.zeros((3, 4, 4)), np.zeros((3, 4, 4), dtype=bool), 5.0) == [1]


def test_a_slice_of_a_few_brain_voxels_is_not_shown_where_few_slices_are_above_the_threshold():
    """The brain ends in slices of one voxel; one slice is above the threshold, and so is another such voxel at the end."""
    brain = np.zeros((40, 12, 12), dtype=bool)
    brain[8:32, 2:10, 2:10] = True
    brain[4:36, 5, 5] = True
    score = np.where(brain, 0.1, 0.0)
    score[20, 4, 4] = 6.0
    areas = brain.sum(axis=(1, 2))
    chosen = choose_slices(score, brain, slice_distance=2.0, threshold=1.0)
    assert 20 in chosen
    assert len(chosen) >= 4
    assert all(areas[index] > 1 for index in chosen)


def test_small_sections_are_shown_for_what_is_above_the_threshold_and_tiny_ones_never():
    """Of a section of 2500 px: 4 % with a lesion in it, and six voxels that are above the threshold at either end."""
    brain = np.zeros((40, 60, 60), dtype=bool)
    brain[8:32, 5:55, 5:55] = True
    brain[[4, 5, 6, 7, 33, 34, 35], 5:7, 5:8] = True
    brain[32, 5:15, 5:15] = True
    score = np.where(brain, 0.1, 0.0)
    score[[4, 5, 6, 7, 33, 34, 35], 5:7, 5:8] = 9.0
    chosen = choose_slices(score, brain, slice_distance=2.0, threshold=1.0)
    assert len(chosen) >= 4
    assert all(brain[index].sum() == 2500 for index in chosen)
    score[32, 6, 6] = 3.0
    chosen = choose_slices(score, brain, slice_distance=2.0, threshold=1.0)
    assert 32 in chosen
    assert all(brain[index].sum() >= 100 for index in chosen)


def coloured(picture: np.ndarray, colour: str) -> int:
    """How many pixels of the right column have about this colour."""
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    right = picture[:, picture.shape[1] * 3 // 5 : picture.shape[1] * 6 // 7, :3]
    return np.count_nonzero(np.abs(right - wanted).max(axis=-1) < 0.12)


def test_candidates_are_outlined_in_another_colour_and_do_not_look_like_an_empty_case(tmp_path):
    scan, score, brain = scan_and_maps()
    nothing = np.zeros_like(brain)
    options = {"threshold": 1.0}
    case_picture(
        tmp_path / "a.png", DrawnCase("case", scan, score, brain, GEOMETRY, score > 1, candidates=nothing, **options)
    )
    case_picture(
        tmp_path / "b.png", DrawnCase("case", scan, score, brain, GEOMETRY, nothing, candidates=score > 1, **options)
    )
    case_picture(tmp_path / "c.png", DrawnCase("case", scan, score, brain, GEOMETRY, nothing, candidates=nothing, **options))
    lesion, candidate, empty = (imread(tmp_path / f"{name}.png") for name in "abc")
    assert coloured(lesion, OUTLINE) > 20 > coloured(lesion, CANDIDATE_OUTLINE)
    assert coloured(candidate, CANDIDATE_OUTLINE) > 20 > coloured(candidate, OUTLINE)
    assert coloured(empty, OUTLINE) == coloured(empty, CANDIDATE_OUTLINE) == 0


def test_long_warnings_stay_inside_the_picture(tmp_path):
    """They get lines of their own; nothing is written beyond the last 20 pixels, and the maps keep their size."""
    long = (
        "the brain takes 820 ml, in training it took 1100 to 1500 ml: look whether the brain was found rightly and is whole "
        * 2
    )
    plain = draw(tmp_path / "plain.png", finding="nothing above the threshold")
    warned = draw(tmp_path / "warned.png", finding="nothing above the threshold", warnings=[long, "short"])
    assert 3 <= (warned.shape[0] - plain.shape[0]) / 17 <= 5
    assert warned[:80, -20:, :3].std(axis=(0, 1)).max() < 0.01
    np.testing.assert_allclose(warned[-200:, :-150], plain[-200:, :-150], atol=0.1)


@pytest.mark.parametrize("case", ["\u5c71\u7530", r"a$\frac$b", "$", "caf\u00e9", "\u05d0\u05d1"])
@pytest.mark.filterwarnings("error")
def test_names_in_any_script_and_formulas_are_drawn_as_text(tmp_path, case):
    scan, score, brain = scan_and_maps()
    warnings = [f"{case} is odd"]
    case_picture(tmp_path / "case.png", DrawnCase(case, scan, score, brain, GEOMETRY, score > 1, 1.0, warnings=warnings))
    alignment_picture(tmp_path / "brain.png", case, {"FLAIR": Volume(scan, GEOMETRY)}, brain, warnings[0])
    assert imread(tmp_path / "case.png").std() > 0.05
    assert imread(tmp_path / "brain.png").std() > 0.05


def test_letters_that_the_font_lacks_are_squares():
    assert drawable("P\u5c71 $5\ncaf\u00e9") == "P\N{WHITE SQUARE} \\$5\ncaf\u00e9"
