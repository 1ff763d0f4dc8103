"""The card of a trained model, from what its training left behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from mmccd_auto.inference.choice.fold_gain import load_gain
from mmccd_auto.inference.maps.settings import InferenceSettings, make_settings
from mmccd_auto.inference.options import DEFAULT_RATE, DEFAULT_SCORE
from mmccd_auto.inference.scores.calibration import TRAINED_ON, Calibration
from mmccd_auto.inference.scores.control import mean_r2
from mmccd_auto.inference.scores.false_alarm_rate import left_out_shares
from mmccd_auto.plans.fingerprint import DatasetFingerprint
from mmccd_auto.trained.checkpoint import Checkpoint
from mmccd_auto.trained.inference_choice import chosen_plan
from mmccd_auto.trained.model_folder import GAIN_FILE, ModelFolder
from mmccd_auto.trained.portable.model_card import CARD_FORMAT, ModelCard
from mmccd_auto.trained.portable.short_texts import LONGEST_SHORT
from mmccd_auto.training.best_state import best_judgement
from mmccd_auto.training.progress import LOG_FILE, TrainingLog

ON_TRAINED_SLICES = "Calibrated on slices of the training: new scans may have more false alarms than promised."
UNCALIBRATED = "Not calibrated: scores of different scans can't be compared, and there is no mask."


@dataclass(frozen=True)
class MakersWords:
    """What a model's maker says of it; empty where nothing is said.

    Attributes
    ----------
    description, licence, ages : see :class:`mmccd_auto.trained.portable.model_card.ModelCard`
    """

    description: str = ""
    licence: str = ""
    ages: str = ""


NOTHING_SAID = MakersWords()


@dataclass(frozen=True)
class TrainedParts:
    """What a card is made from.

    Attributes
    ----------
    checkpoints : of the folds that travel, by fold
    calibrations : of those that have one
    fingerprint : of the training scans; None where the model folder has none
    """

    checkpoints: Mapping[str, Checkpoint]
    calibrations: Mapping[str, Calibration]
    fingerprint: DatasetFingerprint | None


def describe_model(model: ModelFolder, parts: TrainedParts, name: str, words: MakersWords) -> ModelCard:
    """Write down what a model was trained on, how it is calibrated, and what it found.

    Parameters
    ----------
    model : its folder
    parts : of it
    name : of the export
    words : of its maker

    Raises
    ------
    MMCCDError
        If inference.json, gain.json or the training's log is broken.
    """
    plan, first = chosen_plan(model), next(iter(parts.checkpoints.values()))
    cycle = plan.configuration(model.configuration)
    logs = {fold: TrainingLog(model.fold(fold) / LOG_FILE).read() for fold in parts.checkpoints}
    records = {fold: one.record for fold, one in parts.checkpoints.items()}
    return ModelCard(
        format=CARD_FORMAT,
        name=name,
        model=model.path.resolve().name,
        made_on=date.today().isoformat(),
        description=words.description,
        licence=words.licence,
        ages=words.ages,
        input_modality=cycle.input_modality,
        translation_modality=cycle.translation_modality,
        method=first.method,
        trainer=model.trainer,
        plans=model.plans_name,
        configuration=model.configuration,
        dataset=plan.dataset_name,
        slice_axis=plan.slice_axis,
        pixel_mm=plan.target_spacing,
        patch_size=plan.patch_size,
        healthy_slices={fold: record.get("healthy_slices") for fold, record in records.items()},
        people_of_fold={fold: record.get("subjects") for fold, record in records.items()},
        iterations={fold: one.step for fold, one in parts.checkpoints.items()},
        training_hours={fold: _hours(log) for fold, log in logs.items()},
        sampling_steps=cycle.sampling_steps,
        strip_stride=cycle.strip_stride,
        strips_per_pass=cycle.strips_per_pass,
        synthetic_auprc={fold: _judgement(log) for fold, log in logs.items()},
        versions=dict(first.record.get("versions", {})),
        weights_sha256={fold: model.weights_sha256(fold) for fold in parts.checkpoints},
        gain_over_control={fold: _gain(model, fold, make_settings(plan, model.configuration)) for fold in parts.checkpoints},
        **_scan_figures(parts.fingerprint),
        **calibration_figures(list(parts.calibrations.values()), len(parts.checkpoints)),
    )


def _gain(model: ModelFolder, fold: str, settings: InferenceSettings) -> float | None:
    """Return what a fold adds to the control without a network, where it was measured for these weights and settings."""
    found = load_gain(model.fold(fold) / GAIN_FILE)
    if found is None or (found.weights_sha256, found.settings) != (model.weights_sha256(fold), settings.to_json()):
        return None
    return _rounded(found.gain)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _hours(log: Sequence[Mapping[str, Any]]) -> float | None:
    return round(math.fsum(epoch["seconds"] for epoch in log) / 3600, 4) if log else None


def _judgement(log: Sequence[dict[str, Any]]) -> float | None:
    best = best_judgement(log)
    return best if math.isfinite(best) else None


def _scan_figures(fingerprint: DatasetFingerprint | None) -> dict[str, Any]:
    """Return the entries of a card on the training scans."""
    if fingerprint is None or not fingerprint.cases:
        edges = {f"voxel_mm_{name}": None for name in ("smallest", "median", "largest")}
        return {"people": None, "scans": None, "modalities": {}, **edges}
    cases = list(fingerprint.cases.values())
    spacing = np.array([case.spacing for case in cases])
    measured = {"smallest": spacing.min(axis=0), "median": np.median(spacing, axis=0), "largest": spacing.max(axis=0)}
    return {
        "people": len({case.subject for case in cases}),
        "scans": len(cases),
        "modalities": {name: sum(name in case.modalities for case in cases) for name in fingerprint.modalities},
        **{f"voxel_mm_{name}": tuple(round(float(edge), 4) for edge in edges) for name, edges in measured.items()},
    }


def calibration_figures(calibrations: Sequence[Calibration], folds: int) -> dict[str, Any]:
    """Return the entries of a card on the calibration; as prediction sees it, scores are calibrated where every fold is."""
    if len(calibrations) < folds or not calibrations:
        rates = dict.fromkeys(("promised_false_alarm_rate", "found_false_alarm_rate", "least_lesion_mm3"))
        return {"calibrated_on": 0, "calibration_source": "", "limits": (UNCALIBRATED,), **rates}
    found = [share for one in calibrations for share in _shares_when_left_out(one)]
    limits = [text for one in calibrations for text in one.limits]
    limits += [ON_TRAINED_SLICES] if any(one.source == TRAINED_ON for one in calibrations) else []
    return {
        "calibrated_on": min(len(one.subjects) for one in calibrations),
        "calibration_source": calibrations[0].source,
        "reconstruction_r2": _rounded(mean_r2([one.reconstruction_r2 for one in calibrations])),
        "promised_false_alarm_rate": DEFAULT_RATE,
        "found_false_alarm_rate": round(float(np.mean(found)), 6) if found else None,
        "least_lesion_mm3": round(float(np.mean([one.least_lesion_mm3(DEFAULT_RATE) for one in calibrations])), 3),
        "limits": tuple(text[:LONGEST_SHORT] for text in dict.fromkeys(limits)),
    }


def _shares_when_left_out(calibration: Calibration) -> list[float]:
    histograms = [subject.histograms[DEFAULT_SCORE] for subject in calibration.subjects]
    return left_out_shares(DEFAULT_RATE, histograms)
