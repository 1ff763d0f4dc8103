"""Sizes, centres and diameters of lesions with known answers, on straight, flipped and oblique grids."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.inference.lesions.measures import longest_diameter, measure_lesions, positions_of

STRAIGHT = np.eye(3)
FLIPPED = np.diag([-1.0, -1.0, 1.0])[:, [2, 0, 1]]
OBLIQUE = Rotation.from_euler("xyz", (20, -12, 35), degrees=True).as_matrix()


def geometry(size=(30, 28, 26), spacing=(1.0, 1.5, 3.0), direction=STRAIGHT) -> Geometry:
    return Geometry(size, spacing, (-20.0, 13.0, 5.5), tuple(direction.ravel().tolist()))


@pytest.mark.parametrize("direction", [STRAIGHT, FLIPPED, OBLIQUE])
def test_a_brick_of_voxels_has_its_own_volume_diagonal_and_centre(direction, tmp_path):
    where = geometry(direction=direction)
    mask, score = np.zeros((26, 28, 30), np.uint8), np.zeros((26, 28, 30))
    mask[3:6, 10:14, 5:12] = 1
    score[mask > 0] = 2.0
    score[4, 11, 6] = 9.0
    (lesion,) = measure_lesions(mask, score, where)
    assert lesion.volume_ml == pytest.approx(7 * 4 * 3 * 4.5 / 1000)
    assert lesion.longest_diameter_mm <= np.linalg.norm([7 * 1.0, 4 * 1.5, 3 * 3.0]) + 1e-9
    assert lesion.longest_diameter_mm > np.linalg.norm([6 * 1.0, 3 * 1.5, 2 * 3.0])
    assert (lesion.peak_score, lesion.mean_score) == (9.0, pytest.approx((83 * 2 + 9) / 84))
    # Another library's reading of the written file finds the same place, in RAS.
    write_volume(mask, where, tmp_path / "mask.nii.gz")
    image = nibabel.load(tmp_path / "mask.nii.gz")
    voxels = np.argwhere(np.asarray(image.dataobj))
    centre = image.affine[:3, :3] @ voxels.mean(axis=0) + image.affine[:3, 3]
    assert np.allclose(centre * [-1, -1, 1], lesion.centre_lps_mm, atol=1e-3)
    assert np.asarray(image.dataobj)[lesion.centre_voxel] == 1
    assert np.abs(np.array(lesion.centre_voxel) - voxels.mean(axis=0)).max() <= 0.5


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [
        ([[3, 4, 5]], 3.0),
        ([[3, 4, 5], [3, 4, 6], [3, 4, 7]], 3.0),
        ([[3, 4, 5], [4, 4, 5]], 6.0),
        ([[1, y, x] for y in range(4) for x in range(6)], None),
    ],
)
def test_single_voxels_lines_and_planes_have_a_diameter(voxels, expected):
    found = longest_diameter(np.array(voxels), geometry())
    if expected is None:
        longest = np.hypot(5 * 1.0, 3 * 1.5)
        assert found == pytest.approx(longest * (1 + 1 / 5))
    else:
        assert found == pytest.approx(expected)


def test_diameters_are_those_of_all_pairs_of_voxels():
    random = np.random.default_rng(0)
    for _ in range(60):
        box = random.integers(1, 7, size=3)
        voxels = np.unique(random.integers(0, box, size=(random.integers(2, 40), 3)), axis=0)
        where = geometry(direction=OBLIQUE)
        if len(voxels) == 1:
            continue
        between = pdist(positions_of(voxels, where)).max()
        assert between < longest_diameter(voxels, where) <= 2 * between + 1e-9


@pytest.mark.parametrize("radius", [3.0, 6.0, 10.0])
def test_spheres_are_measured_within_a_voxel(radius):
    where = geometry(size=(40, 40, 40), spacing=(1.0, 1.0, 1.0), direction=OBLIQUE)
    index = np.indices((40, 40, 40)) - 19.7
    mask = (index**2).sum(axis=0) <= radius**2
    (lesion,) = measure_lesions(mask, mask.astype(float), where)
    assert abs(lesion.longest_diameter_mm - 2 * radius) <= np.sqrt(3)
    assert lesion.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.05)


def test_the_centre_voxel_of_a_ring_is_on_the_ring_and_parts_come_by_size():
    mask = np.zeros((26, 28, 30), np.uint8)
    mask[5, 5:12, 5:12] = 1
    mask[5, 6:11, 6:11] = 0
    mask[20, 20, 20:22] = 1
    mask[25, 27, 29] = 1
    lesions = measure_lesions(mask, mask.astype(float), geometry())
    assert [len(one.voxels) for one in lesions] == [24, 2, 1]
    i, j, k = lesions[0].centre_voxel
    assert mask[k, j, i] == 1
    assert lesions[2].centre_voxel == (29, 27, 25)
    assert len(measure_lesions(mask, mask.astype(float), geometry(), most=2)) == 2
    assert measure_lesions(np.zeros_like(mask), mask.astype(float), geometry()) == []
