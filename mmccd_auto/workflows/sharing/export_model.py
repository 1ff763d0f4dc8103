"""mmccd_export_model: a trained model as one file that can be handed on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from mmccd_auto import __version__
from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path, save_json
from mmccd_auto.core.names import check_path_name
from mmccd_auto.core.wording import counted, listed
from mmccd_auto.datasets.dataset import DATASET_FILE
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.maps.fold_model import choose_folds
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.scores.calibration import Calibration, load_calibration
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.plans.plan import PLANS_FILE
from mmccd_auto.trained.inference_choice import load_choice
from mmccd_auto.trained.manifest import FORMAT, Manifest, list_files
from mmccd_auto.trained.model_archive import write_archive
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, INFERENCE_FILE, ModelFolder, fold_folder, handed_on
from mmccd_auto.trained.portable.model_card import CARD_TEXT_FILE, ModelCard, card_text
from mmccd_auto.trained.portable.portable_fold import save_portable_fold
from mmccd_auto.trained.portable.short_texts import LONGEST, LONGEST_SHORT, is_plain
from mmccd_auto.trained.select import choose_models
from mmccd_auto.workflows.sharing.check_model import check_model
from mmccd_auto.workflows.sharing.describe_model import NOTHING_SAID, MakersWords, TrainedParts, describe_model
from mmccd_auto.workflows.sharing.without_people import nameless_calibrations, nameless_fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """A model file that was written.

    Attributes
    ----------
    path, bytes, sha256 : of the file
    cards : of the models in it
    """

    path: Path
    bytes: int
    sha256: str
    cards: tuple[ModelCard, ...]

    def describe(self) -> str:
        """Write lines for the terminal."""
        models = " + ".join(card.model for card in self.cards)
        size = f"{self.bytes / 2**20:.1f} MiB"
        return f"exported: {self.path} ({size}; {models})\nSHA-256: {self.sha256}"


def export_model(
    folders: Folders,
    options: PredictionOptions,
    output: str | Path,
    name: str | None = None,
    words: MakersWords = NOTHING_SAID,
) -> Exported:
    """Pack the model, or the models of an ensemble, that mmccd_predict would take: weights and JSON, nothing of people.

    Parameters
    ----------
    folders : results is used
    options : which model: dataset, configurations, trainer, plans, and folds (None: every finished one)
    output : path of the zip file
    name : by which it will be installed; None makes one of the dataset and the input modality
    words : of its maker, for the card

    Raises
    ------
    MMCCDError
        If there is no such model, several could be meant, its method needs code, or the file can't be written.
    """
    _check_words(words)
    output = Path(output)
    if output.suffix != ".zip":
        raise MMCCDError(f"-o {output}: give a file name that ends with .zip.")
    models = choose_models(folders, options)
    name = check_path_name("portable model", name or default_name(models[0]), "--name")
    if len({model.input_modality for model in models}) > 1:
        told = ", ".join(f"{model.path.name} of {model.input_modality}" for model in models)
        raise MMCCDError(f"these models examine different scans and have no common map: {told}; export them apart.")
    with workspace("export") as space:
        folder = space / "model"
        folder.mkdir()
        cards = tuple(_write_model(model, options.folds, folder, name, words) for model in models)
        with atomic_path(folder / CARD_TEXT_FILE) as temporary:
            temporary.write_text(card_text(cards), encoding="utf-8")
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if _travels(path)]
        files = list_files(folder, names)
        manifest = Manifest(FORMAT, name, tuple(card.model for card in cards), date.today().isoformat(), __version__, files)
        manifest.save(folder)
        # What can't be installed is reported here, where it can be put right.
        check_model(folder, manifest)
        write_archive(folder, manifest, output)
    return Exported(output, output.stat().st_size, file_sha256(output), cards)


def default_name(model: ModelFolder) -> str:
    """Suggest RealBrain_FLAIR for a model of Dataset001_RealBrain that examines FLAIR."""
    dataset = model.plan.dataset_name.split("_", 1)[-1]
    return f"{dataset}_{model.input_modality}".replace("__", "_")


def _travels(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _check_words(words: MakersWords) -> None:
    for option, text, longest in (
        ("--description", words.description, LONGEST),
        ("--licence", words.licence, LONGEST_SHORT),
        ("--ages", words.ages, LONGEST_SHORT),
    ):
        if len(text) > longest or not is_plain(text) or (longest == LONGEST_SHORT and "\n" in text):
            raise MMCCDError(f"{option}: give at most {longest} printable characters.")


def _write_model(model: ModelFolder, folds: Sequence[str] | None, folder: Path, name: str, words: MakersWords) -> ModelCard:
    """Write a model folder as it travels; each file from what is known of it, never as a copy."""
    target = folder / model.path.resolve().name
    chosen = choose_folds(model, folds)
    calibrations = nameless_calibrations(_calibrations(model, chosen))
    checkpoints = {}
    for fold in chosen:
        checkpoints[fold] = model.checkpoint(fold)
        save_portable_fold(checkpoints[fold], model.weights_sha256(fold), fold_folder(target, fold))
        if fold in calibrations:
            save_json(asdict(calibrations[fold]), fold_folder(target, fold) / CALIBRATION_FILE)
    model.plan.save(target / PLANS_FILE)
    save_json(handed_on(model.dataset), target / DATASET_FILE)
    fingerprint = None
    if (model.path / FINGERPRINT_FILE).is_file():
        fingerprint = nameless_fingerprint(DatasetFingerprint.load(model.path / FINGERPRINT_FILE))
        fingerprint.save(target / FINGERPRINT_FILE)
    choice = load_choice(model)
    if choice is not None:
        save_json(asdict(choice), target / INFERENCE_FILE)
    card = describe_model(model, TrainedParts(checkpoints, calibrations, fingerprint), name, words)
    card.save(target)
    logger.info("%s: %s, %s", model.path, listed(chosen, "fold"), _calibrated(card))
    return card


def _calibrated(card: ModelCard) -> str:
    people = counted(card.calibrated_on, "healthy person", "healthy people")
    return f"calibrated on {people}" if card.calibrated_on else "not calibrated (mmccd_calibrate)"


def _calibrations(model: ModelFolder, folds: Sequence[str]) -> dict[str, Calibration]:
    """Return the calibrations that fit the folds' weights; one that doesn't stays at home, which is said."""
    found = {}
    for fold in folds:
        calibration = load_calibration(model.fold(fold) / CALIBRATION_FILE)
        if calibration is None:
            continue
        if calibration.weights_sha256.get(fold) == model.weights_sha256(fold):
            found[fold] = calibration
        else:
            logger.warning("fold %s: calibration.json belongs to other weights and is left out; mmccd_calibrate.", fold)
    return found
