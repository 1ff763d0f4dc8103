"""The evaluations of all folds' held-out cases as one summary, in the manner of nnU-Net's cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import counted
from mmccd_auto.evaluation.baselines import CONTROL
from mmccd_auto.evaluation.judging import FIGURES, GAIN
from mmccd_auto.evaluation.results import EvaluationResult, MethodResult

R2 = "reconstruction_r2"
COLUMNS = {"auprc": "AUPRC", GAIN: "gain", "best_dice": "best Dice", "dice": "Dice", "masked_share": "masked", R2: "R2"}
UNDEFINED = "-"


def cross_validation_summary(results: Mapping[str, EvaluationResult]) -> dict[str, Any]:
    """Return the figures over all held-out cases, and how much they vary from fold to fold.

    Each case counts once in the mean over cases, so large folds weigh more; each fold counts once in the mean over folds.
    Undefined figures are left out of both, and counted by what remains.

    Parameters
    ----------
    results : fold -> evaluation of the cases that this fold's training didn't see

    Returns
    -------
    a dictionary that JSON can hold::

        {"folds": {FOLD: [cases]},
         "methods": {METHOD: {FIGURE: {"mean": over cases, "cases": in which it is defined,
                                       "mean_of_folds", "deviation_of_folds": of the folds' means,
                                       "folds": {FOLD: mean over its cases}}}}}

    where the deviation is the sample's (divided by n - 1), None with fewer than two folds that define the figure, and every
    other figure is None where nothing defines it.

    Raises
    ------
    MMCCDError
        If there is no fold, a case is held out in two folds, or the folds' methods or erosions differ.
    """
    if not results:
        raise MMCCDError("There is no fold to sum up: evaluate the held-out cases of each fold first.")
    _check_folds(results)
    methods = next(iter(results.values())).methods
    return {
        "folds": {fold: list(result.cases) for fold, result in results.items()},
        "methods": {
            method: {
                figure: _over_folds(figure, {fold: result.methods[method] for fold, result in results.items()})
                for figure in FIGURES
            }
            for method in methods
        },
    }


def _check_folds(results: Mapping[str, EvaluationResult]) -> None:
    (first, expected), *others = results.items()
    seen = dict.fromkeys(expected.cases, first)
    for fold, result in others:
        if set(result.methods) != set(expected.methods):
            raise MMCCDError(
                f"Fold {fold} was evaluated for {', '.join(result.methods)} but fold {first} for "
                f"{', '.join(expected.methods)}: evaluate the same methods in all folds."
            )
        erosions = [one.settings.get("erosion_mm") for one in (result, expected)]
        if erosions[0] != erosions[1]:
            raise MMCCDError(
                f"Fold {fold} was evaluated with an erosion of {erosions[0]} mm but fold {first} with {erosions[1]} mm: "
                "evaluate all folds alike."
            )
        for case in result.cases:
            if case in seen:
                raise MMCCDError(
                    f"{case} is held out in fold {seen[case]} and in fold {fold}: evaluate each fold on its own cases only."
                )
            seen[case] = fold


def _over_folds(figure: str, methods: Mapping[str, MethodResult]) -> dict[str, Any]:
    """Return the summary of one figure of one method."""
    cases = [case for method in methods.values() for case in method.cases.values()]
    values = [value for value in (case.get(figure) for case in cases) if value is not None]
    folds = {fold: method.mean.get(figure) for fold, method in methods.items()}
    means = [mean for mean in folds.values() if mean is not None]
    return {
        "mean": float(np.mean(values)) if values else None,
        "cases": len(values),
        "mean_of_folds": float(np.mean(means)) if means else None,
        "deviation_of_folds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "folds": folds,
    }


@dataclass(frozen=True)
class FoldPrediction:
    """How a fold's held-out cases were predicted.

    Attributes
    ----------
    folder : of the maps, below the model folder
    weights_sha256 : of checkpoint_final.pth
    calibration : "without the fold's own subjects", "of the fold itself" or "none"
    calibration_folds : whose healthy slices are in the calibration; empty where it is the fold's own
    calibration_subjects : number of people in the calibration
    scoring, settings : as in CASE.json
    control : whether the control without a network was predicted, too
    reconstruction_r2 : of the reconstruction on the healthy slices that the fold held out, mean over people; None where
        there are no maps of such slices
    reconstruction_subjects : number of these people
    """

    folder: str
    weights_sha256: str
    calibration: str
    calibration_folds: tuple[str, ...]
    calibration_subjects: int
    scoring: dict[str, Any]
    settings: dict[str, Any]
    control: bool = False
    reconstruction_r2: float | None = None
    reconstruction_subjects: int = 0


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation.

    Attributes
    ----------
    model, dataset : names of the model folder and of the dataset
    method : what the evaluations call the model
    predictions, evaluations : by fold
    unlabelled : cases without a label file, taken for healthy
    left_out : case -> why no fold predicted it
    warnings : sentences a reader of the figures should know
    """

    model: str
    dataset: str
    method: str
    predictions: dict[str, FoldPrediction]
    evaluations: Mapping[str, EvaluationResult]
    unlabelled: tuple[str, ...]
    left_out: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def healthy(self) -> dict[str, float | None]:
        """Cases without any abnormal voxel -> share of the brain that their mask marks; None where there is no mask."""
        return {
            case: evaluation.methods[self.method].cases[case]["masked_share"]
            for evaluation in self.evaluations.values()
            for case, facts in evaluation.cases.items()
            if _is_healthy(facts)
        }

    @property
    def reconstruction_r2(self) -> float | None:
        """The mean over the people of all folds; None where no fold has one."""
        every = [(one.reconstruction_r2, one.reconstruction_subjects) for one in self.predictions.values()]
        known = [(explained, subjects) for explained, subjects in every if explained is not None]
        people = sum(subjects for _, subjects in known)
        return sum(explained * subjects for explained, subjects in known) / people if people else None

    def to_json(self) -> dict[str, Any]:
        """Return what cross_validation.json holds; undefined figures are null."""
        shares = [share for share in self.healthy.values() if share is not None]
        return {
            "model": self.model,
            "dataset": self.dataset,
            **cross_validation_summary(self.evaluations),
            R2: self.reconstruction_r2,
            "predictions": {fold: asdict(prediction) for fold, prediction in self.predictions.items()},
            "healthy": {
                "cases": list(self.healthy),
                "masked_share": {"mean": float(np.mean(shares)), "largest": max(shares)} if shares else None,
            },
            "cases": {
                case: {
                    "fold": fold,
                    "label": case not in self.unlabelled,
                    "healthy": _is_healthy(facts),
                    **facts,
                    "figures": {name: method.cases[case] for name, method in evaluation.methods.items()},
                }
                for fold, evaluation in self.evaluations.items()
                for case, facts in evaluation.cases.items()
            },
            "left_out": self.left_out,
            "warnings": list(self.warnings),
        }


