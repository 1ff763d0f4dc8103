"""A page of figures: tables of methods and cases, and pictures, in the look of the report; without scripts."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.wording import sentences
from mmccd_auto.reporting.page.html import head

MOST_PICTURES = 25
NOT_A_DEVICE = "Not a medical device. For research only; not for diagnosis or treatment."


@dataclass(frozen=True)
class FigureTable:
    """A table.

    Attributes
    ----------
    title : above it
    columns : names, the first one of the rows' names
    rows : cells as they are shown
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class FiguresPage:
    """What a page of figures shows.

    Attributes
    ----------
    title, subtitle : of the page
    tables : in their order
    warnings : sentences a reader of the figures should know
    pictures : PNG files by their titles; beyond :data:`MOST_PICTURES` they are only counted
    """

    title: str
    subtitle: str
    tables: tuple[FigureTable, ...]
    warnings: tuple[str, ...]
    pictures: Mapping[str, Path]


def write_figures_page(page: FiguresPage, path: Path) -> None:
    """Write the page as one file.

    Raises
    ------
    MMCCDError
        If a picture can't be read, or the page can't be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head(page.title, []))
        file.write(f'<body>\n<header><div><h1>{html.escape(page.title)}</h1><p class="subtitle">')
        file.write(f'{html.escape(page.subtitle)}</p></div><span class="device">{NOT_A_DEVICE}</span></header>\n')
        if page.warnings:
            lines = "".join(f"<p>{html.escape(sentences([text]))}</p>" for text in page.warnings)
            file.write(f'<div id="banner">{lines}</div>\n')
        file.write('<main class="figures-page">\n')
        for table in page.tables:
            file.write(_table(table))
        _write_pictures(page.pictures, file.write)
        file.write("</main>\n</body>\n</html>\n")


def _table(table: FigureTable) -> str:
    names = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    rows = "".join(f"<tr>{_cells(row)}</tr>\n" for row in table.rows)
    return (
        f"<h3>{html.escape(table.title)}</h3>\n<div class='scroll-x'><table><thead><tr>{names}</tr></thead>\n"
        f"<tbody>{rows}</tbody></table></div>\n"
    )


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{html.escape(cell)}</td>" for cell in row)


def _write_pictures(pictures: Mapping[str, Path], write) -> None:
    if len(pictures) > MOST_PICTURES:
        write(f'<p class="note">The pictures of {len(pictures)} cases lie beside their maps.</p>\n')
        return
    for title, path in pictures.items():
        try:
            content = base64.b64encode(path.read_bytes()).decode("ascii")
        except OSError as error:
            raise MMCCDError(f"{path} can't be read ({error.strerror or error}): check who may read it.") from error
        write(f'<h3>{html.escape(title)}</h3>\n<img alt="{html.escape(title)}" src="data:image/png;base64,{content}">\n')
