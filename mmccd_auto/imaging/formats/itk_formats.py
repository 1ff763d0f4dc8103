"""NRRD and MetaImage files, read by SimpleITK after their headers were looked at."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.formats.readable import check_readable
from mmccd_auto.imaging.limits import check_geometry, check_promise, check_size
from mmccd_auto.imaging.volume import Geometry, Volume

_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_HEADER_BYTES = 1 << 16
_OTHER_FILE = re.compile(rb"^(?:data ?file|ElementDataFile)\s*[:=]\s*(?P<name>[^\r\n]+?)\s*$", re.MULTILINE | re.IGNORECASE)


def read_by_itk(path: Path) -> Volume:
    """Read an NRRD or MetaImage volume in the type that it is stored in.

    Raises
    ------
    MMCCDError
        If the file, or the file of voxels that it names, can't be read, or it holds no single volume of real numbers of a
        possible size.
    """
    reader = _opened(path)
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        raise MMCCDError(_why_not_read(path, error)) from error
    while image.GetDimension() > 3:
        image = image[..., 0]
    return Volume.from_image(image)


def read_geometry_by_itk(path: Path) -> Geometry:
    """Read where an NRRD or MetaImage volume lies, without its voxels. Raises as :func:`read_by_itk`."""
    return _geometry(_opened(path))


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK's warnings, which hold paths of the machine that built it, from the terminal."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def reason(error: Exception) -> str:
    """Return the last line of an ITK error, without the full stop and ITK's own marks."""
    return str(error).strip().splitlines()[-1].removeprefix("sitk::ERROR:").strip().rstrip(".")


def _opened(path: Path) -> sitk.ImageFileReader:
    """Return a reader that has read the header, which promises a volume of a possible size."""
    check_readable(path)
    image_io = _READERS.get(path.suffix.lower())
    if image_io is None:
        raise MMCCDError(f"{path} is not in an image format that can be read here: give NIfTI (.nii.gz), NRRD or MHA.")
    stored = sum(file.stat().st_size for file in _voxel_files(path))
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    try:
        with quiet_itk():
            reader.ReadImageInformation()
    except RuntimeError as error:
        raise MMCCDError(_why_not_read(path, error)) from error
    _check_kind(reader, path)
    size = reader.GetSize()
    if len(size) < 3 or any(edge != 1 for edge in size[3:]):
        dimensions = max([2, *(number for number, edge in enumerate(size, 1) if edge != 1)]) if len(size) > 3 else len(size)
        raise MMCCDError(f"{path} has {dimensions} dimensions: give one 3D volume per file.")
    check_size(size[:3], str(path))
    check_geometry(_geometry(reader), str(path))
    check_promise(math.prod(size) * _bytes_of(reader), stored, str(path))
    return reader


def _voxel_files(path: Path) -> list[Path]:
    """Return the files that hold the voxels, each of which can be opened."""
    with open(path, "rb") as file:
        start = file.read(_HEADER_BYTES)
    header = start.split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0]
    match = _OTHER_FILE.search(header)
    if match is None or match["name"].upper() == b"LOCAL":
        return [path]
    name = match["name"].decode("utf-8", errors="surrogateescape")
    if name.upper().split()[0] == "LIST" or "%" in name:
        raise MMCCDError(f"{path} spreads its voxels over several files: convert it to one file (.nrrd, .mha or .nii.gz).")
    other = path.parent / name
    check_readable(other)
    return [path, other]


def _check_kind(reader: sitk.ImageFileReader, path: Path) -> None:
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if "complex" in kind:
        raise MMCCDError(f"{path} holds complex numbers (magnitude and phase in one): export the magnitude and give that.")
    if reader.GetNumberOfComponents() != 1:
        raise MMCCDError(f"{path} holds several values per voxel (colour or vectors): give a scalar volume.")


def _geometry(reader: sitk.ImageFileReader) -> Geometry:
    dimensions = reader.GetDimension()
    direction = np.reshape(reader.GetDirection(), (dimensions, dimensions))[:3, :3]
    return Geometry(
        reader.GetSize()[:3],
        reader.GetSpacing()[:3],
        reader.GetOrigin()[:3],
        tuple(float(value) for value in direction.ravel()),
    )


def _bytes_of(reader: sitk.ImageFileReader) -> int:
    """Compute the bytes of a voxel."""
    return sitk.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()


def _why_not_read(path: Path, error: Exception) -> str:
    # ITK's MetaImage reader hands on the operating system's last error, which for a truncated file is a misleading one.
    why = "" if "No such file" in str(error) else f" ({reason(error)})"
    return f"{path} can't be read as an image, it may be truncated{why}: copy or export it again."
