"""The anatomy: tissue probability maps that ship inside nilearn (ICBM 2009a, symmetric; nothing is downloaded)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template

from mmccd_auto.image_io import Geometry

TISSUES = ("white matter", "grey matter", "fluid")
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class TissueMaps:
    """Share of each tissue in every voxel.

    Attributes
    ----------
    shares : float32 [3, z, y, x] of TISSUES, within [0, 1]; their sum is the share of brain
    geometry : of these voxels
    """

    shares: np.ndarray
    geometry: Geometry


@lru_cache(maxsize=2)
def load_tissue_maps(resolution: int) -> TissueMaps:
    """The maps on an isotropic grid.

    Parameters
    ----------
    resolution : mm, whole
    """
    white = load_mni152_wm_template(resolution=resolution)
    grey = np.asarray(load_mni152_gm_template(resolution=resolution).dataobj, dtype=np.float32)
    brain = np.asarray(load_mni152_brain_mask(resolution=resolution).dataobj, dtype=np.float32)
    shares = np.stack([np.asarray(white.dataobj, dtype=np.float32), grey])
    shares = np.clip(shares, 0, 1) * brain
    shares /= np.maximum(shares.sum(axis=0), 1)
    fluid = brain - shares.sum(axis=0)
    return TissueMaps(
        np.ascontiguousarray(np.concatenate([shares, fluid[None]]).transpose(0, 3, 2, 1)),
        _geometry(white.affine, brain.shape),
    )


def _geometry(affine: np.ndarray, shape: tuple[int, ...]) -> Geometry:
    """A NIfTI affine (RAS) as SimpleITK tells it (LPS)."""
    columns = RAS_TO_LPS @ affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    return Geometry(
        tuple(int(edge) for edge in shape),
        tuple(float(edge) for edge in spacing),
        tuple(float(value) for value in RAS_TO_LPS @ affine[:3, 3]),
        tuple(float(value) for value in (columns / spacing).ravel()),
    )
