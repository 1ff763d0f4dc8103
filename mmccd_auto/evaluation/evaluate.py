"""Predicted maps and masks against reference labels, beside the intensity of the scan itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mmccd_auto.brain_mask import find_brain
from mmccd_auto.errors import MMCCDError
from mmccd_auto.evaluation import metrics
from mmccd_auto.evaluation.case_files import CaseFiles, find_case_files, raise_together
from mmccd_auto.evaluation.metrics import OverlapCounts, ScoreCounts
from mmccd_auto.evaluation.surface_distances import distance_figures
from mmccd_auto.executor import run_cases
from mmccd_auto.files import save_json
from mmccd_auto.image_io import Geometry, Volume, read_volume
from mmccd_auto.modalities import lesions_expected_dark
from mmccd_auto.preprocessing.normalisation import normalise

logger = logging.getLogger(__name__)

RANKING_FIGURES = ("auprc", "auroc", "best_dice")
MASK_FIGURES = ("dice", "jaccard", "sensitivity", "precision", "assd_mm", "hd95_mm", "false_positive_ml", "masked_share")
FIGURES = RANKING_FIGURES + MASK_FIGURES

OUTSIDE_BRAIN_SHARE = 0.01
"""Warn where more than this share of a case's abnormal voxels lies outside the brain mask and so isn't judged."""


@dataclass(frozen=True)
class CaseEvaluation:
    """One case: figures by method, and the counts that pooling needs.

    Attributes
    ----------
    facts : voxel counts and the like, the same for all methods
    figures : method -> figure -> value or None
    scores : method -> counts, rounded for pooling
    overlap : of the mask; None where the case has no mask
    """

    case: str
    facts: dict[str, Any]
    figures: dict[str, dict[str, float | None]]
    scores: dict[str, ScoreCounts]
    overlap: OverlapCounts | None


@dataclass(frozen=True)
class MethodResult:
    """The figures of one method: each case, all brain voxels pooled, and over cases (see :class:`metrics.CaseSummary`)."""

    cases: dict[str, dict[str, float | None]]
    pooled: dict[str, float | None]
    defined_cases: dict[str, int]
    mean: dict[str, float | None]
    median: dict[str, float | None]
    interval: dict[str, tuple[float, float] | None]


@dataclass(frozen=True)
class EvaluationResult:
    """Everything that an evaluation found.

    Attributes
    ----------
    methods : "anomaly_map" and "intensity"
    prevalence : abnormal share of all judged brain voxels
    cases : case -> facts that hold for all methods
    settings : what was compared, and how
    warnings : sentences a reader of the figures should know
    """

    methods: dict[str, MethodResult]
    prevalence: float
    cases: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold; undefined figures are null."""
        return asdict(self)


def evaluate_folder(
    reference: Path,
    prediction: Path,
    images: Path | None = None,
    brain_masks: Path | None = None,
    output: Path | None = None,
    processes: int = 0,
    erosion_mm: float = 0.0,
) -> EvaluationResult:
    """Judge the predictions of a folder against labels, case by case and pooled.

    Parameters
    ----------
    reference : folder of CASE.nii.gz labels, nonzero = abnormal
    prediction : folder that ``mmccd_predict`` wrote
    images : folder of the predicted scans, where they aren't any more where CASE.json says
    brain_masks : folder of CASE.nii.gz brain masks; else the prediction's own mask file, else found from the scan
    output : JSON file for the result
    processes : workers; 0 works in this process
    erosion_mm : voxels nearer than this to the outside of the brain are left out (3D, in mm, whatever the spacing)

    Raises
    ------
    MMCCDError
        If any case with a reference can't be judged (no prediction, another grid, a missing scan, ...): one error with a
        line for each. Cases left out silently would flatter the figures.
    """
    reference, prediction = Path(reference), Path(prediction)
    images, brain_masks = (None if folder is None else Path(folder) for folder in (images, brain_masks))
    if not erosion_mm >= 0:
        raise MMCCDError(f"An erosion of {erosion_mm} mm is impossible: give 0 or more.")
    cases, unmatched = find_case_files(reference, prediction, images, brain_masks)
    outcomes = run_cases(evaluate_case, [(files.case, (files, erosion_mm)) for files in cases], processes, "evaluating")
    raise_together([f"{outcome.case}: {outcome.error}" for outcome in outcomes if outcome.error is not None], len(cases))
    evaluations = [outcome.result for outcome in outcomes]
    result = EvaluationResult(
        methods={method: _method_result(method, evaluations) for method in evaluations[0].figures},
        prevalence=_prevalence(evaluations),
        cases={evaluation.case: evaluation.facts for evaluation in evaluations},
        settings=_settings(reference, prediction, images, brain_masks, erosion_mm),
        warnings=tuple(_warnings(evaluations, unmatched, prediction)),
    )
    for warning in result.warnings:
        logger.warning("%s", warning)
    if output is not None:
        save_json(result.to_json(), output)
    return result


