"""The page of an evaluation: its methods, its cases, and the pictures of the cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mmccd_auto.evaluation.results import EvaluationResult, MethodResult
from mmccd_auto.evaluation.table import LABELS, POOLED_LABELS, UNDEFINED, mean_text, number_text
from mmccd_auto.imaging.file_names import CASE_PICTURE
from mmccd_auto.reporting.page.figures import FiguresPage, FigureTable, write_figures_page

CASE_FIGURES = (
    *("auprc", "gain_over_control", "best_dice", "dice", "sensitivity", "precision"),
    *("hd95_mm", "false_positive_ml", "masked_share"),
)


def write_evaluation_page(result: EvaluationResult, folders: Mapping[str, Path], path: Path) -> None:
    """Write the page of an evaluation of one or several folders.

    Parameters
    ----------
    result : of the evaluation
    folders : method -> folder with the pictures of its cases
    path : of the page

    Raises
    ------
    MMCCDError
        If a picture can't be read, or the page can't be written.
    """
    page = FiguresPage(
        title="Evaluation against labels",
        subtitle=f"{len(result.cases)} cases; {100 * result.prevalence:.3g} % of the judged voxels are abnormal",
        tables=(*methods_tables(result.methods), cases_table(result.methods)),
        warnings=result.warnings,
        pictures=case_pictures(folders, result.cases),
    )
    write_figures_page(page, path)


def write_cross_validation_page(
    title: str,
    evaluations: Mapping[str, EvaluationResult],
    folders: Mapping[str, Path],
    warnings: tuple[str, ...],
    path: Path,
) -> None:
    """Write the page of a cross-validation: the methods and the cases of each fold.

    Parameters
    ----------
    title : model and dataset
    evaluations : by fold
    folders : by fold, with the pictures of its cases
    warnings : sentences a reader of the figures should know
    path : of the page

    Raises
    ------
    MMCCDError
        If a picture can't be read, or the page can't be written.
    """
    tables: list[FigureTable] = []
    pictures: dict[str, Path] = {}
    for fold, result in evaluations.items():
        found = (*methods_tables(result.methods), cases_table(result.methods))
        tables += [FigureTable(f"Fold {fold}: {one.title}", one.columns, one.rows) for one in found]
        drawn = case_pictures({fold: folders[fold]}, result.cases)
        pictures |= {f"{case}, fold {fold}": picture for case, picture in drawn.items()}
    page = FiguresPage("Cross-validation", title, tuple(tables), warnings, pictures)
    write_figures_page(page, path)


def methods_tables(methods: Mapping[str, MethodResult]) -> tuple[FigureTable, FigureTable]:
    """Return the methods side by side: all brain voxels pooled, and the mean over cases with its interval."""
    columns = ("", *methods)
    pooled = (
        (label, [number_text(one.pooled.get(name)) for one in methods.values()]) for name, label in POOLED_LABELS.items()
    )
    means = ((label, [mean_text(one, name) for one in methods.values()]) for name, label in LABELS.items())
    return (
        FigureTable("All brain voxels pooled", columns, _known(pooled)),
        FigureTable("Mean over cases [95 % interval]", columns, _known(means)),
    )


def cases_table(methods: Mapping[str, MethodResult], name_of: Mapping[str, str] | None = None) -> FigureTable:
    """Return each case as a row, the first method's figures as columns.

    Parameters
    ----------
    methods : of one evaluation
    name_of : what a case is called in the table; None calls it by its own name
    """
    first, method = next(iter(methods.items()))
    figures = [name for name in CASE_FIGURES if any(case.get(name) is not None for case in method.cases.values())]
    rows = tuple(
        ((name_of or {}).get(case, case), *(number_text(values.get(name)) for name in figures))
        for case, values in method.cases.items()
    )
    return FigureTable(f"Cases, {first}", ("case", *(LABELS[name] for name in figures)), rows)


def case_pictures(folders: Mapping[str, Path], cases: Iterable[str]) -> dict[str, Path]:
    """Return the pictures that a prediction left of the cases, by their titles; those that aren't there are left out."""
    several = len(folders) > 1
    paths = {(case, name): folder / f"{case}{CASE_PICTURE}" for case in cases for name, folder in folders.items()}
    return {f"{case}, {name}" if several else case: path for (case, name), path in paths.items() if path.is_file()}


def _known(rows: Iterable[tuple[str, list[str]]]) -> tuple[tuple[str, ...], ...]:
    """Return the rows in which any method has the figure."""
    return tuple((label, *cells) for label, cells in rows if any(cell != UNDEFINED for cell in cells))
