"""What an evaluation found over all cases, and how it becomes JSON."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from mmccd_auto.core.files import save_json
from mmccd_auto.evaluation import metrics
from mmccd_auto.evaluation.judging import FIGURES, GAIN, CaseEvaluation

logger = logging.getLogger(__name__)

OUTSIDE_BRAIN_SHARE = 0.01
"""Warn where more than this share of a case's abnormal voxels lies outside the brain mask and so isn't judged."""


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
    methods : of one folder "anomaly_map", "control" (where it was predicted) and the baselines; of several the folders'
        names, their controls and the baselines
    prevalence : abnormal share of all judged brain voxels
    cases : case -> facts about the judged voxels
    settings : what was compared, and how
    warnings : sentences a reader of the figures should know
    """

    methods: dict[str, MethodResult]
    prevalence: float
    cases: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold; undefined figures are null."""
        return asdict(self)

    def publish(self, output: Path | None) -> None:
        """Log the warnings and, where ``output`` is given, write the JSON file."""
        for warning in self.warnings:
            logger.warning("%s", warning)
        if output is not None:
            save_json(self.to_json(), output)


def method_result(method: str, evaluations: Sequence[CaseEvaluation]) -> MethodResult:
    """Return the figures of one method over all cases."""
    judged = [evaluation.methods[method] for evaluation in evaluations]
    pooled: dict[str, float | None] = metrics.ranking_figures(metrics.pool_counts([one.scores for one in judged]))
    overlaps = [one.overlap for one in judged if one.overlap is not None]
    if overlaps:
        volumes = [one.figures["false_positive_ml"] for one in judged]
        pooled |= metrics.overlap_figures(reduce(add, overlaps))
        pooled["false_positive_ml"] = sum(volume for volume in volumes if volume is not None)
        # The oracle is of all cases, so its share means nothing where some cases have no mask.
        whole = len(overlaps) == len(judged)
        pooled["dice_of_oracle"] = metrics.dice_of_oracle(pooled["dice"], pooled["best_dice"]) if whole else None
    summary = metrics.summarise_cases([one.figures for one in judged], FIGURES)
    return MethodResult(
        cases={evaluation.case: one.figures for evaluation, one in zip(evaluations, judged, strict=True)},
        pooled=pooled,
        defined_cases=summary.cases,
        mean=summary.mean,
        median=summary.median,
        interval=summary.interval,
    )


def method_results(
    methods: Sequence[str], evaluations: Sequence[CaseEvaluation], controls: Mapping[str, str]
) -> dict[str, MethodResult]:
    """Return the figures of all methods over all cases.

    Parameters
    ----------
    methods : in the order of the tables
    evaluations : of the cases
    controls : method -> what its control is called, of methods that have one
    """
    found = {method: method_result(method, evaluations) for method in methods}
    for method, control in controls.items():
        gain = metrics.gain(found[method].pooled["auprc"], found[control].pooled["auprc"])
        found[method] = replace(found[method], pooled=found[method].pooled | {GAIN: gain})
    return found


def judged_prevalence(evaluations: Sequence[CaseEvaluation]) -> float:
    """Compute abnormal share of the judged voxels of all cases."""
    abnormal = sum(evaluation.facts["reference_voxels"] for evaluation in evaluations)
    return abnormal / sum(evaluation.facts["brain_voxels"] for evaluation in evaluations)


def settings_of(
    reference: Path, compared: dict[str, Any], images: Path | None, brain_masks: Path | None, erosion_mm: float
) -> dict[str, Any]:
    """Return what was compared and how, for the JSON file; ``compared`` names the folder or folders."""
    return {
        "reference": str(reference),
        **compared,
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


def unmatched_warnings(unmatched: Sequence[str], prediction: Path) -> list[str]:
    """Return a sentence on the predictions that have no reference."""
    if not unmatched:
        return []
    return [f"{', '.join(unmatched)}: predicted in {prediction} but without reference, so not judged."]


def control_warnings(missing: Sequence[str], prediction: Path) -> list[str]:
    """Return a sentence on a folder in which some cases have a control and these have none."""
    if not missing:
        return []
    cases = ", ".join(missing)
    return [f"{cases}: no control in {prediction}, so it is judged in no case: predict all with --save_control."]


def mask_warnings(method: str, evaluations: Sequence[CaseEvaluation], where: str = "") -> list[str]:
    """Return a sentence on the cases of a method that have no mask; ``where`` names the method among several."""
    unmasked = [evaluation.case for evaluation in evaluations if evaluation.methods[method].overlap is None]
    if not unmasked:
        return []
    return [f"{', '.join(unmasked)}: no mask was predicted{where} (no threshold), so no figures at the mask."]


def brain_warnings(evaluations: Sequence[CaseEvaluation]) -> list[str]:
    """Return a sentence for each case of which much lies outside the brain mask."""
    found = []
    for evaluation in evaluations:
        outside = evaluation.facts["reference_voxels_outside_brain"]
        total = outside + evaluation.facts["reference_voxels"] + evaluation.facts["reference_voxels_eroded"]
        if outside > OUTSIDE_BRAIN_SHARE * total:
            found.append(
                f"{evaluation.case}: {outside} of {total} abnormal voxels lie outside the brain mask and are not judged; "
                "check the brain mask."
            )
    return found
