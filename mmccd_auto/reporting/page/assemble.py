"""report.html: one file up to 25 cases, beyond that an index and one page a case; written as a stream, case after case."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.reporting.page.html import VIEWER, asset, embedded, head, json_block, own_script, script
from mmccd_auto.reporting.page.part import read_part

REPORT_FILE, REPORT_FOLDER = "report.html", "report"
MOST_CASES_IN_ONE_FILE = 25
VIEWER_FILE = "viewer.js"
_CASE_PAGE = re.compile(r"case_\d+\.html")


@dataclass(frozen=True)
class Section:
    """A table of names and values under a title, such as "Calibration"."""

    title: str
    rows: tuple[tuple[str, str], ...]
    note: str = ""


@dataclass(frozen=True)
class PageInfo:
    """What a page says of the whole run.

    Attributes
    ----------
    title : of the page
    subtitle : what was examined, by which model
    sections : how it was made
    banner : warnings that concern all cases
    left_out : name and reason of each file that is no scan of any case; the name is empty where it may be a patient's
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    banner: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ListRow:
    """One row of the work list; None where there is no such number.

    Attributes
    ----------
    case : its name
    status : as in summary.csv
    reason : why there is no prediction, or no mask
    warnings : sentences
    finding : "lesions", "candidates only", "nothing", "no mask"; empty where nothing was predicted
    lesions, candidates : counts
    anomalous_ml, candidates_ml, largest_ml : volumes
    case_score, healthy_percentile, max_score : see summary.csv
    thumbnail : JPEG as base64; empty without one
    page : of the case, relative to the report; empty where it is in the same file
    viewable : whether there is something to open
    """

    case: str
    status: str
    reason: str = ""
    warnings: tuple[str, ...] = ()
    finding: str = ""
    lesions: int | None = None
    candidates: int | None = None
    anomalous_ml: float | None = None
    candidates_ml: float | None = None
    largest_ml: float | None = None
    case_score: float | None = None
    healthy_percentile: float | None = None
    max_score: float | None = None
    thumbnail: str = ""
    page: str = ""
    viewable: bool = False


@dataclass(frozen=True)
class CaseContent:
    """What a case's view needs.

    Attributes
    ----------
    facts : entries of CASE.json that are shown
    part : file of the case's part of the page; None where it was predicted without one
    """

    facts: dict[str, Any]
    part: Path | None


def write_report(
    output: Path, info: PageInfo, rows: Sequence[ListRow], content_of: Callable[[ListRow], CaseContent | None]
) -> Path:
    """Write report.html, and the pages of the cases beside it where there are many.

    Parameters
    ----------
    output : folder
    info : of the run
    rows : of all cases, in any order; those of highest score are listed first
    content_of : reads what a case's view needs, just when it is written; None where nothing was predicted

    Returns
    -------
    the path of report.html

    Raises
    ------
    MMCCDError
        If a part can't be read, or a file can't be written.
    """
    ordered = sorted(rows, key=lambda row: (row.case_score is None, -(row.case_score or 0.0), row.case))
    _remove_case_pages(output)
    cases = sum(row.status in ("done", "kept") for row in ordered)
    if cases <= MOST_CASES_IN_ONE_FILE:
        _write_one_file(output, info, ordered, content_of)
    else:
        _write_many(output, info, ordered, content_of)
    return output / REPORT_FILE


def remove_report(output: Path) -> None:
    """Remove the report of an earlier run, so that it can't be taken for this one's.

    Raises
    ------
    MMCCDError
        If it can't be removed.
    """
    try:
        (output / REPORT_FILE).unlink(missing_ok=True)
        _remove_case_pages(output)
    except OSError as error:
        raise MMCCDError(
            f"{output / REPORT_FILE} could not be removed ({error.strerror or error}): check who may write there."
        ) from error


def _write_one_file(
    output: Path, info: PageInfo, rows: Sequence[ListRow], content_of: Callable[[ListRow], CaseContent | None]
) -> None:
    viewer, own = asset(VIEWER), own_script()
    with atomic_path(output / REPORT_FILE) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head(info.title, [viewer, own]))
        file.write('<body>\n<div id="page"></div>\n')
        listed = []
        for number, row in enumerate(rows):
            content = content_of(row)
            listed.append(row if content is None else _write_case(file, f"case-{number}", row, content))
        _write_run(file, info, listed)
        file.write(script(viewer))
        file.write(script(own))
        file.write("</body>\n</html>\n")


def _write_many(
    output: Path, info: PageInfo, rows: Sequence[ListRow], content_of: Callable[[ListRow], CaseContent | None]
) -> None:
    folder, own = output / REPORT_FOLDER, own_script()
    with atomic_path(folder / VIEWER_FILE) as temporary:
        temporary.write_text(asset(VIEWER), encoding="utf-8")
    places = [number for number, row in enumerate(rows) if row.status in ("done", "kept")]
    names = {number: f"case_{order:05d}.html" for order, number in enumerate(places, start=1)}
    before = dict(zip(places[1:], (names[place] for place in places), strict=False))
    after = dict(zip(places, (names[place] for place in places[1:]), strict=False))
    listed = []
    for number, row in enumerate(rows):
        content = content_of(row) if number in names else None
        if content is None:
            listed.append(row)
            continue
        around = {"previous": before.get(number, ""), "next": after.get(number, "")}
        with atomic_path(folder / names[number]) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(head(f"{row.case} - {info.title}", [own], shared_script=True))
            file.write('<body>\n<div id="page"></div>\n')
            shown = _write_case(file, "case-0", row, content)
            _write_run(file, info, [shown], {"index": f"../{REPORT_FILE}", **around})
            file.write(f'<script src="{VIEWER_FILE}"></script>\n')
            file.write(script(own))
            file.write("</body>\n</html>\n")
        listed.append(replace(shown, page=f"{REPORT_FOLDER}/{names[number]}"))
    with atomic_path(output / REPORT_FILE) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head(info.title, [own]))
        file.write('<body>\n<div id="page"></div>\n')
        _write_run(file, info, listed)
        file.write(script(own))
        file.write("</body>\n</html>\n")


def _write_case(file: TextIO, identifier: str, row: ListRow, content: CaseContent) -> ListRow:
    """Write a case's block, and give its row with the thumbnail."""
    part = None if content.part is None else read_part(content.part)
    file.write(f'<script type="application/json" id="{identifier}">')
    file.write(embedded(json.dumps({"facts": content.facts, "part": None if part is None else asdict(part)})))
    file.write("</script>\n")
    return replace(row, viewable=True, thumbnail="" if part is None else part.thumbnail)


def _write_run(file: TextIO, info: PageInfo, rows: Sequence[ListRow], around: dict[str, str] | None = None) -> None:
    content = asdict(info) if around is None else asdict(replace(info, left_out=()))
    file.write(json_block("run", {**content, "rows": [asdict(row) for row in rows], "around": around}))


def _remove_case_pages(output: Path) -> None:
    """Remove the pages of an earlier run's cases, which may be other ones; files of others stay."""
    folder = output / REPORT_FOLDER
    if not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        if _CASE_PAGE.fullmatch(path.name) or path.name == VIEWER_FILE:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
