"""One case after the other: a failure does not stop the others, and summary.csv says what became of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.failures import Defect, sentence_of
from mmccd_auto.core.processes.streams import Settled
from mmccd_auto.core.progress import track
from mmccd_auto.inference.lesions.records import LesionRecord, write_lesions
from mmccd_auto.inference.prediction.case_files import DONE, FAILED, KEPT, LEFT_OUT, SKIPPED, SummaryRow, write_summary
from mmccd_auto.sources.inputs import InputCase, InputListing
from mmccd_auto.sources.nifti_cases import relative_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """What became of the cases of a folder.

    Attributes
    ----------
    rows : as in summary.csv
    failed : one sentence for each case that could not be predicted
    lesions : (case, lesion), as in lesions.csv
    """

    rows: tuple[SummaryRow, ...]
    failed: list[str]
    lesions: tuple[tuple[str, LesionRecord], ...] = ()


@dataclass(frozen=True)
class WholeRun:
    """What is written of a run over all cases, beside the files of each.

    Attributes
    ----------
    left_out : rows of files that belong to no case, for summary.csv
    write_page : writes the page that shows all rows; called when summary.csv is there, also when interrupted
    """

    left_out: Sequence[SummaryRow] = ()
    write_page: Callable[[Sequence[SummaryRow]], None] | None = None


TABLES_ALONE = WholeRun()


def run_over_cases(
    cases: Sequence[InputCase],
    rows_of: Iterable[SummaryRow | Settled],
    output: Path,
    missing: Callable[[str], Sequence[str]],
    lesions: Mapping[str, Sequence[LesionRecord]],
    tables: WholeRun | None = TABLES_ALONE,
    side_by_side: bool = False,
) -> RunSummary:
    """Take what becomes of every case, showing the time left, and write summary.csv and lesions.csv (also when interrupted).

    Parameters
    ----------
    cases : that are worked on
    rows_of : their rows, in the same order; Settled with a row or with the error that ended the case
    output : folder of summary.csv and lesions.csv
    missing : the names of the files of a case that were written and are there no more
    lesions : by case, of those that are done or kept; filled while the work goes on
    tables : what is written of all cases; None where they are a part of those whose files lie there: neither tables nor page
    side_by_side : the cases were predicted by several workers, whose progress was shown
    """
    rows: list[SummaryRow] = []
    told = side_by_side
    try:
        work = track(
            rows_of, total=len(cases), description="prediction", unit="case", disable=side_by_side or len(cases) == 1
        )
        for number, (found, made) in enumerate(zip(cases, work, strict=True), start=1):
            row = _row(found, made.outcome if isinstance(made, Settled) else made)
            rows.append(row)
            if row.status == DONE and row.seconds is not None and not told and number < len(cases):
                told = True
                minutes = row.seconds * (len(cases) - number) / 60
                logger.info(
                    "%s took %.0f s; about %.1f minutes for the others",
                    row.case,
                    row.seconds,
                    minutes,
                    extra={"case": row.case},
                )
    finally:
        rows = [_as_it_is(row, missing(row.case), output) for row in rows]
        listed = [(row.case, one) for row in rows if row.status in (DONE, KEPT) for one in lesions.get(row.case, ())]
        if tables is not None:
            write_summary([*rows, *tables.left_out], output)
            write_lesions(listed, output)
            if tables.write_page is not None:
                tables.write_page([*rows, *tables.left_out])
    failed = [row.reason for row in rows if row.status == FAILED]
    if rows and all(row.status == SKIPPED for row in rows):
        failed = [row.reason for row in rows]
    return RunSummary(tuple(rows), failed, tuple(listed))


def left_out_rows(listing: InputListing, root: Path) -> list[SummaryRow]:
    """Return the lines of summary.csv on files that are odd: no scan of any case, and none of another modality either."""
    return [
        # Folders of a DICOM export may be called by patients.
        SummaryRow("", LEFT_OUT, reason, input_file="" if listing.studies else relative_name(path, root))
        for path, reason in listing.ignored
    ]


def _as_it_is(row: SummaryRow, missing: Sequence[str], output: Path) -> SummaryRow:
    """Take back that a case is done where its files are gone by now."""
    if row.status not in (DONE, KEPT) or not missing:
        return row
    sentence = (
        f"{row.case}: {', '.join(missing)} vanished from {output} before the run ended: see what removes files there, and "
        "run the same command with --continue_prediction."
    )
    logger.error("%s", sentence)
    return SummaryRow(row.case, FAILED, sentence, input_file=row.input_file)


def _row(found: InputCase, outcome: SummaryRow | MMCCDError | MemoryError) -> SummaryRow:
    if isinstance(outcome, SummaryRow):
        return outcome
    sentence = sentence_of(found.case, outcome)
    if found.series is not None and found.case not in sentence:
        # Of a hospital's export nobody knows the files by name.
        sentence = f"{found.case}: {sentence}"
    if isinstance(outcome, Defect):
        logger.debug("%s: %s", found.case, outcome.details)
    if found.skipped:
        logger.warning("%s", sentence, extra={"case": found.case})
        return SummaryRow(found.case, SKIPPED, sentence)
    logger.error("%s", sentence, extra={"case": found.case})
    return SummaryRow(found.case, FAILED, sentence, input_file="" if found.file is None else found.file.name)
