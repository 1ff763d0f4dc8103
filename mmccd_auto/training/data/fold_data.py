"""What a fold trains on and what it is watched by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans.splits import SPLITS_FILE, Split, cases_of_fold
from mmccd_auto.preprocessing.slices import load_case_records
from mmccd_auto.preprocessing.subject_numbers import SubjectNumbers
from mmccd_auto.training.data.data_loading import SliceStore, TrainingSlice, crop, find_healthy_slices

VALIDATION_SLICES = 64
VALIDATION, TRAIN_SAMPLE = "validation", "train-sample"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldData:
    """A fold's healthy slices.

    Attributes
    ----------
    training, validation : slices; never of one subject on both sides, except in the fold ``all``
    validation_on : "validation", or "train-sample" where validation slices are training slices
    """

    training: tuple[TrainingSlice, ...]
    validation: tuple[TrainingSlice, ...]
    validation_on: str

    @property
    def training_cases(self) -> list[str]:
        """Cases with a slice to train on, sorted."""
        return sorted({one.case for one in self.training})

    @property
    def validation_cases(self) -> list[str]:
        """Cases with a slice to validate on, sorted."""
        return sorted({one.case for one in self.validation})

    @property
    def subjects(self) -> dict[str, str]:
        """The person of each case."""
        return {one.case: one.subject for one in (*self.training, *self.validation)}

    def describe(self, numbers: SubjectNumbers) -> dict[str, Any]:
        """Describe how many of what, and the cases by number, for the checkpoint's record."""
        validation = self.validation_cases if self.validation_on == VALIDATION else []
        return {
            "healthy_slices": len(self.training),
            "subjects": len({one.subject for one in self.training}),
            **numbers.describe(self.training_cases),
            "validation_cases": [numbers.cases[case] for case in validation],
            "validation_on": self.validation_on,
        }


def find_fold_data(
    preprocessed: Path,
    splits: Sequence[Split] | None,
    fold: str,
    modalities: tuple[str, str],
    shown: Sequence[str] | None = None,
) -> FoldData:
    """Find a fold's healthy slices that have both modalities.

    Parameters
    ----------
    preprocessed : the plan's folder below $mmccd_preprocessed/DATASET
    splits : of splits_final.json
    fold : "0".."4" or "all"
    modalities : (input, translation)
    shown : see :func:`find_healthy_slices`

    Raises
    ------
    MMCCDError
        If there is nothing to train on (the message gives the numbers), no such fold, or a subject on both sides.
    """
    records = load_case_records(preprocessed)
    if not records:
        raise MMCCDError(f"{preprocessed} holds no preprocessed case: run mmccd_plan_and_preprocess first.")
    cases = cases_of_fold(splits or [], list(records), fold)
    training = find_healthy_slices(preprocessed, records, cases["train"], modalities, shown)
    if not training:
        there = len(set(cases["train"]) & set(records))
        raise MMCCDError(
            f"{preprocessed}: no healthy slice to train on: of {len(cases['train'])} training cases of fold {fold}, {there} "
            f"are preprocessed, and none of them has a slice without abnormality with both {modalities[0]} and "
            f"{modalities[1]}; check labelsTr and the modalities of the cases."
        )
    missing = sorted(set(cases["train"]) - set(records))
    if missing:
        logger.warning("%d training cases are not preprocessed and are left out: %s", len(missing), ", ".join(missing))
    validation = [] if fold == "all" else find_healthy_slices(preprocessed, records, cases["val"], modalities, shown)
    both = {one.subject for one in training} & {one.subject for one in validation}
    if both:
        raise MMCCDError(
            f"{SPLITS_FILE}, fold {fold}: {', '.join(sorted(both))} is in train and in val; all cases of one subject "
            "must be on one side."
        )
    if validation:
        return FoldData(tuple(training), _spread(validation), VALIDATION)
    return FoldData(tuple(training), _spread(training), TRAIN_SAMPLE)


def validation_images(data: FoldData, patch_size: tuple[int, int]) -> np.ndarray:
    """Compute the validation slices, cropped in the middle: float32 [N, C, H, W]."""
    store = SliceStore(data.validation)
    return np.stack([crop(store[index], patch_size) for index in range(len(store))])


def _spread(slices: Sequence[TrainingSlice]) -> tuple[TrainingSlice, ...]:
    """Return at most VALIDATION_SLICES of ``slices``, evenly spread over the cases and heights."""
    chosen = np.linspace(0, len(slices) - 1, min(len(slices), VALIDATION_SLICES)).round().astype(int)
    return tuple(slices[index] for index in chosen)
