"""What was chosen for a trained model without labels: inference.json, which prediction obeys before plans.json."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval, Predicate

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json, save_json_once
from mmccd_auto.core.names import is_fold
from mmccd_auto.core.records import Expected, read_record
from mmccd_auto.plans.plan import (
    PLANS_FILE,
    ConfigurationPlan,
    Plan,
    SamplingSteps,
    ScorePlan,
    StripsPerPass,
    StripStride,
)
from mmccd_auto.trained.model_folder import INFERENCE_FILE, ModelFolder

Share = Annotated[float, Interval(ge=0, le=1)]
ChoiceFold = Annotated[
    str, Predicate(lambda value: not value or is_fold(value)), Expected('a fold ("0", "1", ..., "all") or ""')
]
REMEDY = "choose again with mmccd_find_best_configuration, or remove the file"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TriedRung:
    """A line of inference.json's table.

    Attributes
    ----------
    sampling_steps, strip_stride, strips_per_pass : that were tried
    auprc : of synthetic anomalies in healthy slices, mean over the seeds; of the best score that was tried with it
    by_seed : of each seed, of the noise and of the anomalies; fewer where it was given up early
    evaluations_per_slice : network evaluations, mean over the healthy slices
    difference : in AUPRC to the chosen line, mean over the anomalies that both were tried on; None for the chosen one, and
        where it can't be told
    interval : of the difference; the intervals of all lines hold together with 95 %
    given_up : why it wasn't tried on all seeds; empty where it was
    """

    sampling_steps: SamplingSteps
    strip_stride: StripStride
    strips_per_pass: StripsPerPass
    auprc: Share
    by_seed: tuple[Share, ...]
    evaluations_per_slice: Annotated[float, Ge(0)]
    difference: Annotated[float, Interval(ge=-1, le=1)] | None = None
    interval: tuple[float, float] | None = None
    given_up: str = ""


@dataclass(frozen=True)
class PlannedInference:
    """What plans.json said when something else was chosen; where it says something else by now, a person has edited it.

    Attributes
    ----------
    sampling_steps, strip_stride, strips_per_pass, score : of the configuration
    """

    sampling_steps: SamplingSteps
    strip_stride: StripStride
    strips_per_pass: StripsPerPass
    score: ScorePlan

    @classmethod
    def of(cls, configuration: ConfigurationPlan) -> PlannedInference:
        """Return what a plan's configuration says."""
        return cls(
            configuration.sampling_steps, configuration.strip_stride, configuration.strips_per_pass, configuration.score
        )


@dataclass(frozen=True)
class InferenceChoice:
    """inference.json.

    Attributes
    ----------
    sampling_steps, strip_stride, score : instead of the plan's
    why : in words, with figures
    strips_per_pass : instead of the plan's
    tried : what it was chosen from
    planned : what the plan said then; None: not known, the choice is obeyed whatever the plan says
    fold, source : whose healthy slices it was chosen on, and what they are to it: "healthy validation slices" or "healthy
        training slices"
    weights_sha256 : of that fold's checkpoint, where the choice was made at the end of its training
    """

    sampling_steps: SamplingSteps
    strip_stride: StripStride
    score: ScorePlan
    why: str
    strips_per_pass: StripsPerPass = 1
    tried: tuple[TriedRung, ...] = ()
    planned: PlannedInference | None = None
    fold: ChoiceFold = ""
    source: str = ""
    weights_sha256: str = ""

    def save(self, model: ModelFolder) -> Path:
        """Write MODEL/inference.json."""
        path = model.path / INFERENCE_FILE
        save_json(asdict(self), path)
        return path

    def save_unless_chosen(self, model: ModelFolder) -> bool:
        """Write MODEL/inference.json where there is none: of folds that are trained at the same time, the first one chooses.

        Returns
        -------
        whether it was written
        """
        return save_json_once(asdict(self), model.path / INFERENCE_FILE)


def load_choice(model: ModelFolder) -> InferenceChoice | None:
    """Load the choice for a model; None where none was made.

    Raises
    ------
    MMCCDError
        If inference.json is broken; the message names the entry.
    """
    path = model.path / INFERENCE_FILE
    return read_record(InferenceChoice, path, REMEDY) if path.is_file() else None


def chosen_plan(model: ModelFolder) -> Plan:
    """Return the model's plan with what inference.json says put into its configuration.

    Unless plans.json was edited since.
    """
    choice = load_choice(model)
    if choice is None:
        return model.plan
    try:
        return with_choice(model.plan, model.configuration, _without_edited(choice, model))
    except MMCCDError as error:
        path = model.path / INFERENCE_FILE
        raise MMCCDError(f"{path} does not fit {PLANS_FILE} ({error}): run mmccd_find_best_configuration again.") from error


def with_choice(plan: Plan, configuration: str, choice: InferenceChoice) -> Plan:
    """Return a plan whose ``configuration`` has the steps, strips and score of ``choice``."""
    changed = replace(
        plan.configuration(configuration),
        sampling_steps=choice.sampling_steps,
        strip_stride=choice.strip_stride,
        strips_per_pass=choice.strips_per_pass,
        score=choice.score,
    )
    return replace(plan, configurations={**plan.configurations, configuration: changed})


def _without_edited(choice: InferenceChoice, model: ModelFolder) -> InferenceChoice:
    """Return the choice with the plan's own values where a person has edited them.

    The score, and steps and strips, which were chosen together.
    """
    if choice.planned is None:
        return choice
    before, now = choice.planned, PlannedInference.of(model.plan.configuration(model.configuration))
    edited = []
    if replace(before, score=now.score) != now:
        edited.append("steps and strips")
        choice = replace(
            choice,
            sampling_steps=now.sampling_steps,
            strip_stride=now.strip_stride,
            strips_per_pass=now.strips_per_pass,
        )
    if before.score != now.score:
        edited.append("score")
        choice = replace(choice, score=now.score)
    if edited:
        _tell_once(
            f"{model.path / PLANS_FILE} was edited after {INFERENCE_FILE} had been chosen: what it says of "
            f"{' and '.join(edited)} counts. Run mmccd_calibrate if you haven't since."
        )
    return choice


@lru_cache
def _tell_once(message: str) -> None:
    """Log a message once: a command asks for a model's plan several times."""
    logger.warning(message)
