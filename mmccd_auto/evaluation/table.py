"""A table of the methods side by side, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from mmccd_auto.evaluation.compare import DIFFERENCE_FIGURES, ComparisonResult
from mmccd_auto.evaluation.judging import GAIN
from mmccd_auto.evaluation.metrics import PairedDifference
from mmccd_auto.evaluation.results import EvaluationResult, MethodResult

LABELS = {
    "auprc": "AUPRC",
    "gain_over_control": "gain over the control",
    "auroc": "AUROC",
    "best_dice": "best Dice (oracle)",
    "dice": "Dice",
    "dice_of_oracle": "Dice / best Dice",
    "jaccard": "Jaccard",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "assd_mm": "ASSD [mm]",
    "hd95_mm": "HD95 [mm]",
    "false_positive_ml": "false positive [ml]",
    "masked_share": "masked share of brain",
}
"""Figure -> how a table calls it, in the order of the table."""

POOLED_LABELS = LABELS | {"false_positive_ml": "false positive, total [ml]"}
UNDEFINED = "-"
NO_CONTROL = (
    "The control without a network isn't here, which shows what the networks add: mmccd_predict --save_control writes it."
)

FEW_CASES = 10
"""Where an interval rests on fewer, the table of a comparison says that it is too narrow."""


def method_table(methods: Mapping[str, MethodResult], prevalence: float) -> str:
    """Return the methods as columns: first all brain voxels pooled, then the mean over cases with its 95 % interval.

    Figures that no method has are left out; a figure that a method doesn't have is shown as "-". A mean over fewer cases
    than there are, because the figure is undefined in the others, is followed by their number.

    Parameters
    ----------
    methods : name -> result; results of several evaluations may stand side by side
    prevalence : abnormal share of the judged brain voxels, which is the AUPRC of guessing
    """
    cases = max(len(method.cases) for method in methods.values())
    pooled = {
        label: [number_text(method.pooled.get(figure)) for method in methods.values()]
        for figure, label in POOLED_LABELS.items()
    }
    over_cases = {label: [mean_text(method, figure) for method in methods.values()] for figure, label in LABELS.items()}
    sections = [
        (f"all brain voxels of {cases} case{'' if cases == 1 else 's'} (prevalence {prevalence:.4f})", pooled),
        ("mean over cases [95 % interval]", over_cases),
    ]
    return "\n\n".join(_section(title, list(methods), rows) for title, rows in sections)


def evaluation_table(result: EvaluationResult) -> str:
    """Return the table of :func:`method_table`.

    Below it is what each case gains over the control without a network, or how to get one.
    """
    return "\n\n".join([method_table(result.methods, result.prevalence), *control_sections(result.methods)])


def control_sections(methods: Mapping[str, MethodResult]) -> list[str]:
    """Return a table for each method that has a control: its AUPRC, and its gain over the control, case by case.

    Where none has one, a sentence on how to get it.
    """
    found = [
        _section(
            f"{name}, by case",
            ["AUPRC", LABELS[GAIN]],
            {case: [number_text(figures["auprc"]), _signed(figures[GAIN])] for case, figures in method.cases.items()},
        )
        for name, method in methods.items()
        if any(figures.get(GAIN) is not None for figures in method.cases.values())
    ]
    return found or [NO_CONTROL]


def comparison_table(result: ComparisonResult) -> str:
    """Return the table of :func:`method_table`.

    Below it is how much the first method exceeds each of the others, and what each gains over its control, case by case.

    The differences are means over the cases in which both methods have the figure, with the 95 % interval; their title
    gives the number of cases, and a difference that rests on fewer is followed by their number.
    """
    cases = len(result.cases)
    count = f"{cases} case{'' if cases == 1 else 's'}"
    interval = "" if cases == 1 else " [95 % interval]"
    rows = {
        LABELS[figure]: [_difference(differences[figure], cases) for differences in result.differences.values()]
        for figure in DIFFERENCE_FIGURES
    }
    title = f"{next(iter(result.methods))} minus other, mean over {count}{interval}"
    parts = [method_table(result.methods, result.prevalence), _section(title, list(result.differences), rows)]
    resting_on = [one.cases for of_other in result.differences.values() for one in of_other.values() if one.interval]
    if resting_on and min(resting_on) < FEW_CASES:
        parts.append(
            f"Intervals over fewer than {FEW_CASES} cases are too narrow: they say how much these cases differ, not what "
            "others would show."
        )
    return "\n\n".join([*parts, *control_sections(result.methods)])


def _section(title: str, methods: list[str], rows: dict[str, list[str]]) -> str:
    rows = {label: cells for label, cells in rows.items() if any(cell != UNDEFINED for cell in cells)}
    first = max(len(label) for label in [*POOLED_LABELS.values(), title, *rows])
    widths = [max(len(name), *(len(cells[column]) for cells in rows.values()), 8) for column, name in enumerate(methods)]
    lines = [_line(title, methods, first, widths), "-" * (first + sum(width + 2 for width in widths))]
    return "\n".join(lines + [_line(label, cells, first, widths) for label, cells in rows.items()])


def _line(label: str, cells: list[str], first: int, widths: list[int]) -> str:
    return label.ljust(first) + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def mean_text(method: MethodResult, figure: str) -> str:
    """Return the mean of a figure over cases with its interval, as the tables show it."""
    return _over_cases(
        number_text(method.mean.get(figure)),
        [number_text(bound) for bound in method.interval.get(figure) or ()],
        method.defined_cases.get(figure, 0),
        len(method.cases),
    )


def _difference(difference: PairedDifference, cases: int) -> str:
    bounds = [_signed(bound) for bound in difference.interval or ()]
    return _over_cases(_signed(difference.mean), bounds, difference.cases, cases)


def _over_cases(mean: str, bounds: list[str], defined: int, cases: int) -> str:
    text = f"{mean} [{', '.join(bounds)}]" if bounds else mean
    return text if defined in (0, cases) else f"{text} (n={defined})"


def number_text(value: float | None) -> str:
    """Return a figure as the tables show it."""
    if value is None:
        return UNDEFINED
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:+.4f}"
