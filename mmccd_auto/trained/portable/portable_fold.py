"""A fold as it travels: weights.safetensors beside training.json, in place of a checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval, Predicate
from torch import Tensor

from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.names import ConfigurationName, FoldName, TrainerName
from mmccd_auto.core.records import Expected, read_record
from mmccd_auto.model.cycle import CYCLES
from mmccd_auto.plans.plan import LARGEST_BATCH, Plan
from mmccd_auto.trained.checkpoint import Checkpoint
from mmccd_auto.trained.portable.safetensors_weights import REMEDY, load_weights, save_weights
from mmccd_auto.trained.portable.short_texts import ShortText

WEIGHTS_FILE = "weights.safetensors"
TRAINING_FILE = "training.json"
FORMAT = 1
Sha256 = Annotated[
    str,
    Predicate(lambda value: len(value) == 64 and set(value) <= set("0123456789abcdef")),
    Expected("a SHA-256 of 64 digits and letters a to f"),
]
Count = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class TrainingRecord:
    """How a fold was trained, in figures; nothing of whom it was trained on.

    Attributes
    ----------
    healthy_slices, subjects : trained on
    validation_on : "validation", or "train-sample" where nothing was held out
    device, precision, processes, batch_parts, versions : see :class:`mmccd_auto.trained.checkpoint.Checkpoint`
    """

    healthy_slices: Count | None = None
    subjects: Count | None = None
    validation_on: ShortText | None = None
    device: ShortText | None = None
    precision: ShortText | None = None
    processes: Annotated[int, Ge(1)] | None = None
    batch_parts: Annotated[int, Interval(ge=1, le=LARGEST_BATCH)] = 1
    versions: dict[ShortText, ShortText] = field(default_factory=dict)


@dataclass(frozen=True)
class PortableFold:
    """training.json: what a checkpoint says beside its weights.

    Attributes
    ----------
    format : of this file
    method, trainer, plan, configuration, fold, epoch, step : see :class:`mmccd_auto.trained.checkpoint.Checkpoint`
    checkpoint_sha256 : of the checkpoint_final.pth that the weights come from, by which calibrations, choices and maps know
        them
    weights_sha256 : of weights.safetensors
    record : how it was trained
    """

    format: Annotated[int, Interval(ge=FORMAT, le=FORMAT)]
    method: ShortText
    trainer: TrainerName
    plan: Plan
    configuration: ConfigurationName
    fold: FoldName
    epoch: Count
    step: Count
    checkpoint_sha256: Sha256
    weights_sha256: Sha256
    record: TrainingRecord


def save_portable_fold(checkpoint: Checkpoint, checkpoint_sha256: str, folder: str | Path) -> None:
    """Write the weights that predict, and how they were trained, without the names or numbers of people.

    Parameters
    ----------
    checkpoint : of a finished training
    checkpoint_sha256 : of its file
    folder : of the fold

    Raises
    ------
    MMCCDError
        If the method isn't the package's own: its networks need code, which doesn't travel.
    """
    folder = Path(folder)
    if checkpoint.method not in CYCLES:
        raise MMCCDError(
            f"the method {checkpoint.method} of {checkpoint.trainer} needs code of your own, which no model file "
            f"holds: only {', '.join(CYCLES)} can be exported."
        )
    save_weights(checkpoint.weights, folder / WEIGHTS_FILE)
    known = {one.name for one in fields(TrainingRecord)}
    record = {name: value for name, value in checkpoint.record.items() if name in known}
    description = {
        "format": FORMAT,
        **{name: getattr(checkpoint, name) for name in ("method", "trainer")},
        "plan": checkpoint.plan.to_json(),
        **{name: getattr(checkpoint, name) for name in ("configuration", "fold", "epoch", "step")},
        "checkpoint_sha256": checkpoint_sha256,
        "weights_sha256": file_sha256(folder / WEIGHTS_FILE),
        "record": record,
    }
    save_json(description, folder / TRAINING_FILE)


def load_description(folder: str | Path) -> PortableFold:
    """Read training.json.

    Raises
    ------
    MMCCDError
        If it is missing, or an entry isn't what it must be.
    """
    return read_record(PortableFold, Path(folder) / TRAINING_FILE, REMEDY)


def load_portable_fold(folder: str | Path) -> Checkpoint:
    """Read a fold as a checkpoint, without running any code that the files may hold.

    Raises
    ------
    MMCCDError
        If a file is missing or damaged, the weights are not those that training.json describes, or they don't fit the
        networks of its plan.
    """
    folder = Path(folder)
    found = load_description(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise MMCCDError(f"{path} does not exist: {REMEDY}.")
    weights = load_weights(path, planned_weights(found.method, found.plan, folder / TRAINING_FILE, found.configuration))
    if file_sha256(path) != found.weights_sha256:
        raise MMCCDError(f"{path} is not the file that {TRAINING_FILE} describes (another SHA-256): {REMEDY}.")
    record = {name: value for name, value in asdict(found.record).items() if value is not None}
    described: dict[str, Any] = {
        name: getattr(found, name) for name in ("method", "trainer", "plan", "configuration", "fold", "epoch", "step")
    }
    return Checkpoint(**described, weights=weights, raw_weights={}, record=record)


def planned_weights(method: str, plan: Plan, source: Path, configuration: str | None = None) -> dict[str, Tensor]:
    """Give the tensors that a plan's networks have, without memory for their numbers.

    Parameters
    ----------
    method : one of CYCLES
    plan : with the networks
    source : file that says both, for errors
    configuration : of the fold; None for the plan's default

    Raises
    ------
    MMCCDError
        If the method is unknown or the plan's networks can't be built.
    """
    if method not in CYCLES:
        raise MMCCDError(f"{source}: the method is {method}, but must be one of {', '.join(CYCLES)}: {REMEDY}.")
    try:
        with torch.device("meta"):
            cycle = CYCLES[method].of_plan(plan, configuration)
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise MMCCDError(f"{source}: the networks of its plan can't be built ({error}): {REMEDY}.") from error
    return cycle.state_dict()
