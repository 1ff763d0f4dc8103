"""Scores that need no network: how bright (or dark) a voxel is, as it is and smoothed, and the control of a model."""

from __future__ import annotations

import numpy as np

from mmccd_auto.imaging.contrasts import lesions_expected_dark
from mmccd_auto.preprocessing.normalisation import normalise

CONTROL = "control"
"""A model's score with one constant in place of the reconstruction, see mmccd_auto.inference.scores.control."""

INTENSITY = "intensity"
SMOOTHED_INTENSITY = "smoothed intensity"

SMOOTHING_MM = 3.0
"""Standard deviation of the smoothed baseline: about the size of a small lesion, and fixed before any label was seen."""


def intensity_score(image: np.ndarray, brain: np.ndarray, modality: str, name: str) -> np.ndarray:
    """Compute the baseline: how bright a voxel is (or how dark, where lesions are dark), in units that compare across scans.

    Meissen et al. 2021 showed that this beats many published methods on FLAIR. The image is normalised as for the model
    (2nd percentile of the brain at -3, 90th at +3); on modalities with dark lesions the sign is turned.

    Parameters
    ----------
    image : float [z, y, x]
    brain : bool [z, y, x]
    modality : of the image, see :func:`mmccd_auto.imaging.contrasts.lesions_expected_dark`
    name : of the image, named in errors

    Returns
    -------
    float32 [z, y, x], meaningful inside the brain

    Raises
    ------
    MMCCDError
        If the image has no contrast inside the brain.
    """
    normalised, _ = normalise(image, brain, "percentile", name)
    return -normalised if lesions_expected_dark(modality) else normalised
