"""Where a NIfTI file lies: the sform, else the qform, else pixdim, exactly as nibabel has it; what disagrees is told."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import read_geometry, read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry

SHAPE = (7, 6, 5)
EDGES = (2.0, 1.5, 3.0)
CODES = (0, 1, 2, 3, 4)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


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


def affine_of(direction=None, edges=EDGES, origin=(20.0, -30.0, 12.0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if direction is None else direction) * edges
    affine[:3, 3] = origin
    return affine


def save(path: Path, sform=None, qform=None, codes=(0, 0), kind=nibabel.Nifti1Image, endianness="<", change=None) -> Path:
    """A volume whose voxels tell their place in the array; ``change`` edits the header at the end."""
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(np.int16)
    image = kind(array, None, header)
    image.header.set_zooms(EDGES)
    if qform is not None:
        image.header.set_qform(qform, codes[1])
    if sform is not None:
        image.header.set_sform(sform, codes[0])
    image.header["sform_code"], image.header["qform_code"] = codes
    if change is not None:
        change(image.header)
    nibabel.save(image, path)
    return path


def lies(geometry: Geometry) -> np.ndarray:
    """The 4 x 4 matrix to RAS of a geometry."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(geometry.direction, (3, 3)) * geometry.spacing
    affine[:3, 3] = geometry.origin
    return RAS_TO_LPS @ affine


def assert_as_nibabel(path: Path):
    volume = read_volume(path)
    image = nibabel.load(path)
    np.testing.assert_allclose(lies(volume.geometry), image.affine, atol=2e-4)
    np.testing.assert_array_equal(volume.array, np.asarray(image.dataobj).T)
    assert read_geometry(path) == volume.geometry
    return volume


@pytest.mark.parametrize("codes", list(itertools.product(CODES, CODES)))
def test_every_pair_of_codes(tmp_path, codes):
    sform = affine_of(rotation((0.2, -0.1, 0.3)), origin=(5.0, 6.0, 7.0))
    qform = affine_of(np.diag([-1.0, 1.0, 1.0]) @ rotation((0.0, 0.4, 0.0)), origin=(90.0, -80.0, 20.0))
    volume = assert_as_nibabel(save(tmp_path / "a.nii.gz", sform, qform, codes))
    expected = {"the sform counts": codes[0] > 0 and codes[1] > 0, "doesn't say where": codes == (0, 0)}
    for words, told in expected.items():
        assert any(words in warning for warning in volume.warnings) == told
    assert len(volume.warnings) == sum(expected.values())


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_all_48_orientations(tmp_path, codes):
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            direction = np.zeros((3, 3))
            direction[list(order), range(3)] = signs
            affine = affine_of(direction)
            volume = assert_as_nibabel(save(tmp_path / "a.nii", affine, affine, codes))
            assert bool(volume.warnings) == (codes == (0, 0))


