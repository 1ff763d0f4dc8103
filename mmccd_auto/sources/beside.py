"""The other modalities of a case that a model may use: what they are, and their volumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmccd_auto.core.disk.hashing import files_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.records import Series
from mmccd_auto.imaging.formats.readable import check_readable
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.sources.cases import load_scan
from mmccd_auto.sources.inputs import path_below


def describe_beside(beside: Mapping[str, Path | Series], root: Path) -> dict[str, dict[str, Any]]:
    """Tell the file (None of a series, whose names may be a patient's) and the SHA-256 of each; None where it can't be read.

    Parameters
    ----------
    beside : by modality
    root : folder of the input
    """
    told = {}
    for name, scan in beside.items():
        file = path_below(root, scan) if isinstance(scan, Path) else None
        try:
            content = files_sha256([scan] if isinstance(scan, Path) else sorted(scan.files))
        except (MMCCDError, OSError):
            content = None
        told[name] = {"file": file, "sha256": content}
    return told


def load_beside(beside: Mapping[str, Path | Series], workspace: Path) -> tuple[dict[str, Volume], dict[str, str]]:
    """Read the other modalities of a case; what can't be read makes no case fail.

    Parameters
    ----------
    beside : by modality
    workspace : folder, where series are converted

    Returns
    -------
    the volumes by modality, and why others can't be read
    """
    volumes, faults = {}, {}
    for name, scan in beside.items():
        try:
            if isinstance(scan, Path):
                check_readable(scan)
            volumes[name] = load_scan(scan, workspace)
        except MMCCDError as error:
            # Folders above the input are nobody's business.
            faults[name] = str(error).replace(str(scan), scan.name) if isinstance(scan, Path) else str(error)
    return volumes, faults
