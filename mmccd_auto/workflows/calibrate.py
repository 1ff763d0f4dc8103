"""Calibrate a trained model again: what mmccd_calibrate does."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.wording import counted
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.held_out.calibrate import calibrate_model, describe_reconstruction
from mmccd_auto.inference.options import MAX_SLICES, PredictionOptions
from mmccd_auto.inference.scores.calibration import Calibration
from mmccd_auto.inference.scores.found_rates import RATES, describe_found_rates, found_rates
from mmccd_auto.trained.model_folder import preprocessed_folder
from mmccd_auto.trained.select import choose_model


def calibrate(
    folders: Folders,
    options: PredictionOptions,
    device: torch.device,
    max_slices: int = MAX_SLICES,
) -> Calibration:
    """Calibrate a trained model again: after its plans.json was edited, for instance, or a training was continued.

    Parameters
    ----------
    folders : preprocessed and results are used
    options : which model; ``folds`` names the folds whose healthy slices are sent through the cycle again; ``fits`` says how
        often the scans' intensities are fitted
    device : to compute on
    max_slices : healthy slices of one fold

    Raises
    ------
    MMCCDError
        If there is no such model, its dataset isn't preprocessed here, or it has no healthy slice.
    """
    model = choose_model(folders, options)
    with folder_lock(model.path, "a calibration"):
        return calibrate_model(
            model.path,
            preprocessed_folder(folders, model),
            options.folds,
            device=device,
            max_slices=max_slices,
            extensions=options.extensions,
            fits=options.fits,
        )


def describe_calibration(calibration: Calibration, rates: Sequence[float] = RATES) -> str:
    """Describe the thresholds by false-positive rate, for the terminal.

    Also promised against found rates, and how well the reconstruction explains healthy tissue.
    """
    lines = [f"calibrated on {calibration.source} of {counted(len(calibration.subjects), 'subject')}"]
    lines.append(f"  {describe_reconstruction(calibration)}")
    lines += [
        f"  {rate:<6g} of healthy tissue scores above {calibration.threshold(rate):.3g}; lesions count from "
        f"{calibration.least_lesion_mm3(rate):.0f} mm3"
        for rate in rates
    ]
    return "\n".join(filter(None, [*lines, describe_found_rates(found_rates(calibration.subjects, rates))]))
