"""The files of a predicted case, CASE.json last, and summary.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.processes.memory import release_free_blocks
from mmccd_auto.core.tables import write_csv
from mmccd_auto.core.versions import software_versions
from mmccd_auto.core.wording import clauses
from mmccd_auto.imaging.file_names import BRAIN_PICTURE, CASE_PICTURE, PAGE_PART, PREDICTION_ENDINGS
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.lesions.describe import describe_lesions
from mmccd_auto.inference.lesions.records import LesionRecord
from mmccd_auto.inference.prediction.case_record import ASKED, sealed
from mmccd_auto.inference.prediction.prediction import FurtherRecord, Prediction
from mmccd_auto.inference.scores.edge_profile import describe_edge
from mmccd_auto.preprocessing.align_modalities import brain_only
from mmccd_auto.preprocessing.brain_extraction import STRIPPED
from mmccd_auto.reporting.alignment import alignment_picture
from mmccd_auto.reporting.page.part import CasePart, write_part
from mmccd_auto.reporting.pictures import DrawnCase, case_picture

SUMMARY_FILE = "summary.csv"
DONE, KEPT, FAILED, SKIPPED, LEFT_OUT = "done", "kept", "failed", "skipped", "left out"


@dataclass(frozen=True)
class SummaryRow:
    """One line of summary.csv.

    Attributes
    ----------
    case : its name
    status : "done", "kept" (was finished before), "failed", "skipped" (there is no scan of the modality), or
        "left out" (a file that is no scan of any case; it has no case)
    reason : of a failure, or why there is no mask; else empty
    warnings : how the scan differs from what the model has seen
    input_file : the scan, relative to the input folder; empty for DICOM
    brain_ml, anomalous_ml : millilitres
    lesions : connected parts of the mask
    largest_lesion_ml, longest_lesion_mm : volume of the largest lesion and longest diameter of any lesion; empty where
        there is none
    finding : "lesions", "candidates only", "nothing" or "no mask"
    candidates, candidates_ml : connected parts above the threshold that are smaller than a lesion, and their volume
    case_score : mean of the highest 1 % of scores
    healthy_percentile : share of healthy people, in percent, whose case score is lower; empty for fewer than ten of them
    max_score : largest score in the brain
    seconds : that the prediction took
    """

    case: str
    status: str
    reason: str = ""
    warnings: str = ""
    input_file: str = ""
    finding: str = ""
    brain_ml: float | None = None
    anomalous_ml: float | None = None
    lesions: int | None = None
    largest_lesion_ml: float | None = None
    longest_lesion_mm: float | None = None
    candidates: int | None = None
    candidates_ml: float | None = None
    case_score: float | None = None
    healthy_percentile: float | None = None
    max_score: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class GivenFiles:
    """What a case is predicted from.

    Attributes
    ----------
    input_file : relative to the input folder; None for a DICOM series, whose file names may say who the patient is
    input_sha256 : of the content
    brain_mask_file, brain_mask_sha256 : name and content, None where none is given
    brain_extraction : backend that is asked for, None where a mask is given
    """

    input_file: str | None
    input_sha256: str
    brain_mask_file: str | None
    brain_mask_sha256: str | None
    brain_extraction: str | None


def describe_request(
    made_by: Mapping[str, Any],
    given: GivenFiles,
    *,
    save_cycle: bool,
    dicom: str | None,
    save_control: bool = False,
    age: float | None = None,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what decides a case's files: the first part of CASE.json, known before the prediction.

    Two requests that are equal give the same files, which is how ``--continue_prediction`` knows finished cases.

    Parameters
    ----------
    made_by : the model, see :meth:`mmccd_auto.inference.prediction.scan_predictor.ScanPredictor.request`
    given : the scan and its brain mask
    save_cycle : also the two halves of the score, the signed error and the cycle
    dicom : under whom DICOM objects are filed, None where none are written
    save_control : also the control without a network; named only where it is asked for, so that cases stay finished that
        have more than is asked for
    age : years; named only where it is known
    beside : by modality file and hash of what the model may use beside the input; None where it can't use any
    """
    return {
        **asdict(given),
        **made_by,
        "save_cycle": save_cycle,
        "dicom": dicom,
        **({"save_control": True} if save_control else {}),
        **({} if age is None else {"age": age}),
        **({} if beside is None else {"further_files": dict(beside)}),
    }


