"""Trainers by name: the package's own, or a subclass in a folder of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.plugins import find_subclass
from mmccd_auto.model.cycle import CYCLES
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.trained.checkpoint import Checkpoint
from mmccd_auto.training.trainer import Trainer

DEFAULT_TRAINER = "MMCCDTrainer"


def find_trainer(name: str = DEFAULT_TRAINER, folders: Sequence[Path] = ()) -> type[Trainer]:
    """The trainer class of this name.

    Parameters
    ----------
    name : class name
    folders : outside the package, with .py files that define trainers

    Raises
    ------
    MMCCDError
        If there is none (the message lists those there are), or it doesn't say which cycle it trains.
    """
    found = find_subclass(Trainer, name, ["mmccd_auto.training.trainers"], folders)
    if not hasattr(found, "cycle_class"):
        raise MMCCDError(f"the trainer {name} names no cycle: derive it from {DEFAULT_TRAINER}, or give it a cycle_class.")
    return found


def cycle_class_of(checkpoint: Checkpoint, folders: Sequence[Path] = ()) -> type[Reconstructor]:
    """The class of a checkpoint's cycle: the package's own, or else that of its trainer, looked for in ``folders``.

    Raises
    ------
    MMCCDError
        If neither is known.
    """
    if checkpoint.method in CYCLES:
        return CYCLES[checkpoint.method]
    return find_trainer(checkpoint.trainer, folders).cycle_class
