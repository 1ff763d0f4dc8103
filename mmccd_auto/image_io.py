"""Reading and writing of volumes with their geometry (SimpleITK)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import atomic_path

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Where a volume lies in the patient, as SimpleITK tells it (LPS, axes x, y, z).

    Attributes
    ----------
    size : voxels along x, y, z
    spacing : mm along x, y, z
    origin : mm, centre of the first voxel
    direction : 9 numbers, the direction cosines row by row
    """

    size: tuple[int, int, int]
    spacing: Triple
    origin: Triple
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Geometry:
        """The geometry of a SimpleITK image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Geometry:
        """The inverse of :meth:`to_json`."""
        return cls(**{name: tuple(values) for name, values in content.items()})

    def to_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return {name: list(values) for name, values in asdict(self).items()}

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm3."""
        return float(np.prod(self.spacing))

    def differences(self, other: Geometry) -> list[str]:
        """What differs from ``other`` by more than rounding, in words; empty when both are one grid.

        Positions may differ by 1 % of the smallest voxel edge (at least 0.01 mm) anywhere in the volume, spacings by 0.1 %.
        """
        if self.size != other.size:
            return [f"size {self.size} against {other.size}"]
        found = []
        if not np.allclose(self.spacing, other.spacing, rtol=1e-3, atol=0):
            found.append(f"spacing {_rounded(self.spacing)} against {_rounded(other.spacing)}")
        tolerance = max(0.01, 0.01 * min(self.spacing))
        if not np.allclose(self.origin, other.origin, rtol=0, atol=tolerance):
            found.append(f"origin {_rounded(self.origin)} against {_rounded(other.origin)}")
        extent = float(np.linalg.norm(np.multiply(self.size, self.spacing)))
        if not np.allclose(self.direction, other.direction, rtol=0, atol=max(tolerance / extent, 1e-4)):
            found.append(f"direction {_rounded(self.direction)} against {_rounded(other.direction)}")
        return found


@dataclass(frozen=True)
class Volume:
    """A volume and where it lies.

    Attributes
    ----------
    array : shape [z, y, x]
    geometry : of the same voxels; ``geometry.size`` is the reversed shape
    """

    array: np.ndarray
    geometry: Geometry

    def to_image(self) -> sitk.Image:
        """The volume as a SimpleITK image."""
        return image_from_array(self.array, self.geometry)

    @classmethod
    def from_image(cls, image: sitk.Image) -> Volume:
        """The volume held by a SimpleITK image."""
        return cls(sitk.GetArrayFromImage(image), Geometry.of(image))


def image_from_array(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A SimpleITK image of ``array`` [z, y, x] lying as ``geometry`` says."""
    if array.shape != tuple(reversed(geometry.size)):
        raise ValueError(f"array of shape {array.shape} does not fit a geometry of size {geometry.size} (x, y, z)")
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def read_volume(path: str | Path, dtype: type | None = np.float32) -> Volume:
    """Read one 3D volume.

    Parameters
    ----------
    path : a file that SimpleITK reads (NIfTI, NRRD, MHA, ...)
    dtype : of the returned array; None keeps the file's own

    Raises
    ------
    MMCCDError
        If the file is missing, broken or truncated, or isn't one scalar 3D volume.
    """
    path = Path(path)
    if not path.is_file():
        raise MMCCDError(f"{path} does not exist.")
    image = _read_image(path)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise MMCCDError(f"{path} holds several values per voxel (colour or vectors): give a scalar volume.")
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3:
        raise MMCCDError(f"{path} has {image.GetDimension()} dimensions: give one 3D volume per file.")
    volume = Volume.from_image(image)
    if dtype is None or volume.array.dtype == dtype:
        return volume
    return Volume(volume.array.astype(dtype), volume.geometry)


def read_geometry(path: str | Path) -> Geometry:
    """Read the geometry of a volume without its voxels. Raises like :func:`read_volume`."""
    path = Path(path)
    if not path.is_file():
        raise MMCCDError(f"{path} does not exist.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return read_volume(path, dtype=None).geometry
    if reader.GetDimension() != 3:
        return read_volume(path, dtype=None).geometry
    return Geometry(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def write_volume(array: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write ``array`` [z, y, x] lying as ``geometry`` says, compressed and atomically; the type is the array's."""
    image = image_from_array(array, geometry)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise MMCCDError(f"{path} could not be written: {_last_line(error)}") from error


def _read_image(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        if "orthonormal" not in str(error):
            raise MMCCDError(f"{path} can't be read as an image: {_last_line(error)}") from error
    with _permissive_nifti_directions():
        try:
            return sitk.ReadImage(str(path))
        except RuntimeError as error:
            raise MMCCDError(f"{path} has direction cosines that are not at right angles: {_last_line(error)}") from error


@contextmanager
def _permissive_nifti_directions() -> Iterator[None]:
    """Let ITK bring slightly skewed NIfTI directions to right angles (it reads this switch at each opening)."""
    name = "ITK_NIFTI_SFORM_PERMISSIVE"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
