"""One case after the other: a failure does not stop the others, and summary.csv tells what became of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mmccd_auto.errors import MMCCDError
from mmccd_auto.inference.export import DONE, FAILED, SKIPPED, SummaryRow, write_summary
from mmccd_auto.inference.inputs import InputCase

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


def run_over_cases(cases: Sequence[InputCase], work: Callable[[InputCase], SummaryRow], output: Path) -> RunSummary:
    """Work on every case, telling the time left, and write summary.csv (also when interrupted).

    Parameters
    ----------
    cases : to work on
    work : gives a case's row; an MMCCDError of it fails that case only
    output : folder of summary.csv
    """
    rows: list[SummaryRow] = []
    failed: list[str] = []
    told = False
    try:
        for number, found in enumerate(tqdm(cases, desc="prediction", unit="case", disable=len(cases) == 1), start=1):
            row = _row(found, work)
            rows.append(row)
            if row.status == FAILED:
                failed.append(row.reason)
            if row.status == DONE and not told and number < len(cases):
                told = True
                minutes = row.seconds * (len(cases) - number) / 60
                logger.info("%s took %.0f s; about %.1f minutes for the others", row.case, row.seconds, minutes)
    finally:
        write_summary(rows, output)
    if rows and all(row.status == SKIPPED for row in rows):
        failed = [row.reason for row in rows]
    return RunSummary(tuple(rows), failed)


def _row(found: InputCase, work: Callable[[InputCase], SummaryRow]) -> SummaryRow:
    try:
        return work(found)
    except MMCCDError as error:
        sentence = str(error)
    except MemoryError:
        sentence = f"{found.case} needs more memory than there is: free some, or leave this case out."
    if found.skipped:
        logger.warning("%s", sentence)
        return SummaryRow(found.case, SKIPPED, sentence)
    logger.error("%s", sentence)
    return SummaryRow(found.case, FAILED, sentence, input_file="" if found.file is None else found.file.name)
