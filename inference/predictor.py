"""From a model folder to predictions: of arrays, volumes, files and folders."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmccd_auto.errors import MMCCDError
from mmccd_auto.image_io import Geometry, Volume
from mmccd_auto.inference.calibration import case_score
from mmccd_auto.inference.case_maps import CaseMaps
from mmccd_auto.inference.chosen import chosen_plan
from mmccd_auto.inference.engine import SliceMaps, anomaly_maps
from mmccd_auto.inference.fold_models import FoldModel, choose_folds, load_fold
from mmccd_auto.inference.folder_prediction import NIFTI_ONLY, ExportOptions, predict_file, predict_folder
from mmccd_auto.inference.folder_run import RunSummary
from mmccd_auto.inference.input_check import input_warnings
from mmccd_auto.inference.masks import lesion_mask
from mmccd_auto.inference.prediction import ModelIdentity, Prediction
from mmccd_auto.inference.scoring import ScoreOptions, Scoring, choose_scoring
from mmccd_auto.inference.settings import InferenceSettings, make_settings
from mmccd_auto.orientation import to_canonical
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.brain_extraction import STRIPPED, BrainExtraction, extract_brain
from mmccd_auto.preprocessing.normalisation import BACKGROUND
from mmccd_auto.preprocessing.preprocess_case import PreprocessedCase, preprocess_case, to_scan_grid
from mmccd_auto.training.model_folder import ModelFolder

CPU = torch.device("cpu")


class Predictor:
    """A trained model that makes anomaly maps of scans of its input modality; made by :meth:`from_model_folder`.

    Parameters
    ----------
    identity : which model it is
    plan : of the model
    folds : whose maps are averaged, on ``device``
    settings : steps, strips, batch size, seed
    scoring : how errors become the score and the mask
    device : to compute on
    fingerprint : of the training scans, with which a scan is compared; None compares with nothing
    brain_extraction : backend for scans with skull, see :func:`mmccd_auto.preprocessing.brain_extraction.extract_brain`
    """

    def __init__(
        self,
        identity: ModelIdentity,
        plan: Plan,
        folds: Sequence[FoldModel],
        settings: InferenceSettings,
        scoring: Scoring,
        device: torch.device,
        fingerprint: DatasetFingerprint | None = None,
        brain_extraction: str = "auto",
    ) -> None:
        self.identity = identity
        self.plan = plan
        self.folds = tuple(folds)
        self.settings = settings
        self.scoring = scoring
        self.device = device
        self.fingerprint = fingerprint
        self.brain_extraction = brain_extraction

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
        score: str | None = None,
        false_positive_rate: float | None = None,
        threshold: float | None = None,
        least_lesion_mm3: float | None = None,
        device: torch.device = CPU,
        extensions: Sequence[str | Path] = (),
        brain_extraction: str = "auto",
    ) -> Predictor:
        """Load a model.

        Parameters
        ----------
        path : the model folder TRAINER__PLANS__CONFIGURATION; it can be used alone
        folds : whose maps are averaged; None takes every finished one
        preset : "plan", "fast" or "paper", see :func:`make_settings`
        sampling_steps, strip_stride, batch_size : instead of the preset's
        score, false_positive_rate, threshold, least_lesion_mm3 : see
            :class:`mmccd_auto.inference.scoring.ScoreOptions`
        device : to compute on
        extensions : folders with the user's own trainers (they are run as code)
        brain_extraction : backend for scans with skull; "auto" takes the best that is installed

        Raises
        ------
        MMCCDError
            If the folder holds no such model, or a value is out of range.
        """
        model = ModelFolder(Path(path))
        plan = chosen_plan(model)
        settings = make_settings(plan, model.configuration, preset, sampling_steps, strip_stride, batch_size)
        wishes = ScoreOptions(score, false_positive_rate, threshold, least_lesion_mm3)
        loaded = [load_fold(model, fold, device, extensions) for fold in choose_folds(model, folds)]
        scoring = choose_scoring(model, loaded, settings, wishes)
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
        fingerprint = None
        if (model.path / FINGERPRINT_FILE).is_file():
            fingerprint = DatasetFingerprint.load(model.path / FINGERPRINT_FILE)
        return cls(identity, model.plan, loaded, settings, scoring, device, fingerprint, brain_extraction)

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
        brain_mask : [z, y, x], nonzero in the brain; None looks for the brain

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
        brain_mask : nonzero in the brain, on the scan's grid; None looks for the brain

        Raises
        ------
        MMCCDError
            If the scan can't be used (no brain found, no contrast, not finite), or the network fails.
        """
        started = time.monotonic()
        scan = Volume(volume.array.astype(np.float32, copy=False), volume.geometry)
        extraction = self._find_brain(scan, case) if brain_mask is None else None
        if extraction is not None and extraction.backend != STRIPPED:
            brain_mask = Volume(extraction.mask.astype(np.uint8), scan.geometry)
        preprocessed = preprocess_case(case, {self.input_modality: scan}, self.plan, brain_mask=brain_mask)
        maps, scores = self._mean_maps(preprocessed)
        geometry, brain = preprocessed.geometry, preprocessed.native_brain
        scoring = self.scoring
        found = {name: to_scan_grid(values, geometry, brain) for name, values in scores.items()}
        anomaly = found[scoring.score]
        mask = None
        if scoring.threshold is not None:
            mask = lesion_mask(
                anomaly, brain, scoring.threshold, scoring.least_lesion_mm3, volume.geometry.voxel_volume
            ).astype(np.uint8)
        top = case_score(scores[scoring.score][preprocessed.brain])
        return Prediction(
            case=case,
            scan=scan.array,
            anomaly=anomaly,
            brighter=found.get("brighter"),
            darker=found.get("darker"),
            signed=to_scan_grid(maps.signed, geometry, brain),
            cycle=np.where(brain, to_scan_grid(maps.cycle, geometry, brain), np.float32(BACKGROUND)),
            brain=brain,
            mask=mask,
            geometry=volume.geometry,
            threshold=scoring.threshold,
            calibrated=scoring.calibrated,
            case_score=top,
            healthy_percentile=scoring.healthy_percentile(top),
            network_evaluations=maps.network_evaluations,
            seconds=time.monotonic() - started,
            normalisation=preprocessed.normalisation[self.input_modality],
            brain_extraction="given" if extraction is None else extraction.backend,
            warnings=self._warnings(scan, brain, extraction),
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
        """Predict one file and write its maps; see :func:`mmccd_auto.inference.folder_prediction.predict_file`."""
        return predict_file(self, Path(path), Path(output), case, brain_mask, save_cycle)

    def predict_folder(
        self,
        source: str | Path,
        output: str | Path,
        *,
        brain_masks: str | Path | None = None,
        save_cycle: bool = False,
        continue_prediction: bool = False,
        export: ExportOptions = NIFTI_ONLY,
    ) -> RunSummary:
        """Predict every case of a folder, a hospital's export among them, and write the files of each, and summary.csv;
        see :func:`mmccd_auto.inference.folder_prediction.predict_folder`."""
        masks = None if brain_masks is None else Path(brain_masks)
        return predict_folder(self, Path(source), Path(output), masks, save_cycle, continue_prediction, export)

    def _find_brain(self, scan: Volume, case: str) -> BrainExtraction | None:
        """The brain of the scan; None for values that aren't finite, which preprocessing refuses by name."""
        if not np.isfinite(scan.array).all():
            return None
        return extract_brain(scan, self.input_modality, self.brain_extraction, f"{case}: {self.input_modality}")

    def _warnings(self, scan: Volume, brain: np.ndarray, extraction: BrainExtraction | None) -> tuple[str, ...]:
        found = [extraction.warning] if extraction is not None and extraction.warning else []
        if self.fingerprint is not None:
            turned = to_canonical(scan)
            mask = to_canonical(Volume(brain, scan.geometry)).array
            found += input_warnings(
                turned.array, mask, turned.geometry.spacing, self.plan.slice_axis, self.input_modality, self.fingerprint
            )
        return tuple(found)

    def _mean_maps(self, preprocessed: PreprocessedCase) -> tuple[SliceMaps, dict[str, np.ndarray]]:
        """Maps and scores on the network's grid, averaged over the folds; slices without brain get no work."""
        indices = np.flatnonzero(preprocessed.brain.any(axis=(1, 2))).tolist()
        brain = preprocessed.brain[indices]
        maps = [self._fold_maps(one, preprocessed, indices) for one in self.folds]
        spacing = preprocessed.geometry.slice_spacing
        name = preprocessed.case
        cases = [CaseMaps(name, name, tuple(indices), spacing, one, brain) for one in maps]
        scores = [self.scoring.scores(fold.fold, case) for fold, case in zip(self.folds, cases, strict=True)]

        def mean(arrays: list[np.ndarray]) -> np.ndarray:
            whole = np.zeros(preprocessed.brain.shape, dtype=np.float32)
            whole[indices] = np.mean(arrays, axis=0)
            return whole

        fields = {name: mean([getattr(one, name) for one in maps]) for name in ("squared", "signed", "cycle", "coverage")}
        evaluations = sum(one.network_evaluations for one in maps)
        return SliceMaps(**fields, network_evaluations=evaluations), {
            name: mean([one[name] for one in scores]) for name in scores[0]
        }

    def _fold_maps(self, fold: FoldModel, preprocessed: PreprocessedCase, indices: list[int]) -> SliceMaps:
        several = len(self.folds) > 1
        return anomaly_maps(
            fold.cycle,
            preprocessed.image[0, indices],
            preprocessed.brain[indices],
            self.settings,
            preprocessed.case,
            self.device,
            self.plan.patch_size,
            slice_indices=indices,
            description=f"{preprocessed.case}, fold {fold.fold}" if several else preprocessed.case,
        )
