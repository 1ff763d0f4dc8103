"""Where the voxels of a NIfTI file lie: one rule for every file, the one of FSL, SPM, FreeSurfer and nibabel."""

from __future__ import annotations

import itertools

import numpy as np
from nibabel.nifti1 import Nifti1Header

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.limits import LEAST_DETERMINANT, check_edges, check_size
from mmccd_auto.imaging.volume import Geometry

# NIfTI positions are RAS, ours are LPS.
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
# Rounding to float32 of the header's numbers stays below these.
_SAME_EDGE = 1e-5
_RIGHT_ANGLE = 1e-5
_LARGEST_SKEW = 0.5
_TOLERANCE_MM, _TOLERANCE_EDGES = 0.01, 0.1


def nifti_geometry(header: Nifti1Header, size: tuple[int, int, int], name: str) -> tuple[Geometry, tuple[str, ...]]:
    """Find where a volume lies, and what in the header disagrees with that.

    The sform counts where its code is above 0, else the qform where its code is, else what pixdim says, as nibabel centres
    and turns it. Slight skew is brought to right angles.

    Parameters
    ----------
    header : of NIfTI-1 or NIfTI-2
    size : voxels along x, y, z
    name : the file, named in errors

    Returns
    -------
    geometry, and sentences on disagreement by more than a tenth of a voxel's smallest edge, which don't name the file

    Raises
    ------
    MMCCDError
        If the numbers that count are not finite or describe no grid of right angles.
    """
    check_size(size, name)
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    if header["sform_code"] > 0:
        affine = header.get_sform()
        geometry = _right_angled(affine, pixdim, size, name, "sform")
        return geometry, _disagreements(header, affine, pixdim, geometry)
    warnings = []
    if np.any(np.asarray(header["pixdim"][1:4]) < 0):
        warnings.append("The header gives voxel edges below 0 (pixdim), which are taken without their sign.")
    if header["qform_code"] > 0:
        affine = _qform(header, pixdim)
        if affine is None:
            raise MMCCDError(
                f"{name} has a qform that describes no rotation, and no sform: correct its header or export it again."
            )
        return _right_angled(affine, pixdim, size, name, "qform"), tuple(warnings)
    warnings.append(
        "The header doesn't say where the scan lies (sform_code and qform_code are 0): x is taken to run to the patient's "
        "left, y to the front and z up, as nibabel does; left and right may be exchanged."
    )
    return _right_angled(_by_pixdim(pixdim, size), pixdim, size, name, "pixdim"), tuple(warnings)


def _qform(header: Nifti1Header, pixdim: np.ndarray) -> np.ndarray | None:
    """Compute the qform's 4 x 4 matrix to RAS; None where it is none."""
    handed = float(header["pixdim"][0])
    if handed not in (-1.0, 0.0, 1.0):
        return None
    usual = header.copy()
    usual["pixdim"][1:4] = pixdim
    # 0 stands for 1 in files that never thought of it.
    usual["pixdim"][0] = handed or 1.0
    try:
        affine = usual.get_qform()
    except ValueError:
        # The three stored numbers are longer than a unit quaternion.
        return None
    return affine if np.isfinite(affine).all() else None


def _by_pixdim(pixdim: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Compute the 4 x 4 matrix to RAS of a header that gives voxel edges only."""
    affine = np.diag([-pixdim[0], pixdim[1], pixdim[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2)
    return affine


def _right_angled(affine: np.ndarray, pixdim: np.ndarray, size: tuple[int, int, int], name: str, source: str) -> Geometry:
    """Return the grid of right angles nearest to the one that ``affine`` (RAS) describes."""
    if not np.isfinite(affine).all():
        raise MMCCDError(
            f"{name} has NaN or infinite numbers in its {source}, which says where it lies: correct its header or export it "
            "again."
        )
    matrix, origin = _RAS_TO_LPS @ affine[:3, :3], _RAS_TO_LPS @ affine[:3, 3]
    edges = np.linalg.norm(matrix, axis=0)
    check_edges(tuple(float(edge) for edge in edges), name)
    direction = matrix / edges
    if abs(np.linalg.det(direction)) < LEAST_DETERMINANT:
        raise MMCCDError(f"{name} has voxel axes that lie in one plane ({source}): correct its header or export it again.")
    # The rounding of nine numbers says less of the edges than the three that give them.
    spacing = np.where(np.abs(pixdim - edges) <= _SAME_EDGE * edges, pixdim, edges)
    if np.abs(direction.T @ direction - np.eye(3)).max() > _RIGHT_ANGLE:
        left, _, right = np.linalg.svd(direction)
        direction = left @ right
    # Adding 0.0 turns -0.0 into 0.0.
    geometry = Geometry(size, triple(_floats(spacing)), triple(_floats(origin + 0.0)), _floats(direction.ravel() + 0.0))
    skew = _farthest(affine, geometry)
    if skew > _LARGEST_SKEW * edges.min():
        raise MMCCDError(
            f"{name} has voxel axes that are not at right angles (up to {skew:.1f} mm off, by its {source}): resample it "
            "onto a rectangular grid."
        )
    return geometry


def _disagreements(header: Nifti1Header, affine: np.ndarray, pixdim: np.ndarray, geometry: Geometry) -> tuple[str, ...]:
    """Return the sentences on what else the header says of the place that its sform gives."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    tolerance = max(_TOLERANCE_MM, _TOLERANCE_EDGES * float(edges.min()))
    found = []
    # Written so that NaN is reported, too.
    if not np.all(np.abs(pixdim - edges) * geometry.size <= tolerance):
        found.append(
            f"The header gives voxels of {_millimetres(pixdim)} mm (pixdim) and of {_millimetres(edges)} mm (sform): the "
            "sform counts."
        )
    if header["qform_code"] > 0:
        other = _qform(header, pixdim)
        if other is None:
            found.append("The header's qform describes no rotation: the sform counts.")
        elif (distance := _farthest(other, geometry)) > tolerance:
            found.append(
                f"The header's sform and qform place the scan up to {distance:.1f} mm apart: the sform counts (as in FSL, "
                "SPM, FreeSurfer and nibabel)."
            )
    return tuple(found)


def _farthest(affine: np.ndarray, geometry: Geometry) -> float:
    """Compute the largest distance (mm) of a voxel's places by a matrix to RAS and by a geometry; it is at a corner."""
    indices = np.array(list(itertools.product((0, 1), repeat=3))) * (np.array(geometry.size) - 1)
    described = (indices @ affine[:3, :3].T + affine[:3, 3]) @ _RAS_TO_LPS
    return float(np.linalg.norm(described - geometry.corners(), axis=1).max())


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _millimetres(edges: np.ndarray) -> str:
    return " x ".join(f"{edge:.4g}" for edge in edges)
