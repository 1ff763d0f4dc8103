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
from mmccd_auto.inference.maps.engine import MapMaker, SliceMaps, SliceWork, stream_maps
from mmccd_auto.inference.maps.fold_model import FoldModel, choose_folds, load_fold
from mmccd_auto.inference.maps.known_abnormal import near_abnormal
from mmccd_auto.inference.maps.precision import choose_precision
from mmccd_auto.inference.maps.settings import InferenceSettings, make_settings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import LoadOptions
from mmccd_auto.inference.prediction.input_check import input_warnings, zero_warnings
from mmccd_auto.inference.prediction.model_facts import card_section, model_sections
from mmccd_auto.inference.prediction.prediction import FurtherRecord, Scan
from mmccd_auto.inference.prediction.scan_predictor import ScanMaps, ScanPredictor
from mmccd_auto.inference.scores.calibration import calibration_of, case_score
from mmccd_auto.inference.scores.further import best_fitting, subset_of
from mmccd_auto.inference.scores.score_units import ScoreUnits
from mmccd_auto.inference.scores.scoring import Scoring, choose_fits, choose_scoring
from mmccd_auto.inference.scores.second_fit import ONE_FIT, FitRecord, first_look, look_maps, look_scores, refit_scan
from mmccd_auto.plans.fingerprint import FINGERPRINT_FILE, DatasetFingerprint
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.further_modalities import FurtherChannels, further_channels
from mmccd_auto.preprocessing.preprocess_case import PreprocessedCase, preprocess_case, to_scan_grid
from mmccd_auto.preprocessing.second_fit import FirstFit
from mmccd_auto.reporting.page.assemble import Section
from mmccd_auto.trained.identity import ModelIdentity
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import ModelFolder
from mmccd_auto.trained.portable.model_card import CARD_FILE, ModelCard, load_card

CPU = torch.device("cpu")
UNCALIBRATED_SUBSET = "the model's calibration has no units for maps that are made with it."
ALL_FOLDS = LoadOptions()


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

    def case_maps(self, of_folds: Sequence[SliceMaps]) -> tuple[CaseMaps, ...]:
        """Collect the maps that the folds made of the work."""
        work, spacing = self.work, self.preprocessed.geometry.slice_spacing
        return tuple(CaseMaps(work.case, work.case, work.indices, spacing, one, work.brain) for one in of_folds)


def _healthy_maps(prepared: _Prepared, *of_folds: SliceMaps) -> tuple[CaseMaps, ...]:
    """Return the maps of the folds, of which a calibration leaves out what is known to be abnormal."""
    maps, case = prepared.case_maps(of_folds), prepared.preprocessed
    if case.anomaly is None or not case.anomaly.any():
        return maps
    near = near_abnormal(case.case, case.anomaly, case.brain, case.geometry.slice_spacing)
    return tuple(one.without_abnormal(near[list(prepared.work.indices)]) for one in maps)


@dataclass(frozen=True)
class LoadedModel:
    """What a model folder holds.

    Attributes
    ----------
    identity : which model it is
    plan : of the model
    folds : whose maps are averaged, on the device that predicts
    fingerprint : of the training scans, with which a scan is compared; None compares with nothing
    card : that came with the model; None where it has none
    """

    identity: ModelIdentity
    plan: Plan
    folds: Sequence[FoldModel]
    fingerprint: DatasetFingerprint | None = None
    card: ModelCard | None = None


def load_model(folder: ModelFolder, options: LoadOptions, device: torch.device) -> LoadedModel:
    """Load the folds of a model, and what describes it.

    Raises
    ------
    MMCCDError
        If a fold can't be loaded, or a file of the folder is damaged.
    """
    folds = [load_fold(folder, fold, device, options.extensions) for fold in choose_folds(folder, options.folds)]
    identity = ModelIdentity(
        model=folder.path.resolve().name,
        dataset=folder.plan.dataset_name,
        trainer=folder.trainer,
        plans=folder.plans_name,
        configuration=folder.configuration,
        input_modality=folder.input_modality,
        slice_axis=folder.plan.slice_axis,
        folds=tuple(one.fold for one in folds),
        weights_sha256={one.fold: one.weights_sha256 for one in folds},
    )
    fingerprint = None
    if (folder.path / FINGERPRINT_FILE).is_file():
        fingerprint = DatasetFingerprint.load(folder.path / FINGERPRINT_FILE)
    card = load_card(folder.path) if (folder.path / CARD_FILE).is_file() else None
    return LoadedModel(identity, folder.plan, folds, fingerprint, card)


