"""Several methods on the same voxels of the same cases, beside their controls and the intensity of the scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.executor import Workers
from mmccd_auto.evaluation.baselines import CONTROL, INTENSITY, SMOOTHED_INTENSITY, SMOOTHING_MM, intensity_score
from mmccd_auto.evaluation.case_files import CaseFiles, find_compared_files, find_label_values
from mmccd_auto.evaluation.judging import (
    WHOLE_BRAIN,
    CaseEvaluation,
    EvaluationOptions,
    Grid,
    JudgedMethod,
    JudgedVoxels,
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
from mmccd_auto.evaluation.metrics import PairedDifference, paired_difference
from mmccd_auto.evaluation.results import (
    EvaluationResult,
    MethodResult,
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
from mmccd_auto.imaging.volume import Volume

DIFFERENCE_FIGURES = ("auprc", "best_dice", "dice")

NOT_COMMON_SHARE = 0.01
"""Warn where more than this share of the voxels that any folder takes for brain is brain in some folders only."""


@dataclass(frozen=True)
class ComparisonResult(EvaluationResult):
    """An evaluation of several folders.

    Attributes
    ----------
    differences : other method -> figure -> first method less the other, over cases
    """

    differences: dict[str, dict[str, PairedDifference]]


def name_predictions(folders: Sequence[str | Path], names: Sequence[str] | None = None) -> dict[str, Path]:
    """Return method -> folder, in the given order; without ``names`` a method is called like its folder.

    Raises
    ------
    MMCCDError
        If names are too few, too many, empty, given twice or those of a baseline.
    """
    paths = [Path(folder) for folder in folders]
    chosen = [path.resolve().name for path in paths] if names is None else list(names)
    if len(chosen) != len(paths):
        raise MMCCDError(f"--names gives {len(chosen)} names for {len(paths)} folders of -pred: give one for each.")
    for name, path in zip(chosen, paths, strict=True):
        if not name:
            raise MMCCDError(f"{path} has an empty name: give each folder of -pred a name with --names.")
        if chosen.count(name) > 1:
            listed = ", ".join(str(path) for path, other in zip(paths, chosen, strict=True) if other == name)
            raise MMCCDError(f"{listed} have one name, {name!r}: distinguish the folders with --names.")
        if f"{name} ".startswith(tuple(f"{baseline} " for baseline in (CONTROL, INTENSITY, SMOOTHED_INTENSITY))):
            raise MMCCDError(f"{path} has the name of a baseline, {name!r}: give it another with --names.")
    return dict(zip(chosen, paths, strict=True))


def compare_folders(
    reference: Path,
    predictions: Mapping[str, Path],
    options: EvaluationOptions = WHOLE_BRAIN,
    output: Path | None = None,
    processes: Workers = 0,
    with_controls: bool = True,
) -> ComparisonResult:
    """Judge several folders of predictions on the same voxels of the same cases.

    The brain of a case is what all folders take for brain; the other voxels are counted, and warned about where they are
    many. Beside the methods stand the control of each whose folder holds one of every case (``mmccd_predict
    --save_control``), the intensity of the scan and its smoothed intensity; where the folders were predicted from different
    modalities, once for each modality.

    Parameters
    ----------
    reference : folder of CASE.nii.gz labels
    predictions : method -> folder that ``mmccd_predict`` wrote; see :func:`name_predictions`
    options, output, processes : as in :func:`mmccd_auto.evaluation.evaluate.evaluate_folder`
    with_controls : judge the controls that are there

    Raises
    ------
    MMCCDError
        If any case with a reference can't be judged in any folder: one error that lists all of them. If there is no folder,
        or the folders hold different modalities, and not the same ones in every case.
    """
    reference, predictions = Path(reference), {name: Path(folder) for name, folder in predictions.items()}
    images, brain_masks = options.folders()
    check_erosion(options.erosion_mm)
    if not predictions:
        raise MMCCDError("No folder of predictions was given: name one or more with -pred.")
    cases, unmatched = find_compared_files(reference, predictions, images, brain_masks)
    by_modality = _modalities_differ(cases)
    values = options.label_values or find_label_values(reference)
    controls = _controls(cases, predictions) if with_controls else {}
    work = [(case, (files, by_modality, options.erosion_mm, values, controls)) for case, files in cases.items()]
    evaluations = judge_cases(compare_case, work, processes)
    methods = method_results(list(evaluations[0].methods), evaluations, controls)
    compared = {
        "predictions": {name: str(folder) for name, folder in predictions.items()},
        "first": next(iter(predictions)),
        "smoothing_mm": SMOOTHING_MM,
    }
    result = ComparisonResult(
        methods=methods,
        prevalence=judged_prevalence(evaluations),
        cases={evaluation.case: evaluation.facts for evaluation in evaluations},
        settings=settings_of(reference, compared, images, brain_masks, options.erosion_mm),
        warnings=(
            *(_control_warnings(cases, predictions) if with_controls else ()),
            *_warnings(evaluations, unmatched, predictions),
        ),
        differences=_differences(methods),
    )
    result.publish(output)
    return result


def compare_case(
    predictions: Mapping[str, CaseFiles],
    by_modality: bool = False,
    erosion_mm: float = 0.0,
    label_values: LabelValues | None = None,
    controls: Mapping[str, str] | None = None,
) -> CaseEvaluation:
    """Judge one case of every method, inside the brain that all of them have.

    Parameters
    ----------
    predictions : method -> files, all of one case and one reference
    by_modality : the baselines' names end with the modality
    erosion_mm : see :func:`mmccd_auto.evaluation.judging.erode`
    label_values : what the reference's values mean; None knows 0 and 1
    controls : method -> what its control is called, of methods whose control is judged

    Raises
    ------
    MMCCDError
        If a file can't be read, lies on another grid than the first method's map, or holds values that can't be judged;
        if the folders were predicted from different scans of one modality.
    """
    first = next(iter(predictions.values()))
    grid = Grid.of(first.anomaly)
    scans = {path: grid.read(path) for path in dict.fromkeys(files.image for files in predictions.values())}
    common, anywhere = _brains(predictions, scans, grid)
    voxels = choose_voxels(first.case, grid, first.reference, common, erosion_mm, label_values)
    methods = _judge_methods(predictions, voxels, controls or {})
    for modality, path in _scan_of_each_modality(predictions, scans, common).items():
        ending = f" {modality}" if by_modality else ""
        methods |= _baselines(settled(scans[path], common, path), path, modality, ending, voxels)
    facts = {
        **voxels.facts(),
        "brain_voxels_of_all": int(np.count_nonzero(common)),
        "brain_voxels_of_any": int(np.count_nonzero(anywhere)),
        "methods": {name: {**scan_facts(files), **methods[name].facts} for name, files in predictions.items()},
    }
    return CaseEvaluation(first.case, facts, methods)


def _judge_methods(
    predictions: Mapping[str, CaseFiles], voxels: JudgedVoxels, controls: Mapping[str, str]
) -> dict[str, JudgedMethod]:
    """Return the methods, and behind them their controls."""
    found: dict[str, JudgedMethod] = {}
    behind: dict[str, JudgedMethod] = {}
    for name, files in predictions.items():
        if name in controls:
            judged = judge_with_control(files, voxels, name, controls[name])
            behind[controls[name]] = judged.pop(controls[name])
            found |= judged
        else:
            found[name] = judge_prediction(files, voxels)
    return found | behind


def _controls(cases: Mapping[str, Mapping[str, CaseFiles]], predictions: Mapping[str, Path]) -> dict[str, str]:
    """Return method -> what its control is called, of methods that have one of every case."""
    whole = [name for name in predictions if all(files[name].control is not None for files in cases.values())]
    return {name: CONTROL if len(predictions) == 1 else f"{CONTROL} of {name}" for name in whole}


def _control_warnings(cases: Mapping[str, Mapping[str, CaseFiles]], predictions: Mapping[str, Path]) -> list[str]:
    missing = {name: [case for case, files in cases.items() if files[name].control is None] for name in predictions}
    return [
        text
        for name, folder in predictions.items()
        if len(missing[name]) < len(cases)
        for text in control_warnings(missing[name], folder)
    ]


def _brains(predictions: Mapping[str, CaseFiles], scans: Mapping[Path, Volume], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return what all methods, and what any method takes for brain; bool [z, y, x]."""
    common = np.ones(tuple(reversed(grid.geometry.size)), dtype=bool)
    anywhere = ~common
    # Methods that take their brain from one file have one brain: there is no need to find it again.
    for files in {one.brain_mask or one.image: one for one in predictions.values()}.values():
        brain = brain_of(files, scans[files.image], grid)
        common &= brain
        anywhere |= brain
    return common, anywhere


