"""Predict anomaly maps by trained models: what mmccd_predict does."""

from __future__ import annotations

from pathlib import Path

import torch

from mmccd_auto.core.processes.memory import keep_large_blocks
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.prediction.ensemble import Ensemble
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.prediction.scan_predictor import ScanPredictor
from mmccd_auto.trained.select import choose_models


def predict(
    folders: Folders,
    input_path: str | Path,
    output: str | Path,
    options: PredictionOptions,
    device: torch.device,
    brain_masks: str | Path | None = None,
    save_cycle: bool = False,
    continue_prediction: bool = False,
    report: bool = True,
    save_control: bool = False,
) -> list[str]:
    """Predict anomaly maps for a file or a folder of scans.

    Parameters
    ----------
    folders : results is used, unless ``options.models`` names model folders
    input_path : a scan, a folder of scans, or DICOM (folder, zip archive, DICOMDIR)
    output : folder of the maps
    options : which model, and how
    device : to compute on
    brain_masks : folder of CASE.nii.gz
    save_cycle : also write the mean cycle, the signed error and the two halves of the score
    continue_prediction : keep what is finished
    report : also write report.html, the page to open
    save_control : also write the control, the score without a network, which mmccd_evaluate sets beside the map

    Returns
    -------
    one sentence for each case that could not be predicted; empty when all went well

    Raises
    ------
    MMCCDError
        If there is no such model, several could be meant, the input holds no case, or a control is asked for that the model
        doesn't have.
    """
    if device.type == "cpu":
        keep_large_blocks()
    predictor = load_predictor(folders, options, device)
    summary = predictor.predict_folder(
        input_path,
        output,
        brain_masks=brain_masks,
        save_cycle=save_cycle,
        save_control=save_control,
        continue_prediction=continue_prediction,
        export=options.export,
        report=report,
    )
    return summary.failed


def load_predictor(folders: Folders, options: PredictionOptions, device: torch.device) -> ScanPredictor:
    """The model that is meant, or the ensemble of several; the ready one where nothing is trained or installed.

    Raises
    ------
    MMCCDError
        As :func:`mmccd_auto.trained.select.choose_models`, or if the models can't be loaded or don't fit together.
    """
    paths = [model.path for model in choose_models(folders, options, else_ready=True)]
    loading = {
        "folds": options.folds,
        "preset": options.preset,
        "sampling_steps": options.sampling_steps,
        "strip_stride": options.strip_stride,
        "strips_per_pass": options.strips_per_pass,
        "fits": options.fits,
        "precision": options.precision,
        "batch_size": options.batch_size,
        "score": options.score,
        "false_positive_rate": options.false_positive_rate,
        "threshold": options.threshold,
        "least_lesion_mm3": options.least_lesion_mm3,
        "device": device,
        "extensions": options.extensions,
        "brain_extraction": options.brain_extraction,
    }
    if len(paths) == 1:
        return Predictor.from_model_folder(paths[0], **loading)
    return Ensemble.from_model_folders(paths, **loading)
