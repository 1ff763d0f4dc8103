"""Which of the trained models a user means."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.datasets import find_dataset
from mmccd_auto.errors import MMCCDError
from mmccd_auto.inference.folder_prediction import NIFTI_ONLY, ExportOptions
from mmccd_auto.paths import Folders
from mmccd_auto.training.model_folder import BEST_FILE, ModelFolder, best_model, find_models

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionOptions:
    """Which model predicts and how; see the command's help for each."""

    model: str | None = None
    dataset: str | None = None
    configuration: str | None = None
    trainer: str | None = None
    plans_name: str | None = None
    folds: tuple[str, ...] | None = None
    preset: str = "plan"
    sampling_steps: int | None = None
    strip_stride: int | None = None
    batch_size: int | None = None
    score: str | None = None
    false_positive_rate: float | None = None
    threshold: float | None = None
    least_lesion_mm3: float | None = None
    extensions: tuple[str, ...] = ()
    brain_extraction: str = "auto"
    export: ExportOptions = NIFTI_ONLY


def choose_model(folders: Folders, options: PredictionOptions) -> ModelFolder:
    """The one trained model that the options mean.

    Raises
    ------
    MMCCDError
        If there is none, or several could be meant; the message lists them.
    """
    if options.model is not None:
        return ModelFolder(Path(options.model))
    dataset = None if options.dataset is None else find_dataset(folders.results, options.dataset).name
    models = find_models(folders.results, dataset)
    if not models:
        where = folders.results if dataset is None else folders.results / dataset
        raise MMCCDError(f"{where} holds no trained model: run mmccd_train first, or name a model folder with -m.")
    meant = [
        model
        for model in models
        if options.configuration in (None, model.configuration)
        and options.trainer in (None, model.trainer)
        and options.plans_name in (None, model.plans_name)
    ]
    names = "; ".join(f"{model.path.parent.name} {model.path.name}" for model in meant or models)
    if not meant:
        raise MMCCDError(f"no trained model is of this -c, -tr and -p; there are: {names}.")
    if len(meant) > 1 and (best := best_model(meant)) is not None:
        logger.info("several models are trained: %s is the best by %s", best.path.name, BEST_FILE)
        return best
    if len(meant) > 1:
        raise MMCCDError(
            "several models are trained, so say which with -d, -c, -tr and -p, or run mmccd_find_best_configuration; there "
            f"are: {names}."
        )
    return meant[0]
