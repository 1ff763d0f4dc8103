"""What is done with trained models before they predict, as functions that a notebook can call too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mmccd_auto.errors import MMCCDError
from mmccd_auto.inference.calibrate import calibrate_model
from mmccd_auto.inference.calibration import Calibration
from mmccd_auto.inference.validation_maps import MAX_SLICES
from mmccd_auto.paths import Folders
from mmccd_auto.pipeline import PredictionOptions, choose_model
from mmccd_auto.training.model_folder import ModelFolder


def calibrate(
    folders: Folders,
    options: PredictionOptions,
    device: torch.device,
    max_slices: int = MAX_SLICES,
) -> Calibration:
    """Calibrate a trained model anew: after its plans.json was edited, for instance, or a training was continued.

    Parameters
    ----------
    folders : preprocessed and results are used
    options : which model; ``folds`` names the folds whose healthy slices are sent through the cycle again
    device : to compute on
    max_slices : healthy slices of one fold

    Raises
    ------
    MMCCDError
        If there is no such model, its dataset isn't preprocessed here, or it has no healthy slice.
    """
    model = choose_model(folders, options)
    return calibrate_model(
        model.path,
        preprocessed_folder(folders, model),
        options.folds,
        device=device,
        max_slices=max_slices,
        extensions=options.extensions,
    )


def preprocessed_folder(folders: Folders, model: ModelFolder) -> Path:
    """Where the slices are that a model was trained on.

    Raises
    ------
    MMCCDError
        If they aren't there.
    """
    path = folders.preprocessed / model.plan.dataset_name / model.plans_name
    if not path.is_dir():
        raise MMCCDError(f"{path} does not exist: preprocess {model.plan.dataset_name} first, or say where it is.")
    return path


def describe_calibration(calibration: Calibration, rates: Sequence[float] = (0.05, 0.01, 0.005, 0.001)) -> str:
    """Thresholds by false-positive rate, for the terminal."""
    lines = [f"calibrated on {calibration.source} of {len(calibration.subjects)} subject(s)"]
    lines += [
        f"  {rate:<6g} of healthy tissue scores above {calibration.threshold(rate):.3g}; lesions count from "
        f"{calibration.least_lesion_mm3(rate):.0f} mm3"
        for rate in rates
    ]
    return "\n".join(lines)
