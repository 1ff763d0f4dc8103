"""A volume, and where it lies in the patient."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Where a volume lies in the patient, as SimpleITK gives it (LPS, axes x, y, z).

    Attributes
    ----------
    size : voxels along x, y, z
    spacing : mm along x, y, z
    origin : mm, centre of the first voxel
    direction : 9 numbers, the direction cosines row by row

    Examples
    --------
    >>> grid = Geometry((240, 240, 22), (0.9, 0.9, 6.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    >>> round(grid.voxel_volume, 2)
    4.86
    >>> moved = Geometry(grid.size, grid.spacing, (0.0, 0.0, 3.0), grid.direction)
    >>> grid.differences(moved)
    ['origin (0.0, 0.0, 0.0) against (0.0, 0.0, 3.0)', 'voxels up to 3 mm apart']
    """

    size: tuple[int, int, int]
    spacing: Triple
    origin: Triple
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Geometry:
        """Return the geometry of a SimpleITK image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Geometry:
        """Return the inverse of :meth:`to_json`."""
        return cls(**{name: tuple(values) for name, values in content.items()})

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold."""
        return {name: list(values) for name, values in asdict(self).items()}

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm3."""
        return float(np.prod(self.spacing))

    def corners(self) -> np.ndarray:
        """Compute the positions of the centres of the eight corner voxels, float64 [8, 3] (x, y, z), mm."""
        steps = np.array(list(itertools.product((0, 1), repeat=3))) * (np.array(self.size) - 1) * self.spacing
        return steps @ np.reshape(self.direction, (3, 3)).T + self.origin

    def differences(self, other: Geometry) -> list[str]:
        """Describe what differs from ``other`` by more than rounding, in words; empty when both are one grid.

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
    warnings : what whoever uses the volume should know of its file, in sentences that don't name the file

    Examples
    --------
    >>> import SimpleITK as sitk
    >>> image = sitk.Image(240, 256, 22, sitk.sitkFloat32)
    >>> image.SetSpacing((0.9, 0.9, 6.0))
    >>> volume = Volume.from_image(image)
    >>> volume.array.shape  # z, y, x: the other way round than SimpleITK counts
    (22, 256, 240)
    >>> volume.to_image().GetSize()
    (240, 256, 22)
    """

    array: np.ndarray
    geometry: Geometry
    warnings: tuple[str, ...] = ()

    def to_image(self) -> sitk.Image:
        """Return the volume as a SimpleITK image."""
        return image_from_array(self.array, self.geometry)

    @classmethod
    def from_image(cls, image: sitk.Image) -> Volume:
        """Return the volume held by a SimpleITK image."""
        return cls(sitk.GetArrayFromImage(image), Geometry.of(image))


def image_from_array(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """Return a SimpleITK image of ``array`` [z, y, x] lying as ``geometry`` says; bool becomes uint8."""
    if array.shape != tuple(reversed(geometry.size)):
        raise ValueError(f"array of shape {array.shape} does not fit a geometry of size {geometry.size} (x, y, z)")
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    # Adding 0.0 turns -0.0 into 0.0, which would look like a difference.
    return tuple(round(float(value), 5) + 0.0 for value in values)
