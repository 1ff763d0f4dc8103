"""One case after the other: a failure does not stop the others, and summary.csv tells what became of each."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mmccd_auto.errors import MMCCDError
from mmccd_auto.inference.export import DONE, FAILED, SKIPPED, SummaryRow, write_summary
from mmccd_auto.inference.inputs import InputCase
from mmccd_auto.inference.streaming import Settled

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """What became of the cases of a folder.

    Attributes
    ----------
    rows : as in summary.csv
    failed : one sentence for each case that could not be predicted
    """

    rows: tuple[SummaryRow, ...]
    failed: list[str]


def run_over_cases(
    cases: Sequence[InputCase],
    rows_of: Iterable[SummaryRow | Settled],
    output: Path,
    left_out: Sequence[SummaryRow] = (),
) -> RunSummary:
    """Take what becomes of every case, telling the time left, and write summary.csv (also when interrupted).

    Parameters
    ----------
    cases : that are worked on
    rows_of : their rows, in the same order; Settled with a row or with the error that ended the case
    output : folder of summary.csv
    left_out : rows of files that belong to no case, for summary.csv
    """
    rows: list[SummaryRow] = []
    failed: list[str] = []
    told = False
    try:
        work = tqdm(rows_of, total=len(cases), desc="prediction", unit="case", disable=len(cases) == 1)
        for number, (found, made) in enumerate(zip(cases, work, strict=True), start=1):
            row = _row(found, made.outcome if isinstance(made, Settled) else made)
            rows.append(row)
            if row.status == FAILED:
                failed.append(row.reason)
            if row.status == DONE and not told and number < len(cases):
                told = True
                minutes = row.seconds * (len(cases) - number) / 60
                logger.info("%s took %.0f s; about %.1f minutes for the others", row.case, row.seconds, minutes)
    finally:
        write_summary([*rows, *left_out], output)
    if rows and all(row.status == SKIPPED for row in rows):
        failed = [row.reason for row in rows]
    return RunSummary(tuple(rows), failed)


def _row(found: InputCase, outcome: SummaryRow | MMCCDError | MemoryError) -> SummaryRow:
    if isinstance(outcome, SummaryRow):
        return outcome
    if isinstance(outcome, MemoryError):
        sentence = f"{found.case} needs more memory than there is: free some, or leave this case out."
    elif found.series is not None and found.case not in str(outcome):
        # Of a hospital's export nobody knows the files by name.
        sentence = f"{found.case}: {outcome}"
    else:
        sentence = str(outcome)
    if found.skipped:
        logger.warning("%s", sentence)
        return SummaryRow(found.case, SKIPPED, sentence)
    logger.error("%s", sentence)
    return SummaryRow(found.case, FAILED, sentence, input_file="" if found.file is None else found.file.name)
