"""Which of the trained models a user means: one, or several for an ensemble."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import find_dataset
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.trained.installed_models import UnpackedModel, find_unpacked, installed_names
from mmccd_auto.trained.model_folder import BEST_FILE, ModelFolder, best_models, find_models
from mmccd_auto.trained.query import ModelQuery
from mmccd_auto.trained.ready_models import READY, describe_ready, find_ready, ready_modalities, ready_name, ready_names

logger = logging.getLogger(__name__)


def choose_models(
    folders: Folders, options: ModelQuery, ready_for: Callable[[Sequence[str]], str] | None = None
) -> list[ModelFolder]:
    """Choose the trained model that the options mean, or the models of an ensemble.

    An ensemble is meant where several model folders are named, or several configurations of which each has one model, or
    where mmccd_find_best_configuration chose one, also where it was exported and installed as one. Where nothing is trained,
    the only installed model is meant, and where none is installed either, with ``ready_for`` the ready one.

    Parameters
    ----------
    folders : results is used
    options : which model
    ready_for : says for which of the modalities of the ready models there are scans; None: a ready model stands in for
        nothing, and "ready" names that of the best modality

    Raises
    ------
    MMCCDError
        If there is none, or several could be meant; the message lists them.
    """
    if options.models:
        return [model for value in options.models for model in _named(value, folders, ready_for)]
    if options.dataset is None and not find_models(folders.results):
        installed = _only_installed(folders)
        if installed is not None:
            return installed
        if ready_for is not None and ready_names() and not _asks_for_trained(options):
            beginning = f"no model is trained or installed in {folders.results}, so this is "
            return _ready(ready_name(ready_for(ready_modalities())), beginning)
    meant = _meant(folders, options)
    if len(meant) == 1:
        return meant
    if len(options.configurations) > 1:
        by_configuration = [[model for model in meant if model.configuration == one] for one in options.configurations]
        if any(len(models) > 1 for models in by_configuration):
            raise _several(meant)
        return [model for (model,) in by_configuration]
    chosen = best_models(meant)
    if not chosen:
        raise _several(meant)
    logger.info("several models are trained: %s is the best by %s", " + ".join(one.path.name for one in chosen), BEST_FILE)
    return chosen


def choose_model(folders: Folders, options: ModelQuery) -> ModelFolder:
    """Choose the one trained model that the options mean, for what is done with one model at a time.

    Raises
    ------
    MMCCDError
        As :func:`choose_models`, or if an ensemble is meant.
    """
    chosen = choose_models(folders, options)
    if len(chosen) > 1:
        raise MMCCDError(f"this needs one model at a time: say which with -c, -tr and -p; there are: {_names(chosen)}.")
    return chosen[0]


def fitting(models: Sequence[ModelFolder], options: ModelQuery) -> list[ModelFolder]:
    """Select those of ``models`` that are of the configurations, trainer and plans of ``options``."""
    return [
        model
        for model in models
        if (not options.configurations or model.configuration in options.configurations)
        and options.trainer in (None, model.trainer)
        and options.plans_name in (None, model.plans_name)
    ]


def find_packed(value: str, results: str | Path) -> UnpackedModel | None:
    """Find the installed or ready model of a name, or the unpacked model file in a folder; None where it is none of these.

    Raises
    ------
    MMCCDError
        If its files are damaged.
    """
    unpacked = find_unpacked(value, results)
    return find_ready(value) if unpacked is None and value in ready_names() else unpacked


def _named(value: str, folders: Folders, ready_for: Callable[[Sequence[str]], str] | None = None) -> list[ModelFolder]:
    """Return the models of an installed model's name, or of the path of a model folder or an unpacked model file."""
    unpacked = find_unpacked(value, folders.results)
    if unpacked is not None:
        logger.info("model %s: %s", unpacked.path.resolve(), " + ".join(unpacked.manifest.models))
        return unpacked.models()
    if value in ready_names():
        if value == READY and ready_for is not None:
            return _ready(ready_name(ready_for(ready_modalities())))
        return _ready(value)
    if not Path(value).is_dir():
        names = ", ".join([*installed_names(folders.results), *ready_names()]) or "none"
        raise MMCCDError(f"{value} is neither an installed model (there are: {names}) nor a model folder: see mmccd_models.")
    return [ModelFolder(Path(value))]


def _ready(name: str, beginning: str = "") -> list[ModelFolder]:
    """Return the models of a ready model's name.

    ``beginning`` and what a user has to know of the model are said in one line.
    """
    ready = find_ready(name)
    logger.info("%s%s", beginning, describe_ready(ready))
    return ready.models()


def _asks_for_trained(options: ModelQuery) -> bool:
    return bool(options.configurations or options.trainer or options.plans_name)


def _only_installed(folders: Folders) -> list[ModelFolder] | None:
    """Return the models of the one installed model; None where none is installed."""
    names = installed_names(folders.results)
    if len(names) > 1:
        raise MMCCDError(f"several models are installed, so say which with --model; there are: {', '.join(names)}.")
    return _named(names[0], folders) if names else None


def _meant(folders: Folders, options: ModelQuery) -> list[ModelFolder]:
    dataset = None if options.dataset is None else find_dataset(folders.results, options.dataset, "results").name
    models = find_models(folders.results, dataset)
    if not models:
        where = folders.results if dataset is None else folders.results / dataset
        raise MMCCDError(
            f"{where} holds no trained model: run mmccd_train first, install one with mmccd_install_model, or name a model "
            "folder with -m."
        )
    meant = fitting(models, options)
    without = [one for one in options.configurations if one not in {model.configuration for model in meant}]
    if not meant or without:
        which = f" (of {', '.join(without)})" if meant else ""
        raise MMCCDError(f"no trained model is of this -c, -tr and -p{which}; there are: {_names(models)}.")
    return meant


def _several(models: Sequence[ModelFolder]) -> MMCCDError:
    return MMCCDError(
        "several models are trained, so say which with -d, -c, -tr and -p, or run mmccd_find_best_configuration; there "
        f"are: {_names(models)}."
    )


def _names(models: Sequence[ModelFolder]) -> str:
    return "; ".join(f"{model.path.parent.name} {model.path.name}" for model in models)
