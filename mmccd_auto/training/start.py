"""The weights that a training starts from, where it doesn't start from nothing: those of a model that is finished."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import counted
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.plans.plan import Plan
from mmccd_auto.preprocessing.subject_numbers import NUMBERS_FILE, trained_on
from mmccd_auto.trained.model_folder import ModelFolder

STARTED_FROM = "started_from"
"""Entry of a checkpoint's record."""
SIMILAR_SPACING = 1.25
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """A finished fold to start from.

    Attributes
    ----------
    model : name of its model folder
    method : of its cycle
    weights : of its cycle
    weights_sha256 : by which the fold is known
    plan, configuration : that it was trained by
    record : of its checkpoint, which tells by numbers whom it was trained on
    """

    model: str
    method: str
    weights: Mapping[str, Tensor]
    weights_sha256: str
    plan: Plan
    configuration: str
    record: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> str:
        """Name the model and its weights, as the record of a training does."""
        return f"{self.model} ({self.weights_sha256[:16]})"

    def give_to(self, cycle: Reconstructor) -> None:
        """Put the weights into a cycle.

        Raises
        ------
        MMCCDError
            If the cycle is of another method, its networks are of another size, or it uses other modalities.
        """
        there, own = (
            {name: tuple(one.shape) for name, one in weights.items()} for weights in (self.weights, cycle.state_dict())
        )
        if cycle.name != self.method or there != own:
            raise MMCCDError(
                f"--from {self.model}: it is a {self.method} whose networks don't fit the {cycle.name} that is planned "
                "here: name its trainer with -tr, and plan networks of its size."
            )
        known = type(cycle).of_plan(self.plan, self.configuration).further if cycle.further else ()
        if cycle.further != known:
            raise MMCCDError(
                f"--from {self.model}: beside the input it knows {', '.join(known)}, and the dataset has "
                f"{', '.join(cycle.further)}: give a model of these modalities."
            )
        cycle.load_state_dict(dict(self.weights))


def load_start(model: ModelFolder, plan: Plan, modality: str, fold: int | str) -> Start:
    """Read the finished fold of a model from which a training is to start: the same fold, or its first one.

    Parameters
    ----------
    model : the finished one
    plan, modality : of the training: pixels should be about as large, and the input modality is the same
    fold : of the training

    Raises
    ------
    MMCCDError
        If the model examines another modality, or a file is damaged.
    """
    if model.input_modality != modality:
        raise MMCCDError(
            f"--from {model.path.name}: it examines {model.input_modality}, and the configuration {modality}: give a "
            f"model of {modality}, or -c of {model.input_modality}."
        )
    larger, smaller = sorted((model.plan.target_spacing, plan.target_spacing), reverse=True)
    if larger > SIMILAR_SPACING * smaller:
        logger.warning(
            "%s saw pixels of %.2g mm, and the plan has %.2g mm: what it learnt helps less; --target_spacing of "
            "mmccd_plan_and_preprocess plans pixels of its size.",
            model.path.name,
            model.plan.target_spacing,
            plan.target_spacing,
        )
    finished = model.folds()
    if not finished:
        raise MMCCDError(f"--from {model.path}: none of its folds is trained to the end: finish one, or name another model.")
    chosen = str(fold) if str(fold) in finished else finished[0]
    checkpoint = model.checkpoint(chosen)
    return Start(
        model.path.resolve().name,
        checkpoint.method,
        checkpoint.weights,
        model.weights_sha256(chosen),
        checkpoint.plan,
        checkpoint.configuration,
        checkpoint.record,
    )


def refuse_seen_people(
    start: Start, home: Path, fold: int | str, people: Mapping[str, str], held_out: Iterable[str]
) -> None:
    """Refuse a start from weights that know people whom the new training holds out: thresholds would rest on them.

    Parameters
    ----------
    start : of another dataset, or of this one
    home : $mmccd_preprocessed/DATASET of the new training
    fold : of the new training
    people : person of each preprocessed case
    held_out : cases of the fold

    Raises
    ------
    MMCCDError
        If the start was trained on one of them.
    """
    if start.plan.dataset_name != home.name:
        return
    try:
        seen = {people[case] for case in trained_on(start.record, home) if case in people}
    except MMCCDError:
        logger.warning(
            "--from %s: it was trained on a dataset of this name, and %s doesn't say on whom: people that fold %s holds out "
            "may be among them, and false alarms then promised too low.",
            start.model,
            home / NUMBERS_FILE,
            fold,
        )
        return
    known = seen & {people[case] for case in held_out if case in people}
    if known:
        raise MMCCDError(
            f"--from {start.model}: it was trained on {counted(len(known), 'person', 'people')} whom fold {fold} holds out: "
            "start from its fold of the same number, or from a model of other people."
        )
