"""The anatomy: tissue probability maps that ship inside nilearn (ICBM 2009a, symmetric; nothing is downloaded)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template

from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.volume import Geometry

TISSUES = ("white matter", "grey matter", "deep grey matter", "fluid")
DEEP_GREY_CENTRE = (0.0, -3.0, 4.0)
DEEP_GREY_RADII = (33.0, 30.0, 18.0)
"""mm, MNI space (right, anterior, superior): the ellipsoid that holds caudate, putamen, pallidum and thalamus."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class TissueMaps:
    """Share of each tissue in every voxel.

    Attributes
    ----------
    shares : float32 [4, z, y, x] of TISSUES, within [0, 1]; their sum is the share of brain
    geometry : of these voxels
    """

    shares: np.ndarray
    geometry: Geometry


@lru_cache(maxsize=2)
def load_tissue_maps(resolution: int) -> TissueMaps:
    """Load the maps on an isotropic grid.

    Parameters
    ----------
    resolution : mm, whole
    """
    white = load_mni152_wm_template(resolution=resolution)
    grey = np.asarray(load_mni152_gm_template(resolution=resolution).dataobj, dtype=np.float32)
    brain = np.asarray(load_mni152_brain_mask(resolution=resolution).dataobj, dtype=np.float32)
    deep = grey * _deep_grey_region(white.affine, brain.shape)
    shares = np.stack([np.asarray(white.dataobj, dtype=np.float32), grey - deep, deep])
    shares = np.clip(shares, 0, 1) * brain
    shares /= np.maximum(shares.sum(axis=0), 1)
    fluid = brain - shares.sum(axis=0)
    return TissueMaps(
        np.ascontiguousarray(np.concatenate([shares, fluid[None]]).transpose(0, 3, 2, 1)),
        _geometry(white.affine, brain.shape),
    )


def _deep_grey_region(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return 1 inside the ellipsoid of the deep grey matter, 0 outside, soft in between; float32 [x, y, z]."""
    axes = [affine[axis, 3] + affine[axis, axis] * np.arange(edge) for axis, edge in enumerate(shape)]
    distance = np.sqrt(
        sum(
            ((positions - centre) / radius) ** 2
            for positions, centre, radius in zip(
                np.meshgrid(*axes, indexing="ij", sparse=True), DEEP_GREY_CENTRE, DEEP_GREY_RADII, strict=True
            )
        )
    )
    return (1 / (1 + np.exp(np.clip((distance - 1) / 0.05, -30, 30)))).astype(np.float32)


def _geometry(affine: np.ndarray, shape: tuple[int, ...]) -> Geometry:
    """Return a NIfTI affine (RAS) as SimpleITK gives it (LPS)."""
    columns = RAS_TO_LPS @ affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    return Geometry(
        triple(int(edge) for edge in shape),
        triple(float(edge) for edge in spacing),
        triple(float(value) for value in RAS_TO_LPS @ affine[:3, 3]),
        tuple(float(value) for value in (columns / spacing).ravel()),
    )