class Predictor(ScanPredictor):
    """A trained model that makes anomaly maps of scans of its input modality; made by :meth:`from_model_folder`.

    Parameters
    ----------
    model : what the model folder holds
    settings : steps, strips, batch size, seed
    scoring : how errors become the score and the mask
    device : to compute on
    options : precision, and how brains are found; the others are in ``settings`` and ``scoring`` already
    one_fit : why scans get one fit of their intensities; empty for two, see :mod:`mmccd_auto.inference.scores.second_fit`
    """

    def __init__(
        self,
        model: LoadedModel,
        settings: InferenceSettings,
        scoring: Scoring,
        device: torch.device,
        options: LoadOptions = ALL_FOLDS,
        one_fit: str = ONE_FIT,
    ) -> None:
        super().__init__(model.identity, scoring, device, options.brain_extraction, options.trim_edge_mm)
        self.plan, self.folds = model.plan, tuple(model.folds)
        size = self.plan.patch_size, settings.batch_size
        self.precision = choose_precision(options.precision, self.folds[0].cycle, device, *size)
        self.settings = settings
        self.fingerprint, self.card = model.fingerprint, model.card
        self.one_fit = one_fit

    @classmethod
    def from_model_folder(cls, path: str | Path, options: LoadOptions = ALL_FOLDS, device: torch.device = CPU) -> Predictor:
        """Load a model.

        Parameters
        ----------
        path : the model folder TRAINER__PLANS__CONFIGURATION; it can be used alone
        options : folds, preset, score; see :class:`mmccd_auto.inference.options.LoadOptions`
        device : to compute on

        Raises
        ------
        MMCCDError
            If the folder holds no such model, or a value is out of range.
        """
        folder = ModelFolder(Path(path))
        settings = make_settings(chosen_plan(folder), folder.configuration, options)
        model = load_model(folder, options, device)
        calibrations = {one.fold: calibration_of(folder, one) for one in model.folds}
        settings, one_fit = choose_fits(settings, options.fits, calibrations, model.identity.model)
        there = {fold: calibration for fold, calibration in calibrations.items() if calibration is not None}
        scoring = choose_scoring(folder, model.folds, settings, options, there)
        return cls(model, settings, scoring, device, options, one_fit)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The dataset's modalities, in the order of its channels."""
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
            **({"trim_edge_mm": self.trim_edge_mm} if self.trim_edge_mm else {}),
        }

    def describe(self) -> str:
        """See :class:`ScanPredictor`."""
        steps = f", {counted(self.settings.sampling.steps, 'step')}" if any(one.cycle.masked for one in self.folds) else ""
        return f"{listed(self.identity.folds, 'fold')}, preset {self.settings.preset}{steps}"

    def facts(self) -> tuple[Section, ...]:
        """See :class:`ScanPredictor`."""
        # Modalities without units of their own are left out of every map.
        further = self.further if self.scoring.further or not self.scoring.calibrated else ()
        facts = model_sections(self.identity, self.plan, self.scoring, self.settings, self.fingerprint, further)
        return facts if self.card is None else (card_section(self.card), *facts)

    def scan_maps(
        self, scans: Iterable[Scan | Settled], *, only_score: bool = False, control: bool = False
    ) -> Iterator[ScanMaps | Settled]:
        """See :class:`ScanPredictor`; each fold has a queue of its own."""
        yield from each(partial(self._scan_maps, only_score, control), *self._fitted_maps(scans))

    def healthy_maps(self, scans: Iterable[Scan | Settled]) -> Iterator[tuple[CaseMaps, ...] | Settled]:
        """Make the maps that a calibration on scans of healthy people is fitted on, as a prediction would see them.

        By the input modality alone: a model that can use others, and is calibrated on these maps, uses none afterwards.

        Parameters
        ----------
        scans : of the input modality; what is settled already is handed on

        Yields
        ------
        the maps of each fold, all slices with brain on the network's grid; what is known to be abnormal, and tissue near
        it, counts for nothing. Or Settled with an MMCCDError, if the scan can't be used
        """
        located = part_of_each("scan", each(self._located, scans))
        yield from each(_healthy_maps, *self._fitted_maps(located))

    def _fitted_maps(self, scans: Iterable[Scan | Settled]) -> list[Iterator[Any]]:
        """Return the scans as they were fitted last, and the maps that each fold makes of them."""
        fitted: Iterator[_Prepared | Settled] = prefetched(each(self._prepared, scans))
        if not self.one_fit:
            first, *looks = self._through_folds(fitted, "look")
            fitted = each(self._refitted, first, *looks)
        return self._through_folds(fitted, "work")

    def _through_folds(self, scans: Iterator[_Prepared | Settled], part: str) -> list[Iterator[Any]]:
        """Return the scans, and for each fold the maps of the ``part`` of them that is named: "work" or "look"."""
        prepared, *for_folds = split(scans, 1 + len(self.folds))
        suffix = ", first look" if part == "look" else ""
        several = len(self.folds) > 1
        return [
            prepared,
            *(
                stream_maps(
                    MapMaker(fold.cycle, self.settings, self.device, self.plan.patch_size, self.precision),
                    part_of_each(part, works),
                    description=(f"fold {fold.fold}" if several else "network") + suffix,
                )
                for fold, works in zip(self.folds, for_folds, strict=True)
            ),
        ]

    def _prepared(self, scan: Scan) -> _Prepared:
        """Return the scan on the network's grid; slices without brain get no work."""
        volumes = {self.input_modality: scan.volume}
        preprocessed = preprocess_case(scan.case, volumes, self.plan, scan.abnormal, scan.brain_mask)
        indices = np.flatnonzero(preprocessed.brain.any(axis=(1, 2))).tolist()
        work = SliceWork(scan.case, preprocessed.image[0, indices], preprocessed.brain[indices], tuple(indices))
        record = None
        if self.further:
            found = further_channels(preprocessed, scan.laid, self.further, self.plan)
            record = self._shown_further(scan, found)
            work = replace(work, further=found.image[:, indices].swapaxes(0, 1))
            work = work.shown_with([self.further.index(name) for name in record.used])
        fit = FitRecord(self.identity.model, 1, None, False, self.one_fit)
        parameters = preprocessed.normalisation[self.input_modality]
        return _Prepared(preprocessed, work, parameters, fit, age=scan.age, further=record)

    def _shown_further(self, scan: Scan, found: FurtherChannels) -> FurtherRecord:
        """Choose which of the modalities that are there the networks are shown: a subset whose units are known.

        All of them where nothing is calibrated.
        """
        subset = best_fitting(self.scoring.further, found.used)
        shown = subset_of(subset) if self.scoring.calibrated else found.used
        used = {name: scan.laid.there[name].how for name in shown}
        left_out = found.left_out | {name: UNCALIBRATED_SUBSET for name in found.used if name not in shown}
        return FurtherRecord(self.identity.model, used, left_out, subset)

    def _look_units(self, fold: str) -> ScoreUnits:
        """Return that by which a fold's errors of the first look become scores."""
        units = self.scoring.calibrations[fold].first_look
        if units is None:
            raise ValueError(f"the calibration of fold {fold} was fitted without a first look")
        return units

    def _refitted(self, prepared: _Prepared, *of_folds: SliceMaps) -> _Prepared:
        """Return the scan after the second fit, without what the folds mark together: the mean of their scores decides."""
        geometry, look = prepared.preprocessed.geometry, prepared.look
        scores = [
            look_scores(look_maps(look, maps, geometry.slice_spacing), self._look_units(fold.fold))
            for fold, maps in zip(self.folds, of_folds, strict=True)
        ]
        scheme = self.plan.normalisation[self.input_modality]
        samples = prepared.preprocessed.field_samples.get(self.input_modality)
        first = FirstFit(prepared.parameters, scheme, geometry, samples)
        mean = np.asarray(np.mean(scores, axis=0, dtype=np.float32))
        found = refit_scan(prepared.work, look, mean, first, self.identity.model)
        evaluations = sum(one.network_evaluations for one in of_folds)
        return replace(
            prepared, work=found.work, parameters=found.parameters, fit=found.record, look_evaluations=evaluations
        )

    def _scoring_of(self, prepared: _Prepared) -> Scoring:
        """Return that of the modalities which the scan is seen with."""
        return self.scoring if prepared.further is None else self.scoring.fitting(prepared.further.used)

    def _scan_maps(self, only_score: bool, control: bool, prepared: _Prepared, *of_folds: SliceMaps) -> ScanMaps:
        preprocessed = prepared.preprocessed
        scoring = self._scoring_of(prepared)
        maps, scores = self._mean_maps(prepared, of_folds, control)
        brain = preprocessed.native_brain
        places = list(prepared.work.indices)
        inside = {name: values[places] for name, values in scores.items()}
        edge = scoring.edge(inside, prepared.work.brain, preprocessed.geometry.slice_spacing)
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
            edges=() if edge is None else (edge,),
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
        """Return the maps and scores on the network's grid, averaged over the folds.

        The control among the scores, if asked for.
        """
        preprocessed, work, scoring = prepared.preprocessed, prepared.work, self._scoring_of(prepared)
        cases = prepared.case_maps(of_folds)
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
