"""What is known to be abnormal in a scan that a calibration takes for healthy, with a margin."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.labels import check_inside_brain

NEAR_ABNORMAL_MM = 6.0
"""Tissue nearer than this to what is marked isn't taken for healthy: marks are rarely drawn to the last voxel."""
LEAST_HEALTHY_SHARE = 0.1
"""Of a brain that a calibration counts."""


def near_abnormal(case: str, anomaly: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Find what is marked, and what is within NEAR_ABNORMAL_MM of it, bool [S, H, W].

    Parameters
    ----------
    case : named in errors
    anomaly : [S, H, W], nonzero where something abnormal is known; not empty
    brain : bool [S, H, W]
    spacing : mm between slices, rows and columns

    Raises
    ------
    MMCCDError
        If the marks lie elsewhere than the brain, or leave too little of it.
    """
    check_inside_brain(case, anomaly > 0, brain)
    near = ndimage.distance_transform_edt(anomaly == 0, sampling=spacing) <= NEAR_ABNORMAL_MM
    left = float((brain & ~near).sum() / brain.sum())
    if left < LEAST_HEALTHY_SHARE:
        raise MMCCDError(
            f"{case}: what its label marks, and {NEAR_ABNORMAL_MM:g} mm around it, leaves {100 * left:.0f} % of the brain "
            "as healthy tissue: mark what is abnormal alone, or leave the scan out."
        )
    return near
