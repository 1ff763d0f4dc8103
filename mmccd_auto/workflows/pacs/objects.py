"""From the files of a predicted case to the objects that an archive takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.dicom.writing.derived import read_score_object
from mmccd_auto.dicom.writing.encapsulated_pdf import write_encapsulated_pdf
from mmccd_auto.dicom.writing.structured_report import ReportedLesion, write_structured_report
from mmccd_auto.imaging.file_names import BRAIN_PICTURE, CASE_PICTURE
from mmccd_auto.inference.lesions.records import LesionRecord, lesions_of
from mmccd_auto.reporting.printed import PrintedCase, print_case

SEGMENTATION, SCORE, REPORT, DOCUMENT = "1_seg.dcm", "2_score.dcm", "3_report.dcm", "4_document.dcm"
_HEADER = ("lesion", "volume (ml)", "diameter (mm)", "peak", "side", "place")


def make_objects(maps: Path, case: str, folder: Path) -> list[Path]:
    """Gather the objects of a case: Segmentation, Parametric Map, Structured Report, and the page as a PDF.

    Without a threshold there is no mask, and neither Segmentation nor Structured Report.

    Parameters
    ----------
    maps : folder of the prediction; the mask and the score are moved out of it
    case : name of the case in it
    folder : of the objects, made where it is missing

    Returns
    -------
    the objects, in the order in which they refer to each other

    Raises
    ------
    MMCCDError
        If a file of the prediction is missing or damaged, or an object can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = read_record(JsonObject, maps / f"{case}.json")
    segmentation, score = folder / SEGMENTATION, folder / SCORE
    has_mask = (maps / f"{case}_seg.dcm").is_file()
    if has_mask:
        (maps / f"{case}_seg.dcm").replace(segmentation)
    (maps / f"{case}_score.dcm").replace(score)
    made_of = read_score_object(score, segmentation if has_mask else None)
    lesions = lesions_of(record, f"{case}.json")
    if has_mask:
        write_structured_report(made_of, [_reported(lesion) for lesion in lesions], folder / REPORT)
    pictures = [path for ending in (CASE_PICTURE, BRAIN_PICTURE) if (path := maps / f"{case}{ending}").is_file()]
    document = print_case(
        PrintedCase("Brain MRI anomaly report", _lines(record), _HEADER, [_row(lesion) for lesion in lesions], pictures)
    )
    write_encapsulated_pdf(made_of, document, folder / DOCUMENT)
    return objects_in(folder)


def objects_in(folder: Path) -> list[Path]:
    """List the objects that :func:`make_objects` has put into a folder."""
    return [path for name in (SEGMENTATION, SCORE, REPORT, DOCUMENT) if (path := folder / name).is_file()]


def _reported(lesion: LesionRecord) -> ReportedLesion:
    return ReportedLesion(
        number=lesion.number,
        volume_ml=lesion.volume_ml,
        longest_diameter_mm=lesion.longest_diameter_mm,
        peak_score=lesion.peak_score,
        mean_score=lesion.mean_score,
        centre_lps_mm=lesion.centre_lps_mm,
        side=lesion.side,
    )


def _lines(record: Mapping[str, Any]) -> list[str]:
    """Write what the first page says; numbers of the scan and the model, no paths and no names of people."""
    threshold, percentile = record["threshold"], record["healthy_percentile"]
    people = "" if percentile is None else f"; higher than that of {percentile:.0f} % of healthy people"
    mask = "There is no mask." if threshold is None else f"The mask is made at the score {threshold:.4g}"
    rest = "" if threshold is None else f" ({record['threshold_source']})."
    return [
        f"Finding: {record['finding_in_words']}.",
        f"Case score (mean of the highest 1 % of scores): {record['case_score']:.4g}{people}.",
        f"Brain: {record['brain_ml']:.0f} ml ({record['brain_found_by']}).",
        mask + rest,
        f"Score: {record['score']}, in {record['score_unit']}.",
        *(f"Warning: {text}" for text in record["warnings"]),
        f"Made of {_made_of(record)} by {record['model']} of {record['dataset']}, mmccd_auto "
        f"{record['versions']['mmccd_auto']}.",
    ]


def _made_of(record: Mapping[str, Any]) -> str:
    """Name the modalities that the map was made with; models that can use no other have no record of it."""
    used = list(dict.fromkeys(name for one in record.get("further", ()) for name in one["used"]))
    return " and ".join([record["input_modality"], *used]) if used else f"{record['input_modality']} alone"


def _row(lesion: LesionRecord) -> list[str]:
    return [
        str(lesion.number),
        f"{lesion.volume_ml:.3g}",
        f"{lesion.longest_diameter_mm:.1f}",
        f"{lesion.peak_score:.3g}",
        lesion.side,
        lesion.place,
    ]
