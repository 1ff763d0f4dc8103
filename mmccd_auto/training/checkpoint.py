"""Checkpoints: tensors and one JSON text, so that reading one can't run code."""

from __future__ import annotations

import json
import pickle
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import atomic_path
from mmccd_auto.model.cycle import CYCLES
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.plans.plan import Plan

CHECKPOINT_FINAL = "checkpoint_final.pth"
CHECKPOINT_BEST = "checkpoint_best.pth"
CHECKPOINT_LATEST = "checkpoint_latest.pth"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained cycle, or one in training.

    Attributes
    ----------
    method : name of the cycle or other reconstructor, "mmccd", "cyclic_unet" or "dae"
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
        """The trained cycle in evaluation mode.

        Parameters
        ----------
        device : to put it on
        cycle_class : needed only for a method that isn't the package's own; see
            :func:`mmccd_auto.training.find_trainer.cycle_class_of`
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
        cycle = cycle_class(self.plan.network, self.plan.diffusion, self.plan.strip_width, self.plan.patch_size)
        try:
            cycle.load_state_dict(self.raw_weights if raw else self.weights)
        except RuntimeError as error:
            raise MMCCDError(
                f"the weights of {self.trainer}, fold {self.fold}, do not fit the networks of its plan "
                f"{self.plan.plans_name}: train anew."
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
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        metadata = json.loads(content.pop("metadata"))
        if metadata.pop("format") != FORMAT:
            raise MMCCDError(f"{path} was written by another version of this package: train anew, or use that version.")
        plan = Plan.from_json(metadata.pop("plan"), str(path))
        return Checkpoint(plan=plan, **metadata, **content)
    except (RuntimeError, pickle.UnpicklingError, EOFError, BadZipFile, OSError) as error:
        raise MMCCDError(f"{path} is damaged or not a checkpoint: copy it again, or train anew.") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise MMCCDError(
            f"{path} is not a checkpoint of this package: give a {CHECKPOINT_FINAL} that mmccd_train made."
        ) from error


def software_versions() -> dict[str, str]:
    """Versions of what a training depends on."""
    found = {"python": platform.python_version()}
    for package in ("mmccd_auto", "torch", "numpy", "batchgenerators"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
