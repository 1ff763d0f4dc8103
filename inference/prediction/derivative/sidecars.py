"""The JSON files beside the images of a BIDS derivative: what each image is, and of which scan it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmccd_auto.inference.lesions.records import CANDIDATE_LIST
from mmccd_auto.inference.prediction.case_record import FILES, SEAL
from mmccd_auto.inference.prediction.derivative.dataset_files import SOURCE_NAME

RECORD_KEY = "Prediction"
DEFINED = ("index", "name")
"""Columns of a table of segments that BIDS itself describes."""
NOT_IN_SIDECAR = (FILES, SEAL, CANDIDATE_LIST)
"""Entries of CASE.json that say of its own files only, or that nobody looks for here."""


def anomaly_sidecar(record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the anomaly map, with everything that CASE.json says of the case.

    Parameters
    ----------
    record : content of CASE.json
    """
    return {
        "Description": (
            f"Anomaly score of every voxel of a {record['input_modality']} scan, from 0 without an upper limit. It is no "
            "probability: BIDS has no suffix for other maps, and probseg is the nearest. Outside of the brain it is 0."
        ),
        "Units": record["score_unit"],
        "Threshold": record["threshold"],
        "ThresholdSource": record["threshold_source"],
        "CaseScore": record["case_score"],
        "HealthyPercentile": record["healthy_percentile"],
        **_source(record),
        RECORD_KEY: {name: value for name, value in record.items() if name not in NOT_IN_SIDECAR},
    }


def lesion_mask_sidecar(record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the mask of the lesions."""
    return {
        "Description": (
            f"Lesions: connected voxels whose anomaly score is above {record['threshold']:.6g}, of at least "
            f"{record['least_lesion_mm3']:g} mm3 together. Found by a machine, seen by nobody."
        ),
        "Type": "Lesion",
        "Manual": False,
        **_source(record),
    }


def candidate_mask_sidecar(record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the mask of what is too small for a lesion."""
    return {
        "Description": (
            f"Candidates: connected voxels whose anomaly score is above {record['threshold']:.6g}, of less than "
            f"{record['least_lesion_mm3']:g} mm3 together, which healthy people have too."
        ),
        "Type": "ROI",
        "Manual": False,
        **_source(record),
    }


def brain_mask_sidecar(record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the mask of the brain."""
    how = "as it was given" if record["brain_found_by"] == "given" else f"found by {record['brain_found_by']}"
    return {"Description": f"Brain, {how}.", "Type": "Brain", "Manual": False, **_source(record)}


def lesions_sidecar(record: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Describe the image of numbered lesions and the columns of its table."""
    return {
        "Description": "Lesions of the lesion mask by their numbers, the largest first; the table beside it describes each.",
        "Manual": False,
        **_source(record),
        **{name: {"Description": text} for name, text in columns.items() if name not in DEFINED},
    }


def _source(record: Mapping[str, Any]) -> dict[str, Any]:
    scan = f"bids:{SOURCE_NAME}:{record['input_file']}"
    return {"Sources": [scan], "SpatialReference": scan}
