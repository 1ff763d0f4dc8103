"""How large a lesion is and where its centre lies, from its voxels alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.inference.scores.masks import NEIGHBOURS

PAIRS_AT_ONCE = 1000


@dataclass(frozen=True)
class LesionMeasures:
    """One connected part of a mask.

    Attributes
    ----------
    voxels : index of each voxel, int [N, 3] in the order of the array, z, y, x
    volume_ml : millilitres
    longest_diameter_mm : see :func:`longest_diameter`
    peak_score, mean_score : of its voxels
    centre_lps_mm : mean of the voxels' centres, mm (LPS)
    centre_voxel : index i, j, k (x, y, z) of the voxel of the lesion that lies nearest to this
    """

    voxels: np.ndarray
    volume_ml: float
    longest_diameter_mm: float
    peak_score: float
    mean_score: float
    centre_lps_mm: tuple[float, float, float]
    centre_voxel: tuple[int, int, int]


def measure_lesions(
    mask: np.ndarray, score: np.ndarray, geometry: Geometry, most: int | None = None
) -> list[LesionMeasures]:
    """Measure each connected part (26 neighbours) of a mask.

    Parameters
    ----------
    mask : uint8 or bool [z, y, x]
    score : float [z, y, x]
    geometry : of these voxels
    most : so many parts at most, the largest; None measures all

    Returns
    -------
    the largest first; of equal ones, the one with the higher peak, then the first in the array
    """
    parts = sorted(_parts(np.asarray(mask) > 0), key=lambda voxels: (-len(voxels), -float(score[tuple(voxels.T)].max())))
    return [_measured(voxels, score, geometry) for voxels in parts[:most]]


def _parts(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the voxels, int [N, 3], of each connected part, in the order of the array."""
    labels, _ = ndimage.label(mask, structure=NEIGHBOURS)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        yield np.argwhere(labels[box] == number) + [edge.start for edge in box]


def _measured(voxels: np.ndarray, score: np.ndarray, geometry: Geometry) -> LesionMeasures:
    positions, scores = positions_of(voxels, geometry), score[tuple(voxels.T)]
    centre = positions.mean(axis=0)
    nearest = voxels[np.linalg.norm(positions - centre, axis=1).argmin()]
    return LesionMeasures(
        voxels=voxels,
        volume_ml=len(voxels) * geometry.voxel_volume / 1000,
        longest_diameter_mm=longest_diameter(voxels, geometry),
        peak_score=float(scores.max()),
        mean_score=float(scores.mean(dtype=np.float64)),
        centre_lps_mm=triple(float(value) for value in centre),
        centre_voxel=triple(int(value) for value in nearest[::-1]),
    )


def positions_of(voxels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Give the centres of voxels in mm (LPS), float64 [N, 3].

    Parameters
    ----------
    voxels : int [N, 3], z, y, x
    """
    return (voxels[:, ::-1] * geometry.spacing) @ np.reshape(geometry.direction, (3, 3)).T + geometry.origin


def longest_diameter(voxels: np.ndarray, geometry: Geometry) -> float:
    """Measure the longest straight line through a lesion, from outer edge to outer edge, in mm.

    The largest distance between the centres of two voxels, exactly (over the corners of the convex hull), and the length of
    one voxel along this line, half at each end. So it is exact for bricks of voxels along their edges and diagonals; a
    lesion of one voxel has that voxel's longest edge.

    Parameters
    ----------
    voxels : int [N, 3], z, y, x
    geometry : of the voxels
    """
    if len(voxels) == 1:
        return float(max(geometry.spacing))
    corners = _hull_corners(_ends_of_rows(voxels))
    positions = positions_of(corners, geometry)
    longest, pair = 0.0, (0, 0)
    # All pairs at once would fill the memory where a lesion has thousands of corners.
    for start in range(0, len(positions), PAIRS_AT_ONCE):
        distances = cdist(positions[start : start + PAIRS_AT_ONCE], positions)
        here, there = np.unravel_index(int(distances.argmax()), distances.shape)
        if distances[here, there] > longest:
            longest, pair = float(distances[here, there]), (start + int(here), int(there))
    steps = np.abs(corners[pair[1]] - corners[pair[0]])[::-1]
    # In units of voxels the line advances by ``steps``: one voxel ends where the first axis has advanced by 1.
    return longest * (1 + 1 / float(steps.max()))


def _ends_of_rows(voxels: np.ndarray) -> np.ndarray:
    """Compute the first and the last voxel of each row along x: no other one can be a corner of the hull."""
    _, rows = np.unique(voxels[:, :2], axis=0, return_inverse=True)
    order = np.lexsort((voxels[:, 2], rows.ravel()))
    ordered, numbers = voxels[order], rows.ravel()[order]
    changes = np.flatnonzero(np.diff(numbers)) + 1
    ends = np.unique(np.concatenate([[0], changes - 1, changes, [len(ordered) - 1]]))
    return ordered[ends]


def _hull_corners(points: np.ndarray) -> np.ndarray:
    """Compute the corners of the convex hull of points, int [M, 3].

    They may lie in one plane, on one line or in one place.
    """
    differences = points - points[0]
    _, sizes, axes = np.linalg.svd(differences.astype(float), full_matrices=False)
    rank = int(np.count_nonzero(sizes > 1e-6 * max(float(sizes[0]), 1.0)))
    if rank == 0:
        return points[:1]
    # The hull doesn't change with the axes, so that it is sought among as many as the points need.
    coordinates = differences @ axes[:rank].T
    if rank == 1:
        return points[[int(coordinates.argmin()), int(coordinates.argmax())]]
    if len(points) <= rank + 1:
        return points
    try:
        return points[ConvexHull(coordinates).vertices]
    except QhullError:
        # Too flat for the hull's arithmetic: every point may be a corner.
        return points