def evaluate_case(files: CaseFiles, erosion_mm: float = 0.0) -> CaseEvaluation:
    """Judge one case inside its brain.

    Raises
    ------
    MMCCDError
        If a file can't be read, lies on another grid than the anomaly map, or holds values that can't be judged.
    """
    anomaly = read_volume(files.anomaly)
    geometry = anomaly.geometry
    labels = _read_on_grid(files.reference, geometry, files.anomaly)
    image = _read_on_grid(files.image, geometry, files.anomaly)
    mask = None if files.mask is None else _read_on_grid(files.mask, geometry, files.anomaly).array != 0
    whole_brain = _brain(files, image)
    brain = erode(whole_brain, geometry.spacing, erosion_mm)
    if not brain.any():
        raise MMCCDError(f"{files.case} has no brain voxel left to judge: check its brain mask and the erosion.")
    abnormal = _finite(labels.array, files.reference) != 0
    scores = {
        "anomaly_map": _finite(anomaly.array[brain], files.anomaly),
        "intensity": intensity_score(_finite(image.array, files.image), whole_brain, files.modality, str(files.image))[
            brain
        ],
    }
    counts = {method: metrics.count_scores(score, abnormal[brain]) for method, score in scores.items()}
    figures = {method: {**metrics.ranking_figures(found), **dict.fromkeys(MASK_FIGURES)} for method, found in counts.items()}
    overlap = None
    if mask is not None:
        overlap = metrics.count_overlap(mask[brain], abnormal[brain])
        figures["anomaly_map"] |= _mask_figures(mask & brain, abnormal & brain, overlap, geometry)
    return CaseEvaluation(
        case=files.case,
        facts=_facts(files, whole_brain, brain, abnormal, mask),
        figures=figures,
        scores={method: found.limited() for method, found in counts.items()},
        overlap=overlap,
    )


def intensity_score(image: np.ndarray, brain: np.ndarray, modality: str, name: str) -> np.ndarray:
    """The baseline: how bright a voxel is (or how dark, where lesions are dark), in units that compare across scans.

    Meissen et al. 2021 showed that this beats many published methods on FLAIR. The image is normalised as for the model
    (2nd percentile of the brain at -3, 90th at +3); on modalities with dark lesions the sign is turned.

    Parameters
    ----------
    image : float [z, y, x]
    brain : bool [z, y, x]
    modality : of the image, see :func:`mmccd_auto.modalities.lesions_expected_dark`
    name : of the image, named in errors

    Returns
    -------
    float32 [z, y, x], meaningful inside the brain

    Raises
    ------
    MMCCDError
        If the image has no contrast inside the brain.
    """
    normalised, _ = normalise(image, brain, "percentile", name)
    return -normalised if lesions_expected_dark(modality) else normalised


def erode(brain: np.ndarray, spacing: tuple[float, float, float], millimetres: float) -> np.ndarray:
    """The voxels of ``brain`` [z, y, x] farther than ``millimetres`` from the nearest voxel outside (a 3D ball).

    ``spacing`` in mm along x, y, z. The border of the volume isn't a border of the brain.
    """
    if millimetres == 0 or brain.all():
        return brain
    return ndimage.distance_transform_edt(brain, sampling=tuple(reversed(spacing))) > millimetres


def _mask_figures(
    mask: np.ndarray, abnormal: np.ndarray, overlap: OverlapCounts, geometry: Geometry
) -> dict[str, float | None]:
    return {
        **metrics.overlap_figures(overlap),
        **distance_figures(mask, abnormal, geometry.spacing),
        "false_positive_ml": overlap.false_positive * geometry.voxel_volume / 1000,
    }


