"""What was chosen for a trained model without labels: inference.json, which prediction obeys before plans.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import load_json, save_json
from mmccd_auto.plans.plan import PLANS_FILE, Plan, ScorePlan, dataclass_from_json
from mmccd_auto.training.fold_folder import INFERENCE_FILE
from mmccd_auto.training.model_folder import ModelFolder


@dataclass(frozen=True)
class TriedRung:
    """A line of inference.json's table.

    Attributes
    ----------
    sampling_steps, strip_stride, strips_per_pass : that were tried
    auprc : of synthetic anomalies in healthy slices, mean over the seeds; of the best score that was tried with it
    by_seed : of each seed of the noise
    evaluations_per_slice : network evaluations, mean over the healthy slices
    """

    sampling_steps: int
    strip_stride: int
    strips_per_pass: int
    auprc: float
    by_seed: tuple[float, ...]
    evaluations_per_slice: float


@dataclass(frozen=True)
class InferenceChoice:
    """inference.json.

    Attributes
    ----------
    sampling_steps, strip_stride, score : instead of the plan's
    why : in words, with figures
    strips_per_pass : instead of the plan's
    tried : what it was chosen from
    """

    sampling_steps: int
    strip_stride: int
    score: ScorePlan
    why: str
    strips_per_pass: int = 1
    tried: tuple[TriedRung, ...] = ()

    def save(self, model: ModelFolder) -> Path:
        """Write MODEL/inference.json."""
        path = model.path / INFERENCE_FILE
        save_json(asdict(self), path)
        return path


def load_choice(model: ModelFolder) -> InferenceChoice | None:
    """The choice for a model; None where none was made.

    Raises
    ------
    MMCCDError
        If inference.json is broken; the message names the entry.
    """
    path = model.path / INFERENCE_FILE
    return dataclass_from_json(InferenceChoice, load_json(path), str(path)) if path.is_file() else None


def chosen_plan(model: ModelFolder) -> Plan:
    """The model's plan, with what inference.json says put into its configuration."""
    choice = load_choice(model)
    if choice is None:
        return model.plan
    try:
        return with_choice(model.plan, model.configuration, choice)
    except MMCCDError as error:
        path = model.path / INFERENCE_FILE
        raise MMCCDError(f"{path} does not fit {PLANS_FILE} ({error}): run mmccd_find_best_configuration again.") from error


def with_choice(plan: Plan, configuration: str, choice: InferenceChoice) -> Plan:
    """A plan whose ``configuration`` has the steps, strips and score of ``choice``."""
    changed = replace(
        plan.configuration(configuration),
        sampling_steps=choice.sampling_steps,
        strip_stride=choice.strip_stride,
        strips_per_pass=choice.strips_per_pass,
        score=choice.score,
    )
    return replace(plan, configurations={**plan.configurations, configuration: changed})
