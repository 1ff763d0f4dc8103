"""From a model folder to predictions: of arrays, volumes, files and folders."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmccd_auto.errors import MMCCDError
from mmccd_auto.image_io import Geometry, Volume, read_volume
from mmccd_auto.inference.calibration import calibrated_threshold
from mmccd_auto.inference.engine import SliceMaps, anomaly_maps
from mmccd_auto.inference.export import (
    DONE,
    KEPT,
    SummaryRow,
    describe_request,
    finished_record,
    remove_case_files,
    summary_row,
    write_prediction,
)
from mmccd_auto.inference.fold_models import FoldModel, choose_folds, load_fold
from mmccd_auto.inference.folder_run import RunSummary, run_over_cases
from mmccd_auto.inference.inputs import InputCase, discover_cases
from mmccd_auto.inference.prediction import ModelIdentity, Prediction
from mmccd_auto.inference.settings import InferenceSettings, make_settings
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.normalisation import BACKGROUND
from mmccd_auto.preprocessing.preprocess_case import PreprocessedCase, preprocess_case, to_scan_grid
from mmccd_auto.training.model_folder import ModelFolder

CPU = torch.device("cpu")
logger = logging.getLogger(__name__)


class Predictor:
    """A trained model that makes anomaly maps of scans of its input modality; made by :meth:`from_model_folder`.

    Parameters
    ----------
    identity : which model it is
    plan : of the model
    folds : whose maps are averaged, on ``device``
    settings : steps, strips, batch size, seed
    threshold : of the mask; None makes no mask
    threshold_source : where it comes from, or why there is none
    device : to compute on
    """

    def __init__(
        self,
        identity: ModelIdentity,
        plan: Plan,
        folds: Sequence[FoldModel],
        settings: InferenceSettings,
        threshold: float | None,
        threshold_source: str,
        device: torch.device,
    ) -> None:
        self.identity = identity
        self.plan = plan
        self.folds = tuple(folds)
        self.settings = settings
        self.threshold = threshold
        self.threshold_source = threshold_source
        self.device = device

    @classmethod
    def from_model_folder(
        cls,
        path: str | Path,
        *,
        folds: Sequence[str] | None = None,
        preset: str = "plan",
        sampling_steps: int | None = None,
        strip_stride: int | None = None,
        batch_size: int | None = None,
        threshold: float | None = None,
        device: torch.device = CPU,
        extensions: Sequence[str | Path] = (),
    ) -> Predictor:
        """Load a model.

        Parameters
        ----------
        path : the model folder TRAINER__PLANS__CONFIGURATION; it can be used alone
        folds : whose maps are averaged; None takes every finished one
        preset : "plan", "fast" or "paper", see :func:`make_settings`
        sampling_steps, strip_stride, batch_size : instead of the preset's
        threshold : of the mask; None takes the mean of the folds' calibrated ones
        device : to compute on
        extensions : folders with the user's own trainers (they are run as code)

        Raises
        ------
        MMCCDError
            If the folder holds no such model, or a value is out of range.
        """
        model = ModelFolder(Path(path))
        settings = make_settings(model.plan, model.configuration, preset, sampling_steps, strip_stride, batch_size)
        if threshold is not None and not (math.isfinite(threshold) and threshold >= 0):
            raise MMCCDError(f"the threshold {threshold} is no score: give a number that is 0 or larger.")
        loaded = [load_fold(model, fold, device, extensions) for fold in choose_folds(model, folds)]
        if threshold is None:
            threshold, source = calibrated_threshold(model, loaded, settings)
        else:
            source = "given by the user"
        configuration = model.plan.configuration(model.configuration)
        identity = ModelIdentity(
            model=model.path.resolve().name,
            dataset=model.plan.dataset_name,
            trainer=model.trainer,
            plans=model.plans_name,
            configuration=model.configuration,
            input_modality=configuration.input_modality,
            slice_axis=model.plan.slice_axis,
            folds=tuple(one.fold for one in loaded),
            weights_sha256={one.fold: one.weights_sha256 for one in loaded},
        )
        return cls(identity, model.plan, loaded, settings, threshold, source, device)

    @property
    def input_modality(self) -> str:
        """The one modality that is needed to predict."""
        return self.identity.input_modality

    def predict_arrays(
        self,
        array: np.ndarray,
        spacing: tuple[float, float, float],
        case: str = "case",
        brain_mask: np.ndarray | None = None,
    ) -> Prediction:
        """Predict from voxels alone: axes are taken for z from inferior to superior, y from anterior to posterior, x from
        the patient's right to left.

        Parameters
        ----------
        array : [z, y, x], intensities of the input modality
        spacing : mm along x, y, z
        case : name; the noise depends on it, so the same name gives the same map
        brain_mask : [z, y, x], nonzero in the brain; None looks for the brain of a skull-stripped scan

        Raises
        ------
        MMCCDError
            As :meth:`predict_volume`, or if the array is not 3D.
        """
        array = np.asarray(array)
        if array.ndim != 3:
            raise MMCCDError(f"{case} has {array.ndim} dimensions: give one 3D array [z, y, x].")
        size = tuple(reversed(array.shape))
        geometry = Geometry(size, tuple(float(edge) for edge in spacing), (0.0,) * 3, tuple(np.eye(3).ravel().tolist()))
        mask = None
        if brain_mask is not None:
            if np.shape(brain_mask) != array.shape:
                raise MMCCDError(f"{case}: the brain mask's shape {np.shape(brain_mask)} is not the scan's {array.shape}.")
            mask = Volume((np.asarray(brain_mask) != 0).astype(np.uint8), geometry)
        return self.predict_volume(Volume(array, geometry), case, mask)

    def predict_volume(self, volume: Volume, case: str = "case", brain_mask: Volume | None = None) -> Prediction:
        """Predict one scan.

        Parameters
        ----------
        volume : of the input modality
        case : name; the noise depends on it, so the same name gives the same map
        brain_mask : nonzero in the brain, on the scan's grid; None looks for the brain of a skull-stripped scan

        Raises
        ------
        MMCCDError
            If the scan can't be used (skull on, no contrast, not finite), or the network fails.
        """
        started = time.monotonic()
        scan = Volume(volume.array.astype(np.float32, copy=False), volume.geometry)
        preprocessed = preprocess_case(case, {self.input_modality: scan}, self.plan, brain_mask=brain_mask)
        maps = self._mean_maps(preprocessed)
        geometry, brain = preprocessed.geometry, preprocessed.native_brain
        anomaly, signed, cycle = (
            to_scan_grid(values, geometry, brain) for values in (maps.squared, maps.signed, maps.cycle)
        )
        mask = None if self.threshold is None else ((anomaly > self.threshold) & brain).astype(np.uint8)
        return Prediction(
            case=case,
            scan=scan.array,
            anomaly=anomaly,
            signed=signed,
            cycle=np.where(brain, cycle, np.float32(BACKGROUND)),
            brain=brain,
            mask=mask,
            geometry=volume.geometry,
            threshold=self.threshold,
            threshold_source=self.threshold_source,
            network_evaluations=maps.network_evaluations,
            seconds=time.monotonic() - started,
            normalisation=preprocessed.normalisation[self.input_modality],
        )

    def predict_file(
        self,
        path: str | Path,
        output: str | Path,
        *,
        case: str | None = None,
        brain_mask: str | Path | None = None,
        save_cycle: bool = False,
    ) -> Prediction:
        """Predict one file and write CASE_anomaly.nii.gz, CASE_mask.nii.gz, CASE.png and CASE.json.

        Parameters
        ----------
        path : of the scan
        output : folder, not the scan's own
        case : name; None takes it from the file's name
        brain_mask : file, nonzero in the brain
        save_cycle : also write CASE_signed.nii.gz and CASE_cycle.nii.gz

        Raises
        ------
        MMCCDError
            If the scan can't be predicted.
        """
        path, output = Path(path), Path(output)
        _check_output(path, output)
        (found,) = discover_cases(path, self.input_modality, self.plan.modalities).cases
        mask = None if brain_mask is None else Path(brain_mask)
        prediction, _ = self._predict_case(case or found.case, path, mask, output, save_cycle)
        return prediction

    def predict_folder(
        self,
        source: str | Path,
        output: str | Path,
        *,
        brain_masks: str | Path | None = None,
        save_cycle: bool = False,
        continue_prediction: bool = False,
    ) -> RunSummary:
        """Predict every case of a folder and write the files of each, and summary.csv.

        A case that can't be predicted does not stop the others.

        Parameters
        ----------
        source : a folder of scans (see :func:`discover_cases`) or one file
        output : folder, another than ``source``
        brain_masks : folder with a CASE.nii.gz for every case
        save_cycle : also write CASE_signed.nii.gz and CASE_cycle.nii.gz
        continue_prediction : keep the cases that were finished by the same model and settings from the same file

        Raises
        ------
        MMCCDError
            If there is nothing to predict, or the folders can't be used.
        """
        source, output = Path(source), Path(output)
        masks = None if brain_masks is None else Path(brain_masks)
        _check_output(source, output)
        if masks is not None and not masks.is_dir():
            raise MMCCDError(f"{masks} is no folder: give the folder that holds the brain masks, CASE.nii.gz.")
        listing = discover_cases(source, self.input_modality, self.plan.modalities, exclude=output)
        for path, reason in listing.ignored:
            logger.debug("%s is left out: %s", path, reason)
        self._announce(source, len(listing.cases), len(listing.ignored))
        there = sum((output / f"{found.case}.json").is_file() for found in listing.cases)
        if there and not continue_prediction:
            logger.warning("%s: %d earlier results are replaced; --continue_prediction would keep them.", output, there)

        def work(found: InputCase) -> SummaryRow:
            return self._case_row(found, output, masks, save_cycle, continue_prediction)

        return run_over_cases(listing.cases, work, output)

    def _announce(self, source: Path, cases: int, ignored: int) -> None:
        others = f" ({ignored} other files are left out)" if ignored else ""
        steps = f", {self.settings.sampling.steps} steps" if any(one.cycle.masked for one in self.folds) else ""
        logger.info(
            "%s: %d %s to predict%s from %s alone; fold %s, preset %s%s, on %s",
            source,
            cases,
            "case" if cases == 1 else "cases",
            others,
            self.input_modality,
            "+".join(self.identity.folds),
            self.settings.preset,
            steps,
            self.device,
        )

    def _case_row(
        self, found: InputCase, output: Path, masks: Path | None, save_cycle: bool, continue_prediction: bool
    ) -> SummaryRow:
        if found.file is None:
            remove_case_files(output, found.case)
            raise MMCCDError(found.error)
        mask = None if masks is None else masks / f"{found.case}.nii.gz"
        if continue_prediction and (mask is None or mask.is_file()):
            record = finished_record(output, found.case, self._request(found.file, mask, save_cycle))
            if record is not None:
                return summary_row(record, KEPT)
        _, record = self._predict_case(found.case, found.file, mask, output, save_cycle)
        return summary_row(record, DONE)

    def _predict_case(
        self, case: str, path: Path, mask: Path | None, output: Path, save_cycle: bool
    ) -> tuple[Prediction, dict[str, Any]]:
        """Predict a file and write everything; a failure leaves none of the case's files."""
        remove_case_files(output, case)
        if mask is not None and not mask.is_file():
            raise MMCCDError(f"{case} has no brain mask {mask}: add it, or predict without brain masks.")
        request = self._request(path, mask, save_cycle)
        volume = read_volume(path)
        prediction = self.predict_volume(volume, case, None if mask is None else read_volume(mask, dtype=None))
        try:
            return prediction, write_prediction(prediction, request, output)
        except MMCCDError:
            remove_case_files(output, case)
            raise

    def _request(self, path: Path, mask: Path | None, save_cycle: bool) -> dict[str, Any]:
        return describe_request(self.identity, self.settings, self.threshold, self.threshold_source, path, mask, save_cycle)

    def _mean_maps(self, preprocessed: PreprocessedCase) -> SliceMaps:
        """The maps of the network's grid, averaged over the folds; slices without brain are not handed to the engine."""
        indices = np.flatnonzero(preprocessed.brain.any(axis=(1, 2))).tolist()
        image, brain = preprocessed.image[0, indices], preprocessed.brain[indices]
        several = len(self.folds) > 1
        maps = [
            anomaly_maps(
                one.cycle,
                image,
                brain,
                self.settings,
                preprocessed.case,
                self.device,
                self.plan.patch_size,
                slice_indices=indices,
                description=f"{preprocessed.case}, fold {one.fold}" if several else preprocessed.case,
            )
            for one in self.folds
        ]

        def mean(name: str) -> np.ndarray:
            whole = np.zeros(preprocessed.brain.shape, dtype=np.float32)
            whole[indices] = np.mean([getattr(one, name) for one in maps], axis=0)
            return whole

        return SliceMaps(
            mean("squared"),
            mean("signed"),
            mean("cycle"),
            mean("coverage"),
            sum(one.network_evaluations for one in maps),
        )


def _check_output(source: Path, output: Path) -> None:
    """CASE.json and CASE_mask.nii.gz beside the scans could replace files of the user's own."""
    folder = source.parent if source.is_file() else source
    if folder.resolve() == output.resolve():
        raise MMCCDError(f"{output} is the folder of the scans: give another one for the maps.")
    if output.exists() and not output.is_dir():
        raise MMCCDError(f"{output} is a file: give a folder for the maps.")
