"""One orientation for every volume, and the exact way back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.volume import Geometry, Volume

SLICE_AXIS_POSITION = {"axial": 0, "coronal": 1, "sagittal": 2}
TIE_DECIMALS = 6


def to_canonical(volume: Volume) -> Volume:
    """Turn a volume to LPS by swapping and flipping axes; no voxel value changes.

    An oblique volume stays oblique: its axes become those that together lie closest to left, posterior and superior. The
    48 ways of storing one scan give the same array and the same geometry (up to the rounding of the origin).

    Returns
    -------
    x runs to the patient's left, y to posterior, z to superior; the array is contiguous

    Examples
    --------
    A volume that was stored from left to right and from back to front (RAS):

    >>> ras = Geometry((2, 2, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    >>> turned = to_canonical(Volume(np.array([[[1, 2], [3, 4]]]), ras))
    >>> turned.array.tolist()
    [[[4, 3], [2, 1]]]
    >>> from_canonical(turned, ras).array.tolist()
    [[[1, 2], [3, 4]]]
    """
    turn = _Turn.to_lps(volume.geometry)
    return Volume(np.ascontiguousarray(turn.forward(volume.array)), canonical_geometry(volume.geometry))


def from_canonical(volume: Volume, original: Geometry) -> Volume:
    """Return the inverse of :func:`to_canonical`: ``volume`` in the axes of ``original``, whose geometry it gets exactly."""
    array = _Turn.to_lps(original).backward(volume.array)
    if array.shape != tuple(reversed(original.size)):
        raise ValueError(f"a canonical volume of size {volume.geometry.size} does not come from one of {original.size}")
    return Volume(np.ascontiguousarray(array), original)


def canonical_geometry(geometry: Geometry) -> Geometry:
    """Return what :func:`to_canonical` makes of a geometry."""
    turn = _Turn.to_lps(geometry)
    direction = _direction(geometry)
    last = (np.asarray(geometry.size) - 1) * geometry.spacing
    flipped = np.zeros(3)
    for axis, sign in zip(turn.axes, turn.signs, strict=True):
        flipped[axis] = last[axis] if sign < 0 else 0.0
    return Geometry(
        size=triple(geometry.size[axis] for axis in turn.axes),
        spacing=triple(geometry.spacing[axis] for axis in turn.axes),
        origin=triple(float(value) for value in np.asarray(geometry.origin) + direction @ flipped),
        direction=tuple(float(value) for value in (direction[:, list(turn.axes)] * turn.signs).ravel()),
    )


def slice_axis_first(array: np.ndarray, slice_axis: str) -> np.ndarray:
    """Compute the slices of a canonical array.

    Parameters
    ----------
    array : [z, y, x] in LPS
    slice_axis : "axial" gives [z, y, x], "coronal" [y, z, x], "sagittal" [x, z, y]

    Returns
    -------
    [S, H, W], a view
    """
    return np.moveaxis(array, SLICE_AXIS_POSITION[slice_axis], 0)


def from_slice_axis_first(array: np.ndarray, slice_axis: str) -> np.ndarray:
    """Compute the inverse of :func:`slice_axis_first`: [S, H, W] -> [z, y, x], a view."""
    return np.moveaxis(array, 0, SLICE_AXIS_POSITION[slice_axis])


@dataclass(frozen=True)
class _Turn:
    """Which stored axis (x, y, z = 0, 1, 2) becomes x, y, z of LPS, and with which sign."""

    axes: tuple[int, int, int]
    signs: tuple[int, int, int]

    @classmethod
    def to_lps(cls, geometry: Geometry) -> _Turn:
        """Return the turn whose axes lie closest to L, P and S.

        At exactly 45 degrees two turns are equally close; the choice then falls on the larger direction matrix, which
        depends on where the axes point and not on the order in which they are stored.
        """
        direction = _direction(geometry)

        def preference(axes: tuple[int, ...]) -> tuple[float, ...]:
            turned = direction[:, list(axes)] * _signs(direction, axes)
            return round(float(np.trace(turned)), TIE_DECIMALS), *(np.round(turned, TIE_DECIMALS) + 0.0).ravel().tolist()

        closest = max(permutations(range(3)), key=preference)
        axes = triple(closest)
        return cls(axes, _signs(direction, axes))

    def forward(self, array: np.ndarray) -> np.ndarray:
        """Turn stored [z, y, x] to canonical [z, y, x], a view."""
        turned = np.transpose(array, [2 - axis for axis in reversed(self.axes)])
        return turned[self._flips()]

    def backward(self, array: np.ndarray) -> np.ndarray:
        """Turn canonical [z, y, x] to stored [z, y, x], a view."""
        order = [2 - axis for axis in reversed(self.axes)]
        return np.transpose(array[self._flips()], np.argsort(order))

    def _flips(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, sign) for sign in reversed(self.signs))


def _direction(geometry: Geometry) -> np.ndarray:
    return np.asarray(geometry.direction, dtype=float).reshape(3, 3)


def _signs(direction: np.ndarray, axes: tuple[int, ...]) -> tuple[int, int, int]:
    return triple(1 if direction[row, axis] >= 0 else -1 for row, axis in enumerate(axes))
