"""The plan: everything that the later stages need, as frozen dataclasses and as plans.json."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval, Len

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.names import ConfigurationName, DatasetName, ModalityName, PlansName
from mmccd_auto.core.records import dataclass_from_json, read_record

PLANS_FILE = "plans.json"
LARGEST_EDGE = 1024
LARGEST_BATCH = 4096
MOST_CHANNELS = 4096
MOST_EPOCHS = 1_000_000
MOST_ITERATIONS = 1_000_000
MOST_TIMESTEPS = 10_000
LARGEST_STRIPS_PER_PASS = 16
SPACING_LIMITS_MM = (0.05, 50.0)


SliceAxis = Literal["axial", "coronal", "sagittal"]
SLICE_AXES: tuple[SliceAxis, ...] = ("axial", "coronal", "sagittal")
Edge = Annotated[int, Interval(ge=1, le=LARGEST_EDGE)]
SamplingSteps = Annotated[int, Interval(ge=1, le=MOST_TIMESTEPS)]
StripStride = Annotated[int, Interval(ge=1, le=LARGEST_EDGE)]
LearningRateSchedule = Literal["constant", "half_cosine"]
LesionSign = Literal["brighter", "darker"]
HealthySlices = Annotated[int, Interval(ge=1, le=10_000)]
StripsPerPass = Annotated[int, Interval(ge=0, le=LARGEST_STRIPS_PER_PASS)]


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

    base_channels: Annotated[int, Interval(ge=1, le=1024)] = 32
    channel_multipliers: Annotated[tuple[Annotated[int, Interval(ge=1, le=64)], ...], Len(1, 8)] = (1, 1, 2, 3, 4)
    residual_blocks: Annotated[int, Interval(ge=1, le=16)] = 2
    attention_edges: Annotated[tuple[Annotated[int, Interval(ge=1, le=LARGEST_EDGE)], ...], Len(0, 16)] = (32, 16, 8)
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    norm_groups: Annotated[int, Interval(ge=1, le=1024)] = 16

    @property
    def divisor(self) -> int:
        """Slice edges must be multiples of this (one halving per level after the first)."""
        return 2 ** (len(self.channel_multipliers) - 1)


@dataclass(frozen=True)
class DiffusionPlan:
    """The forward model's noise schedule: T timesteps, betas linear between the ends given for T = 1000."""

    timesteps: Annotated[int, Interval(ge=1, le=MOST_TIMESTEPS)] = 1000
    beta_start: Annotated[float, Interval(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Interval(gt=0, lt=1)] = 0.02


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
    learning_rate_schedule : "constant", or "half_cosine", which falls from ``learning_rate`` to nearly 0 at the last epoch
    judgements : how often synthetic anomalies judge the training, the last epoch included; 0: never
    judged_slices : healthy slices that a judgement puts anomalies into
    """

    batch_size: Annotated[int, Interval(ge=1, le=LARGEST_BATCH)] = 32
    iterations_per_epoch: Annotated[int, Interval(ge=1, le=MOST_ITERATIONS)] = 250
    num_epochs: Annotated[int, Interval(ge=1, le=MOST_EPOCHS)] = 400
    learning_rate: Annotated[float, Interval(gt=0, le=1)] = 1e-4
    weight_decay: Annotated[float, Interval(ge=0, le=1)] = 0.0
    ema_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.9999
    gradient_clip: Annotated[float, Interval(gt=0, le=1e9)] = 1.0
    seed: int = 0
    learning_rate_schedule: LearningRateSchedule = "constant"
    judgements: Annotated[int, Interval(ge=0, le=1000)] = 10
    judged_slices: HealthySlices = 24


@dataclass(frozen=True)
class AfterTrainingPlan:
    """The work after the last epoch.

    Attributes
    ----------
    trial_slices : healthy slices that steps and strips are tried on; 0: the planned ones stay
    trial_seeds : seeds of each try
    calibration_slices : healthy slices that are calibrated on
    """

    trial_slices: Annotated[int, Interval(ge=0, le=10_000)] = 24
    trial_seeds: Annotated[int, Interval(ge=1, le=100)] = 3
    calibration_slices: HealthySlices = 96


@dataclass(frozen=True)
class BudgetPlan:
    """The time that a plan was made for, and what it is estimated to take there.

    Attributes
    ----------
    training_hours : that one fold may take, all work after the last epoch included
    rung : name of the plan's size, see mmccd_auto.plans.budget
    device : in words
    device_kind : "cpu", "cuda" or "mps"
    seconds_per_slice : of training, measured for the reference networks by name
    training_seconds, after_training_seconds : estimated for one fold
    """

    training_hours: Annotated[float, Interval(gt=0)]
    rung: str
    device: str
    device_kind: str
    seconds_per_slice: dict[str, Annotated[float, Interval(gt=0)]]
    training_seconds: Annotated[float, Ge(0)]
    after_training_seconds: Annotated[float, Ge(0)]


@dataclass(frozen=True)
class ScorePlan:
    """How the cycle's errors become a score.

    Attributes
    ----------
    lesion_sign : "brighter" or "darker": how most lesions differ from healthy tissue in the input modality
    other_weight : of errors of the other sign, 0..1
    smoothing_mm : standard deviation of the Gaussian, in 3D
    fine_smoothing_mm : of a second, narrower one: the larger of the two scores counts, each in units of its own, so that
        lesions of few pixels aren't blurred away; None smooths once
    control_weight : share of the score without a network in the combined score, a geometric mean; 0 leaves it out
    """

    lesion_sign: LesionSign = "brighter"
    other_weight: Annotated[float, Interval(ge=0, le=1)] = 0.5
    smoothing_mm: Annotated[float, Interval(ge=0, le=50)] = 3.0
    fine_smoothing_mm: Annotated[float, Interval(ge=0, le=50)] | None = None
    control_weight: Annotated[float, Interval(ge=0, le=1)] = 0.0


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

    input_modality: ModalityName
    translation_modality: ModalityName
    sampling_steps: SamplingSteps
    strip_stride: StripStride
    score: ScorePlan = ScorePlan()
    strips_per_pass: StripsPerPass = 1


@dataclass(frozen=True)
class CostPlan:
    """What one typical case costs at prediction, shown before anything long starts.

    Attributes
    ----------
    slices : with brain in them, of a typical case
    strips_per_slice : hidden strips that touch brain, both directions, mean over the slices
    network_evaluations_per_case : forward and backward network together
    seconds_per_case : on ``device``; None where its speed isn't known
    device : in words
    """

    slices: Annotated[int, Ge(0)]
    strips_per_slice: Annotated[float, Ge(0)]
    network_evaluations_per_case: Annotated[int, Ge(0)]
    seconds_per_case: Annotated[float, Ge(0)] | None
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
    after_training : choice of steps, and calibration
    budget : what the plan was fitted to; None where it was planned without a look at the machine
    why : for each planned value one line with the figures that led to it; keys are dotted paths ("training.batch_size")
    """

    plans_name: PlansName
    dataset_name: DatasetName
    planner: str
    modalities: Annotated[tuple[ModalityName, ...], Len(1, 64)]
    slice_axis: SliceAxis
    target_spacing: Annotated[float, Interval(ge=SPACING_LIMITS_MM[0], le=SPACING_LIMITS_MM[1])]
    patch_size: tuple[Edge, Edge]
    normalisation: dict[str, str]
    strip_width: Edge
    network: NetworkPlan
    diffusion: DiffusionPlan
    training: TrainingPlan
    default_configuration: ConfigurationName
    configurations: Annotated[dict[ConfigurationName, ConfigurationPlan], Len(1)]
    cost: dict[str, CostPlan]
    why: dict[str, str] = field(default_factory=dict)
    after_training: AfterTrainingPlan = AfterTrainingPlan()
    budget: BudgetPlan | None = None

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise MMCCDError(f"the plan {self.plans_name} of {self.dataset_name} is not usable: {'; '.join(problems)}.")

    def configuration(self, name: str | None = None) -> ConfigurationPlan:
        """Find a modality cycle by name; None gives the default one."""
        name = name or self.default_configuration
        if name not in self.configurations:
            raise MMCCDError(
                f"the plan {self.plans_name} of {self.dataset_name} has no configuration {name}: "
                f"choose one of {', '.join(self.configurations)}."
            )
        return self.configurations[name]

    def channel(self, modality: str) -> int:
        """Compute the raw dataset's channel number of a modality."""
        return self.modalities.index(modality)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any], source: str = "plans.json") -> Plan:
        """Return the inverse of :meth:`to_json`; ``source`` is named in errors."""
        return dataclass_from_json(cls, content, source)

    def save(self, path: str | Path) -> None:
        """Write plans.json."""
        save_json(self.to_json(), path)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read plans.json; raises :class:`MMCCDError` naming the file and the entry that is wrong."""
        return read_record(cls, path)


def _problems(plan: Plan) -> list[str]:
    """Describe what a person may have edited into something that can't work."""
    found = []
    if plan.slice_axis not in SLICE_AXES:
        found.append(f"slice_axis {plan.slice_axis} is none of {', '.join(SLICE_AXES)}")
    found += _network_problems(plan)
    if plan.target_spacing <= 0:
        found.append(f"target_spacing {plan.target_spacing} must be above 0 mm")
    if plan.strip_width < 1:
        found.append(f"strip_width {plan.strip_width} must be at least 1 px")
    if plan.strip_width > max(plan.patch_size):
        found.append(
            f"strip_width {plan.strip_width} must be at most {max(plan.patch_size)} px, the longer edge of patch_size"
        )
    missing = sorted(set(plan.modalities) - set(plan.normalisation))
    if missing:
        found.append(f"normalisation lacks {', '.join(missing)}")
    if plan.default_configuration not in plan.configurations:
        found.append(f"default_configuration {plan.default_configuration} is not among the configurations")
    for name, configuration in plan.configurations.items():
        found += [f"configuration {name}{problem}" for problem in _configuration_problems(plan, configuration)]
    return found


