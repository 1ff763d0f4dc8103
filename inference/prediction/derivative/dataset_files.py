"""The files of a BIDS derivative that stand for all of it: dataset_description.json, README.md and .bidsignore."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmccd_auto import __version__
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path, save_json
from mmccd_auto.sources.bids.dataset import DESCRIPTION_FILE, IGNORE_FILE, read_description
from mmccd_auto.sources.bids.masks import OUR_NAME

BIDS_VERSION = "1.10.0"
RUNS_FOLDER = "runs"
SOURCE_NAME = "raw"
"""Of the scans' dataset in URIs: ``bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz``."""
MODALITY_KEY = "InputModality"
README_FILE = "README.md"
_README = """# Anomaly maps of {modality} scans

Written by mmccd_auto {version}, which marks what a healthy brain doesn't explain. Research software, no medical device.

| file | what it is |
|---|---|
| `*_desc-anomaly_probseg.nii.gz` | score of every voxel. **No probability**: its sidecar gives the unit and the threshold |
| `*_label-lesion_mask.nii.gz` | lesions: connected voxels above the threshold |
| `*_desc-candidates_mask.nii.gz` | connected voxels above the threshold that are smaller than a lesion |
| `*_desc-brain_mask.nii.gz` | the brain that was found, where the scan has a skull |
| `*_desc-lesions_dseg.nii.gz`, `.tsv` | the lesions by their numbers, and a table of them |
| `runs/*/report.html` | the page to open: all cases of a run, with a viewer |
| `group_cases.tsv`, `group_lesions.tsv` | tables of all cases, by `mmccd_bids BIDS OUT group` |
"""
_IGNORED = "/runs\n/group_*.tsv\n"


def prepare_derivative(output: Path, source: Path, modality: str) -> None:
    """Write the files that stand for a derivative; the maps of an earlier run of the same modality stay.

    Parameters
    ----------
    output : folder of the derivative
    source : the BIDS dataset of the scans
    modality : of the scans that are examined

    Raises
    ------
    MMCCDError
        If the folder is that of the scans, or holds another dataset, or maps of another modality.
    """
    _check_place(output, source, modality)
    description: dict[str, Any] = {
        "Name": f"Anomaly maps of {modality} scans",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": OUR_NAME,
                "Version": __version__,
                "Description": f"Unsupervised anomaly maps of {modality} by masked modality cycles (arXiv 2308.16150)",
            }
        ],
        MODALITY_KEY: modality,
        **_source_entries(output, source),
    }
    save_json(description, output / DESCRIPTION_FILE)
    for name, text in (
        (README_FILE, _README.format(modality=modality, version=__version__)),
        (IGNORE_FILE, _IGNORED),
    ):
        with atomic_path(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _check_place(output: Path, source: Path, modality: str) -> None:
    if output.resolve() == source.resolve():
        raise MMCCDError(f"{output} is the dataset of the scans: give another folder, {source}/derivatives/{OUR_NAME} say.")
    if not (output / DESCRIPTION_FILE).exists():
        return
    there = read_description(output)
    made_by = there.get("GeneratedBy")
    ours = isinstance(made_by, list) and any(isinstance(one, dict) and one.get("Name") == OUR_NAME for one in made_by)
    if not ours:
        raise MMCCDError(f"{output} holds a BIDS dataset that mmccd_auto has not written: give another folder for the maps.")
    if there.get(MODALITY_KEY, modality) != modality:
        raise MMCCDError(
            f"{output} holds the maps of {there[MODALITY_KEY]} scans, and those of {modality} have the same names: give "
            "another folder for the maps."
        )


def _source_entries(output: Path, source: Path) -> dict[str, Any]:
    """Return what dataset_description.json says of the scans' dataset: its DOI and version, and where it lies from here."""
    doi = read_description(source).get("DatasetDOI")
    known = doi if isinstance(doi, str) else ""
    try:
        place = Path(os.path.relpath(source.resolve(), output.resolve())).as_posix()
    except ValueError:
        # Another drive of Windows.
        place = source.resolve().as_uri()
    return {
        **({"SourceDatasets": [{"DOI": known}]} if known else {}),
        "DatasetLinks": {SOURCE_NAME: known if known.startswith("doi:") else place},
    }
