"""The folder of a fold, and the model folder around it: what must agree before a training writes into them."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import TEMPORARY_PREFIX, save_json
from mmccd_auto.datasets.dataset import DATASET_FILE
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.preprocessing.subject_numbers import NUMBERED_BY, NUMBERS_FILE, TRAINING_CASES
from mmccd_auto.trained.checkpoint import (
    CHECKPOINT_BEST,
    CHECKPOINT_FINAL,
    CHECKPOINT_LATEST,
    Checkpoint,
    check_can_continue,
    load_checkpoint,
)
from mmccd_auto.trained.model_folder import (
    CALIBRATION_FILE,
    GAIN_FILE,
    INFERENCE_FILE,
    handed_on,
    plan_differences,
)
from mmccd_auto.training.progress import LOG_FILE, PICTURE_FILE
from mmccd_auto.training.start import STARTED_FROM

PREVIOUS_FOLDER = "previous"
KEPT_FILES = (CHECKPOINT_FINAL, CHECKPOINT_BEST, LOG_FILE, PICTURE_FILE, CALIBRATION_FILE, GAIN_FILE)
INCOMING, OUTGOING = f"{TEMPORARY_PREFIX}{PREVIOUS_FOLDER}", f"{TEMPORARY_PREFIX}older"
START_OVER = "restore what was changed, or start over with --overwrite"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlierTraining:
    """A training of the same settings that a fold's folder holds.

    Attributes
    ----------
    epochs : that are done
    latest : the state to go on from; None where the training is finished
    """

    epochs: int
    latest: Checkpoint | None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.latest is None


def find_earlier_training(output: Path, expected: Checkpoint, training_cases: Sequence[str]) -> EarlierTraining | None:
    """Find the training that a fold's folder holds, finished or not.

    Parameters
    ----------
    output : the fold's folder
    expected : what the trainer would write
    training_cases : of the trainer by name, as checkpoints of earlier versions have them

    Returns
    -------
    None where there is none, so that a new one can begin

    Raises
    ------
    MMCCDError
        If it is a training by other settings, longer than what is asked for, or a file is damaged: going on would mix two
        trainings, and starting over would destroy one.
    """
    latest, final = output / CHECKPOINT_LATEST, output / CHECKPOINT_FINAL
    wanted, finished = expected.plan.training.num_epochs, 0
    if final.is_file():
        found = load_checkpoint(final)
        check_same_training(found, expected, final, training_cases)
        finished = found.plan.training.num_epochs
        _check_not_shorter(finished, wanted, final)
        if finished == wanted:
            return EarlierTraining(finished, None)
    if latest.is_file():
        found = load_checkpoint(latest)
        check_same_training(found, expected, latest, training_cases)
        check_can_continue(found, latest)
        _check_not_shorter(found.epoch, wanted, latest)
        return EarlierTraining(found.epoch, found)
    if finished:
        raise MMCCDError(
            f"{final} is a finished training of {finished} epochs without its {latest.name}, so it can't go on to {wanted} "
            "epochs: start over with --overwrite."
        )
    return None


def _check_not_shorter(done: int, wanted: int, path: Path) -> None:
    if done > wanted:
        raise MMCCDError(f"{path} is of {done} epochs, and num_epochs is {wanted} now: {START_OVER}.")


def prepare_fold(output: Path, plan: Plan, dataset_content: dict[str, Any] | None, earlier: EarlierTraining | None) -> None:
    """Make a fold's folder, and the model folder around it, ready for a training.

    Parameters
    ----------
    output : the fold's folder
    plan, dataset_content : written beside it, see :func:`prepare_model_folder`
    earlier : the training that is continued or kept; None: a new one begins

    Raises
    ------
    MMCCDError
        If other folds there are of another plan, or nobody can write there.
    """
    check_model_folder(output, plan)
    if earlier is None:
        # Before the plan: a kill must not leave the new plan beside the old networks.
        clear_for_new_training(output)
    remove_unfinished_files(output)
    prepare_model_folder(output, plan, dataset_content)
    if earlier is None:
        return
    if earlier.latest is None:
        logger.info("%s is trained, for %d epochs: it is kept (--overwrite starts over)", output, earlier.epochs)
    else:
        wanted = earlier.latest.plan.training.num_epochs
        logger.info("%s: continues after epoch %d (begun for %d epochs)", output, earlier.epochs, wanted)


def check_model_folder(output: Path, plan: Plan) -> None:
    """Make sure that the folds of a model folder are of one plan, before anything there is changed.

    Parameters
    ----------
    output : the folder of the fold that is to be trained
    plan : that it is trained by

    Raises
    ------
    MMCCDError
        If another fold there was trained by a plan that makes other images or networks.
    """
    path = output.parent / PLANS_FILE
    others = sorted(file.parent.name for file in output.parent.glob(f"fold_*/{CHECKPOINT_FINAL}") if file.parent != output)
    if path.is_file() and others:
        differences = plan_differences(Plan.load(path), plan)
        if differences:
            raise MMCCDError(
                f"{output.parent} holds {', '.join(others)}, trained by another plan ({'; '.join(differences)}): give the "
                "new plan another name, or remove these folds."
            )


def prepare_model_folder(output: Path, plan: Plan, dataset_content: dict[str, Any] | None) -> None:
    """Write plans.json and dataset.json beside the fold's folder ``output``, so that the model folder can be used alone.

    Where folds are trained already, this one or others, their plans.json stays: a person may have edited its steps and
    strides.

    Raises
    ------
    MMCCDError
        If nobody can write there.
    """
    path = output.parent / PLANS_FILE
    if not path.is_file() or not any(output.parent.glob(f"fold_*/{CHECKPOINT_FINAL}")):
        plan.save(path)
    if dataset_content is not None:
        save_json(handed_on(dataset_content), output.parent / DATASET_FILE)


def check_still_there(output: Path, epochs: int, slices: Iterable[Path] = ()) -> None:
    """Make sure that nothing of a training has vanished while it ran: what is written next would be a part of it only.

    Parameters
    ----------
    output : the fold's folder
    epochs : whose lines are in the training log
    slices : preprocessed files that are trained on

    Raises
    ------
    MMCCDError
        If a file is gone; the message names the first one.
    """
    needed = [output.parent / PLANS_FILE, *([output / LOG_FILE] if epochs else [])]
    for path in needed:
        if not path.is_file():
            raise MMCCDError(f"{path} was removed while the fold was trained: run the same command again.")
    gone = [path for path in slices if not path.is_file()]
    if gone:
        raise MMCCDError(
            f"{len(gone)} preprocessed slices were removed while the fold was trained on them, {gone[0]} the first: "
            f"preprocess again, and train again with --overwrite, or keep {output} if you know why they are gone."
        )


def remove_unfinished_files(output: Path) -> None:
    """Remove what a training that was killed while it wrote has left in the fold's folder.

    The training before the finished one, which a kill may have caught while it made room, gets its name back.
    """
    if (output / OUTGOING).is_dir() and not (output / PREVIOUS_FOLDER).exists():
        (output / OUTGOING).rename(output / PREVIOUS_FOLDER)
    for left in output.glob(f"{TEMPORARY_PREFIX}*"):
        if left.is_dir():
            remove_folder(left, output)
        else:
            left.unlink()


def clear_for_new_training(output: Path) -> None:
    """Make room for a new training: a finished one goes into the folder ``previous``, an unfinished one is removed.

    A kill at any moment leaves the earlier training, whole or as something that goes on to the same end, or nothing of it
    that a new training could be mixed with: the finished one is in ``previous`` before anything is removed, and the state
    that a training goes on from is removed before what belongs to it.

    Raises
    ------
    MMCCDError
        If the folder can't be changed.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        if (output / CHECKPOINT_FINAL).is_file():
            _keep_as_previous(output)
            logger.warning("%s held a finished training: it is kept in %s", output, output / PREVIOUS_FOLDER)
        elif (output / CHECKPOINT_LATEST).is_file():
            logger.warning("%s held an unfinished training: it is overwritten", output)
        for name in (CHECKPOINT_FINAL, CHECKPOINT_LATEST, *KEPT_FILES):
            (output / name).unlink(missing_ok=True)
        choice = output.parent / INFERENCE_FILE
        if choice.is_file() and not any(output.parent.glob(f"fold_*/{CHECKPOINT_FINAL}")):
            choice.unlink()
            logger.warning("%s was chosen for the training that was here before: it is removed", choice)
    except OSError as error:
        raise MMCCDError(
            f"{output} can't be cleared for a new training ({error.strerror or error}): check who may write there, and that "
            "there is disk space."
        ) from error


