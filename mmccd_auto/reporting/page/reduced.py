"""Volumes small enough for a page: coarser voxels and 8 bits, lying where the scan lies."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Len
from scipy import ndimage, sparse

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.orientation import canonical_geometry, to_canonical
from mmccd_auto.imaging.volume import Geometry, Volume

MOST_VOXELS = 6_000_000
MOST_BYTES = 2_150_000
"""Of a case's compressed volumes; as base64 they take a third more, which stays below 3 MB."""
LEVELS = 255
OUTSIDE, BRAIN, CANDIDATE, LESION = 0, 1, 2, 3
_COMPRESSION = 6
_LEAST_COARSENING = 1.08
_AXIS = {"x": 2, "y": 1, "z": 0}
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

Row = Annotated[tuple[float, ...], Len(4, 4)]
Affine = Annotated[tuple[Row, ...], Len(4, 4)]
Size = tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)], Annotated[int, Ge(1)]]


@dataclass(frozen=True)
class PageGrid:
    """Where the voxels of a page's volumes lie; its axes run closest to right, anterior and superior.

    Attributes
    ----------
    size : voxels along the axes nearest to right, anterior and superior
    affine : voxel index to RAS mm, as NIfTI has it
    """

    size: Size
    affine: Affine

    def matrix(self) -> np.ndarray:
        """Compute the affine as float64 [4, 4]."""
        return np.array(self.affine, dtype=float)

    def voxel_edges(self) -> np.ndarray:
        """Compute the edges of a voxel in mm, float64 [3]."""
        return np.linalg.norm(self.matrix()[:3, :3], axis=0)


@dataclass(frozen=True)
class PageVolume:
    """One volume of 8 bits: value = slope x level + intercept.

    Attributes
    ----------
    data : base64 of the zlib-compressed levels, the first axis running fastest
    slope, intercept : from levels to values
    """

    data: str
    slope: Annotated[float, Gt(0)]
    intercept: float

    def levels(self, size: Size) -> np.ndarray:
        """Compute the levels, uint8 [z, y, x] along S, A and R."""
        raw = zlib.decompress(base64.b64decode(self.data))
        return np.frombuffer(raw, dtype=np.uint8).reshape(tuple(reversed(size)))


def stored_affine(geometry: Geometry) -> np.ndarray:
    """Map the voxel index (i, j, k as NIfTI counts) to RAS mm of a volume as it is written, float64 [4, 4]."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing)
    affine[:3, 3] = geometry.origin
    return _TO_RAS @ affine


def full_grid(geometry: Geometry) -> PageGrid:
    """Return the grid of a scan with its axes turned to the nearest of R, A and S; no voxel moves."""
    turned = canonical_geometry(geometry)
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = np.array(turned.size[:2]) - 1
    return _grid(turned.size, stored_affine(turned) @ flip)


def turned_array(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Compute an array [z, y, x] of a scan with its axes turned as :func:`full_grid` says, [S, A, R]."""
    values = array.astype(np.uint8) if array.dtype == bool else array
    return to_canonical(Volume(values, geometry)).array[:, ::-1, ::-1]


@dataclass(frozen=True)
class Reduction:
    """From a full grid to a coarser one of the same field of view: every value is the mean over what a voxel covers.

    Attributes
    ----------
    full : the finer grid
    edge : mm; axes whose voxels are longer than this stay as they are
    """

    full: PageGrid
    edge: float

    def grid(self) -> PageGrid:
        """Return the coarser grid; its first voxel begins where the full grid's first voxel begins."""
        factors = self._factors()
        scale = np.diag([*factors, 1.0])
        scale[:3, 3] = (factors - 1) / 2
        return _grid(self._size(), self.full.matrix() @ scale)

    def mean(self, array: np.ndarray) -> np.ndarray:
        """Reduce an array [S, A, R] of the full grid, float32."""
        values = np.asarray(array, dtype=np.float32)
        for name, (factor, count) in zip("xyz", zip(self._factors(), self._size(), strict=True), strict=True):
            if factor > 1:
                values = _averaged(values, _AXIS[name], float(factor), count)
        return values

    def marked(self, array: np.ndarray) -> np.ndarray:
        """Reduce a mask [S, A, R], bool: voxels that it fills by half or more, and of anything smaller the fullest one."""
        if np.all(self._factors() == 1):
            return np.asarray(array) > 0
        share = self.mean(np.asarray(array) > 0)
        if not share.any():
            return share > 0
        return (share >= 0.5) | ((share > 0) & (share >= ndimage.maximum_filter(share, 3)))

    def _factors(self) -> np.ndarray:
        return np.maximum(1.0, self.edge / self.full.voxel_edges())

    def _size(self) -> tuple[int, int, int]:
        return triple(max(1, int(np.ceil(n / f - 1e-6))) for n, f in zip(self.full.size, self._factors(), strict=True))


def first_reduction(full: PageGrid) -> Reduction:
    """Return the finest reduction with at most :data:`MOST_VOXELS` voxels; none where the full grid is small enough."""
    reduction = Reduction(full, float(full.voxel_edges().min()))
    while np.prod(reduction.grid().size) > MOST_VOXELS:
        reduction = Reduction(full, reduction.edge * _LEAST_COARSENING)
    return reduction


def coarser(reduction: Reduction, compressed_bytes: int) -> Reduction:
    """Return a coarser reduction for volumes that took ``compressed_bytes``, more than :data:`MOST_BYTES`."""
    free = max(1, int(np.sum(reduction.full.voxel_edges() < reduction.edge * _LEAST_COARSENING)))
    factor = max(_LEAST_COARSENING, (compressed_bytes / MOST_BYTES) ** (1 / free))
    return Reduction(reduction.full, reduction.edge * factor)


def quantised(values: np.ndarray, low: float, high: float) -> PageVolume:
    """Store values [S, A, R] in 8 bits from ``low`` to ``high``; what lies beyond takes the end's level."""
    slope = (high - low) / LEVELS
    finite = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=low)
    levels = np.clip(np.rint((finite - low) / slope), 0, LEVELS).astype(np.uint8)
    return stored(levels, slope, low)


def stored(levels: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> PageVolume:
    """Compress levels, uint8 [S, A, R]."""
    packed = zlib.compress(np.ascontiguousarray(levels).tobytes(), _COMPRESSION)
    return PageVolume(base64.b64encode(packed).decode("ascii"), float(slope), float(intercept))


def _averaged(values: np.ndarray, axis: int, factor: float, count: int) -> np.ndarray:
    """Average along an axis over windows of ``factor`` voxels, each voxel weighing by the part of it that is covered."""
    length = values.shape[axis]
    starts = np.arange(count) * factor
    rows, columns, weights = [], [], []
    for row, start in enumerate(starts):
        end = min(start + factor, length)
        covered = np.arange(int(start), min(int(np.ceil(end)), length))
        parts = np.minimum(covered + 1, end) - np.maximum(covered, start)
        rows += [row] * len(covered)
        columns += covered.tolist()
        weights += (parts / parts.sum()).tolist()
    matrix = sparse.csr_matrix((np.array(weights, dtype=np.float32), (rows, columns)), shape=(count, length))
    moved = np.moveaxis(values, axis, 0)
    reduced = matrix @ moved.reshape(length, -1)
    return np.moveaxis(np.asarray(reduced).reshape(count, *moved.shape[1:]), 0, axis)


def _grid(size: tuple[int, ...], affine: np.ndarray) -> PageGrid:
    return PageGrid(triple(int(n) for n in size), tuple(tuple(float(v) + 0.0 for v in row) for row in affine))
