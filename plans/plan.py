"""The plan: everything that the later stages need, as frozen dataclasses and as plans.json."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import load_json, save_json

PLANS_FILE = "plans.json"
SLICE_AXES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class NetworkPlan:
    """The U-Net (ADM family).

    Attributes
    ----------
    base_channels : channels at full resolution
    channel_multipliers : one per level, from full resolution down
    residual_blocks : per level of the encoder (the decoder has one more)
    attention_edges : feature-map edges (px, of the longer side) at which self-attention stands
    dropout : probability
    norm_groups : groups of the group norm
    """

    base_channels: int = 32
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 3, 4)
    residual_blocks: int = 2
    attention_edges: tuple[int, ...] = (32, 16, 8)
    dropout: float = 0.1
    norm_groups: int = 16

    @property
    def divisor(self) -> int:
        """Slice edges must be multiples of this (one halving per level after the first)."""
        return 2 ** (len(self.channel_multipliers) - 1)


@dataclass(frozen=True)
class DiffusionPlan:
    """The forward model's noise schedule: T timesteps, betas linear between the ends given for T = 1000."""

    timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02


@dataclass(frozen=True)
class TrainingPlan:
    """How both networks of the cycle are trained.

    Attributes
    ----------
    batch_size : slices per iteration
    iterations_per_epoch, num_epochs : their product is the number of optimiser steps per network
    learning_rate, weight_decay : of AdamW
    ema_decay : of the running mean of the weights that inference uses
    gradient_clip : largest gradient norm per network
    seed : all randomness comes from it
    """

    batch_size: int = 32
    iterations_per_epoch: int = 250
    num_epochs: int = 400
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    ema_decay: float = 0.9999
    gradient_clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class ScorePlan:
    """How the cycle's errors become a score.

    Attributes
    ----------
    lesion_sign : "brighter" or "darker": how most lesions differ from healthy tissue in the input modality
    other_weight : of errors of the other sign, 0..1
    smoothing_mm : standard deviation of the Gaussian, in 3D
    """

    lesion_sign: str = "brighter"
    other_weight: float = 0.5
    smoothing_mm: float = 3.0


@dataclass(frozen=True)
class ConfigurationPlan:
    """One modality cycle.

    Attributes
    ----------
    input_modality : the scan that is examined (the only one needed for prediction)
    translation_modality : what the forward model makes of it
    sampling_steps : network evaluations of the forward model per strip
    strip_stride : px between the starts of two strips
    score : how errors become a score
    strips_per_pass : strips that are hidden together at most; 0 hides nothing
    """

    input_modality: str
    translation_modality: str
    sampling_steps: int
    strip_stride: int
    score: ScorePlan = ScorePlan()
    strips_per_pass: int = 1


@dataclass(frozen=True)
class CostPlan:
    """What one typical case costs at prediction, told before anything long starts.

    Attributes
    ----------
    slices : with brain in them, of a typical case
    strips_per_slice : hidden strips that touch brain, both directions, mean over the slices
    network_evaluations_per_case : forward and backward network together
    seconds_per_case : on ``device``; None where its speed isn't known
    device : in words
    """

    slices: int
    strips_per_slice: float
    network_evaluations_per_case: int
    seconds_per_case: float | None
    device: str


