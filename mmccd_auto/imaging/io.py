"""The one door for volumes: whatever is read or written as one goes through here, by one rule for where it lies."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.readable_names import check_readable_name
from mmccd_auto.imaging.formats.itk_formats import quiet_itk, read_by_itk, read_geometry_by_itk, reason
from mmccd_auto.imaging.formats.nifti import is_complete, is_nifti, read_nifti, read_nifti_geometry
from mmccd_auto.imaging.volume import Geometry, Volume, image_from_array

logger = logging.getLogger(__name__)


def read_volume(path: str | Path, dtype: type | None = np.float32, warn: bool = True) -> Volume:
    """Read one 3D volume, with the values that it holds: NaN stays NaN.

    Where a NIfTI file lies is given by its sform where the sform's code is above 0, else by its qform, else by pixdim.

    Parameters
    ----------
    path : NIfTI (.nii.gz, .nii, .hdr and .img), NRRD or MetaImage
    dtype : of the returned array; None keeps the file's own
    warn : log the volume's warnings; without it the caller has to pass them on

    Raises
    ------
    MMCCDError
        If the file is missing, broken or truncated, isn't one volume of real numbers, or can't be a scan of a head by its
        size in voxels or millimetres.
    """
    path = Path(path)
    check_readable_name(path)
    volume = read_nifti(path) if is_nifti(path) else read_by_itk(path)
    if warn:
        for warning in volume.warnings:
            logger.warning("%s: %s", path, warning)
    if dtype is None or volume.array.dtype == dtype:
        return volume
    with np.errstate(over="ignore"):
        return Volume(volume.array.astype(dtype), volume.geometry, volume.warnings)


def read_geometry(path: str | Path) -> Geometry:
    """Read the geometry of a volume without its voxels. Raises like :func:`read_volume`; logs nothing."""
    path = Path(path)
    check_readable_name(path)
    return read_nifti_geometry(path) if is_nifti(path) else read_geometry_by_itk(path)


def write_volume(array: np.ndarray, geometry: Geometry, path: str | Path) -> None:
    """Write ``array`` [z, y, x] lying as ``geometry`` says, compressed and atomically; the type is the array's.

    A NIfTI file gets an sform and a qform that are equal, both with a code, so that every program finds the volume there.

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
            with quiet_itk():
                sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise MMCCDError(
                f"{path} could not be written ({reason(error)}): check the disk and the file ending."
            ) from error
        if is_nifti(temporary) and not is_complete(temporary):
            raise MMCCDError(
                f"{path} could not be written in full: free some disk space or choose a folder on another disk."
            )
