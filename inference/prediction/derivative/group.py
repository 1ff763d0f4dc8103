"""The tables of all cases of a BIDS derivative, from the sidecars of their maps."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.tables import write_tsv
from mmccd_auto.inference.lesions.records import LesionRow, lesions_of
from mmccd_auto.inference.prediction.case_files import DONE, SummaryRow, summary_row
from mmccd_auto.inference.prediction.derivative.names import target_of
from mmccd_auto.inference.prediction.derivative.sidecars import RECORD_KEY

CASES_TABLE, LESIONS_TABLE = "group_cases.tsv", "group_lesions.tsv"
PERSON_COLUMNS = ("participant_id", "session_id")


def write_group_tables(output: str | Path) -> tuple[int, int]:
    """Write group_cases.tsv and group_lesions.tsv of all cases that lie in a derivative, whichever run made them.

    Parameters
    ----------
    output : folder of the derivative

    Returns
    -------
    how many cases and lesions there are

    Raises
    ------
    MMCCDError
        If there is no case, or a sidecar can't be read.
    """
    output = Path(output)
    files = sorted(output.glob("sub-*/**/*_desc-anomaly_probseg.json"))
    if not files:
        raise MMCCDError(f"{output} holds no anomaly map: run mmccd_bids BIDS {output} participant first.")
    cases: list[list[Any]] = []
    lesions: list[list[Any]] = []
    for file in files:
        record = read_record(JsonObject, file).get(RECORD_KEY)
        if not isinstance(record, dict):
            raise MMCCDError(f"{file} has no entry {RECORD_KEY}: predict the case again.")
        try:
            found = lesions_of(record, str(file))
            row, target = summary_row(record, DONE, found), target_of(record["input_file"])
        except (KeyError, TypeError) as error:
            raise MMCCDError(f"{file} lacks an entry of {RECORD_KEY} ({error}): predict the case again.") from error
        person = [target.person, target.session]
        cases.append([*person, *(getattr(row, name) for name in _case_columns())])
        lesions += [[*person, *asdict(LesionRow.of(row.case, lesion)).values()] for lesion in found]
    write_tsv(output / CASES_TABLE, [*PERSON_COLUMNS, *_case_columns()], cases)
    write_tsv(output / LESIONS_TABLE, [*PERSON_COLUMNS, *(entry.name for entry in fields(LesionRow))], lesions)
    return len(cases), len(lesions)


def _case_columns() -> list[str]:
    """Return the columns of summary.csv; every case of the table is done."""
    return [entry.name for entry in fields(SummaryRow) if entry.name != "status"]
