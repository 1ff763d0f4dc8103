"""The table of what was found in an export and what it is used as, printed and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mmccd_auto.core.readable_names import shown
from mmccd_auto.core.tables import write_csv
from mmccd_auto.dicom.series.choose_series import SeriesChoice
from mmccd_auto.sources.named_files import NamedFile


@dataclass(frozen=True)
class SeriesRow:
    """One series or file.

    Attributes
    ----------
    series : the scanner's number, or the file's name
    description : without the words that name the patient
    kind, confidence, reason : what it was taken for
    images : slices
    spacing : mm, as "0.9 x 0.9 x 5.5"
    used_as : modality, or empty
    why : it is used or not
    """

    case: str
    series: str
    description: str
    kind: str
    confidence: float | None
    reason: str
    images: int | None
    orientation: str
    spacing: str
    used_as: str
    why: str


def dicom_rows(case: str, choices: Sequence[SeriesChoice], used: bool = True) -> list[SeriesRow]:
    """Return the rows of a study."""
    return [
        SeriesRow(
            case=case,
            series="no number" if choice.number is None else str(choice.number),
            description=choice.description,
            kind=choice.kind,
            confidence=round(choice.confidence, 2),
            reason=choice.reason,
            images=choice.images,
            orientation=choice.orientation or "",
            spacing="" if choice.spacing is None else " x ".join(f"{edge:.3g}" for edge in choice.spacing),
            used_as=(choice.used_as or "") if used else "",
            why=choice.why,
        )
        for choice in choices
    ]


def file_row(case: str, file: NamedFile, used_as: str | None, why: str) -> SeriesRow:
    """Return the row of a volume file; ``why`` it is used or not."""
    return SeriesRow(
        case=case,
        series=shown(file.path.name),
        description="",
        kind=file.modality or "not given",
        confidence=None,
        reason="by its name",
        images=None,
        orientation="",
        spacing="",
        used_as=used_as or "",
        why=why,
    )


def left_out_row(name: str, reason: str) -> SeriesRow:
    """Return the row of a file that belongs to no case."""
    return SeriesRow(
        case="",
        series=name,
        description="",
        kind="left out",
        confidence=None,
        reason="by its name",
        images=None,
        orientation="",
        spacing="",
        used_as="",
        why=reason,
    )


def table_text(rows: Sequence[SeriesRow]) -> str:
    """Return the table for the terminal."""
    columns = ("case", "series", "description", "kind", "confidence", "images", "orientation", "spacing", "used_as", "why")
    cells = [[_cell(getattr(row, name)) for name in columns] for row in rows]
    titles = [name.replace("_", " ") for name in columns]
    widths = [max(len(line[place]) for line in [titles, *cells]) for place in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in [titles, *cells]
    )


def write_table(rows: Sequence[SeriesRow], path: str | Path) -> None:
    """Write the table as CSV."""
    write_csv(path, [entry.name for entry in fields(SeriesRow)], [astuple(row) for row in rows])


def _cell(value: str | float | int | None) -> str:
    return "" if value is None else str(value)
