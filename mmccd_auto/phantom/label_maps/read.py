"""Label maps from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.file_names import volume_ending
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.label_maps.structures import LARGEST_NUMBER, STRUCTURES

LEAST_SHARE_OF_BRAIN = 0.005
LARGEST_EDGE_MM, LEAST_EDGE_MM = 2.0, 0.5


@dataclass(frozen=True)
class LabelMap:
    """The anatomy of one head.

    Attributes
    ----------
    numbers : int16 [z, y, x], keys of STRUCTURES; x leads to the left, y to the back, z to the head's top
    geometry : of these voxels, which are isotropic
    """

    numbers: np.ndarray
    geometry: Geometry

    @property
    def edge(self) -> float:
        """Edge of a voxel, mm."""
        return self.geometry.spacing[0]


def find_label_maps(folder: str | Path) -> list[Path]:
    """Find the label maps of a folder, by name.

    Raises
    ------
    MMCCDError
        If there are none.
    """
    folder = Path(folder)
    paths = (
        sorted(path for path in folder.iterdir() if path.is_file() and volume_ending(path.name)) if folder.is_dir() else []
    )
    if not paths:
        raise MMCCDError(f"{folder} holds no label maps: give a folder of NIfTI files with FreeSurfer numbers.")
    return paths


def read_label_map(path: str | Path) -> LabelMap:
    """Read a label map and turn it to the usual orientation.

    Raises
    ------
    MMCCDError
        If the file can't be read, its voxels aren't isotropic with edges of 0.5 to 2 mm, it holds numbers that no structure
        has, or hardly any brain.
    """
    image = sitk.DICOMOrient(read_volume(path, dtype=None).to_image(), "LPS")
    volume = Volume.from_image(image)
    spacing = np.array(volume.geometry.spacing)
    if np.ptp(spacing) > 0.01 * spacing.mean() or not LEAST_EDGE_MM <= spacing.mean() <= LARGEST_EDGE_MM:
        told = " x ".join(f"{edge:.3g}" for edge in spacing)
        raise MMCCDError(f"{path} has voxels of {told} mm: resample it to isotropic ones of 0.5 to 2 mm.")
    known = np.array(sorted(STRUCTURES))
    present = np.unique(volume.array)
    unknown = present[~np.isin(present, known)]
    if len(unknown):
        told = ", ".join(f"{value:g}" for value in unknown[:5])
        raise MMCCDError(f"{path} holds numbers that no structure has ({told}): give a map of FreeSurfer numbers.")
    numbers = volume.array.astype(np.int16)
    brain = np.zeros(LARGEST_NUMBER + 1, dtype=bool)
    brain[[number for number, structure in STRUCTURES.items() if structure.brain]] = True
    if brain[numbers].mean() < LEAST_SHARE_OF_BRAIN:
        raise MMCCDError(f"{path} holds hardly any brain: give a map of a whole head.")
    return LabelMap(numbers, volume.geometry)