@dataclass(frozen=True)
class Plan:
    """A dataset's plan. A person may edit plans.json; the stages obey it.

    Attributes
    ----------
    plans_name : the folder name of what is made by this plan
    dataset_name : DatasetXXX_Name
    planner : class name
    modalities : channel names in the order of the raw dataset's channel numbers
    slice_axis : "axial", "coronal" or "sagittal"; slices are cut across it after bringing the volume to LPS
    target_spacing : mm of a pixel in the slice, the same for rows and columns
    patch_size : (rows, columns) px of the network's input
    normalisation : scheme per modality, see mmccd_auto.preprocessing.normalisation
    strip_width : px
    configurations : by name "INPUT-TRANSLATION"
    why : for each planned value one line with the figures that led to it; keys are dotted paths ("training.batch_size")
    """

    plans_name: str
    dataset_name: str
    planner: str
    modalities: tuple[str, ...]
    slice_axis: str
    target_spacing: float
    patch_size: tuple[int, int]
    normalisation: dict[str, str]
    strip_width: int
    network: NetworkPlan
    diffusion: DiffusionPlan
    training: TrainingPlan
    default_configuration: str
    configurations: dict[str, ConfigurationPlan]
    cost: dict[str, CostPlan]
    why: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise MMCCDError(f"the plan {self.plans_name} of {self.dataset_name} is not usable: {'; '.join(problems)}.")

    def configuration(self, name: str | None = None) -> ConfigurationPlan:
        """A modality cycle by name; None gives the default one."""
        name = name or self.default_configuration
        if name not in self.configurations:
            raise MMCCDError(
                f"the plan {self.plans_name} of {self.dataset_name} has no configuration {name}: "
                f"choose one of {', '.join(self.configurations)}."
            )
        return self.configurations[name]

    def channel(self, modality: str) -> int:
        """The raw dataset's channel number of a modality."""
        return self.modalities.index(modality)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "plans.json") -> Plan:
        """The inverse of :meth:`to_json`; ``source`` is named in errors."""
        return dataclass_from_json(cls, content, source)

    def save(self, path: str | Path) -> None:
        """Write plans.json."""
        save_json(self.to_json(), path)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read plans.json; raises :class:`MMCCDError` naming the file and the entry that is wrong."""
        return cls.from_json(load_json(path), str(path))


def dataclass_from_json(kind: type, content: Any, source: str) -> Any:
    """Build a (nested) dataclass from JSON content.

    Parameters
    ----------
    kind : a dataclass whose fields are plain values, tuples, dicts, optionals or dataclasses
    content : what JSON held
    source : file name for errors

    Raises
    ------
    MMCCDError
        If an entry is missing, unknown or of the wrong type.
    """
    if not isinstance(content, dict):
        raise MMCCDError(f"{source}: expected an object with the entries of {kind.__name__}.")
    fields = {item.name: item for item in dataclasses.fields(kind)}
    unknown = sorted(set(content) - set(fields))
    if unknown:
        raise MMCCDError(f"{source}: unknown entry {', '.join(unknown)}; known are {', '.join(fields)}.")
    required = {
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(content))
    if missing:
        raise MMCCDError(f"{source}: the entry {', '.join(missing)} is missing.")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _convert(hints[name], value, f"{source}: {name}") for name, value in content.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return dataclass_from_json(hint, value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(item for item in arguments if item is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise MMCCDError(f"{where} must be a list.")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], item, where) for item in value)
        if len(arguments) != len(value):
            raise MMCCDError(f"{where} must have {len(arguments)} values.")
        return tuple(_convert(item, one, where) for item, one in zip(arguments, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise MMCCDError(f"{where} must be an object.")
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise MMCCDError(f"{where} must be of type {hint.__name__}, found {value!r}.")
    return value


def _problems(plan: Plan) -> list[str]:
    """What a person may have edited into something that can't work."""
    found = []
    if plan.slice_axis not in SLICE_AXES:
        found.append(f"slice_axis {plan.slice_axis} is none of {', '.join(SLICE_AXES)}")
    if any(edge <= 0 or edge % plan.network.divisor for edge in plan.patch_size):
        found.append(f"patch_size {list(plan.patch_size)} must be multiples of {plan.network.divisor}")
    if plan.target_spacing <= 0:
        found.append(f"target_spacing {plan.target_spacing} must be above 0 mm")
    if plan.strip_width < 1:
        found.append(f"strip_width {plan.strip_width} must be at least 1 px")
    missing = sorted(set(plan.modalities) - set(plan.normalisation))
    if missing:
        found.append(f"normalisation lacks {', '.join(missing)}")
    if plan.default_configuration not in plan.configurations:
        found.append(f"default_configuration {plan.default_configuration} is not among the configurations")
    for name, configuration in plan.configurations.items():
        for modality in (configuration.input_modality, configuration.translation_modality):
            if modality not in plan.modalities:
                found.append(f"configuration {name} uses {modality}, which is no modality of the dataset")
        if not 1 <= configuration.strip_stride <= plan.strip_width:
            found.append(f"configuration {name}: strip_stride must be within 1 and strip_width")
        if configuration.strips_per_pass < 0:
            found.append(f"configuration {name}: strips_per_pass must be 1 or more, or 0 to hide nothing")
        if not 1 <= configuration.sampling_steps <= plan.diffusion.timesteps:
            found.append(f"configuration {name}: sampling_steps must be within 1 and {plan.diffusion.timesteps}")
        found += [f"configuration {name}: {problem}" for problem in _score_problems(configuration.score)]
    return found


def _score_problems(score: ScorePlan) -> list[str]:
    found = []
    if score.lesion_sign not in ("brighter", "darker"):
        found.append(f"score.lesion_sign {score.lesion_sign} must be brighter or darker")
    if not 0 <= score.other_weight <= 1:
        found.append("score.other_weight must be within 0 and 1")
    if not 0 <= score.smoothing_mm <= 50:
        found.append("score.smoothing_mm must be within 0 and 50")
    return found
