"""Volumes come back as they were written; broken files and doubtful geometry are told, not guessed."""

from __future__ import annotations

import gzip
import itertools
import os

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import read_geometry, read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry, Volume, image_from_array

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
BASE = Geometry((6, 5, 4), (0.9375, 1.0, 3.0), (-10.0, 20.0, 5.5), IDENTITY)


def rotation(angles) -> np.ndarray:
    """Rotation by three angles (rad) about x, y and z."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = [index for index in range(3) if index != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def random_array(geometry=BASE, seed=0):
    return np.random.default_rng(seed).normal(size=geometry.size[::-1]).astype(np.float32)


def assert_same_geometry(found: Geometry, expected: Geometry):
    assert found.size == expected.size
    np.testing.assert_allclose(found.spacing, expected.spacing, rtol=1e-6)
    np.testing.assert_allclose(found.origin, expected.origin, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(found.direction, expected.direction, atol=1e-6)
    assert found.differences(expected) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_oblique_volume_comes_back(tmp_path, ending):
    geometry = Geometry(BASE.size, BASE.spacing, BASE.origin, tuple(rotation((0.3, -0.2, 0.5)).ravel()))
    write_volume(random_array(), geometry, tmp_path / f"a{ending}")
    volume = read_volume(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(volume.array, random_array())
    assert_same_geometry(volume.geometry, geometry)
    assert_same_geometry(read_geometry(tmp_path / f"a{ending}"), geometry)


def test_all_48_axis_orientations_come_back(tmp_path):
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            direction = np.zeros((3, 3))
            direction[list(order), range(3)] = signs
            geometry = Geometry(BASE.size, BASE.spacing, BASE.origin, tuple(direction.ravel()))
            write_volume(random_array(), geometry, tmp_path / "a.nii")
            volume = read_volume(tmp_path / "a.nii")
            np.testing.assert_array_equal(volume.array, random_array())
            assert_same_geometry(volume.geometry, geometry)


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8.0)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    mirrored=st.booleans(),
)
def test_any_right_angled_geometry_comes_back(tmp_path_factory, angles, spacing, origin, mirrored):
    direction = rotation(angles) @ np.diag([1.0, 1.0, -1.0 if mirrored else 1.0])
    geometry = Geometry(BASE.size, spacing, origin, tuple(direction.ravel()))
    path = tmp_path_factory.mktemp("geometry") / "a.nii"
    write_volume(random_array(), geometry, path)
    assert_same_geometry(read_volume(path).geometry, geometry)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_type_is_kept_on_disk(tmp_path, dtype):
    write_volume(random_array().astype(dtype), BASE, tmp_path / "a.nii.gz")
    assert read_volume(tmp_path / "a.nii.gz", dtype=None).array.dtype == dtype
    assert read_volume(tmp_path / "a.nii.gz").array.dtype == np.float32


def test_boolean_mask_is_written_as_bytes(tmp_path):
    mask = random_array() > 0
    write_volume(mask, BASE, tmp_path / "a.nii.gz")
    stored = read_volume(tmp_path / "a.nii.gz", dtype=None).array
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, mask)


def test_volume_and_image_are_inverse():
    volume = Volume(random_array(), BASE)
    again = Volume.from_image(volume.to_image())
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.geometry == BASE


def test_array_that_does_not_fit_its_geometry():
    with pytest.raises(ValueError, match="does not fit"):
        image_from_array(np.zeros((6, 5, 4), np.float32), BASE)


def test_geometry_json_round_trip():
    assert Geometry.from_json(BASE.to_json()) == BASE


def test_corners_are_the_positions_itk_gives():
    geometry = Geometry(BASE.size, BASE.spacing, BASE.origin, tuple(rotation((0.3, -0.2, 0.5)).ravel()))
    image = image_from_array(random_array(), geometry)
    expected = [image.TransformIndexToPhysicalPoint(index) for index in itertools.product((0, 5), (0, 4), (0, 3))]
    np.testing.assert_allclose(geometry.corners(), expected, atol=1e-9)


def test_minus_zero_is_zero():
    other = Geometry(BASE.size, BASE.spacing, BASE.origin, tuple(-0.0 if value == 0 else value for value in IDENTITY))
    assert BASE.differences(other) == []
    zero = Geometry(BASE.size, BASE.spacing, (0.0, 0.0, 0.0), IDENTITY)
    minus = Geometry(BASE.size, BASE.spacing, (-0.0, -0.0, -0.0), other.direction)
    assert zero.differences(minus) == []
    shifted = Geometry(BASE.size, BASE.spacing, (-0.0, 0.0, 7.0), other.direction)
    assert "-0.0" not in " ".join(zero.differences(shifted))


def test_rounded_headers_are_one_grid():
    fine = Geometry(
        (512, 512, 40), (0.46875, 0.46875, 4.0), (-119.76563, 7.0, 3.0), tuple(rotation((0.1, 0.2, 0.3)).ravel())
    )
    rounded = Geometry(
        fine.size,
        tuple(round(value, 5) for value in fine.spacing),
        tuple(round(value, 2) for value in fine.origin),
        tuple(round(value, 5) for value in fine.direction),
    )
    assert rounded != fine
    assert fine.differences(rounded) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": (6, 5, 5)}, "size"),
        ({"spacing": (0.9375, 1.0, 3.1)}, "spacing"),
        ({"origin": (-10.0, 20.0, 5.0)}, "origin"),
        ({"direction": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)}, "direction"),
        ({"direction": tuple(rotation((0.05, 0, 0)).ravel())}, "direction"),
        ({"origin": (float("nan"), 20.0, 5.5)}, "origin"),
    ],
)
def test_other_grids_are_told_by_what_differs(change, word):
    other = Geometry(**({name: getattr(BASE, name) for name in ("size", "spacing", "origin", "direction")} | change))
    for found in (BASE.differences(other), other.differences(BASE)):
        assert found[0].startswith(word)
        assert not any(
            entry.startswith(name) for entry in found for name in {"size", "spacing", "origin", "direction"} - {word}
        )


@given(shift=st.floats(0, 1), axis=st.integers(0, 2))
def test_tolerance_is_a_tenth_of_the_smallest_edge(shift, axis):
    origin = list(BASE.origin)
    origin[axis] += shift
    other = Geometry(BASE.size, BASE.spacing, tuple(origin), IDENTITY)
    if abs(shift - 0.09375) > 1e-9:
        assert bool(BASE.differences(other)) == (shift > 0.09375)


def test_small_spacing_difference_that_adds_up_over_the_volume():
    long = Geometry((240, 240, 155), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    other = Geometry(long.size, (1.001, 1.0, 1.0), long.origin, IDENTITY)
    assert long.differences(other)[0].startswith("spacing")


def complete_file(folder, ending=".nii.gz"):
    path = folder / f"scan{ending}"
    geometry = Geometry((30, 30, 30), BASE.spacing, BASE.origin, IDENTITY)
    write_volume(random_array(geometry), geometry, path)
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.98])
def test_truncated_file(tmp_path, ending, kept):
    path = complete_file(tmp_path, ending)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(MMCCDError, match=r"truncated|empty") as caught:
        read_volume(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_gzip_file_that_lacks_its_last_bytes(tmp_path, cut):
    path = complete_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(MMCCDError, match="truncated"):
        read_volume(path)


def test_complete_gzip_of_a_truncated_volume(tmp_path):
    path = complete_file(tmp_path, ".nii")
    compressed = tmp_path / "b.nii.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes()[:-100]))
    with pytest.raises(MMCCDError, match="truncated"):
        read_volume(compressed)


def test_flipped_byte_in_compressed_data(tmp_path):
    path = complete_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(MMCCDError, match=r"damaged|truncated"):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.nii.gz", b"hello", "not a NIfTI"),
        ("a.nii", b"h" * 1000, "not a NIfTI"),
        ("a.txt", b"hello", "image format"),
        ("a.mha", b"", "empty"),
    ],
)
def test_files_that_are_no_images(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    for read in (read_volume, read_geometry):
        with pytest.raises(MMCCDError, match=words):
            read(tmp_path / name)


def test_missing_file(tmp_path):
    for read in (read_volume, read_geometry):
        with pytest.raises(MMCCDError, match="does not exist"):
            read(tmp_path / "a.nii.gz")


def test_uncompressed_file_under_a_compressed_name_and_big_endian(tmp_path):
    path = complete_file(tmp_path, ".nii")
    path.rename(tmp_path / "a.nii.gz")
    assert read_volume(tmp_path / "a.nii.gz").array.shape == (30, 30, 30)
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(array, np.eye(4), header=nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "big.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "big.nii.gz").array, array.T)


def test_compressed_file_beside_an_uncompressed_one_of_its_name(tmp_path):
    """ITK would take the geometry from the one and the voxels from the other."""
    path = complete_file(tmp_path)
    write_volume(random_array(), BASE, tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, random_array())
    volume = read_volume(path)
    assert volume.geometry.size == (30, 30, 30)
    np.testing.assert_array_equal(volume.array, random_array(volume.geometry))


def test_four_dimensions_with_one_frame_are_three(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 2, 3, 1])), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, array[..., 0].T)
    assert volume.geometry.spacing == (1.0, 2.0, 3.0)
    assert read_geometry(tmp_path / "a.nii.gz") == volume.geometry


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 2)])
def test_other_dimensions_are_refused(tmp_path, shape):
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    for read in (read_volume, read_geometry):
        with pytest.raises(MMCCDError, match=f"{len(shape)} dimensions"):
            read(tmp_path / "a.nii.gz")


def test_colour_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(tmp_path / "a.nii.gz"))
    with pytest.raises(MMCCDError, match="several values per voxel"):
        read_volume(tmp_path / "a.nii.gz")


def skewed_file(path, skew):
    """A NIfTI file of 60 voxels along y whose x axis leans by ``skew`` mm per voxel of y; no other geometry in it."""
    affine = np.diag([-1.0, -1.0, 1.2, 1.0])
    affine[0, 1] = skew
    affine[:3, 3] = [10, 20, 30]
    image = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(50, 60, 20)).astype(np.float32), None)
    image.header.set_sform(affine, 1)
    image.header.set_qform(None, 0)
    image.header["pixdim"][1:4] = [1.0, 1.0, 1.2]
    nibabel.save(image, path)
    return image


def test_slightly_skewed_directions_are_brought_to_right_angles(tmp_path):
    image = skewed_file(tmp_path / "a.nii.gz", 0.002)
    volume = read_volume(tmp_path / "a.nii.gz")
    direction = np.reshape(volume.geometry.direction, (3, 3))
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-9)
    np.testing.assert_array_equal(volume.array, np.asarray(image.dataobj).T)
    assert_same_geometry(read_geometry(tmp_path / "a.nii.gz"), volume.geometry)
    assert "ITK_NIFTI_SFORM_PERMISSIVE" not in os.environ


def test_strongly_skewed_directions_are_refused(tmp_path):
    skewed_file(tmp_path / "a.nii.gz", 0.2)
    for read in (read_volume, read_geometry):
        with pytest.raises(MMCCDError, match="right angles"):
            read(tmp_path / "a.nii.gz")


def test_unknown_ending_leaves_nothing(tmp_path):
    with pytest.raises(MMCCDError, match="could not be written"):
        write_volume(random_array(), BASE, tmp_path / "a.unknown")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_file_that_the_disk_cannot_hold_is_an_error(tmp_path, ending):
    resource = pytest.importorskip("resource")
    geometry = Geometry((30, 30, 30), BASE.spacing, BASE.origin, IDENTITY)
    target = tmp_path / f"a{ending}"
    write_volume(np.zeros((30, 30, 30), np.float32), geometry, target)
    before = target.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(MMCCDError, match="could not be written"):
            write_volume(random_array(geometry), geometry, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
