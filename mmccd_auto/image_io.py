"""Reading and writing of volumes with their geometry (SimpleITK)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from mmccd_auto.core.readable_names import check_readable_name
from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import atomic_path
from mmccd_auto.nifti_checks import nifti_fault

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

    def corners(self) -> np.ndarray:
        """Positions of the centres of the eight corner voxels, float64 [8, 3] (x, y, z), mm."""
        steps = np.array(list(itertools.product((0, 1), repeat=3))) * (np.array(self.size) - 1) * self.spacing
        return steps @ np.reshape(self.direction, (3, 3)).T + self.origin

    def differences(self, other: Geometry) -> list[str]:
        """What differs from ``other`` by more than rounding, in words; empty when both are one grid.

        Two grids of one size are one where no voxel lies further off than 10 % of the smallest voxel edge (at least 0.01
        mm): enough for headers rounded to four digits, too little to blur an edge. 0.0 and -0.0 are the same.
        """
        if self.size != other.size:
            return [f"size {self.size} against {other.size}"]
        # The largest distance between two affine grids is at a corner.
        distance = float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())
        if distance <= max(0.01, 0.1 * min(*self.spacing, *other.spacing)):
            return []
        parts = {"spacing": 1e-5, "origin": 1e-3, "direction": 1e-5}
        found = [
            f"{name} {_rounded(getattr(self, name))} against {_rounded(getattr(other, name))}"
            for name, tolerance in parts.items()
            if not np.allclose(getattr(self, name), getattr(other, name), rtol=0, atol=tolerance)
        ]
        return found + [f"voxels up to {distance:.3g} mm apart"]


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
    """A SimpleITK image of ``array`` [z, y, x] lying as ``geometry`` says; bool becomes uint8."""
    if array.shape != tuple(reversed(geometry.size)):
        raise ValueError(f"array of shape {array.shape} does not fit a geometry of size {geometry.size} (x, y, z)")
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def read_volume(path: str | Path, dtype: type | None = np.float32) -> Volume:
    """Read one 3D volume.

    A NIfTI file must be complete (ITK itself reads a truncated one in silence and leaves the rest to chance). Its NaN and
    infinite voxels are read as 0 by ITK.

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
    check_readable_name(path)
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
    check_readable_name(path)
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
    """Write ``array`` [z, y, x] lying as ``geometry`` says, compressed and atomically; the type is the array's.

    Raises
    ------
    MMCCDError
        If the disk is full (which ITK itself doesn't notice for NIfTI), the folder can't be written to or the file ending is
        unknown.
    """
    path = Path(path)
    check_readable_name(path)
    image = image_from_array(array, geometry)
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise MMCCDError(
                f"{path} could not be written ({_reason(error)}): check the disk and the file ending."
            ) from error
        if nifti_fault(temporary) is not None:
            raise MMCCDError(
                f"{path} could not be written in full: free some disk space or choose a folder on another disk."
            )


def _read_image(path: Path) -> sitk.Image:
    try:
        fault = nifti_fault(path)
    except OSError as error:
        raise MMCCDError(f"{path} can't be opened ({error.strerror or error}): check its permissions.") from error
    if fault is not None:
        raise MMCCDError(f"{path} {fault}: copy or export it again.")
    uncompressed = path.with_suffix("")
    if path.name.lower().endswith(".nii.gz") and uncompressed.is_file():
        # ITK would take the geometry from the one and the voxels from the other.
        raise MMCCDError(f"{path} lies beside {uncompressed.name}, and ITK mixes the two up: move one of them elsewhere.")
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        if "orthonormal" not in str(error):
            raise MMCCDError(_why_not_read(path, error)) from error
    with _permissive_nifti_directions():
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError as error:
            raise MMCCDError(_why_not_read(path, error)) from error
    skew = _skew(image)
    if skew > 0.5 * min(image.GetSpacing()):
        raise MMCCDError(
            f"{path} has voxel axes that are not at right angles (up to {skew:.1f} mm off): resample it onto a "
            "rectangular grid."
        )
    return image


def _skew(image: sitk.Image) -> float:
    """How far (mm) the right-angled grid of ``image`` lies from the grid that its NIfTI header (sform) describes."""
    rows = np.array([[float(number) for number in image.GetMetaData(f"srow_{axis}").split()] for axis in "xyz"])
    # NIfTI positions are RAS, ITK's are LPS.
    affine = np.diag([-1.0, -1.0, 1.0]) @ rows
    geometry = Geometry.of(image)
    indices = np.array(list(itertools.product((0, 1), repeat=3))) * (np.array(geometry.size) - 1)
    described = indices @ affine[:, :3].T + affine[:, 3]
    return float(np.linalg.norm(described - geometry.corners(), axis=1).max())


@contextmanager
def _permissive_nifti_directions() -> Iterator[None]:
    """Let ITK bring skewed NIfTI directions to right angles, without a warning per file (it reads the switch each time)."""
    name = "ITK_NIFTI_SFORM_PERMISSIVE"
    before = os.environ.get(name)
    warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
    os.environ[name] = "1"
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _why_not_read(path: Path, error: Exception) -> str:
    if path.stat().st_size == 0:
        return f"{path} is empty (0 bytes): copy or export it again."
    if "Unable to determine ImageIO" in str(error):
        return f"{path} is not in an image format that can be read here: give NIfTI (.nii.gz), NRRD or MHA."
    # ITK's MetaImage reader hands on the operating system's last error, which for a truncated file is a misleading one.
    reason = "" if "No such file" in str(error) else f" ({_reason(error)})"
    return f"{path} can't be read as an image, it may be truncated{reason}: copy or export it again."


def _reason(error: Exception) -> str:
    """The last line of an ITK error, without the full stop and ITK's own marks."""
    return str(error).strip().splitlines()[-1].removeprefix("sitk::ERROR:").strip().rstrip(".")


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    # Adding 0.0 turns -0.0 into 0.0, which would look like a difference.
    return tuple(round(float(value), 5) + 0.0 for value in values)
