"""Healthy slices that a fold was not trained on: which there are, which are taken, and their maps."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.maps.engine import MapMaker, anomaly_maps
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.calibration import HELD_OUT, TRAINED_ON, SliceSource
from mmccd_auto.plans.splits import SPLITS_FILE, Split, cases_of_fold, load_splits
from mmccd_auto.preprocessing.slices import CaseRecord, load_case_records, read_slices

logger = logging.getLogger(__name__)


def healthy_maps(
    maker: MapMaker,
    modality: str,
    preprocessed: Path,
    record: CaseRecord,
    indices: Sequence[int],
    description: str | None = None,
) -> CaseMaps:
    """Return the maps of some slices of a preprocessed case."""
    image, brain, _ = read_slices(preprocessed, record, indices)
    channel = record.modalities.index(modality)
    maps = anomaly_maps(maker, image[channel], brain, record.case, slice_indices=indices, description=description)
    return CaseMaps(record.case, record.subject, tuple(indices), record.geometry.slice_spacing, maps, brain)


def choose_healthy_slices(records: Mapping[str, CaseRecord], max_slices: int) -> dict[str, list[int]]:
    """Choose healthy slices by case, about equally many of each.

    As long runs of neighbours around the middle of the brain's run.

    Neighbours, because scores are smoothed across slices and lesions are larger than one.

    Parameters
    ----------
    records : by case
    max_slices : altogether; where there are more cases than that, cases are taken evenly from their list

    Raises
    ------
    MMCCDError
        If ``max_slices`` is below 1.
    """
    if max_slices < 1:
        raise MMCCDError(f"{max_slices} healthy slices are too few: give at least 1.")
    healthy = {case: [item.index for item in record.slices if item.healthy] for case, record in sorted(records.items())}
    healthy = {case: indices for case, indices in healthy.items() if indices}
    cases = [list(healthy)[place] for place in _spread(len(healthy), max_slices)]
    quota = dict.fromkeys(cases, 0)
    left = min(max_slices, sum(len(healthy[case]) for case in cases))
    while left:
        for case in cases:
            if left and quota[case] < len(healthy[case]):
                quota[case] += 1
                left -= 1
    return {case: _window(healthy[case], quota[case]) for case in cases}


def _window(indices: list[int], count: int) -> list[int]:
    """Return ``count`` of ``indices`` that follow each other, half from the lower and half from the upper part.

    Two windows rather than one, because the error differs between the base of the brain and its top.
    """
    if count >= len(indices):
        return indices
    if count < 8:
        return [indices[place] for place in _spread(len(indices), count)]
    lower, upper = indices[: len(indices) // 2], indices[len(indices) // 2 :]
    first = min(count // 2, len(lower))
    second = count - first
    return [*_middle(lower, first), *_middle(upper, second)]


def _middle(indices: list[int], count: int) -> list[int]:
    start = (len(indices) - count) // 2
    return indices[start : start + count]


def _spread(length: int, count: int) -> list[int]:
    """Return ``count`` places of ``length``, in the middles of equal parts."""
    count = min(count, length)
    return [int((part + 0.5) * length / count) for part in range(count)]


def find_records(
    preprocessed: Path, fold: str, modality: str, trained_on: Collection[str] = ()
) -> tuple[dict[str, CaseRecord], SliceSource]:
    """Find the preprocessed cases to calibrate a fold on, and what they are to it: HELD_OUT or TRAINED_ON.

    Parameters
    ----------
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET, with splits_final.json beside it
    fold : "0" .. "4" or "all"
    modality : that the cases must have
    trained_on : cases that the fold has seen; they and others of the same people are not held out, whatever the splits say

    Raises
    ------
    MMCCDError
        If there is no healthy slice, or splits_final.json is missing or broken.
    """
    everything = load_case_records(preprocessed)
    records = {case: record for case, record in everything.items() if modality in record.modalities}
    split = cases_of_fold([] if fold == "all" else _load_splits(preprocessed), list(records), fold)
    people = {everything[case].subject for case in trained_on if case in everything}
    held_out = {case: records[case] for case in split["val"] if case in records}
    if fold != "all" and (known := sorted(case for case, record in held_out.items() if record.subject in people)):
        logger.warning(
            "fold %s was trained on %s, which %s holds out now: they are not taken for held-out cases.",
            fold,
            ", ".join(known),
            preprocessed.parent / SPLITS_FILE,
        )
        held_out = {case: record for case, record in held_out.items() if case not in known}
    if fold != "all" and _have_healthy(held_out):
        return held_out, HELD_OUT
    seen = {case: records[case] for case in trained_on or split["train"] if case in records}
    if not _have_healthy(seen):
        raise MMCCDError(
            f"{preprocessed}: fold {fold} has no healthy slice with {modality} to calibrate on: preprocess the dataset "
            "again."
        )
    return seen, TRAINED_ON


def _load_splits(preprocessed: Path) -> list[Split]:
    path = preprocessed.parent / SPLITS_FILE
    if not path.is_file():
        raise MMCCDError(
            f"{path} does not exist: it says which cases each fold held out; copy it from where the model was trained."
        )
    return load_splits(path)


def _have_healthy(records: Mapping[str, CaseRecord]) -> bool:
    return any(item.healthy for record in records.values() for item in record.slices)
