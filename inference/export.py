"""The files of a predicted case, CASE.json last, and summary.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import atomic_path, load_json, save_json
from mmccd_auto.image_io import write_volume
from mmccd_auto.inference.fold_models import file_sha256
from mmccd_auto.inference.prediction import ModelIdentity, Prediction
from mmccd_auto.inference.settings import InferenceSettings
from mmccd_auto.reporting.pictures import case_picture
from mmccd_auto.training.checkpoint import software_versions

SUMMARY_FILE = "summary.csv"
ENDINGS = ("_anomaly.nii.gz", "_mask.nii.gz", "_signed.nii.gz", "_cycle.nii.gz", ".png", ".json")
DONE, KEPT, FAILED = "done", "kept", "failed"


@dataclass(frozen=True)
class SummaryRow:
    """One line of summary.csv.

    Attributes
    ----------
    case : its name
    status : "done", "kept" (was finished before) or "failed"
    reason : of a failure, or why there is no mask; else empty
    input_file : the scan
    brain_ml, anomalous_ml : millilitres
    max_score : largest score in the brain
    seconds : that the prediction took
    """

    case: str
    status: str
    reason: str = ""
    input_file: str = ""
    brain_ml: float | None = None
    anomalous_ml: float | None = None
    max_score: float | None = None
    seconds: float | None = None


def describe_request(
    identity: ModelIdentity,
    settings: InferenceSettings,
    threshold: float | None,
    threshold_source: str,
    input_file: Path,
    brain_mask_file: Path | None,
    save_cycle: bool,
) -> dict[str, Any]:
    """What decides a case's files: the first part of CASE.json, known before the prediction.

    Two requests that are equal give the same files, which is how ``--continue_prediction`` knows finished cases.

    Raises
    ------
    MMCCDError
        If a file is missing.
    """
    return {
        "input_file": str(input_file.resolve()),
        "input_sha256": _content(input_file),
        "brain_mask_file": None if brain_mask_file is None else str(brain_mask_file.resolve()),
        "brain_mask_sha256": None if brain_mask_file is None else _content(brain_mask_file),
        **asdict(identity) | {"folds": list(identity.folds)},
        "settings": settings.to_json(),
        "threshold": threshold,
        "threshold_source": threshold_source,
        "save_cycle": save_cycle,
    }


def write_prediction(prediction: Prediction, request: dict[str, Any], output: Path) -> dict[str, Any]:
    """Write all files of a case; CASE.json comes last and says that the case is complete.

    Parameters
    ----------
    prediction : the maps
    request : of :func:`describe_request`
    output : folder

    Returns
    -------
    the content of CASE.json

    Raises
    ------
    MMCCDError
        If a map holds values that are not finite, or a file can't be written.
    """
    case = prediction.case
    volumes = {"_anomaly.nii.gz": prediction.anomaly}
    if prediction.mask is not None:
        volumes["_mask.nii.gz"] = prediction.mask
    if request["save_cycle"]:
        volumes |= {"_signed.nii.gz": prediction.signed, "_cycle.nii.gz": prediction.cycle}
    for ending, array in volumes.items():
        # ITK would write NaN as 0 without a word.
        if not np.isfinite(array).all():
            raise MMCCDError(f"{case}{ending} would hold values that are not finite: look at the scan and at the training.")
    for ending, array in volumes.items():
        write_volume(array, prediction.geometry, output / f"{case}{ending}")
    case_picture(
        output / f"{case}.png",
        case,
        prediction.scan,
        prediction.anomaly,
        prediction.brain,
        prediction.geometry,
        mask=prediction.mask,
        threshold=prediction.threshold,
        slice_axis=request["slice_axis"],
        modality=request["input_modality"],
    )
    files = [f"{case}{ending}" for ending in (*volumes, ".png")]
    record = {"case": case, **request, **_results(prediction), "files": files, "versions": software_versions()}
    save_json(record, output / f"{case}.json")
    return record


def remove_case_files(output: Path, case: str) -> None:
    """Remove what an earlier run left of a case, CASE.json first, so that no mixture of two runs can look complete.

    Raises
    ------
    MMCCDError
        If a file can't be removed.
    """
    for ending in reversed(ENDINGS):
        path = output / f"{case}{ending}"
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise MMCCDError(
                f"{path} could not be removed ({error.strerror or error}): check who may write there."
            ) from error


def finished_record(output: Path, case: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """CASE.json of a case whose files are all there and were made by the same request; else None."""
    path = output / f"{case}.json"
    if not path.is_file():
        return None
    try:
        record = load_json(path)
    except MMCCDError:
        return None
    if not isinstance(record, dict) or any(name not in record or record[name] != value for name, value in request.items()):
        return None
    files = record.get("files")
    return record if files and all((output / name).is_file() for name in files) else None


def summary_row(record: dict[str, Any], status: str) -> SummaryRow:
    """The line of summary.csv that a case's CASE.json gives."""
    return SummaryRow(
        case=record["case"],
        status=status,
        reason="" if record["threshold"] is not None else f"no mask: {record['threshold_source']}",
        input_file=record["input_file"],
        brain_ml=record["brain_ml"],
        anomalous_ml=record["anomalous_ml"],
        max_score=record["max_score"],
        seconds=record["seconds"],
    )


def write_summary(rows: Sequence[SummaryRow], output: Path) -> None:
    """Write summary.csv."""
    with atomic_path(output / SUMMARY_FILE) as temporary:
        columns = [entry.name for entry in fields(SummaryRow)]
        pd.DataFrame([asdict(row) for row in rows], columns=columns).to_csv(temporary, index=False)


def _results(prediction: Prediction) -> dict[str, Any]:
    scores = prediction.anomaly[prediction.brain]
    return {
        "normalisation": prediction.normalisation,
        "brain_ml": round(prediction.brain_ml, 4),
        "anomalous_ml": None if prediction.anomalous_ml is None else round(prediction.anomalous_ml, 4),
        "max_score": float(scores.max(initial=0)),
        "score_percentile_99": float(np.percentile(scores, 99)) if len(scores) else 0.0,
        "network_evaluations": prediction.network_evaluations,
        "seconds": round(prediction.seconds, 3),
    }


def _content(path: Path) -> str:
    """SHA-256: another scan of the same name can have the same size."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise MMCCDError(f"{path} can't be opened ({error.strerror or error}): check that it is a readable file.") from error
