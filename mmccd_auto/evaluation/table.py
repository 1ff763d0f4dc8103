"""A table of the methods side by side, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from mmccd_auto.evaluation.evaluate import MethodResult

LABELS = {
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "best_dice": "best Dice (oracle)",
    "dice": "Dice",
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


def method_table(methods: Mapping[str, MethodResult], prevalence: float) -> str:
    """The methods as columns: first all brain voxels pooled, then the mean over cases with its 95 % interval.

    Figures that no method has are left out; a figure that a method doesn't have is shown as "-". A mean over fewer cases
    than there are, because the figure is undefined in the others, is followed by their number.

    Parameters
    ----------
    methods : name -> result; results of several evaluations may stand side by side
    prevalence : abnormal share of the judged brain voxels, which is the AUPRC of guessing
    """
    cases = max(len(method.cases) for method in methods.values())
    pooled = {
        label: [_number(method.pooled.get(figure)) for method in methods.values()] for figure, label in POOLED_LABELS.items()
    }
    over_cases = {label: [_mean(method, figure) for method in methods.values()] for figure, label in LABELS.items()}
    sections = [
        (f"all brain voxels of {cases} case{'' if cases == 1 else 's'} (prevalence {prevalence:.4f})", pooled),
        ("mean over cases [95 % interval]", over_cases),
    ]
    return "\n\n".join(_section(title, list(methods), rows) for title, rows in sections)


def _section(title: str, methods: list[str], rows: dict[str, list[str]]) -> str:
    rows = {label: cells for label, cells in rows.items() if any(cell != UNDEFINED for cell in cells)}
    first = max(len(label) for label in [*POOLED_LABELS.values(), title])
    widths = [max(len(name), *(len(cells[column]) for cells in rows.values()), 8) for column, name in enumerate(methods)]
    lines = [_line(title, methods, first, widths), "-" * (first + sum(width + 2 for width in widths))]
    return "\n".join(lines + [_line(label, cells, first, widths) for label, cells in rows.items()])


def _line(label: str, cells: list[str], first: int, widths: list[int]) -> str:
    return label.ljust(first) + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _mean(method: MethodResult, figure: str) -> str:
    interval = method.interval.get(figure)
    mean = _number(method.mean.get(figure))
    if interval is not None:
        mean += f" [{_number(interval[0])}, {_number(interval[1])}]"
    defined = method.defined_cases.get(figure, 0)
    return mean if defined in (0, len(method.cases)) else f"{mean} (n={defined})"


def _number(value: float | None) -> str:
    if value is None:
        return UNDEFINED
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