def _network_problems(plan: Plan) -> list[str]:
    found, network = [], plan.network
    if any(edge <= 0 or edge % network.divisor for edge in plan.patch_size):
        found.append(f"patch_size {list(plan.patch_size)} must be multiples of {network.divisor}")
    if network.base_channels % 2:
        found.append(f"network.base_channels {network.base_channels} must be even")
    if network.base_channels * max(network.channel_multipliers, default=1) > MOST_CHANNELS:
        found.append(f"network.base_channels times the largest of channel_multipliers must be at most {MOST_CHANNELS}")
    return found


def _configuration_problems(plan: Plan, configuration: ConfigurationPlan) -> list[str]:
    """List what is wrong with a configuration, as ends of a sentence that begins with its name."""
    found = []
    for modality in (configuration.input_modality, configuration.translation_modality):
        if modality not in plan.modalities:
            found.append(f" uses {modality}, which is no modality of the dataset")
    if not 1 <= configuration.strip_stride <= plan.strip_width:
        found.append(": strip_stride must be within 1 and strip_width")
    if configuration.strips_per_pass < 0:
        found.append(": strips_per_pass must be 1 or more, or 0 to hide nothing")
    if not 1 <= configuration.sampling_steps <= plan.diffusion.timesteps:
        found.append(f": sampling_steps must be within 1 and {plan.diffusion.timesteps}")
    return found + [f": {problem}" for problem in _score_problems(configuration.score)]


def _score_problems(score: ScorePlan) -> list[str]:
    found = []
    if score.lesion_sign not in ("brighter", "darker"):
        found.append(f"score.lesion_sign {score.lesion_sign} must be brighter or darker")
    if not 0 <= score.other_weight <= 1:
        found.append("score.other_weight must be within 0 and 1")
    if not 0 <= score.smoothing_mm <= 50:
        found.append("score.smoothing_mm must be within 0 and 50")
    if score.fine_smoothing_mm is not None and not 0 <= score.fine_smoothing_mm <= 50:
        found.append("score.fine_smoothing_mm must be within 0 and 50, or null")
    if not 0 <= score.control_weight <= 1:
        found.append("score.control_weight must be within 0 and 1")
    return found
