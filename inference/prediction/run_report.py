"""report.html of a run of mmccd_predict: from the rows of summary.csv, each case's CASE.json, and its part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.versions import software_versions
from mmccd_auto.core.wording import counted
from mmccd_auto.imaging.file_names import PAGE_PART
from mmccd_auto.inference.prediction.case_files import DONE, FAILED, KEPT, LEFT_OUT, SummaryRow
from mmccd_auto.inference.prediction.prediction import PredictsScans
from mmccd_auto.reporting.page.assemble import CaseContent, ListRow, PageInfo, Section, write_report

LESION_LIST = "lesion_list"
SHOWN = (
    *(
        "finding_in_words",
        "warnings",
        "brain_ml",
        "brain_found_by",
        "anomalous_ml",
        "lesions",
        "candidates",
        "candidates_ml",
    ),
    *("largest_candidate_mm3", "case_score", "healthy_percentile", "healthy_percentile_note", "healthy_people", "max_score"),
    *("healthy_percentile_of", "modalities_used"),
    *("input_modality", "slice_axis", "threshold", "threshold_source", "false_positive_rate", "least_lesion_mm3"),
    *("score", "score_unit", "seconds", "normalisation", "versions", LESION_LIST),
)
"""Entries of CASE.json that the page shows; nothing else of it gets there, paths and hashes least of all."""


def write_run_report(output: Path, predictor: PredictsScans, rows: Sequence[SummaryRow]) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    output : folder of the maps
    predictor : that made them
    rows : of summary.csv

    Raises
    ------
    MMCCDError
        If a file of a case can't be read, or the report can't be written.
    """
    identity = predictor.identity
    versions = Section("Software", tuple(software_versions().items()))
    failed = sum(row.status == FAILED for row in rows)
    info = PageInfo(
        title="Brain MRI anomaly report",
        subtitle=f"{counted(sum(row.status in (DONE, KEPT) for row in rows), 'case')} of {identity.input_modality}, "
        f"by a model of {identity.dataset}",
        sections=(*predictor.facts(), versions),
        banner=(f"{counted(failed, 'case')} could not be predicted: see the end of the list.",) if failed else (),
        left_out=tuple((row.input_file, row.reason) for row in rows if row.status == LEFT_OUT),
    )
    cases = [_list_row(row) for row in rows if row.status != LEFT_OUT]
    return write_report(output, info, cases, lambda row: _content(output, row))


def _list_row(row: SummaryRow) -> ListRow:
    return ListRow(
        case=row.case,
        status=row.status,
        reason=row.reason,
        warnings=tuple(text for text in row.warnings.split("; ") if text),
        finding=row.finding,
        lesions=row.lesions,
        candidates=row.candidates,
        anomalous_ml=row.anomalous_ml,
        candidates_ml=row.candidates_ml,
        largest_ml=getattr(row, "largest_lesion_ml", None),
        case_score=row.case_score,
        healthy_percentile=row.healthy_percentile,
        max_score=row.max_score,
    )


def _content(output: Path, row: ListRow) -> CaseContent | None:
    """Return what the view of a case needs; None where nothing was predicted."""
    if row.status not in (DONE, KEPT):
        return None
    record: dict[str, Any] = read_record(JsonObject, output / f"{row.case}.json")
    part = output / f"{row.case}{PAGE_PART}"
    return CaseContent({name: record[name] for name in SHOWN if name in record}, part if part.is_file() else None)
