"""Turn a hospital's export into a raw dataset: what mmccd_import does."""

from __future__ import annotations

import re
from pathlib import Path

from mmccd_auto.core.disk.parts import Part
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.executor import Workers
from mmccd_auto.datasets.dataset import list_datasets
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.importing.import_dataset import ImportOptions, ImportSummary, import_dataset


def import_export(
    folders: Folders,
    source: str | Path,
    number: int,
    name: str,
    options: ImportOptions,
    processes: Workers,
    part: Part | None = None,
) -> ImportSummary:
    """Turn a hospital export into the raw dataset ``DatasetXXX_Name``.

    Parameters
    ----------
    folders : raw is used
    source : folder, zip archive or DICOMDIR
    number, name : of the dataset
    options : the user's wishes
    processes : workers; 0 works in this process; or a cluster
    part : of the cases, see :func:`mmccd_auto.importing.import_dataset.import_dataset`

    Raises
    ------
    MMCCDError
        If the number or name can't be used, or there is nothing to import.
    """
    if not 0 <= number <= 999 or re.fullmatch(r"[\w-]+", name) is None:
        raise MMCCDError(f"-d {number} -n {name}: give a number from 0 to 999, and a name of letters, digits, _ and -.")
    folder = folders.raw / f"Dataset{number:03d}_{name}"
    others = [one.name for one in list_datasets(folders.raw) if one.name.startswith(f"Dataset{number:03d}_")]
    if others and folder.name not in others:
        raise MMCCDError(f"{folders.raw} has a dataset of number {number} already ({others[0]}): choose another number.")
    return import_dataset(source, folder, options, processes, part)
