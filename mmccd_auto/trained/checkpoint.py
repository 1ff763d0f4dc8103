"""Checkpoints: tensors and one JSON text, so that reading one can't run code."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar
from zipfile import BadZipFile

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.names import ConfigurationName, FoldName, TrainerName
from mmccd_auto.core.records import OTHERS_ALLOWED, dataclass_from_json
from mmccd_auto.core.strict_json import parse_json, shown
from mmccd_auto.model.cycle import CYCLES
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.plans.plan import LARGEST_BATCH, Plan

CHECKPOINT_FINAL = "checkpoint_final.pth"
CHECKPOINT_BEST = "checkpoint_best.pth"
CHECKPOINT_LATEST = "checkpoint_latest.pth"
FORMAT = 1
REMEDY = "copy the file again, or train again"


@dataclass(frozen=True)
class _Record:
    """What is read of a checkpoint's record; the rest of it is for people."""

    __pydantic_config__: ClassVar[Any] = OTHERS_ALLOWED
    training_cases: tuple[str, ...] = ()
    batch_parts: Annotated[int, Interval(ge=1, le=LARGEST_BATCH)] = 1
    processes: Annotated[int, Ge(1)] | None = None
    precision: str | None = None


@dataclass(frozen=True)
class _Metadata:
    """The metadata of a checkpoint, see :class:`Checkpoint`."""

    format: int
    method: str
    trainer: TrainerName
    plan: Plan
    configuration: ConfigurationName
    fold: FoldName
    epoch: Annotated[int, Ge(0)]
    step: Annotated[int, Ge(0)]
    record: _Record


@dataclass(frozen=True)
class Checkpoint:
    """A trained cycle, or one in training.

    Attributes
    ----------
    method : name of the cycle or other reconstructor, "mmccd", "cyclic_unet", "dae", "lesion_remover", "subset_remover"
    trainer : class name
    plan : with the training settings that were really used
    configuration : the modality cycle, "FLAIR-T1"
    fold : "0".."4" or "all"
    epoch, step : epochs and optimiser steps that are done
    weights : the running mean (EMA) of the cycle's weights, which inference uses
    raw_weights : the cycle's weights after the last step
    optimizer : its state; empty in a final checkpoint
    gradient_scaler : state of the fp16 loss scaling; empty where there was none
    record : how it was made: versions, device, precision, processes, parts of a batch, training cases, numbers of slices and
        subjects
    """

    method: str
    trainer: str
    plan: Plan
    configuration: str
    fold: str
    epoch: int
    step: int
    weights: dict[str, Tensor]
    raw_weights: dict[str, Tensor]
    optimizer: dict[str, Any] = field(default_factory=dict)
    gradient_scaler: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    def build_cycle(
        self, device: str | torch.device = "cpu", cycle_class: type[Reconstructor] | None = None, raw: bool = False
    ) -> Reconstructor:
        """Build the trained cycle in evaluation mode.

        Parameters
        ----------
        device : to put it on
        cycle_class : needed only for a method that isn't the package's own; see
            :func:`mmccd_auto.training.trainers.cycle_class_of`
        raw : the weights after the last step rather than their running mean

        Raises
        ------
        MMCCDError
            If the method is unknown or the weights don't fit its networks.
        """
        cycle_class = cycle_class or CYCLES.get(self.method)
        if cycle_class is None:
            raise MMCCDError(
                f"the method {self.method}, trained by {self.trainer}, is unknown (known are {', '.join(CYCLES)}): "
                "name the folder that holds its trainer."
            )
        cycle = cycle_class.of_plan(self.plan, self.configuration)
        try:
            cycle.load_state_dict(self.raw_weights if raw else self.weights)
        except RuntimeError as error:
            raise MMCCDError(
                f"the weights of {self.trainer}, fold {self.fold}, do not fit the networks of its plan "
                f"{self.plan.plans_name}: train again."
            ) from error
        return cycle.to(device).eval().requires_grad_(False)


