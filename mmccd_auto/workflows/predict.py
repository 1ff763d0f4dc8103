"""Predict anomaly maps by trained models: what mmccd_predict does."""

from __future__ import annotations

from collections.abc import Sequence
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
from mmccd_auto.workflows.running.ready_modality import ready_modality_of


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
    return run_predictor(load_predictor(folders, options, device, source, output), source, output, options, spread).failed


def run_predictor(
    predictor: ScanPredictor,
    source: str | Path,
    output: str | Path,
    options: PredictionOptions,
    spread: Spread = ALL_HERE,
) -> RunSummary:
    """Predict by a model that is loaded; the parameters are those of :func:`predict`."""
    return predictor.predict_folder(source, output, options, spread)


def elsewhere(
    cluster: Cluster,
    folders: Folders,
    options: PredictionOptions,
    source: str | Path,
    output: str | Path,
    device: str = "auto",
) -> Elsewhere:
    """Describe the workers of a cluster, each of which loads the model once and keeps it from case to case.

    Parameters
    ----------
    cluster : connected
    folders, options, source, output : as of :func:`predict`, so that a worker loads the model that is loaded there
    device : of the workers: its name, or "auto" for the best that each of them has
    """
    return Elsewhere(cluster, partial(_load_at_worker, folders, options, device, source, output))


def _load_at_worker(
    folders: Folders, options: PredictionOptions, device: str, source: str | Path, output: str | Path
) -> ScanPredictor:
    return load_predictor(folders, options, choose_device(device), source, output)


def load_predictor(
    folders: Folders,
    options: PredictionOptions,
    device: torch.device,
    source: str | Path | None = None,
    output: str | Path = "",
) -> ScanPredictor:
    """Load the model that is meant, or the ensemble of several; a ready one where nothing is trained or installed.

    Parameters
    ----------
    folders, options, device, source, output : see :func:`predict`; by what the source holds a ready model is chosen,
        of FLAIR where the scans are still to come (None)

    Raises
    ------
    MMCCDError
        As :func:`mmccd_auto.trained.select.choose_models`, or if the models can't be loaded or don't fit together.
    """
    if device.type == "cpu":
        keep_large_blocks()

    def ready_for(ready: Sequence[str]) -> str:
        return ready[0] if source is None else ready_modality_of(source, output, ready, options.export)

    models = choose_models(folders, options, ready_for)
    paths = [model.path for model in models]
    if len(paths) == 1:
        return Predictor.from_model_folder(paths[0], options, device)
    return Ensemble.from_model_folders(paths, options, device)