def _scan_of_each_modality(
    predictions: Mapping[str, CaseFiles], scans: Mapping[Path, Volume], brain: np.ndarray
) -> dict[str, Path]:
    """Return modality -> scan, in the order of the methods."""
    found: dict[str, Path] = {}
    for files in predictions.values():
        path = found.setdefault(files.modality, files.image)
        first, other = (scans[one].array[brain] for one in (path, files.image))
        if path != files.image and not np.array_equal(first, other, equal_nan=True):
            raise MMCCDError(
                f"{path} and {files.image} are both the {files.modality} of {files.case} but differ inside the brain: "
                "compare predictions of the same scans."
            )
    return found


def _baselines(image: np.ndarray, path: Path, modality: str, ending: str, voxels: JudgedVoxels) -> dict[str, JudgedMethod]:
    score = intensity_score(image, voxels.whole_brain, modality, str(path))
    smoothed = smooth_inside(score, voxels.whole_brain, voxels.grid.geometry.spacing, SMOOTHING_MM)
    return {
        f"{INTENSITY}{ending}": judge_score(score, voxels),
        f"{SMOOTHED_INTENSITY}{ending}": judge_score(smoothed, voxels),
    }


def _modalities_differ(cases: Mapping[str, Mapping[str, CaseFiles]]) -> bool:
    """Check whether the methods' scans are of different modalities; then each modality must be there in each case."""
    found = {case: sorted({one.modality for one in files.values()}) for case, files in cases.items()}
    if all(len(modalities) == 1 for modalities in found.values()):
        return False
    first = next(iter(found))
    for case, modalities in found.items():
        if modalities != found[first]:
            raise MMCCDError(
                f"The folders were predicted from {', '.join(found[first])} in {first} but from {', '.join(modalities)} in "
                f"{case}: compare folders that hold one modality each."
            )
    return True