def describe_cross_validation(result: CrossValidation) -> str:
    """Write a table with all cases, each fold and each case as rows, and what has to be known to read it."""
    summary = cross_validation_summary(result.evaluations)["methods"]
    columns = [(method, figure) for method in summary for figure in COLUMNS if figure in _figures(method, result.method)]
    cases = sum(len(evaluation.cases) for evaluation in result.evaluations.values())
    rows = {
        f"mean over {_count(cases)}": [
            result.reconstruction_r2 if figure == R2 else summary[method][figure]["mean"] for method, figure in columns
        ]
    }
    for fold, evaluation in result.evaluations.items():
        name = f"fold {fold}, mean over {_count(len(evaluation.cases))}"
        explained = result.predictions[fold].reconstruction_r2
        rows[name] = [
            explained if figure == R2 else evaluation.methods[method].mean.get(figure) for method, figure in columns
        ]
    for fold, evaluation in result.evaluations.items():
        for case, facts in evaluation.cases.items():
            name = f"{case}, fold {fold}{', healthy' if _is_healthy(facts) else ''}"
            rows[name] = [evaluation.methods[method].cases[case].get(figure) for method, figure in columns]
    return "\n".join([f"{result.model}, {result.dataset}", *_table(columns, rows), "", *_notes(result)])


def _figures(method: str, model: str) -> tuple[str, ...]:
    """Select the figures that a method has: a baseline has no mask."""
    return tuple(COLUMNS) if method == model else ("auprc", "best_dice")


def _table(columns: list[tuple[str, str]], rows: Mapping[str, list[float | None]]) -> list[str]:
    first = max(len(name) for name in rows)
    labels = [COLUMNS[figure] for _, figure in columns]
    methods = [method if not place or columns[place - 1][0] != method else "" for place, (method, _) in enumerate(columns)]
    widths = [max(len(label), 6) for label in labels]
    upper = " " * first
    for place, method in enumerate(methods):
        if method:
            start = first + sum(width + 2 for width in widths[:place]) + 2
            upper = f"{upper.ljust(start)}{method}" if len(upper) < start else f"{upper} {method}"
    lines = [upper.rstrip(), _line("", labels, first, widths)]
    lines.append("-" * len(lines[-1]))
    return lines + [_line(name, [_number(value) for value in values], first, widths) for name, values in rows.items()]


def _line(name: str, cells: list[str], first: int, widths: list[int]) -> str:
    return name.ljust(first) + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _notes(result: CrossValidation) -> list[str]:
    healthy = result.healthy
    cases = sum(len(evaluation.cases) for evaluation in result.evaluations.values())
    notes = [
        "best Dice: an oracle, by each case's own best threshold. masked: share of the brain that the mask marks. R2: of "
        "the reconstruction on healthy slices that the fold held out."
    ]
    if any(CONTROL in evaluation.methods for evaluation in result.evaluations.values()):
        notes.append("gain: AUPRC less that of the control, which is the same score without a network.")
    else:
        notes.append("no control without a network: a fold's calibration has none; mmccd_calibrate makes one.")
    if healthy:
        abnormal = cases - len(healthy)
        about = "AUPRC and best Dice are means over these" if abnormal else "AUPRC and best Dice are undefined"
        notes.append(
            f"{_count(abnormal)} with an abnormality: {about}. The Dice of a healthy case is 1 where nothing is masked, "
            "else 0."
        )
        shares = [share for share in healthy.values() if share is not None]
        without = sum(case in healthy for case in result.unlabelled)
        told = f"healthy: {_count(len(healthy))} ({without} because there is no label file)"
        if shares:
            told += f"; their masks mark {np.mean(shares):.4f} of the brain on average, {max(shares):.4f} at most"
        notes.append(f"{told}.")
    for fold, one in result.predictions.items():
        of = f" of fold {', '.join(one.calibration_folds)}" if one.calibration_folds else ""
        notes.append(f"fold {fold}: calibration {one.calibration}, on {counted(one.calibration_subjects, 'subject')}{of}.")
    notes += [f"left out: {case}, {reason}." for case, reason in result.left_out.items()]
    return notes


def _is_healthy(facts: Mapping[str, Any]) -> bool:
    return not any(facts[name] for name in ("reference_voxels", "reference_voxels_outside_brain", "reference_voxels_eroded"))


def _count(cases: int) -> str:
    return f"{cases} case{'' if cases == 1 else 's'}"


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.4f}"
