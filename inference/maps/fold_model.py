"""The trained folds of a model folder, ready to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.plans.plan import PLANS_FILE
from mmccd_auto.trained.model_folder import ModelFolder, plan_differences
from mmccd_auto.training.trainers import cycle_class_of


@dataclass(frozen=True)
class FoldModel:
    """One trained fold.

    Attributes
    ----------
    fold : "0" .. "4" or "all"
    cycle : in evaluation mode, on the device
    weights_sha256 : of the checkpoint_final.pth that the weights come from
    record : of the checkpoint: how it was trained, and on which cases
    """

    fold: str
    cycle: Reconstructor
    weights_sha256: str
    record: Mapping[str, Any] = field(default_factory=dict)


def load_fold(model: ModelFolder, fold: str, device: torch.device, extensions: Sequence[str | Path] = ()) -> FoldModel:
    """Load a fold's cycle.

    Parameters
    ----------
    model : its folder
    fold : "0" .. "4" or "all"
    device : to put the cycle on
    extensions : folders with the user's own trainers

    Raises
    ------
    MMCCDError
        If the fold isn't trained, its method is unknown, or plans.json was changed in what the network was trained on.
    """
    checkpoint = model.checkpoint(fold)
    path = model.weights_file(fold)
    differences = plan_differences(checkpoint.plan, model.plan)
    if differences:
        raise MMCCDError(
            f"{model.path / PLANS_FILE} is not the plan that {path} was trained by ({'; '.join(differences)}): restore it, "
            "or train again."
        )
    cycle_class = cycle_class_of(checkpoint, [Path(folder) for folder in extensions])
    return FoldModel(str(fold), checkpoint.build_cycle(device, cycle_class), model.weights_sha256(fold), checkpoint.record)


def choose_folds(model: ModelFolder, folds: Sequence[str] | None) -> list[str]:
    """Choose the folds that are asked for (None: every finished one).

    Raises
    ------
    MMCCDError
        If one of them, or all, are not trained.
    """
    there = model.folds()
    if not there:
        raise MMCCDError(f"{model.path} holds no finished fold: train one to its end first.")
    if folds is None:
        return there
    wanted = list(dict.fromkeys(str(fold) for fold in folds))
    missing = [fold for fold in wanted if fold not in there]
    if missing or not wanted:
        raise MMCCDError(f"{model.path} has no finished fold {', '.join(missing)}: choose among {', '.join(there)}.")
    return wanted
