"""A case on paper: what was found, its lesions, and its pictures, as a PDF without anybody's name."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from mmccd_auto.reporting.drawn_text import drawable

A4_INCHES = (8.27, 11.69)
NOT_A_DEVICE = "For research only. This is no medical device: nobody may be diagnosed or treated by this page."
MOST_ROWS = 20
_MARGIN, _LINE, _LETTERS = 0.08, 0.0165, 96


@dataclass(frozen=True)
class PrintedCase:
    """What is printed.

    Attributes
    ----------
    title : first line
    lines : sentences below it
    header, rows : table of the lesions, one text a cell; of more than MOST_ROWS rows the first are printed
    pictures : PNG files, one a page behind the first
    """

    title: str
    lines: Sequence[str]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    pictures: Sequence[Path]


def print_case(case: PrintedCase) -> bytes:
    """Draw a case as a PDF of A4 pages; equal content gives equal bytes.

    Raises
    ------
    OSError
        If a picture can't be read.
    """
    content = io.BytesIO()
    # Without a date, so that a case that is printed again is the same document.
    with PdfPages(content, metadata={"Title": case.title, "CreationDate": None}) as pages:
        pages.savefig(_first_page(case))
        for path in case.pictures:
            pages.savefig(_picture_page(path))
    return content.getvalue()


def _first_page(case: PrintedCase) -> Figure:
    figure = Figure(figsize=A4_INCHES)
    height = _write(figure, [case.title], 0.95, size=15)
    height = _write(figure, [NOT_A_DEVICE], height - _LINE / 2, size=9, colour="#a00000")
    height = _write(figure, case.lines, height - _LINE, size=9)
    if case.rows:
        shown = [[drawable(cell) for cell in row] for row in case.rows[:MOST_ROWS]]
        rows = len(shown) + 1
        axes = figure.add_axes((_MARGIN, height - (rows + 1) * _LINE * 1.2, 1 - 2 * _MARGIN, rows * _LINE * 1.2))
        axes.axis("off")
        table = axes.table(cellText=shown, colLabels=list(case.header), bbox=Bbox.unit(), cellLoc="left", colLoc="left")
        table.auto_set_font_size(False)
        table.set_fontsize(8)
        left = len(case.rows) - len(shown)
        if left:
            _write(figure, [f"and {left} smaller ones"], height - (rows + 2) * _LINE * 1.2, size=8)
    return figure


def _write(figure: Figure, lines: Sequence[str], height: float, size: int, colour: str = "black") -> float:
    """Write lines from ``height`` (share of the page) downwards; give the height below them."""
    letters = _LETTERS * 9 // size
    for line in lines:
        for part in textwrap.wrap(line, letters) or [""]:
            height -= _LINE * size / 9
            figure.text(_MARGIN, height, drawable(part), fontsize=size, color=colour)
    return height


def _picture_page(path: Path) -> Figure:
    figure = Figure(figsize=A4_INCHES)
    axes = figure.add_axes((_MARGIN / 2, _MARGIN / 2, 1 - _MARGIN, 1 - _MARGIN))
    axes.axis("off")
    axes.imshow(matplotlib.image.imread(path), interpolation="none")
    _write(figure, [NOT_A_DEVICE], 0.995, size=8, colour="#a00000")
    return figure
