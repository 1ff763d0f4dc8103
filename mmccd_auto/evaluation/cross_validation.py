"""The evaluations of all folds' held-out cases as one summary, in the manner of nnU-Net's cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.evaluation.judging import FIGURES
from mmccd_auto.evaluation.results import EvaluationResult, MethodResult


def cross_validation_summary(results: Mapping[str, EvaluationResult]) -> dict[str, Any]:
    """Figures over all held-out cases, and how much they vary from fold to fold.

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
    """The summary of one figure of one method."""
    values = [case[figure] for method in methods.values() for case in method.cases.values() if case.get(figure) is not None]
    folds = {fold: method.mean.get(figure) for fold, method in methods.items()}
    means = [mean for mean in folds.values() if mean is not None]
    return {
        "mean": float(np.mean(values)) if values else None,
        "cases": len(values),
        "mean_of_folds": float(np.mean(means)) if means else None,
        "deviation_of_folds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "folds": folds,
    }
