"""One trained model that predicts: its folds, averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmccd_auto.core.processes.streams import Settled, each, part_of_each, prefetched, split
from mmccd_auto.core.wording import counted, listed
from mmccd_auto.evaluation.baselines import CONTROL
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.maps.engine import SliceMaps, SliceWork, stream_maps
from mmccd_auto.inference.maps.fold_model import FoldModel, choose_folds, load_fold
from mmccd_auto.inference.maps.precision import choose_precision
from mmccd_auto.inference.maps.settings import InferenceSettings, make_settings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.prediction.input_check import input_warnings, zero_warnings
from mmccd_auto.inference.prediction.model_facts import card_section, model_sections
from mmccd_auto.inference.prediction.prediction import FurtherRecord, Scan
from mmccd_auto.inference.prediction.scan_predictor import ScanMaps, ScanPredictor
from mmccd_auto.inference.scores.calibration import calibration_of, case_score
from mmccd_auto.inference.scores.further import best_fitting
from mmccd_auto.inference.scores.scoring import ScoreOptions, Scoring, choose_fits, choose_scoring
from mmccd_auto.inference.scores.second_fit import ONE_FIT, FitRecord, first_look, look_maps, look_scores, refit_scan
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.further_modalities import further_channels
from mmccd_auto.preprocessing.preprocess_case import PreprocessedCase, preprocess_case, to_scan_grid
from mmccd_auto.reporting.page.assemble import Section
from mmccd_auto.trained.identity import ModelIdentity
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder
from mmccd_auto.trained.portable.model_card import CARD_FILE, ModelCard, load_card

CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Prepared:
    """A scan on the network's grid, its slices with brain, and how they were fitted.

    ``look_evaluations`` are those of the networks in the first look; ``age`` is the person's in years, None where unknown;
    ``further`` tells of the other modalities, None where the model can't use any.
    """

    preprocessed: PreprocessedCase
    work: SliceWork
    parameters: dict[str, float]
    fit: FitRecord
    look_evaluations: int = 0
    age: float | None = None
    further: FurtherRecord | None = None

    @property
    def look(self) -> SliceWork:
        """The slices of the first look."""
        return first_look(self.work, self.preprocessed.geometry.slice_spacing[0])


class Predictor(ScanPredictor):
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
    precision : see :func:`mmccd_auto.inference.maps.precision.choose_precision`
    card : that came with the model; None where it has none
    one_fit : why scans get one fit of their intensities; empty for two, see :mod:`mmccd_auto.inference.scores.second_fit`
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
        precision: str = "auto",
        card: ModelCard | None = None,
        one_fit: str = ONE_FIT,
    ) -> None:
        super().__init__(identity, scoring, device, brain_extraction)
        self.plan = plan
        self.precision = choose_precision(precision, folds[0].cycle, device, plan.patch_size, settings.batch_size)
        self.folds = tuple(folds)
        self.settings = settings
        self.fingerprint = fingerprint
        self.card = card
        self.one_fit = one_fit

    @classmethod
    def from_model_folder(
        cls,
        path: str | Path,
        *,
        folds: Sequence[str] | None = None,
        preset: str = "balanced",
        sampling_steps: int | None = None,
        strip_stride: int | None = None,
        strips_per_pass: int | None = None,
        batch_size: int | None = None,
        score: str | None = None,
        false_positive_rate: float | None = None,
        threshold: float | None = None,
        least_lesion_mm3: float | None = None,
        device: torch.device = CPU,
        extensions: Sequence[str | Path] = (),
        brain_extraction: str = "auto",
        precision: str = "auto",
        fits: int | None = None,
    ) -> Predictor:
        """Load a model.

        Parameters
        ----------
        path : the model folder TRAINER__PLANS__CONFIGURATION; it can be used alone
        folds : whose maps are averaged; None takes every finished one
        preset : "balanced", "fast", "paper" or "cyclic", see :func:`make_settings`
        sampling_steps, strip_stride, strips_per_pass, batch_size : instead of the preset's
        score, false_positive_rate, threshold, least_lesion_mm3 : see
            :class:`mmccd_auto.inference.scores.scoring.ScoreOptions`
        device : to compute on
        extensions : folders with the user's own trainers (they are run as code)
        brain_extraction : backend for scans with skull; "auto" takes the best that is installed
        precision : see :func:`mmccd_auto.inference.maps.precision.choose_precision`
        fits : 1 for one fit of the bias field and the intensity scale; None fits as for the calibration

        Raises
        ------
        MMCCDError
            If the folder holds no such model, or a value is out of range.
        """
        model = ModelFolder(Path(path))
        plan = chosen_plan(model)
        settings = make_settings(
            plan,
            model.configuration,
            preset,
            sampling_steps,
            strip_stride,
            batch_size,
            strips_per_pass=strips_per_pass,
            fits=fits,
        )
        wishes = ScoreOptions(score, false_positive_rate, threshold, least_lesion_mm3)
        loaded = [load_fold(model, fold, device, extensions) for fold in choose_folds(model, folds)]
        calibrations = {one.fold: calibration_of(model, one) for one in loaded}
        settings, one_fit = choose_fits(settings, fits, calibrations, model.path.resolve().name)
        there = {fold: calibration for fold, calibration in calibrations.items() if calibration is not None}
        scoring = choose_scoring(model, loaded, settings, wishes, there)
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
        card = load_card(model.path) if (model.path / CARD_FILE).is_file() else None
        rest = (fingerprint, brain_extraction, precision, card, one_fit)
        return cls(identity, model.plan, loaded, settings, scoring, device, *rest)

    @property
    def modalities(self) -> tuple[str, ...]:
        """See :class:`ScanPredictor`."""
        return self.plan.modalities

    @property
    def further(self) -> tuple[str, ...]:
        """See :class:`ScanPredictor`."""
        return self.folds[0].cycle.further

    def request(self) -> dict[str, Any]:
        """See :class:`ScanPredictor`."""
        return {
            **self.identity.to_json(),
            "settings": self.settings.to_json(),
            "precision": self.precision,
            **self.scoring.to_json(),
        }

    def describe(self) -> str:
        """See :class:`ScanPredictor`."""
        steps = f", {counted(self.settings.sampling.steps, 'step')}" if any(one.cycle.masked for one in self.folds) else ""
        return f"{listed(self.identity.folds, 'fold')}, preset {self.settings.preset}{steps}"

    def facts(self) -> tuple[Section, ...]:
        """See :class:`ScanPredictor`."""
        facts = model_sections(self.identity, self.plan, self.scoring, self.settings, self.fingerprint)
        return facts if self.card is None else (card_section(self.card), *facts)

    def scan_maps(
        self, scans: Iterable[Scan | Settled], *, only_score: bool = False, control: bool = False
    ) -> Iterator[ScanMaps | Settled]:
        """See :class:`ScanPredictor`; each fold has a queue of its own."""
        fitted: Iterator[_Prepared | Settled] = prefetched(each(self._prepared, scans))
        if not self.one_fit:
            first, *looks = self._through_folds(fitted, "look")
            fitted = each(self._refitted, first, *looks)
        prepared, *of_folds = self._through_folds(fitted, "work")
        yield from each(partial(self._scan_maps, only_score, control), prepared, *of_folds)

    def _through_folds(self, scans: Iterator[_Prepared | Settled], part: str) -> list[Iterator[Any]]:
        """The scans, and for each fold the maps of the ``part`` of them that is named: "work" or "look"."""
        prepared, *for_folds = split(scans, 1 + len(self.folds))
        suffix = ", first look" if part == "look" else ""
        several = len(self.folds) > 1
        return [
            prepared,
            *(
                stream_maps(
                    fold.cycle,
                    part_of_each(part, works),
                    self.settings,
                    self.device,
                    self.plan.patch_size,
                    precision=self.precision,
                    description=(f"fold {fold.fold}" if several else "network") + suffix,
                )
                for fold, works in zip(self.folds, for_folds, strict=True)
            ),
        ]

    def _prepared(self, scan: Scan) -> _Prepared:
        """The scan on the network's grid; slices without brain get no work."""
        preprocessed = preprocess_case(scan.case, {self.input_modality: scan.volume}, self.plan, brain_mask=scan.brain_mask)
        indices = np.flatnonzero(preprocessed.brain.any(axis=(1, 2))).tolist()
        work = SliceWork(scan.case, preprocessed.image[0, indices], preprocessed.brain[indices], tuple(indices))
        record = None
        if self.further:
            found = further_channels(preprocessed, scan.laid, self.further, self.plan)
            used = {name: scan.laid.there[name].how for name in found.used}
            record = FurtherRecord(self.identity.model, used, found.left_out, best_fitting(self.scoring.further, found.used))
            work = replace(work, further=found.image[:, indices].swapaxes(0, 1) if found.used else None)
        fit = FitRecord(self.identity.model, 1, None, False, self.one_fit)
        parameters = preprocessed.normalisation[self.input_modality]
        return _Prepared(preprocessed, work, parameters, fit, age=scan.age, further=record)

    def _refitted(self, prepared: _Prepared, *of_folds: SliceMaps) -> _Prepared:
        """The scan after the second fit, without what the folds mark together: the mean of their scores decides."""
        geometry, look = prepared.preprocessed.geometry, prepared.look
        scores = [
            look_scores(look_maps(look, maps, geometry.slice_spacing), self.scoring.calibrations[fold.fold].first_look)
            for fold, maps in zip(self.folds, of_folds, strict=True)
        ]
        scheme = self.plan.normalisation[self.input_modality]
        found = refit_scan(
            prepared.work,
            look,
            np.mean(scores, axis=0, dtype=np.float32),
            prepared.parameters,
            scheme,
            geometry,
            prepared.preprocessed.field_samples.get(self.input_modality),
            self.identity.model,
        )
        evaluations = sum(one.network_evaluations for one in of_folds)
        return replace(
            prepared, work=found.work, parameters=found.parameters, fit=found.record, look_evaluations=evaluations
        )

    def _scoring_of(self, prepared: _Prepared) -> Scoring:
        """That of the modalities which the scan is seen with."""
        return self.scoring if prepared.further is None else self.scoring.fitting(prepared.further.used)

    def _scan_maps(self, only_score: bool, control: bool, prepared: _Prepared, *of_folds: SliceMaps) -> ScanMaps:
        preprocessed = prepared.preprocessed
        scoring = self._scoring_of(prepared)
        maps, scores = self._mean_maps(prepared, of_folds, control)
        brain = preprocessed.native_brain
        top = case_score(scores[scoring.score][preprocessed.brain])
        given = {scoring.score} if only_score else {scoring.score, "brighter", "darker"}

        def on_scan_grid(values: np.ndarray) -> np.ndarray:
            return to_scan_grid(values, preprocessed.geometry, brain)

        return ScanMaps(
            scores={name: on_scan_grid(values) for name, values in scores.items() if name in given},
            signed=None if only_score else on_scan_grid(maps.signed),
            cycle=None if only_score else np.where(brain, on_scan_grid(maps.cycle), np.float32(BACKGROUND)),
            brain=brain,
            case_score=top,
            healthy_percentile=scoring.healthy_percentile(top, prepared.age),
            network_evaluations=maps.network_evaluations + prepared.look_evaluations,
            normalisation=prepared.parameters,
            fits=(prepared.fit,),
            control=on_scan_grid(scores[CONTROL]) if control else None,
            further=() if prepared.further is None else (prepared.further,),
            scoring=None if scoring is self.scoring else scoring,
        )

    def scan_warnings(self, scan: Volume, brain: np.ndarray) -> list[str]:
        """See :class:`ScanPredictor`."""
        found = zero_warnings(scan)
        if self.fingerprint is None:
            return found
        turned = to_canonical(scan)
        mask = to_canonical(Volume(brain, scan.geometry)).array
        spacing, fingerprint = turned.geometry.spacing, self.fingerprint
        return found + input_warnings(turned.array, mask, spacing, self.plan.slice_axis, self.input_modality, fingerprint)

    def _mean_maps(
        self, prepared: _Prepared, of_folds: Sequence[SliceMaps], control: bool
    ) -> tuple[SliceMaps, dict[str, np.ndarray]]:
        """Maps and scores on the network's grid, averaged over the folds; the control among the scores, if asked for."""
        preprocessed, work, scoring = prepared.preprocessed, prepared.work, self._scoring_of(prepared)
        spacing = preprocessed.geometry.slice_spacing
        cases = [CaseMaps(work.case, work.case, work.indices, spacing, one, work.brain) for one in of_folds]
        scores = [scoring.scores(fold.fold, case) for fold, case in zip(self.folds, cases, strict=True)]
        if control:
            for fold, case, one in zip(self.folds, cases, scores, strict=True):
                one[CONTROL] = scoring.control(fold.fold, case)

        def mean(arrays: list[np.ndarray]) -> np.ndarray:
            whole = np.zeros(preprocessed.brain.shape, dtype=np.float32)
            whole[list(work.indices)] = np.mean(arrays, axis=0)
            return whole

        names = ("squared", "signed", "cycle", "coverage")
        fields = {name: mean([getattr(one, name) for one in of_folds]) for name in names}
        evaluations = sum(one.network_evaluations for one in of_folds)
        return SliceMaps(**fields, network_evaluations=evaluations), {
            name: mean([one[name] for one in scores]) for name in scores[0]
        }
