"""The healthy slices that an anomaly is put into, and what they continue as beyond the brain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError


@dataclass(frozen=True)
class HealthyBlock:
    """Adjacent healthy slices of one modality, normalised as in mmccd_auto.preprocessing.normalisation.

    Attributes
    ----------
    case : the person; blocks of one name never give each other patches
    modality : as the dataset names it
    image : float32 [S, H, W], ``(raw - shift) * scale - 3`` inside the brain; S may be 1
    brain : bool [S, H, W], not empty
    spacing : mm between slices, rows and columns
    shift, scale : of the normalisation, so that raw intensities can be restored

    Raises
    ------
    MMCCDError
        If the arrays don't fit each other, there is no brain, or a value makes no sense.
    """

    case: str
    modality: str
    image: np.ndarray
    brain: np.ndarray
    spacing: tuple[float, float, float]
    shift: float
    scale: float

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape != self.brain.shape:
            self._refuse(f"image {self.image.shape} and brain {self.brain.shape} must have one shape [S, H, W]")
        if self.brain.dtype != bool or not self.brain.any():
            self._refuse("the brain mask must be of type bool and mark some brain")
        if not np.isfinite(self.image).all():
            self._refuse("the slices hold values that are not finite")
        if len(self.spacing) != 3 or not all(np.isfinite(edge) and edge > 0 for edge in self.spacing):
            self._refuse(f"the spacing {self.spacing} must be three lengths above 0 mm")
        if not (np.isfinite(self.shift) and np.isfinite(self.scale) and self.scale > 0):
            self._refuse(f"a normalisation of shift {self.shift} and scale {self.scale} can't be undone")

    def _refuse(self, fault: str) -> None:
        raise MMCCDError(
            f"{self.case}: no synthetic anomaly can be put into its {self.modality}, since {fault}: preprocess it again."
        )


def continued_beyond_brain(block: HealthyBlock) -> np.ndarray:
    """Compute the slices with every voxel outside the brain set to the nearest brain voxel's value.

    Of the same slice if it has any.

    Whoever samples near the brain's edge would otherwise draw the background into the brain.

    Returns
    -------
    float32 [S, H, W]
    """
    far = float(max(block.image.shape) * max(block.spacing))
    nearest = ndimage.distance_transform_edt(
        ~block.brain, sampling=(far, *block.spacing[1:]), return_distances=False, return_indices=True
    )
    return block.image[tuple(nearest)]
