"""What no scan of a head can be: reported before memory is taken for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.volume import Geometry

SMALLEST_EDGE_MM, LARGEST_EDGE_MM = 0.05, 20.0
LARGEST_EXTENT_MM = 1000.0
FARTHEST_MM = 100_000.0
LARGEST_VOXELS = 2**29
# Deflate shrinks nothing by more than 1032.
LARGEST_INFLATION = 1100
LEAST_DETERMINANT = 1e-3


def check_geometry(geometry: Geometry, name: str) -> None:
    """Check that a volume can be one of a head, by its grid alone.

    The voxel's edges lie within 0.05 to 20 mm, no side is longer than 1 m, no voxel farther than 100 m from the origin, and
    there are no more than 2^29 of them (a whole head at 0.25 mm has that many).

    Parameters
    ----------
    name : the file or case, named in errors

    Raises
    ------
    MMCCDError
        If one of these doesn't hold, or one of the numbers is not finite.
    """
    check_size(geometry.size, name)
    check_edges(geometry.spacing, name)
    if not np.isfinite((*geometry.origin, *geometry.direction)).all():
        raise MMCCDError(f"{name} says that it lies at NaN or infinity: correct its header or export it again.")
    if abs(np.linalg.det(np.reshape(geometry.direction, (3, 3)))) < LEAST_DETERMINANT:
        raise MMCCDError(f"{name} has voxel axes that lie in one plane: correct its header or export it again.")
    extent = [size * edge for size, edge in zip(geometry.size, geometry.spacing, strict=True)]
    if max(extent) > LARGEST_EXTENT_MM:
        raise MMCCDError(
            f"{name} is {' x '.join(f'{side:.0f}' for side in extent)} mm large (voxels of {_listed(geometry.spacing)} mm), "
            f"more than any scan of a head (at most {LARGEST_EXTENT_MM:.0f} mm): correct the spacing in its header, which "
            "counts as millimetres, or crop it."
        )
    if np.abs(geometry.corners()).max() > FARTHEST_MM:
        raise MMCCDError(f"{name} lies more than {FARTHEST_MM / 1000:.0f} m from the scanner's centre: correct its header.")


def check_size(size: Sequence[int], name: str) -> None:
    """Check the number of voxels; raises as :func:`check_geometry`."""
    if min(size) < 1:
        raise MMCCDError(f"{name} has {_listed(size)} voxels, that is none: export it again.")
    voxels = math.prod(int(edge) for edge in size)
    if voxels > LARGEST_VOXELS:
        raise MMCCDError(
            f"{name} has {_listed(size)} voxels, more than can be handled ({LARGEST_VOXELS / 1e6:.0f} million): check its "
            "header, or crop or resample it."
        )


def check_edges(spacing: Sequence[float], name: str) -> None:
    """Check the edges of a voxel (mm); raises as :func:`check_geometry`."""
    # Written so that NaN is refused, too.
    if not all(SMALLEST_EDGE_MM <= edge <= LARGEST_EDGE_MM for edge in spacing):
        raise MMCCDError(
            f"{name} has voxels of {_listed(spacing)} mm, which no scan of a head has ({SMALLEST_EDGE_MM:g} to "
            f"{LARGEST_EDGE_MM:g} mm): correct the spacing in its header, which counts as millimetres."
        )


def check_promise(promised: int, stored: int, name: str) -> None:
    """Check that bytes which a header promises can come out of a compressed file of ``stored`` bytes.

    Raises
    ------
    MMCCDError
        If no compression holds that much.
    """
    if promised > LARGEST_INFLATION * stored:
        raise MMCCDError(
            f"{name} is truncated or its header is wrong (it promises {promised} bytes of voxels, and the file has "
            f"{stored}): copy or export it again."
        )


def _listed(numbers: Sequence[float]) -> str:
    return " x ".join(str(number) if isinstance(number, int) else f"{number:.4g}" for number in numbers)
