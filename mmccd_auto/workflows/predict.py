"""Predict anomaly maps by trained models: what mmccd_predict does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from mmccd_auto.core.devices import choose_device
from mmccd_auto.core.processes.cluster.connection import Cluster
from mmccd_auto.core.processes.memory import keep_large_blocks
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.prediction.cases.at_workers import ALL_HERE, Elsewhere, Spread
from mmccd_auto.inference.prediction.ensemble import Ensemble
from mmccd_auto.inference.prediction.folder_run import RunSummary
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.prediction.scan_predictor import ScanPredictor
from mmccd_auto.trained.select import choose_models


def predict(
    folders: Folders,
    source: str | Path,
    output: str | Path,
    options: PredictionOptions,
    device: torch.device,
    spread: Spread = ALL_HERE,
) -> list[str]:
    """Predict anomaly maps for a file or a folder of scans.

    Parameters
    ----------
    folders : results is used, unless ``options.models`` names model folders
    source : a scan, a folder of scans, or DICOM (folder, zip archive, DICOMDIR)
    output : folder of the maps
    options : which model, how, and what is written
    device : to compute on
    spread : where the work is done (see :func:`elsewhere`), and on which part of the cases

    Returns
    -------
    one sentence for each case that could not be predicted; empty when all went well

    Raises
    ------
    MMCCDError
        If there is no such model, several could be meant, the input holds no case, or a control is asked for that the model
        doesn't have.
    """
    return run_predictor(load_predictor(folders, options, device), source, output, options, spread).failed


def run_predictor(
    predictor: ScanPredictor,
    source: str | Path,
    output: str | Path,
    options: PredictionOptions,
    spread: Spread = ALL_HERE,
) -> RunSummary:
    """Predict by a model that is loaded; the parameters are those of :func:`predict`."""
    return predictor.predict_folder(
        source,
        output,
        brain_masks=options.brain_masks,
        save_cycle=options.save_cycle,
        save_control=options.save_control,
        continue_prediction=options.continue_prediction,
        export=options.export,
        report=options.report,
        spread=spread,
    )


def elsewhere(cluster: Cluster, folders: Folders, options: PredictionOptions, device: str = "auto") -> Elsewhere:
    """Give the workers of a cluster, each of which loads the model once and keeps it from case to case.

    Parameters
    ----------
    cluster : connected
    folders, options : as of :func:`predict`
    device : of the workers: its name, or "auto" for the best that each of them has
    """
    return Elsewhere(cluster, partial(_load_at_worker, folders, options, device))


def _load_at_worker(folders: Folders, options: PredictionOptions, device: str) -> ScanPredictor:
    return load_predictor(folders, options, choose_device(device))


def load_predictor(folders: Folders, options: PredictionOptions, device: torch.device) -> ScanPredictor:
    """The model that is meant, or the ensemble of several; the ready one where nothing is trained or installed.

    Raises
    ------
    MMCCDError
        As :func:`mmccd_auto.trained.select.choose_models`, or if the models can't be loaded or don't fit together.
    """
    if device.type == "cpu":
        keep_large_blocks()
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
