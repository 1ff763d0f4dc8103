"""Everything that can be wrong with the content of a model from elsewhere, looked at before it is installed."""

from __future__ import annotations

from pathlib import Path

import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.datasets.dataset import DATASET_FILE
from mmccd_auto.inference.maps.fold_model import load_fold
from mmccd_auto.inference.scores.calibration import load_calibration
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.plans.plan import PLANS_FILE
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.manifest import Manifest
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, ModelFolder, handed_on
from mmccd_auto.trained.portable.model_card import CARD_FILE, CARD_TEXT_FILE, ModelCard, load_card
from mmccd_auto.trained.portable.portable_fold import TRAINING_FILE, load_description
from mmccd_auto.trained.portable.safetensors_weights import REMEDY
from mmccd_auto.trained.portable.short_texts import is_plain


def check_model(folder: Path, manifest: Manifest) -> list[ModelCard]:
    """Read every file of an unpacked model as prediction would, and compare what they say of one another.

    Parameters
    ----------
    folder : of the unpacked files, whose hashes are checked already
    manifest : that lists them

    Returns
    -------
    the cards of its models

    Raises
    ------
    MMCCDError
        If a file isn't what it must be, or two of them disagree; the message names the file.
    """
    _check_text(folder / CARD_TEXT_FILE)
    cards = [_check_member(folder / name, manifest.folds(name)) for name in manifest.models]
    if len({card.input_modality for card in cards}) > 1:
        raise MMCCDError(f"{folder / manifest.models[0]}: its models examine different modalities: {REMEDY}.")
    return cards


def _check_text(path: Path) -> None:
    try:
        plain = is_plain(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError:
        plain = False
    if not plain:
        raise MMCCDError(f"{path} is no plain text: {REMEDY}.")


def _check_member(path: Path, folds: list[str]) -> ModelCard:
    model = ModelFolder(path)
    if model.plan.plans_name != model.plans_name:
        raise MMCCDError(f"{path / PLANS_FILE} is of the plans {model.plan.plans_name}, unlike its folder: {REMEDY}.")
    modality = model.input_modality
    dataset = read_record(JsonObject, path / DATASET_FILE)
    if handed_on(dataset) != dataset:
        raise MMCCDError(f"{path / DATASET_FILE} holds more than a model needs: {REMEDY}.")
    if (path / FINGERPRINT_FILE).is_file() and DatasetFingerprint.load(path / FINGERPRINT_FILE).failed:
        raise MMCCDError(f"{path / FINGERPRINT_FILE}: failed must be empty: {REMEDY}.")
    chosen_plan(model)
    card = load_card(path)
    if (card.model, card.input_modality) != (path.name, modality):
        raise MMCCDError(f"{path / CARD_FILE} describes {card.model} of {card.input_modality}, another model: {REMEDY}.")
    for fold in folds:
        _check_fold(model, fold)
    return card


def _check_fold(model: ModelFolder, fold: str) -> None:
    described = load_description(model.fold(fold))
    expected = {"trainer": model.trainer, "configuration": model.configuration, "fold": fold}
    for name, value in expected.items():
        if getattr(described, name) != value:
            told = f"{name} is {getattr(described, name)}, but its folder says {value}"
            raise MMCCDError(f"{model.fold(fold) / TRAINING_FILE}: {told}: {REMEDY}.")
    load_fold(model, fold, torch.device("cpu"))
    path = model.fold(fold) / CALIBRATION_FILE
    calibration = load_calibration(path)
    if calibration is not None and calibration.weights_sha256.get(fold) != described.checkpoint_sha256:
        raise MMCCDError(f"{path} was made for other weights: {REMEDY}.")