def _facts(
    files: CaseFiles, whole_brain: np.ndarray, brain: np.ndarray, abnormal: np.ndarray, mask: np.ndarray | None
) -> dict[str, Any]:
    judged, voxels = int(np.count_nonzero(abnormal & brain)), int(np.count_nonzero(brain))
    return {
        "modality": files.modality,
        "intensity_sign": "dark" if lesions_expected_dark(files.modality) else "bright",
        "brain_voxels": voxels,
        "reference_voxels": judged,
        "prevalence": judged / voxels,
        "reference_voxels_outside_brain": int(np.count_nonzero(abnormal & ~whole_brain)),
        "reference_voxels_eroded": int(np.count_nonzero(abnormal & whole_brain & ~brain)),
        "masked_voxels": None if mask is None else int(np.count_nonzero(mask & brain)),
        "masked_voxels_outside_brain": None if mask is None else int(np.count_nonzero(mask & ~whole_brain)),
    }


def _read_on_grid(path: Path, geometry: Geometry, anomaly: Path) -> Volume:
    volume = read_volume(path)
    differences = volume.geometry.differences(geometry)
    if differences:
        raise MMCCDError(f"{path} and {anomaly} are not on one grid ({'; '.join(differences)}): give the files of one scan.")
    return volume


def _brain(files: CaseFiles, image: Volume) -> np.ndarray:
    if files.brain_mask is None:
        return find_brain(image.array, image.geometry.spacing, str(files.image))
    return _read_on_grid(files.brain_mask, image.geometry, files.image).array != 0


def _finite(values: np.ndarray, path: Path) -> np.ndarray:
    if not np.all(np.isfinite(values)):
        raise MMCCDError(f"{path} holds NaN or infinite values: make it anew.")
    return values


def _method_result(method: str, evaluations: Sequence[CaseEvaluation]) -> MethodResult:
    cases = {evaluation.case: evaluation.figures[method] for evaluation in evaluations}
    pooled: dict[str, float | None] = metrics.ranking_figures(
        metrics.pool_counts([evaluation.scores[method] for evaluation in evaluations])
    )
    overlaps = [evaluation.overlap for evaluation in evaluations if evaluation.overlap is not None]
    if method == "anomaly_map" and overlaps:
        volumes = [case["false_positive_ml"] for case in cases.values()]
        pooled |= metrics.overlap_figures(reduce(add, overlaps))
        pooled["false_positive_ml"] = sum(volume for volume in volumes if volume is not None)
    summary = metrics.summarise_cases(list(cases.values()), FIGURES)
    return MethodResult(
        cases=cases,
        pooled=pooled,
        defined_cases=summary.cases,
        mean=summary.mean,
        median=summary.median,
        interval=summary.interval,
    )


def _prevalence(evaluations: Sequence[CaseEvaluation]) -> float:
    abnormal = sum(evaluation.facts["reference_voxels"] for evaluation in evaluations)
    return abnormal / sum(evaluation.facts["brain_voxels"] for evaluation in evaluations)


def _settings(
    reference: Path, prediction: Path, images: Path | None, brain_masks: Path | None, erosion_mm: float
) -> dict[str, Any]:
    return {
        "reference": str(reference),
        "prediction": str(prediction),
        "images": None if images is None else str(images),
        "brain_masks": None if brain_masks is None else str(brain_masks),
        "erosion_mm": erosion_mm,
        "pooling_bins": metrics.POOLING_BINS,
        "bootstrap": {
            "resamples": metrics.BOOTSTRAP_RESAMPLES,
            "seed": metrics.BOOTSTRAP_SEED,
            "interval": metrics.INTERVAL,
        },
    }


def _warnings(evaluations: Sequence[CaseEvaluation], unmatched: Sequence[str], prediction: Path) -> list[str]:
    found = []
    if unmatched:
        found.append(f"{', '.join(unmatched)}: predicted in {prediction} but without reference, so not judged.")
    unmasked = [evaluation.case for evaluation in evaluations if evaluation.overlap is None]
    if unmasked:
        found.append(f"{', '.join(unmasked)}: no mask was predicted (no threshold), so no figures at the mask.")
    for evaluation in evaluations:
        outside = evaluation.facts["reference_voxels_outside_brain"]
        total = outside + evaluation.facts["reference_voxels"] + evaluation.facts["reference_voxels_eroded"]
        if outside > OUTSIDE_BRAIN_SHARE * total:
            found.append(
                f"{evaluation.case}: {outside} of {total} abnormal voxels lie outside the brain mask and are not judged; "
                "check the brain mask."
            )
    return found
