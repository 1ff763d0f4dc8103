"""Predicted maps and masks against reference labels, beside the intensity of the scan itself."""

from __future__ import annotations

from pathlib import Path

from mmccd_auto.evaluation.baselines import INTENSITY, intensity_score
from mmccd_auto.evaluation.case_files import CaseFiles, find_case_files, find_label_values
from mmccd_auto.evaluation.judging import (
    CaseEvaluation,
    Grid,
    brain_of,
    check_erosion,
    choose_voxels,
    judge_cases,
    judge_prediction,
    judge_score,
    scan_facts,
    settled,
)
from mmccd_auto.evaluation.results import (
    EvaluationResult,
    brain_warnings,
    judged_prevalence,
    mask_warnings,
    method_result,
    settings_of,
    unmatched_warnings,
)
from mmccd_auto.imaging.labels import LabelValues

ANOMALY_MAP = "anomaly_map"


def evaluate_folder(
    reference: Path,
    prediction: Path,
    images: Path | None = None,
    brain_masks: Path | None = None,
    output: Path | None = None,
    processes: int = 0,
    erosion_mm: float = 0.0,
    label_values: LabelValues | None = None,
) -> EvaluationResult:
    """Judge the predictions of a folder against labels, case by case and pooled.

    Parameters
    ----------
    reference : folder of CASE.nii.gz labels
    prediction : folder that ``mmccd_predict`` wrote
    images : folder of the predicted scans, where they aren't any more where CASE.json says
    brain_masks : folder of CASE.nii.gz brain masks; else the prediction's own mask file, else found from the scan
    output : JSON file for the result
    processes : workers; 0 works in this process
    erosion_mm : voxels nearer than this to the outside of the brain are left out (3D, in mm, whatever the spacing)
    label_values : what the labels' values mean; None asks the dataset.json in or beside ``reference``, and knows 0 and 1
        alone where there is none

    Raises
    ------
    MMCCDError
        If any case with a reference can't be judged (no prediction, another grid, a missing scan, ...): one error with a
        line for each. Cases left out silently would flatter the figures.
    """
    reference, prediction = Path(reference), Path(prediction)
    images, brain_masks = (None if folder is None else Path(folder) for folder in (images, brain_masks))
    check_erosion(erosion_mm)
    cases, unmatched = find_case_files(reference, prediction, images, brain_masks)
    values = label_values or find_label_values(reference)
    evaluations = judge_cases(evaluate_case, [(files.case, (files, erosion_mm, values)) for files in cases], processes)
    warnings = [
        *unmatched_warnings(unmatched, prediction),
        *mask_warnings(ANOMALY_MAP, evaluations),
        *brain_warnings(evaluations),
    ]
    result = EvaluationResult(
        methods={method: method_result(method, evaluations) for method in (ANOMALY_MAP, INTENSITY)},
        prevalence=judged_prevalence(evaluations),
        cases={evaluation.case: evaluation.facts for evaluation in evaluations},
        settings=settings_of(reference, {"prediction": str(prediction)}, images, brain_masks, erosion_mm),
        warnings=tuple(warnings),
    )
    result.publish(output)
    return result


def evaluate_case(files: CaseFiles, erosion_mm: float = 0.0, label_values: LabelValues | None = None) -> CaseEvaluation:
    """Judge one case inside its brain.

    Raises
    ------
    MMCCDError
        If a file can't be read, lies on another grid than the anomaly map, or holds values that can't be judged.
    """
    grid = Grid.of(files.anomaly)
    image = grid.read(files.image)
    whole_brain = brain_of(files, image, grid)
    voxels = choose_voxels(files.case, grid, files.reference, whole_brain, erosion_mm, label_values)
    score = intensity_score(settled(image, whole_brain, files.image), whole_brain, files.modality, str(files.image))
    methods = {ANOMALY_MAP: judge_prediction(files, voxels), INTENSITY: judge_score(score, voxels)}
    facts = {**scan_facts(files), **voxels.facts(), **methods[ANOMALY_MAP].facts}
    return CaseEvaluation(files.case, facts, methods)
