"""The folder of a fold, and the model folder around it: what must agree before a training writes into them."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

from mmccd_auto.datasets import DATASET_FILE
from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import TEMPORARY_PREFIX, save_json
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.training.checkpoint import CHECKPOINT_BEST, CHECKPOINT_FINAL, CHECKPOINT_LATEST, Checkpoint
from mmccd_auto.training.progress import LOG_FILE, PICTURE_FILE

CALIBRATION_FILE = "calibration.json"
INFERENCE_FILE = "inference.json"
PREVIOUS_FOLDER = "previous"
KEPT_FILES = (CHECKPOINT_FINAL, CHECKPOINT_BEST, LOG_FILE, PICTURE_FILE, CALIBRATION_FILE)
DATA_AND_NETWORK = (
    "modalities",
    "slice_axis",
    "target_spacing",
    "patch_size",
    "normalisation",
    "strip_width",
    "network",
    "diffusion",
)
logger = logging.getLogger(__name__)


def plan_differences(plan: Plan, other: Plan, names: tuple[str, ...] = DATA_AND_NETWORK) -> list[str]:
    """Those of the entries ``names`` in which two plans differ, as "NAME: VALUE against VALUE"."""
    pairs = [(name, getattr(plan, name), getattr(other, name)) for name in names]
    return [f"{name}: {one} against {two}" for name, one, two in pairs if one != two]


def prepare_model_folder(output: Path, plan: Plan, dataset_content: dict[str, Any] | None) -> None:
    """Write plans.json and dataset.json beside the fold's folder ``output``, so that the model folder can be used alone.

    Where other folds are trained already their plans.json stays: a person may have edited its steps and strides.

    Raises
    ------
    MMCCDError
        If another fold there was trained by a plan that makes other images or networks.
    """
    model_folder = output.parent
    path = model_folder / PLANS_FILE
    others = sorted(file.parent.name for file in model_folder.glob(f"fold_*/{CHECKPOINT_FINAL}") if file.parent != output)
    if path.is_file() and others:
        differences = plan_differences(Plan.load(path), plan)
        if differences:
            raise MMCCDError(
                f"{model_folder} holds {', '.join(others)}, trained by another plan ({'; '.join(differences)}): give the "
                "new plan another name, or remove these folds."
            )
    else:
        plan.save(path)
    if dataset_content is not None:
        save_json(dataset_content, model_folder / DATASET_FILE)


def remove_unfinished_files(output: Path) -> None:
    """Remove what a training that was killed while it wrote has left in the fold's folder."""
    for file in output.glob(f"{TEMPORARY_PREFIX}*"):
        file.unlink()


def prepare_anew(output: Path) -> None:
    """Make room for a new training: a finished one is moved into the folder ``previous``, an unfinished one is removed."""
    output.mkdir(parents=True, exist_ok=True)
    if (output / CHECKPOINT_FINAL).is_file():
        previous = output / PREVIOUS_FOLDER
        shutil.rmtree(previous, ignore_errors=True)
        previous.mkdir()
        for name in KEPT_FILES:
            if (output / name).is_file():
                (output / name).rename(previous / name)
        logger.warning("%s held a finished training: it was moved to %s", output, previous)
    elif (output / CHECKPOINT_LATEST).is_file():
        logger.warning("%s held an unfinished training: it is overwritten (--continue would have gone on with it)", output)
    for name in (CHECKPOINT_LATEST, *KEPT_FILES):
        (output / name).unlink(missing_ok=True)
    choice = output.parent / INFERENCE_FILE
    if choice.is_file() and not any(output.parent.glob(f"fold_*/{CHECKPOINT_FINAL}")):
        choice.unlink()
        logger.warning("%s was chosen for the training that was here before: it is removed", choice)


def warn_of_other_circumstances(found: Checkpoint, expected: Checkpoint, path: Path) -> None:
    """Tell where a training goes on as it may, but not to the same end as if it had not been interrupted.

    Parameters
    ----------
    found, expected, path : as for :func:`check_same_training`
    """
    for name, text in (("processes", "by %s processes"), ("precision", "in %s")):
        before, now = found.record.get(name), expected.record[name]
        # Checkpoints of earlier versions don't tell.
        if before not in (None, now):
            logger.warning(
                f"%s was trained {text}, and goes on with %s: it won't end quite as it would have without that change.",
                path,
                before,
                now,
            )


def check_same_training(found: Checkpoint, expected: Checkpoint, path: Path) -> None:
    """Make sure that a training can go on from a checkpoint.

    Everything that shapes the training must be the same, except the number of epochs: more epochs prolong it.

    Parameters
    ----------
    found : checkpoint to continue from
    expected : what the trainer would write
    path : of ``found``, for the error

    Raises
    ------
    MMCCDError
        If they differ; the message tells in what.
    """
    names = ("trainer", "method", "configuration", "fold")
    differences = [
        f"{name}: {getattr(found, name)} against {getattr(expected, name)}"
        for name in names
        if getattr(found, name) != getattr(expected, name)
    ]
    differences += plan_differences(found.plan, expected.plan)
    before, now = (dataclasses.asdict(one.plan.training) for one in (found, expected))
    differences += [
        f"{name}: {before[name]} against {now[name]}"
        for name in before
        if name != "num_epochs" and before[name] != now[name]
    ]
    for side in ("training_cases", "healthy_slices"):
        if found.record.get(side) != expected.record[side]:
            differences.append(f"other {side.replace('_', ' ')}")
    if differences:
        raise MMCCDError(
            f"{path} comes from another training ({'; '.join(differences)}): restore what was changed, or train anew "
            "without --continue."
        )