def write_prediction(
    prediction: Prediction,
    request: dict[str, Any],
    output: Path,
    save_scan: bool = False,
    other_files: Sequence[str] = (),
    page: CasePart | None = None,
) -> dict[str, Any]:
    """Write all files of a case; CASE.json comes last and says that the case is complete.

    Parameters
    ----------
    prediction : the maps
    request : of :func:`describe_request`
    output : folder
    save_scan : also write the scan, brain only, since there is no other NIfTI file of it
    other_files : that were written of the case before
    page : the case's part of the report; None writes none

    Returns
    -------
    the content of CASE.json

    Raises
    ------
    MMCCDError
        If a map holds values that are not finite, or a file can't be written.
    """
    case = prediction.case
    scan = Volume(prediction.scan, prediction.geometry)
    volumes = _volumes(prediction, save_scan, request["save_cycle"])
    for ending, array in volumes.items():
        # ITK would write NaN as 0 without a word.
        if not np.isfinite(array).all():
            raise MMCCDError(f"{case}{ending} would hold values that are not finite: look at the scan and at the training.")
    for ending, array in volumes.items():
        write_volume(array, prediction.geometry, output / f"{case}{ending}")
    # What writing took would come on top of what the pictures take.
    release_free_blocks()
    pictures = _draw(prediction, request, output)
    if page is not None:
        write_part(page, output / f"{case}{PAGE_PART}")
        pictures.append(PAGE_PART)
    files = [*(f"{case}{ending}" for ending in (*volumes, *pictures)), *other_files]
    lesions = describe_lesions(scan, prediction.brain, prediction.anomaly, prediction.mask, prediction.candidates)
    record = sealed(
        {
            "case": case,
            **request,
            **_results(prediction),
            **_scored_by(prediction, request),
            **lesions,
            "versions": software_versions(),
        },
        output,
        files,
    )
    save_json(record, output / f"{case}.json")
    return record


def _volumes(prediction: Prediction, save_scan: bool, save_cycle: bool) -> dict[str, np.ndarray]:
    """Choose the arrays that are written, [z, y, x], by the ending of their file."""
    volumes = {"_anomaly.nii.gz": prediction.anomaly}
    if save_scan:
        scan = Volume(prediction.scan, prediction.geometry)
        volumes["_scan.nii.gz"] = brain_only(scan, prediction.brain).array
    if prediction.mask is not None and prediction.candidates is not None:
        volumes |= {"_mask.nii.gz": prediction.mask, "_candidates.nii.gz": prediction.candidates}
    if prediction.brain_extraction != STRIPPED:
        volumes["_brain.nii.gz"] = prediction.brain.astype(np.uint8)
    if save_cycle:
        parts = {
            "_brighter.nii.gz": prediction.brighter,
            "_darker.nii.gz": prediction.darker,
            "_signed.nii.gz": prediction.signed,
            "_cycle.nii.gz": prediction.cycle,
        }
        volumes |= {ending: array for ending, array in parts.items() if array is not None}
    if prediction.control is not None:
        volumes["_control.nii.gz"] = prediction.control
    return volumes


def remove_case_files(output: Path, case: str) -> None:
    """Remove what an earlier run left of a case, CASE.json first, so that no mixture of two runs can look complete.

    Raises
    ------
    MMCCDError
        If a file can't be removed.
    """
    for ending in reversed(PREDICTION_ENDINGS):
        path = output / f"{case}{ending}"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise MMCCDError(
                f"{path} could not be removed ({error.strerror or error}): check who may write there."
            ) from error


def summary_row(record: dict[str, Any], status: str, lesions: Sequence[LesionRecord]) -> SummaryRow:
    """Return the line of summary.csv that a case's CASE.json gives.

    Parameters
    ----------
    record : content of CASE.json
    status : DONE or KEPT
    lesions : that it lists
    """
    return SummaryRow(
        case=record["case"],
        status=status,
        reason="" if record["threshold"] is not None else f"no mask: {record['threshold_source']}",
        warnings=clauses(record["warnings"]),
        input_file=record["input_file"] or "",
        finding=record["finding"],
        brain_ml=record["brain_ml"],
        anomalous_ml=record["anomalous_ml"],
        lesions=record["lesions"],
        largest_lesion_ml=max((lesion.volume_ml for lesion in lesions), default=None),
        longest_lesion_mm=max((lesion.longest_diameter_mm for lesion in lesions), default=None),
        candidates=record["candidates"],
        candidates_ml=record["candidates_ml"],
        case_score=record["case_score"],
        healthy_percentile=record["healthy_percentile"],
        max_score=record["max_score"],
        seconds=record["seconds"],
    )