def _differences(methods: Mapping[str, MethodResult]) -> dict[str, dict[str, PairedDifference]]:
    (_, first), *others = methods.items()
    return {
        name: {
            figure: paired_difference(_of_cases(first, figure), _of_cases(other, figure)) for figure in DIFFERENCE_FIGURES
        }
        for name, other in others
    }


def _of_cases(method: MethodResult, figure: str) -> list[float | None]:
    return [figures[figure] for figures in method.cases.values()]


def _warnings(
    evaluations: Sequence[CaseEvaluation], unmatched: Mapping[str, Sequence[str]], predictions: Mapping[str, Path]
) -> list[str]:
    found: list[str] = []
    for name, folder in predictions.items():
        found += unmatched_warnings(unmatched[name], folder)
        found += mask_warnings(name, evaluations, f" by {name}")
    found += brain_warnings(evaluations)
    for evaluation in evaluations:
        anywhere = evaluation.facts["brain_voxels_of_any"]
        left_out = anywhere - evaluation.facts["brain_voxels_of_all"]
        if left_out > NOT_COMMON_SHARE * anywhere:
            found.append(
                f"{evaluation.case}: {left_out} of {anywhere} brain voxels are brain in some folders only and are not "
                "judged; give one brain mask for all with --brain_masks."
            )
    return found
