"""Cross-validation: folds by subject, so that one person's sessions never stand on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Len

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.names import ALL_FOLDS, CaseName, is_fold
from mmccd_auto.core.records import read_content

SPLITS_FILE = "splits_final.json"
MOST_FOLDS = 1000
Split = dict[str, list[str]]


@dataclass(frozen=True)
class _SplitEntry:
    """One fold in splits_final.json."""

    train: tuple[CaseName, ...]
    val: tuple[CaseName, ...]


def load_splits(path: str | Path) -> list[Split]:
    """Read splits_final.json; raises :class:`MMCCDError` naming the file and the entry that is wrong."""
    return read_content(Annotated[tuple[_SplitEntry, ...], Len(0, MOST_FOLDS)], path)


def make_splits(subjects: Mapping[str, str], folds: int = 5, seed: int = 12345) -> list[Split]:
    """Divide cases into folds by subject.

    Parameters
    ----------
    subjects : subject of each case
    folds : wanted; with fewer subjects than folds each subject is left out once, and a single subject gives no fold at
        all (only the fold ``all`` can be trained)
    seed : of the shuffling; the same subjects and seed give the same splits whatever the order of the cases

    Returns
    -------
    one ``{"train": [...], "val": [...]}`` of sorted cases per fold

    Examples
    --------
    The two sessions of Anna stay together:

    >>> for fold in make_splits({"anna_1": "anna", "anna_2": "anna", "ben": "ben"}):
    ...     print(fold["train"], fold["val"])
    ['ben'] ['anna_1', 'anna_2']
    ['anna_1', 'anna_2'] ['ben']
    """
    names = sorted(set(subjects.values()))
    if len(names) < 2:
        return []
    shuffled = np.random.default_rng(seed).permutation(names)
    splits = []
    for part in np.array_split(shuffled, min(folds, len(names))):
        left_out = set(part.tolist())
        splits.append(
            {
                "train": sorted(case for case, subject in subjects.items() if subject not in left_out),
                "val": sorted(case for case, subject in subjects.items() if subject in left_out),
            }
        )
    return splits


def check_splits(splits: Sequence[Split], subjects: Mapping[str, str], source: str) -> list[Split]:
    """Return splits that a person may have edited, if they can be used.

    Raises
    ------
    MMCCDError
        Naming ``source`` and the fold: unknown cases, an empty side, or a case or subject on both sides.
    """
    for fold, split in enumerate(splits):
        unknown = sorted({str(case) for side in split.values() for case in side} - set(subjects))
        if unknown:
            raise MMCCDError(f"{source}, fold {fold}: unknown case {', '.join(unknown)}; remove it, or delete the file.")
        if not split["train"]:
            raise MMCCDError(f"{source}, fold {fold}: the list of training cases is empty: add some, or delete the file.")
        both = {subjects[case] for case in split["train"]} & {subjects[case] for case in split["val"]}
        if both:
            raise MMCCDError(
                f"{source}, fold {fold}: {', '.join(sorted(both))} is in train and in val; all cases of one subject must be "
                "on one side: delete the file to have it made again, or correct subjects in dataset.json."
            )
    return list(splits)


def write_or_load_splits(path: str | Path, subjects: Mapping[str, str], folds: int = 5, seed: int = 12345) -> list[Split]:
    """Return the splits of splits_final.json, which is made if it doesn't exist and otherwise obeyed and left as it is.

    Raises like :func:`check_splits`.
    """
    path = Path(path)
    if path.exists():
        return check_splits(load_splits(path), subjects, str(path))
    splits = make_splits(subjects, folds, seed)
    save_json(splits, path)
    return splits


def cases_of_fold(splits: Sequence[Split], cases: Sequence[str], fold: int | str) -> Split:
    """Return the training and validation cases of FOLD.

    Parameters
    ----------
    splits : of the dataset
    cases : all of the dataset's training cases
    fold : the number of a split, or ``"all"``: every case both trains and validates

    Raises
    ------
    MMCCDError
        If there is no such fold.
    """
    if str(fold) == ALL_FOLDS:
        return {"train": sorted(cases), "val": sorted(cases)}
    if not splits:
        raise MMCCDError(f"fold {fold} can't be trained: the dataset has one subject only, so use the fold `all`.")
    if not is_fold(str(fold)) or int(fold) >= len(splits):
        raise MMCCDError(f"there is no fold {fold}: choose one of 0..{len(splits) - 1} or `all`.")
    return splits[int(fold)]