def _keep_as_previous(output: Path) -> None:
    """Put copies of a finished training into ``previous``, which a kill leaves as it was or complete."""
    incoming, outgoing, previous = output / INCOMING, output / OUTGOING, output / PREVIOUS_FOLDER
    for left in (incoming, outgoing):
        remove_folder(left, output)
    incoming.mkdir()
    for name in KEPT_FILES:
        if (output / name).is_file():
            _copy(output / name, incoming / name)
    if previous.exists():
        previous.rename(outgoing)
    incoming.rename(previous)
    remove_folder(outgoing, output)


def _copy(file: Path, target: Path) -> None:
    """Copy a file; a checkpoint, which is never written in place, as a second link where the file system has them."""
    if file.suffix == ".pth":
        try:
            os.link(file, target)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(file, target)


def warn_of_other_circumstances(found: Checkpoint, expected: Checkpoint, path: Path) -> None:
    """Say where a training goes on as it may, but not to the same end as if it had not been interrupted.

    Parameters
    ----------
    found, expected, path : as for :func:`check_same_training`
    """
    for name, text in (("processes", "by %s processes"), ("precision", "in %s")):
        before, now = found.record.get(name), expected.record[name]
        # Checkpoints of earlier versions don't say.
        if before not in (None, now):
            logger.warning(
                f"%s was trained {text}, and goes on with %s: it won't end quite as it would have without that change.",
                path,
                before,
                now,
            )


def check_same_training(found: Checkpoint, expected: Checkpoint, path: Path, training_cases: Sequence[str]) -> None:
    """Make sure that a training can go on from a checkpoint.

    Everything that shapes the training must be the same, except the number of epochs: more epochs prolong it.

    Parameters
    ----------
    found : checkpoint to continue from
    expected : what the trainer would write
    path : of ``found``, for the error
    training_cases : of the trainer by name, as checkpoints of earlier versions have them

    Raises
    ------
    MMCCDError
        If they differ; the message says in what.
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
    numbered = NUMBERED_BY in found.record
    wanted = {
        TRAINING_CASES: expected.record[TRAINING_CASES] if numbered else list(training_cases),
        NUMBERED_BY: expected.record[NUMBERED_BY] if numbered else None,
        "healthy_slices": expected.record["healthy_slices"],
    }
    told = {TRAINING_CASES: "other training cases", NUMBERED_BY: f"another {NUMBERS_FILE}", "healthy_slices": "other slices"}
    differences += [told[name] for name, value in wanted.items() if found.record.get(name) != value]
    started = [one.record.get(STARTED_FROM) or "nothing" for one in (found, expected)]
    if started[0] != started[1]:
        differences.append(f"started from {started[0]} against {started[1]}")
    if differences:
        raise MMCCDError(f"{path} comes from another training ({'; '.join(differences)}): {START_OVER}.")
