"""What the bias fields of a preprocessed case were fitted to, on disk: CASE/field_samples.npz, for the second fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.tuples import triple
from mmccd_auto.preprocessing.bias_field import FieldSamples
from mmccd_auto.preprocessing.npz_files import BROKEN_ARRAYS

SAMPLES_FILE = "field_samples.npz"
PARTS = ("values", "usable", "origin", "spacing")


def write_samples(folder: Path, samples: Mapping[str, FieldSamples]) -> None:
    """Write the samples of a case's modalities into its folder of slices.

    Raises
    ------
    OSError
        If the file can't be written.
    """
    # Any, because numpy has an option (allow_pickle) among the names that it stores by.
    arrays: dict[str, Any] = {
        f"{name}/{part}": np.asarray(getattr(one, part)) for name, one in samples.items() for part in PARTS
    }
    with (folder / SAMPLES_FILE).open("wb") as file:
        np.savez_compressed(file, **arrays)


def has_samples(folder: Path) -> bool:
    """Check whether there are samples of a case; earlier versions kept none."""
    return (folder / SAMPLES_FILE).is_file()


def read_samples(folder: Path, modality: str) -> FieldSamples | None:
    """Read the samples of a modality from a case's folder; None where it has no bias field.

    Raises
    ------
    MMCCDError
        If the file is missing or broken.
    """
    path = folder / SAMPLES_FILE
    try:
        with np.load(path, allow_pickle=False) as content:
            if f"{modality}/values" not in content:
                return None
            values, usable, *places = (content[f"{modality}/{part}"] for part in PARTS)
        origin, spacing = (triple(float(edge) for edge in one) for one in places)
        return FieldSamples(values.astype(np.float32), usable.astype(bool), origin, spacing)
    except (*BROKEN_ARRAYS, TypeError) as error:
        raise MMCCDError(
            f"{path} can't be read as what a bias field was fitted to ({error}): preprocess the case again with --overwrite."
        ) from error