def write_summary(rows: Sequence[SummaryRow], output: Path) -> None:
    """Write summary.csv."""
    write_csv(output / SUMMARY_FILE, [entry.name for entry in fields(SummaryRow)], [astuple(row) for row in rows])


def _draw(prediction: Prediction, request: Mapping[str, Any], output: Path) -> list[str]:
    """Draw the case, and the brain that was found in a scan with skull, by which a wrong cut is seen; give the endings."""
    case, scan = prediction.case, Volume(prediction.scan, prediction.geometry)
    drawn = DrawnCase(
        case,
        brain_only(scan, prediction.brain).array,
        prediction.anomaly,
        prediction.brain,
        prediction.geometry,
        mask=prediction.mask,
        candidates=prediction.candidates,
        finding=prediction.findings.describe(),
        warnings=prediction.warnings,
        threshold=prediction.threshold,
        calibrated=prediction.calibrated,
        slice_axis=request["slice_axis"],
        modality=request["input_modality"],
    )
    case_picture(output / f"{case}{CASE_PICTURE}", drawn)
    if prediction.brain_extraction == STRIPPED or not prediction.brain.any():
        return [CASE_PICTURE]
    warning = prediction.brain_warning
    title = f"{warning[:1].upper()}{warning[1:].rstrip('.')}." if warning else ""
    alignment_picture(output / f"{case}{BRAIN_PICTURE}", case, {request["input_modality"]: scan}, prediction.brain, title)
    return [BRAIN_PICTURE, CASE_PICTURE]


def _results(prediction: Prediction) -> dict[str, Any]:
    scores, findings = prediction.anomaly[prediction.brain], prediction.findings
    return {
        "normalisation": prediction.normalisation,
        "fits": [asdict(one) for one in prediction.fits],
        **_further(prediction.further),
        "brain_found_by": prediction.brain_extraction,
        "warnings": list(prediction.warnings),
        "brain_ml": round(prediction.brain_ml, 4),
        "finding": findings.kind,
        "finding_in_words": findings.describe(),
        "anomalous_ml": _rounded(findings.lesions_ml),
        "lesions": findings.lesions,
        "candidates": findings.candidates,
        "candidates_ml": _rounded(findings.candidates_ml),
        "largest_candidate_mm3": _rounded(findings.largest_candidate_mm3),
        "candidates_max_score": _rounded(findings.candidates_max_score),
        "case_score": round(prediction.case_score, 6),
        "healthy_percentile": prediction.healthy_percentile,
        **({"healthy_percentile_of": prediction.healthy_percentile_of} if prediction.healthy_percentile_of else {}),
        **({} if prediction.edge is None else {"edge": describe_edge(prediction.edge)}),
        "max_score": float(scores.max(initial=0)),
        "score_percentile_99": float(np.percentile(scores, 99)) if len(scores) else 0.0,
        "network_evaluations": prediction.network_evaluations,
        "seconds": round(prediction.seconds, 3),
    }


def _further(records: Sequence[FurtherRecord]) -> dict[str, Any]:
    """Describe which other modalities the map was made with, also in words; nothing for models that can't use any."""
    if not records:
        return {}
    used = dict.fromkeys(name for one in records for name in one.used)
    words = f"the input modality and {' and '.join(used)}" if used else "the input modality alone"
    return {"modalities_used": words, "further": [asdict(one) for one in records]}


def _scored_by(prediction: Prediction, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return threshold and units where they are those of more modalities.

    What was asked stands in ASKED, by which a run that continues knows the case.
    """
    if prediction.scoring is None:
        return {}
    used = prediction.scoring.to_json()
    return {**used, ASKED: {name: request[name] for name in used if name in request and request[name] != used[name]}}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
