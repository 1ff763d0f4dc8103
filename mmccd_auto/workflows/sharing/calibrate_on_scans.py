"""Calibrate a model on the user's own healthy scans: what mmccd_calibrate -i does."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from mmccd_auto import __version__
from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path, save_json
from mmccd_auto.core.names import check_path_name
from mmccd_auto.core.processes.streams import Settled, each
from mmccd_auto.core.wording import counted
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.importing.given_masks import find_given_masks
from mmccd_auto.importing.label_files import check_label, lay_label, read_label
from mmccd_auto.inference.held_out.own_scans import CalibratedModel, OwnCalibration, OwnPeople, calibrate_on_own_scans
from mmccd_auto.inference.options import ExportOptions, LoadOptions, PredictionOptions
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import Calibration
from mmccd_auto.inference.scores.found_rates import describe_found_rates
from mmccd_auto.sources.ages_table import read_ages_table
from mmccd_auto.sources.bids.options import ALL_PEOPLE, BidsOptions
from mmccd_auto.sources.cases import SourceCase, SourceListing, SourceOptions, list_source_cases, load_scan
from mmccd_auto.trained.installed_models import check_not_installed, installed_names, place_model
from mmccd_auto.trained.manifest import MANIFEST_FILE, Manifest, list_files, load_manifest
from mmccd_auto.trained.model_archive import unpack_archive
from mmccd_auto.trained.model_folder import CALIBRATION_FILE, ModelFolder
from mmccd_auto.trained.portable.model_card import CARD_TEXT_FILE, ModelCard, card_text, load_card
from mmccd_auto.trained.ready_models import READY, ready_modalities, ready_name
from mmccd_auto.trained.select import find_packed
from mmccd_auto.workflows.calibrate import describe_calibration
from mmccd_auto.workflows.running.ready_modality import ready_modality_of
from mmccd_auto.workflows.sharing.check_model import check_model
from mmccd_auto.workflows.sharing.describe_model import calibration_figures
from mmccd_auto.workflows.sharing.export_model import export_model

LESION_VALUE = 1
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HealthyScans:
    """The scans to calibrate on, and what is known of them.

    Attributes
    ----------
    source : DICOM, a BIDS dataset, or a folder of NIfTI files
    labels : folder of CASE.nii.gz with 1 where something abnormal is known, which is left out; None where nothing is known
    ages : table of names and ages, see :func:`mmccd_auto.sources.ages_table.read_ages_table`; BIDS tells them by itself
    series : pattern by modality, for DICOM and BIDS
    bids : which people and runs of a BIDS dataset
    """

    source: str
    labels: str | None = None
    ages: str | None = None
    series: Mapping[str, str] = field(default_factory=dict)
    bids: BidsOptions = ALL_PEOPLE


@dataclass(frozen=True)
class Recalibrated:
    """A model that was calibrated on the user's scans.

    Attributes
    ----------
    path : where it is installed
    models : what the calibration of each model folder gave
    failed : a sentence for each scan that could not be used
    """

    path: Path
    models: dict[str, OwnCalibration]
    failed: list[str]

    def describe(self) -> str:
        """Lines for the terminal: of each fold what the earlier calibration gave on these scans, and the new one."""
        lines = []
        for model, made in self.models.items():
            for fold, calibration in made.by_fold.items():
                lines.append(f"{model}, fold {fold}: {describe_calibration(calibration)}")
                lines.append(describe_found_rates(made.before.get(fold, {}), "in these scans by the calibration until now"))
        lines.append(f"installed: {self.path}")
        lines.append(f"use it: mmccd_predict --model {self.path.name} -i SCANS -o MAPS")
        return "\n".join(filter(None, lines))


def calibrate_on_scans(
    folders: Folders,
    options: PredictionOptions,
    healthy: HealthyScans,
    name: str,
    device: torch.device,
    overwrite: bool = False,
) -> Recalibrated:
    """Calibrate a copy of a model on scans of healthy people, and install it under a name of its own.

    The model itself stays as it is, the ready one and one that belongs to others among them.

    Parameters
    ----------
    folders : results is used
    options : which model, its folds, by how many fits, and the brain extraction
    healthy : the scans
    name : of the new model
    device : to compute on
    overwrite : replace an installed model of this name

    Raises
    ------
    MMCCDError
        If there is no such model, its input modality isn't among the scans, none of them can be used, or the name is taken.
    """
    check_path_name("portable model", name, "--name")
    if not overwrite:
        check_not_installed(folders.results, name)
    with workspace("calibrate") as space:
        folder = space / "model"
        manifest = _copy_of_model(folders, options, healthy, folder, space)
        models = [ModelFolder(folder / one) for one in manifest.models]
        scans = _ListedScans.of(healthy, models[0], space)
        results = {model.path.name: _calibrate(model, scans, options, device) for model in models}
        cards = tuple(_write_calibration(model, results[model.path.name].by_fold, name) for model in models)
        _finish(folder, manifest, name, cards)
        path = place_model(folder, folders.results, name, overwrite)
    failed = dict.fromkeys(text for result in results.values() for text in result.failed)
    return Recalibrated(path, results, list(failed))


def _copy_of_model(
    folders: Folders, options: PredictionOptions, healthy: HealthyScans, folder: Path, space: Path
) -> Manifest:
    """Unpack the model that is meant into ``folder``: a copy of an installed or ready one, an export of a trained one."""
    packed = None
    if len(options.models) == 1:
        value = options.models[0]
        if value == READY and value not in installed_names(folders.results) and ready_modalities():
            export = ExportOptions(healthy.series, bids=healthy.bids)
            value = ready_name(ready_modality_of(healthy.source, space, ready_modalities(), export))
            logger.info("%s: %s, by what %s holds", READY, value, healthy.source)
        packed = find_packed(value, folders.results)
    if packed is not None and options.folds is not None:
        raise MMCCDError(
            f"--folds: {options.models[0]} predicts with the mean of its folds, so all of them are calibrated: leave it out."
        )
    if packed is None:
        archive = export_model(folders, options, space / "model.zip").path
        folder.mkdir()
        return unpack_archive(archive, folder)
    shutil.copytree(packed.path, folder)
    return load_manifest(folder)


@dataclass(frozen=True)
class _ListedScans:
    """The scans of the input modality, found once for all models."""

    listing: SourceListing
    cases: tuple[SourceCase, ...]
    modality: str
    labels: Mapping[str, Path]
    people: OwnPeople
    space: Path

    @classmethod
    def of(cls, healthy: HealthyScans, model: ModelFolder, space: Path) -> _ListedScans:
        modality, source = model.input_modality, Path(healthy.source)
        search = SourceOptions(healthy.series, channels=model.plan.modalities, alone=True, bids=healthy.bids)
        listing = list_source_cases(source, [modality], space, search)
        for note in listing.notes:
            logger.warning("%s", note)
        cases = tuple(case for case in listing.cases if not case.skipped)
        usable = [case for case in cases if case.error is None]
        if not usable:
            reasons = [case.error for case in listing.cases if case.error]
            raise MMCCDError(f"{source} holds no scan of {modality} to calibrate on: {(reasons or ['it has none'])[0]}")
        labels = {}
        if healthy.labels is not None:
            given = find_given_masks(healthy.labels, None, listing, usable, source)
            labels, why_none = dict(given.labels.by_case), given.labels.errors
            # Left out: what is abnormal in them would be calibrated as healthy.
            cases = tuple(
                replace(case, error=why_none[case.case]) if case.case in given.labels.unclear else case for case in cases
            )
            without = [case.case for case in usable if case.case not in {*labels, *given.labels.unclear}]
            if without:
                logger.warning("nothing is known to be abnormal in %s: no label is of them.", ", ".join(without))
        ages = dict(listing.ages)
        if healthy.ages is not None:
            told = read_ages_table(healthy.ages, [name for case in usable for name in (case.case, case.subject)])
            of_cases = {case.case: told.get(case.case, told.get(case.subject)) for case in usable}
            ages |= {case: age for case, age in of_cases.items() if age is not None}
        people = OwnPeople({case.case: case.subject for case in cases}, ages)
        return cls(listing, cases, modality, labels, people, space)

    def read(self, case: SourceCase) -> Scan:
        """Read one scan, and where something abnormal is known in it."""
        if case.error is not None:
            raise MMCCDError(case.error)
        volume, abnormal = load_scan(case.scans[self.modality], self.space), None
        if case.case in self.labels:
            label = read_label(self.labels[case.case], (LESION_VALUE,))
            abnormal = lay_label(label, volume.geometry, sitk.Transform(3, sitk.sitkIdentity))
            # Where in the brain it lies is looked at when the brain has been found.
            check_label(case.case, label, abnormal, np.ones(volume.array.shape, dtype=bool))
        return Scan(volume, case.case, abnormal=abnormal)

    def scans(self) -> Iterator[Scan | Settled]:
        """Read the scans one after the other."""
        return each(self.read, self.cases)


def _calibrate(model: ModelFolder, scans: _ListedScans, options: PredictionOptions, device: torch.device) -> OwnCalibration:
    wishes = LoadOptions(
        folds=options.folds,
        fits=options.fits,
        brain_extraction=options.brain_extraction,
        extensions=options.extensions,
    )
    predictor = Predictor.from_model_folder(model.path, wishes, device)
    known = {fold: one.first_look for fold, one in predictor.scoring.calibrations.items() if not predictor.one_fit}
    calibrated = CalibratedModel(model, predictor.folds, predictor.settings, known, predictor.scoring.calibrations)
    logger.info("%s: %s, on %s", model.path.name, counted(len(scans.cases), "scan"), device)
    return calibrate_on_own_scans(calibrated, predictor.healthy_maps(scans.scans()), len(scans.cases), scans.people)


def _write_calibration(model: ModelFolder, by_fold: Mapping[str, Calibration], name: str) -> ModelCard:
    """Write calibration.json of each fold, and the card that tells of it."""
    for fold, calibration in by_fold.items():
        save_json(asdict(calibration), model.fold(fold) / CALIBRATION_FILE)
    people = counted(len(next(iter(by_fold.values())).subjects), "healthy person", "healthy people")
    before = load_card(model.path)
    card = replace(
        before,
        name=name,
        made_on=date.today().isoformat(),
        description=f"{before.description} Calibrated again on scans of {people}.".strip(),
        **calibration_figures(list(by_fold.values()), len(by_fold)),
    )
    card.save(model.path)
    return card


def _finish(folder: Path, manifest: Manifest, name: str, cards: tuple[ModelCard, ...]) -> None:
    """Write MODEL_CARD.md and the manifest of the changed files, and check all as an installation does."""
    with atomic_path(folder / CARD_TEXT_FILE) as temporary:
        temporary.write_text(card_text(cards), encoding="utf-8")
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = list_files(folder, [path for path in paths if path != MANIFEST_FILE])
    changed = replace(manifest, name=name, made_on=date.today().isoformat(), package_version=__version__, files=files)
    changed.save(folder)
    check_model(folder, changed)