def save_checkpoint(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint, atomically.

    Raises
    ------
    MMCCDError
        If the disk is full or the folder can't be written to.
    """
    metadata = {
        "format": FORMAT,
        "method": checkpoint.method,
        "trainer": checkpoint.trainer,
        "plan": checkpoint.plan.to_json(),
        "configuration": checkpoint.configuration,
        "fold": checkpoint.fold,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "record": checkpoint.record,
    }
    content = {
        "metadata": json.dumps(metadata),
        "weights": checkpoint.weights,
        "raw_weights": checkpoint.raw_weights,
        "optimizer": checkpoint.optimizer,
        "gradient_scaler": checkpoint.gradient_scaler,
    }
    # an open file rather than a path: torch writes a path's name into the file, and equal trainings should give equal files
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch hides what the file said, a full disk for instance, behind an error of its own
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint into the CPU's memory, without running any code that the file may hold.

    Raises
    ------
    MMCCDError
        If the file is missing, damaged, or isn't a checkpoint of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise MMCCDError(f"{path} does not exist: train this fold first.")
    content = _load(path)
    source = f"{path}, metadata"
    metadata = parse_json(content["metadata"], source)
    if isinstance(metadata, dict) and metadata.get("format", FORMAT) != FORMAT:
        raise MMCCDError(f"{path} was written by another version of this package: train again, or use that version.")
    found = dataclass_from_json(_Metadata, metadata, source, REMEDY)
    for name in ("weights", "raw_weights"):
        _check_weights(content[name], f"{path}: {name}")
    optimizer, scaler = content.get("optimizer", {}), content.get("gradient_scaler", {})
    for name, state in (("optimizer", optimizer), ("gradient_scaler", scaler)):
        if not isinstance(state, dict):
            raise MMCCDError(f"{path}: {name} is a {type(state).__name__}, but must be a dictionary: {REMEDY}.")
    return Checkpoint(
        method=found.method,
        trainer=found.trainer,
        plan=found.plan,
        configuration=found.configuration,
        fold=found.fold,
        epoch=found.epoch,
        step=found.step,
        weights=dict(content["weights"]),
        raw_weights=dict(content["raw_weights"]),
        optimizer=optimizer,
        gradient_scaler=scaler,
        record=metadata["record"],
    )


def _load(path: Path) -> dict[str, Any]:
    """Load the dictionary of a checkpoint file, with all entries that it must have."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # torch raises almost anything on bytes that it didn't write.
    except (
        *(RuntimeError, pickle.UnpicklingError, EOFError, BadZipFile, OSError),
        *(LookupError, TypeError, ValueError, AttributeError, AssertionError, MemoryError),
    ) as error:
        raise MMCCDError(f"{path} is damaged or not a checkpoint: copy it again, or train again.") from error
    entries = ("metadata", "weights", "raw_weights")
    missing = [name for name in entries if not isinstance(content, dict) or name not in content]
    if missing or not isinstance(content["metadata"], str):
        told = f"{missing[0]} is missing" if missing else "metadata is no text"
        raise MMCCDError(
            f"{path} is not a checkpoint of this package ({told}): give a {CHECKPOINT_FINAL} that mmccd_train made."
        )
    return content


def _check_weights(weights: object, where: str) -> None:
    """Raise :class:`MMCCDError` unless these are finite tensors by name."""
    if not isinstance(weights, dict):
        raise MMCCDError(f"{where} is a {type(weights).__name__}, but must be a dictionary of tensors: {REMEDY}.")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise MMCCDError(f"{where}: the entry {shown(str(name))} is no tensor with a name: {REMEDY}.")
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise MMCCDError(f"{where}: {name} holds no plain numbers: {REMEDY}.")
        if not torch.isfinite(value).all():
            raise MMCCDError(f"{where}: {name} holds NaN or infinite numbers: {REMEDY}.")


def check_can_continue(checkpoint: Checkpoint, path: Path) -> None:
    """Make sure that a checkpoint holds the optimiser's state, which an unfinished training alone has.

    Raises
    ------
    MMCCDError
        If the state isn't there, or isn't one of these weights.
    """
    state = checkpoint.optimizer
    if not state:
        raise MMCCDError(
            f"{path} lacks the optimiser's state, so it can't be continued: it is the file of a finished training; name it "
            f"{CHECKPOINT_FINAL} to keep that, or start over with --overwrite."
        )
    groups, moments = state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups) or not isinstance(moments, dict):
        raise MMCCDError(f"{path}: optimizer is no optimiser's state: {REMEDY}.")
    for number, of_parameter in moments.items():
        values = of_parameter.values() if isinstance(of_parameter, dict) else ()
        tensors = [value for value in values if isinstance(value, Tensor)]
        if not tensors or not all(bool(torch.isfinite(value).all()) for value in tensors):
            raise MMCCDError(f"{path}: optimizer.state.{number} holds no finite numbers: {REMEDY}.")
