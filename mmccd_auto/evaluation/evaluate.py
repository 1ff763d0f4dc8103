"""Predicted maps and masks against reference labels, beside their control and the intensity of the scan itself."""

from __future__ import annotations

from pathlib import Path

from mmccd_auto.core.processes.executor import Workers
from mmccd_auto.evaluation.baselines import CONTROL, INTENSITY, SMOOTHED_INTENSITY, SMOOTHING_MM, intensity_score
from mmccd_auto.evaluation.case_files import CaseFiles, find_case_files, find_label_values
from mmccd_auto.evaluation.judging import (
    WHOLE_BRAIN,
    CaseEvaluation,
    EvaluationOptions,
    Grid,
    brain_of,
    check_erosion,
    choose_voxels,
    judge_cases,
    judge_prediction,
    judge_score,
    judge_with_control,
    scan_facts,
    settled,
)
from mmccd_auto.evaluation.results import (
    EvaluationResult,
    brain_warnings,
    control_warnings,
    judged_prevalence,
    mask_warnings,
    method_results,
    settings_of,
    unmatched_warnings,
)
from mmccd_auto.imaging.labels import LabelValues
from mmccd_auto.imaging.smoothing import smooth_inside

ANOMALY_MAP = "anomaly_map"


def evaluate_folder(
    reference: Path,
    prediction: Path,
    options: EvaluationOptions = WHOLE_BRAIN,
    output: Path | None = None,
    processes: Workers = 0,
) -> EvaluationResult:
    """Judge the predictions of a folder against labels, case by case and pooled.

    Beside the maps stand their control without a network, where ``mmccd_predict --save_control`` wrote it for every case,
    the intensity of the scan, and its smoothed intensity.

    Parameters
    ----------
    reference : folder of CASE.nii.gz labels
    prediction : folder that ``mmccd_predict`` wrote
    options : where the scans and brain masks are, and which voxels count
    output : JSON file for the result
    processes : workers; 0 works in this process; or a cluster

    Raises
    ------
    MMCCDError
        If any case with a reference can't be judged (no prediction, another grid, a missing scan, ...): one error with a
        line for each. Cases left out silently would flatter the figures.
    """
    reference, prediction = Path(reference), Path(prediction)
    images, brain_masks = options.folders()
    erosion_mm = options.erosion_mm
    check_erosion(erosion_mm)
    cases, unmatched = find_case_files(reference, prediction, images, brain_masks)
    values = options.label_values or find_label_values(reference)
    uncontrolled = [files.case for files in cases if files.control is None]
    controls = {} if uncontrolled else {ANOMALY_MAP: CONTROL}
    work = [(files.case, (files, erosion_mm, values, not uncontrolled)) for files in cases]
    evaluations = judge_cases(evaluate_case, work, processes)
    warnings = [
        *unmatched_warnings(unmatched, prediction),
        *(control_warnings(uncontrolled, prediction) if len(uncontrolled) < len(cases) else ()),
        *mask_warnings(ANOMALY_MAP, evaluations),
        *brain_warnings(evaluations),
    ]
    result = EvaluationResult(
        methods=method_results(list(evaluations[0].methods), evaluations, controls),
        prevalence=judged_prevalence(evaluations),
        cases={evaluation.case: evaluation.facts for evaluation in evaluations},
        settings=settings_of(
            reference, {"prediction": str(prediction), "smoothing_mm": SMOOTHING_MM}, images, brain_masks, erosion_mm
        ),
        warnings=tuple(warnings),
    )
    result.publish(output)
    return result


def evaluate_case(
    files: CaseFiles, erosion_mm: float = 0.0, label_values: LabelValues | None = None, with_control: bool = False
) -> CaseEvaluation:
    """Judge one case inside its brain.

    Parameters
    ----------
    files : of the case
    erosion_mm, label_values : see :class:`mmccd_auto.evaluation.judging.EvaluationOptions`
    with_control : also judge its control, and what the map gains over it

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
    smoothed = smooth_inside(score, whole_brain, grid.geometry.spacing, SMOOTHING_MM)
    if with_control:
        methods = judge_with_control(files, voxels, ANOMALY_MAP, CONTROL)
    else:
        methods = {ANOMALY_MAP: judge_prediction(files, voxels)}
    methods |= {INTENSITY: judge_score(score, voxels), SMOOTHED_INTENSITY: judge_score(smoothed, voxels)}
    facts = {**scan_facts(files), **voxels.facts(), **methods[ANOMALY_MAP].facts}
    return CaseEvaluation(files.case, facts, methods)
