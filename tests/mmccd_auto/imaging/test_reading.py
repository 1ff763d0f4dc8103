"""What is read is what the file holds; what is no scan of a head is refused before memory is taken for it."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import read_geometry, read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SHAPE = (6, 5, 4)
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")


def refused(path: Path, words: str, both: bool = True) -> None:
    for read in (read_volume, read_geometry) if both else (read_volume,):
        with pytest.raises(MMCCDError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def patch(path: Path, offset: int, form: str, *values) -> Path:
    """Overwrite bytes of a NIfTI header."""
    packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into("<" + form, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def plain(path: Path, spacing=(1.0, 1.0, 1.0), shape=SHAPE) -> Path:
    geometry = Geometry(shape, spacing, (0.0, 0.0, 0.0), IDENTITY)
    write_volume(np.arange(np.prod(shape), dtype=np.int16).reshape(shape[::-1]), geometry, path)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_are_read_as_they_are(tmp_path, ending, dtype):
    array = np.arange(120, dtype=dtype).reshape(SHAPE[::-1])
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    write_volume(array, Geometry(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY), tmp_path / f"a{ending}")
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{ending}", dtype=None).array, array)


@pytest.mark.parametrize("stored", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4"])
@pytest.mark.parametrize(
    ("slope", "intercept"), [(0.0, 7.0), (np.nan, 7.0), (1.0, 0.0), (0.25, -3.0), (-2.0, 1e4), (1.0, 5.0)]
)
@pytest.mark.parametrize("endianness", "<>")
def test_scaled_values_are_those_of_nibabel(tmp_path, stored, slope, intercept, endianness):
    header = nibabel.Nifti1Header(endianness=endianness)
    header.set_data_dtype(stored)
    array = np.arange(120).reshape(SHAPE).astype(stored)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header, dtype=stored), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into(f"{endianness}2f", content, 112, slope, intercept)
    (tmp_path / "a.nii").write_bytes(bytes(content))
    expected = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj).T
    volume = read_volume(tmp_path / "a.nii", dtype=None)
    scaled = (slope, intercept) in ((0.25, -3.0), (-2.0, 1e4), (1.0, 5.0))
    assert volume.array.dtype == (np.float32 if scaled else np.dtype(stored))
    np.testing.assert_array_equal(volume.array, expected.astype(volume.array.dtype))


def test_an_intercept_that_is_no_number(tmp_path):
    refused(patch(plain(tmp_path / "a.nii"), 112, "2f", 2.0, np.nan), "scl_inter is nan")


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_complex_numbers_are_refused(tmp_path, dtype, name):
    nibabel.save(nibabel.Nifti1Image(np.ones(SHAPE, dtype), np.eye(4)), tmp_path / name)
    refused(tmp_path / name, "holds complex numbers .*export the magnitude")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_complex_numbers_in_other_formats_are_refused(tmp_path, ending):
    image = sitk.RealAndImaginaryToComplex(sitk.Image(SHAPE, sitk.sitkFloat32), sitk.Image(SHAPE, sitk.sitkFloat32))
    try:
        sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    except RuntimeError:
        pytest.skip("ITK writes no complex numbers in this format")
    refused(tmp_path / f"a{ending}", "complex numbers|several values per voxel")


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colour_is_refused(tmp_path, channels):
    colour = np.dtype([(channel, "u1") for channel in channels])
    nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, colour), np.eye(4)), tmp_path / "a.nii.gz")
    refused(tmp_path / "a.nii.gz", "several values per voxel")


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("components", [2, 3, 6])
def test_vectors_are_refused(tmp_path, ending, components):
    array = np.zeros((*SHAPE[::-1], components), np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / f"a{ending}"))
    refused(tmp_path / f"a{ending}", "several values per voxel")


@pytest.mark.parametrize("code", [0, 1, 3, 1536, 9999])
def test_types_that_are_not_read_are_named(tmp_path, code):
    refused(patch(plain(tmp_path / "a.nii"), 70, "h", code), "datatype|bits")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ((100.0, 100.0, 100.0), "voxels of 100 x 100 x 100 mm, which no scan of a head has"),
        ((0.001, 0.001, 0.001), "voxels of 0.001 x 0.001 x 0.001 mm"),
        ((1.0, 1.0, 30.0), "voxels of 1 x 1 x 30 mm"),
    ],
)
def test_edges_of_no_scan(tmp_path, ending, spacing, words):
    path = tmp_path / f"a{ending}"
    image = sitk.Image(SHAPE, sitk.sitkInt16)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    refused(path, words)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_field_of_view_of_more_than_a_metre(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.Image((4, 110, 4), sitk.sitkInt16), str(path))
    read_volume(path)
    image = sitk.Image((4, 110, 4), sitk.sitkInt16)
    image.SetSpacing((1.0, 10.0, 1.0))
    sitk.WriteImage(image, str(path))
    refused(path, "is 4 x 1100 x 4 mm large")


def test_place_that_is_not_in_the_hospital(tmp_path):
    image = sitk.Image(SHAPE, sitk.sitkInt16)
    image.SetOrigin((1e7, 0.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    refused(tmp_path / "a.mha", "lies more than 100 m from")


@pytest.mark.parametrize("ending", ENDINGS)
def test_more_voxels_than_the_file_can_hold_take_no_memory(tmp_path, ending):
    path = plain(tmp_path / f"a{ending}")
    if ".nii" in ending:
        patch(path, 42, "3h", 800, 800, 800)
    else:
        content = path.read_bytes()
        assert b"6 5 4" in content
        path.write_bytes(content.replace(b"6 5 4", b"800 800 800"))
    tracemalloc.start()
    try:
        refused(path, "truncated", both=False)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", ENDINGS)
def test_more_voxels_than_can_be_handled(tmp_path, ending):
    path = plain(tmp_path / f"a{ending}", (0.1, 0.1, 0.1))
    if ".nii" in ending:
        patch(path, 42, "3h", 9000, 9000, 9000)
    else:
        path.write_bytes(path.read_bytes().replace(b"6 5 4", b"9000 9000 9000"))
    refused(path, "9000 x 9000 x 9000 voxels, more than can be handled")


@pytest.mark.parametrize("edge", [0, -3])
def test_no_voxels(tmp_path, edge):
    refused(patch(plain(tmp_path / "a.nii"), 42, "h", edge), "voxels, that is none")


def test_gigabytes_of_zeros_behind_the_voxels_are_not_read(tmp_path):
    path = plain(tmp_path / "a.nii.gz")
    with gzip.open(tmp_path / "b.nii.gz", "wb", compresslevel=1) as file:
        file.write(gzip.decompress(path.read_bytes()))
        for _ in range(100):
            file.write(bytes(1 << 20))
    refused(tmp_path / "b.nii.gz", "holds far more than its header gives", both=False)


@pytest.mark.parametrize("offset", [np.nan, np.inf, -1.0, 0.0, 1e12])
def test_an_offset_that_can_not_be(tmp_path, offset):
    refused(patch(plain(tmp_path / "a.nii"), 108, "f", offset), "vox_offset")


def test_voxels_in_a_file_beside_the_header(tmp_path):
    for ending in (".nhdr", ".mhd"):
        path = tmp_path / f"a{ending}"
        sitk.WriteImage(sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(SHAPE[::-1])), str(path))
        np.testing.assert_array_equal(read_volume(path).array.ravel(), np.arange(120))
        (other,) = [file for file in tmp_path.iterdir() if file.stem == "a" and file != path]
        other.unlink()
        for read in (read_volume, read_geometry):
            with pytest.raises(MMCCDError, match=f"{other.name} does not exist"):
                read(path)
        os.mkfifo(other)
        with pytest.raises(MMCCDError, match="no regular file"):
            read_volume(path)
        other.unlink()
        path.unlink()


def test_voxels_in_several_files_are_refused(tmp_path):
    path = tmp_path / "a.mhd"
    sitk.WriteImage(sitk.Image(SHAPE, sitk.sitkInt16), str(path))
    path.write_text(path.read_text().replace("a.raw", "a%02d.raw 1 4 1"))
    refused(path, "spreads its voxels over several files")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.hdr"])
def test_what_is_no_file_is_named_and_never_opened(tmp_path, name):
    path = tmp_path / name
    path.symlink_to("../.git/annex/objects/x")
    refused(path, "is a link to a file that isn't there: .*git annex get")
    path.unlink()
    path.symlink_to(name)
    refused(path, "is a link that leads back to itself")
    path.unlink()
    path.mkdir()
    refused(path, "is a folder, whatever its name says")
    path.rmdir()
    path.touch()
    refused(path, r"is empty \(0 bytes\)")
    path.unlink()
    os.mkfifo(path)
    refused(path, "no regular file but a pipe")
    path.unlink()
    refused(path, "does not exist")
    refused(tmp_path / ("n" * 300 + name), "can't be opened .*name too long")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = plain(tmp_path / "a.nii.gz")
    path.chmod(0)
    refused(path, "permission denied")


def test_a_name_too_long_to_be_written(tmp_path):
    geometry = Geometry(SHAPE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    with pytest.raises(MMCCDError, match="its name is too long: give it a shorter one"):
        write_volume(np.zeros(SHAPE[::-1], np.uint8), geometry, tmp_path / ("n" * 245 + ".nii.gz"))
    assert list(tmp_path.iterdir()) == []


def test_other_formats_are_refused(tmp_path):
    sitk.WriteImage(sitk.Image((8, 8), sitk.sitkUInt8), str(tmp_path / "a.png"))
    refused(tmp_path / "a.png", "not in an image format that can be read here")


def test_nothing_of_itk_reaches_the_terminal(tmp_path):
    """A header that ITK warns of, with the paths of the machine that built it."""
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), affine)
    image.set_sform(affine, 1)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "a.nii")
    patch(tmp_path / "a.nii", 80, "3f", 1.9, 1.9, 5.7)
    sitk.WriteImage(sitk.Image(SHAPE, sitk.sitkInt16), str(tmp_path / "a.mha"))
    code = (
        "import sys; from mmccd_auto.imaging.io import read_volume, write_volume\n"
        "for name in ('a.nii', 'a.mha'):\n"
        "    volume = read_volume(f'{sys.argv[1]}/{name}', warn=False)\n"
        "    write_volume(volume.array, volume.geometry, f'{sys.argv[1]}/b.nii.gz')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
