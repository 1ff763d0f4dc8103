"""The parts of a page: places and sizes of reduced volumes, texts, and how cases are spread over files."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from page_cases import (
    AXIAL,
    sagittal_oblique,
    small_arrays,
    small_geometry,
    small_marking,
    small_part,
    small_report,
    to_lps,
)
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.inference.prediction.case_page import numbers_by_place
from mmccd_auto.reporting.page.assemble import ListRow
from mmccd_auto.reporting.page.part import CaseArrays, make_part, read_part, write_part
from mmccd_auto.reporting.page.reduced import LESION, MOST_BYTES, Reduction, full_grid, turned_array

DIRECTIONS = {"axial": AXIAL, "flipped": (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0), "sagittal oblique": sagittal_oblique()}


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_every_voxel_of_the_turned_grid_lies_where_the_scan_says(direction):
    geometry = small_geometry(size=(5, 7, 4), direction=direction)
    number = np.arange(5 * 7 * 4).reshape(4, 7, 5)
    grid, turned = full_grid(geometry), turned_array(number, geometry)
    assert turned.shape == tuple(reversed(grid.size))
    for k, j, i in np.ndindex(number.shape):
        z, y, x = np.argwhere(turned == number[k, j, i])[0]
        mm = grid.matrix() @ [x, y, z, 1]
        np.testing.assert_allclose(mm[:3] * [-1, -1, 1], to_lps(geometry, (i, j, k)), atol=1e-9)
    assert np.all(np.diag(grid.matrix())[:3] > 0)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
@pytest.mark.parametrize("edge", [2.0, 2.7, 4.1])
def test_a_reduced_grid_keeps_places(direction, edge):
    geometry = small_geometry(direction=direction)
    full = full_grid(geometry)
    reduction = Reduction(full, edge)
    # A ramp along each patient axis is its own mean: the reduced value is the position of the reduced voxel
    # (to a part of a voxel, since parts of a voxel count by its middle).
    index = np.indices(tuple(reversed(full.size)))[::-1].reshape(3, -1)
    positions = full.matrix()[:3, :3] @ index + full.matrix()[:3, 3:]
    grid = reduction.grid()
    x, y, z = (n // 2 for n in grid.size)
    for axis in range(3):
        ramp = positions[axis].reshape(tuple(reversed(full.size)))
        expected = grid.matrix()[axis] @ [x, y, z, 1]
        assert reduction.mean(ramp)[z, y, x] == pytest.approx(expected, abs=0.15 * max(geometry.spacing))


def test_a_reduced_mask_keeps_its_volume_and_its_smallest_part():
    full = full_grid(small_geometry(size=(60, 60, 60), spacing=(1.0, 1.0, 1.0)))
    reduction = Reduction(full, 1.7)
    place = np.indices((60, 60, 60)) - 30
    mask = (place**2).sum(axis=0) < 15**2
    mask[2, 3, 4] = True
    reduced = reduction.marked(mask)
    volume = reduced.sum() * np.prod(reduction.grid().voxel_edges())
    assert volume == pytest.approx(mask.sum(), rel=0.03)
    assert reduced[:4, :4, :4].any()


def test_a_part_comes_back_from_its_file(tmp_path):
    part = small_part(small_geometry(direction=sagittal_oblique()))
    write_part(part, tmp_path / "a_page.json.gz")
    assert read_part(tmp_path / "a_page.json.gz") == part
    (tmp_path / "a_page.json.gz").write_bytes((tmp_path / "a_page.json.gz").read_bytes()[:-40])
    with pytest.raises(MMCCDError, match="predict the case again"):
        read_part(tmp_path / "a_page.json.gz")


def test_levels_give_back_values_and_lesions():
    geometry = small_geometry()
    arrays, _ = small_arrays(geometry)
    part = make_part(arrays, geometry, small_marking())
    turned = turned_array(arrays.score, geometry)
    score = part.volumes["score"]
    np.testing.assert_allclose(score.levels(part.grid.size) * score.slope, turned, atol=score.slope)
    assert (part.volumes["labels"].levels(part.grid.size) == LESION).sum() == arrays.mask.sum()
    assert part.written_affine[0][0] == -geometry.spacing[0]


def test_the_skull_is_shown_and_what_is_far_from_the_brain_is_not():
    geometry = small_geometry((60, 60, 40), (3.0, 3.0, 3.0))
    arrays, _ = small_arrays(geometry)
    brain = np.zeros_like(arrays.brain)
    brain[10:20, 20:40, 20:40] = True
    scan = np.full(brain.shape, 500, dtype=np.float32)
    part = make_part(replace(arrays, scan=scan, brain=brain, mask=None, candidates=None), geometry, small_marking())
    shown = part.volumes["scan"].levels(part.grid.size) > 0
    apart = ndimage.distance_transform_edt(part.volumes["labels"].levels(part.grid.size) == 0, sampling=3.0)
    assert shown[(apart > 0) & (apart < 15)].all()
    assert not shown[apart > 17].any()


def test_a_large_noisy_scan_fits_into_its_share_of_the_page():
    geometry = Geometry((192, 192, 160), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), AXIAL)
    shape = (160, 192, 192)
    scan = np.random.default_rng(0).normal(500, 100, shape).astype(np.float32)
    brain = np.zeros(shape, dtype=bool)
    brain[40:120, 40:150, 40:150] = True
    part = make_part(CaseArrays(scan, np.where(brain, scan / 500, 0), brain), geometry, small_marking())
    assert sum(len(one.data) for one in part.volumes.values()) <= MOST_BYTES * 4 / 3 + 16 < 3e6
    assert np.all(part.grid.voxel_edges() > part.full.voxel_edges())


def test_image_numbers_follow_the_place_of_the_images():
    geometry = small_geometry(size=(8, 8, 5), direction=sagittal_oblique())
    positions = np.stack([to_lps(geometry, (0, 7, k)) for k in (3, 0, 4, 1, 2)])
    numbers, note = numbers_by_place([13, 10, 14, 11, 12], positions, geometry)
    assert (numbers.axis, numbers.numbers, note) == (2, (10, 11, 12, 13, 14), "")
    numbers, note = numbers_by_place([1, 2, 3], positions[:3], geometry)
    assert numbers is None
    assert "not one a slice" in note


def test_hostile_texts_stay_texts(tmp_path):
    name = "<script>alert(1)</script>"
    text = small_report(tmp_path, [name, "=cmd()"], extra=(ListRow("x", "failed", "</script><!-- no"),)).read_text("utf-8")
    assert name not in text
    assert "</script><!--" not in text
    assert len(re.findall(r"^<script", text, re.MULTILINE)) == 5
    blocks = re.findall(r'<script type="application/json" id="run">(.*?)</script>', text)
    assert json.loads(blocks[0])["rows"][0]["case"] == name
    assert "http" not in re.search(r"Content-Security-Policy.*?>", text).group()


def test_up_to_25_cases_are_one_file_and_more_have_a_page_each(tmp_path):
    names = [f"case_{number:02d}" for number in range(26)]
    small_report(tmp_path, names[:25])
    assert not (tmp_path / "report").exists()
    index = small_report(tmp_path, names)
    pages = sorted(path.name for path in (tmp_path / "report").glob("case_*.html"))
    assert pages == [f"case_{number:05d}.html" for number in range(1, 27)]
    assert index.stat().st_size < 1e6
    (tmp_path / "report" / "notes.txt").write_text("mine")
    small_report(tmp_path, names[:3])
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["notes.txt"]