@settings(max_examples=40, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    edges=st.tuples(*[st.floats(0.2, 8.0)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    mirrored=st.booleans(),
    codes=st.sampled_from([(1, 1), (2, 0), (0, 1)]),
)
def test_oblique(tmp_path_factory, angles, edges, origin, mirrored, codes):
    direction = rotation(angles) @ np.diag([1.0, 1.0, -1.0 if mirrored else 1.0])
    affine = affine_of(direction, edges, origin)
    path = save(tmp_path_factory.mktemp("geometry") / "a.nii", affine, affine, codes)
    assert assert_as_nibabel(path).warnings == ()


def test_mirrored_sform_counts_and_is_told(tmp_path, caplog):
    qform = affine_of(np.diag([-1.0, 1.0, 1.0]))
    sform = qform.copy()
    sform[0, 0], sform[0, 3] = EDGES[0], qform[0, 3] - EDGES[0] * (SHAPE[0] - 1)
    path = save(tmp_path / "a.nii.gz", sform, qform, (2, 1))
    with caplog.at_level(logging.WARNING):
        (warning,) = assert_as_nibabel(path).warnings
    assert "sform and qform place the scan up to 12.0 mm apart: the sform counts" in warning
    assert f"{path}: {warning}" in caplog.text


def test_agreement_within_a_tenth_of_a_voxel_is_not_told(tmp_path):
    sform = affine_of()
    for shift, told in ((0.14, False), (0.16, True)):
        qform = affine_of(origin=(20.0 + shift, -30.0, 12.0))
        volume = assert_as_nibabel(save(tmp_path / "a.nii", sform, qform, (1, 1)))
        assert bool(volume.warnings) == told


@pytest.mark.parametrize("pixdim", [(1.9, 1.425, 2.85), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (np.nan, 1.5, 3.0)])
@pytest.mark.parametrize("qform_code", [0, 1])
def test_pixdim_other_than_the_edges_of_the_sform(tmp_path, pixdim, qform_code):
    def change(header):
        header["pixdim"][1:4] = pixdim

    affine = affine_of(rotation((0.1, 0.2, 0.3)))
    volume = read_volume(save(tmp_path / "a.nii", affine, affine, (1, qform_code), change=change))
    np.testing.assert_allclose(volume.geometry.spacing, EDGES, rtol=1e-6)
    np.testing.assert_allclose(lies(volume.geometry), affine, atol=1e-4)
    assert "pixdim" in volume.warnings[0]
    assert "2 x 1.5 x 3 mm (sform)" in volume.warnings[0]


@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (0, 0)])
@pytest.mark.parametrize("signs", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_negative_pixdim(tmp_path, codes, signs):
    def change(header):
        header["pixdim"][1:4] *= signs

    affine = affine_of(rotation((0.1, 0.2, 0.3)))
    volume = assert_as_nibabel(save(tmp_path / "a.nii", affine, affine, codes, change=change))
    assert any("below 0" in warning for warning in volume.warnings) == (codes[0] == 0)


@pytest.mark.parametrize("handed", [-1.0, 0.0, 1.0])
def test_handedness_of_the_qform(tmp_path, handed):
    def change(header):
        header["pixdim"][0] = handed

    assert_as_nibabel(save(tmp_path / "a.nii", None, affine_of(rotation((0.1, 0.2, 0.3))), (0, 1), change=change))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("endianness", "<>")
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_kinds_of_files(tmp_path, kind, endianness, packed):
    ending = ".img" if "Pair" in kind.__name__ else ".nii"
    path = tmp_path / f"a{ending}{packed}"
    save(path, affine_of(rotation((0.1, 0.2, 0.3))), None, (1, 0), kind, endianness)
    assert_as_nibabel(path)
    if ending == ".img":
        assert_as_nibabel(tmp_path / f"a.hdr{packed}")


def test_a_pair_of_which_one_is_missing(tmp_path):
    save(tmp_path / "a.img", affine_of(), None, (1, 0), nibabel.Nifti1Pair)
    (tmp_path / "a.hdr").rename(tmp_path / "b.hdr")
    for name, other in (("a.img", "a.hdr"), ("b.hdr", "b.img")):
        with pytest.raises(MMCCDError, match=f"{name} is half of a pair, and {other} is not beside it"):
            read_volume(tmp_path / name)


def test_analyze_is_refused(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(np.zeros(SHAPE, np.int16), affine_of()), tmp_path / "a.img")
    with pytest.raises(MMCCDError, match=r"ANALYZE 7\.5, which doesn't say which side is left"):
        read_volume(tmp_path / "a.hdr")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("entry", ["srow_x", "srow_y", "srow_z"])
@pytest.mark.parametrize("place", [0, 3])
def test_sform_of_numbers_that_are_no_place(tmp_path, value, entry, place):
    def change(header):
        header[entry][place] = value

    path = save(tmp_path / "a.nii", affine_of(), affine_of(), (1, 1), change=change)
    for read in (read_volume, read_geometry):
        with pytest.raises(MMCCDError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} ")
        assert "\n" not in str(caught.value)


def test_the_sentence_on_nan_names_the_sform(tmp_path):
    def change(header):
        header["srow_x"][0] = np.nan

    path = save(tmp_path / "a.nii", affine_of(), None, (1, 0), change=change)
    with pytest.raises(MMCCDError, match="NaN or infinite numbers in its sform, which says where it lies"):
        read_volume(path)


def test_sform_of_zeros_and_of_one_plane(tmp_path):
    path = save(tmp_path / "a.nii", np.diag([0.0, 0.0, 0.0, 1.0]), None, (1, 0))
    with pytest.raises(MMCCDError, match="voxels of 0 x 0 x 0 mm"):
        read_volume(path)
    flat = affine_of()
    flat[:3, 2] = flat[:3, 0] + flat[:3, 1]
    with pytest.raises(MMCCDError, match="lie in one plane"):
        read_volume(save(tmp_path / "b.nii", flat, None, (1, 0)))


def test_qform_that_is_no_rotation(tmp_path):
    def change(header):
        header["quatern_b"] = 3.0

    with pytest.raises(MMCCDError, match="a qform that describes no rotation, and no sform"):
        read_volume(save(tmp_path / "a.nii", None, affine_of(), (0, 1), change=change))
    volume = read_volume(save(tmp_path / "b.nii", affine_of(), affine_of(), (1, 1), change=change))
    np.testing.assert_allclose(lies(volume.geometry), affine_of())
    assert volume.warnings == ("The header's qform describes no rotation: the sform counts.",)


@pytest.mark.parametrize("units", ["mm", "micron", "meter", "unknown"])
def test_units_do_not_scale(tmp_path, units):
    """nibabel, FSL and SPM take the numbers for millimetres."""

    def change(header):
        header.set_xyzt_units(units)

    assert_as_nibabel(save(tmp_path / "a.nii", affine_of(), affine_of(), (1, 1), change=change))


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8.0)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    mirrored=st.booleans(),
)
def test_what_is_written_carries_both_forms(tmp_path_factory, angles, spacing, origin, mirrored):
    direction = rotation(angles) @ np.diag([1.0, 1.0, -1.0 if mirrored else 1.0])
    geometry = Geometry(SHAPE, spacing, origin, tuple(direction.ravel()))
    path = tmp_path_factory.mktemp("written") / "a.nii.gz"
    write_volume(np.zeros(SHAPE[::-1], np.float32), geometry, path)
    header = nibabel.load(path).header
    assert header["sform_code"] > 0
    assert header["qform_code"] > 0
    np.testing.assert_allclose(header.get_sform(), lies(geometry), atol=2e-4)
    # Near half a turn, three float32 numbers hold a quaternion's fourth one, and with it angles, to 5e-4 only.
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=5e-4 * max(*spacing, 1.0))
    np.testing.assert_allclose(header.get_zooms(), np.linalg.norm(header.get_sform()[:3, :3], axis=0), rtol=1e-5)
    volume = read_volume(path)
    assert volume.warnings == ()
    assert volume.geometry.differences(geometry) == []


def test_what_is_read_wrong_is_written_right(tmp_path):
    """A scan whose forms disagree gives files that lie where its sform says, by either form."""
    source = save(tmp_path / "a.nii", affine_of(rotation((0.1, 0.2, 0.3))), affine_of(), (2, 1))
    volume = read_volume(source)
    write_volume(volume.array, volume.geometry, tmp_path / "b.nii.gz")
    header = nibabel.load(tmp_path / "b.nii.gz").header
    np.testing.assert_allclose(header.get_qform(), nibabel.load(source).affine, atol=1e-4)
    np.testing.assert_allclose(header.get_sform(), nibabel.load(source).affine, atol=1e-4)
