"""How maps are made: the presets and what a user may change of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mmccd_auto.errors import MMCCDError
from mmccd_auto.model.cycle import SamplingSettings
from mmccd_auto.plans.plan import Plan

PRESETS = ("plan", "fast", "paper")
PAPER_STEPS = 100
PAPER_STARTS_PER_STRIP_WIDTH = 8
FAST_STEPS = 5
FAST_STARTS_PER_STRIP_WIDTH = 2
BATCH_PER_TRAINING_BATCH = 2


@dataclass(frozen=True)
class InferenceSettings:
    """Everything that decides what a map looks like, and the batch size, which does not.

    Attributes
    ----------
    preset : name of the preset that these settings come from
    sampling : diffusion steps and noise
    strip_width : px
    strip_stride : px between the starts of two strips
    coverage : "even" (every pixel is hidden equally often) or "published" (starts 0, stride, 2 stride, ...)
    batch_size : (slice, tile, strip) items in one network evaluation
    seed : all noise comes from it together with the case, slice and strip
    """

    preset: str
    sampling: SamplingSettings
    strip_width: int
    strip_stride: int
    coverage: str
    batch_size: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """A flat dictionary of what decides the map (the batch size is left out: it changes nothing)."""
        return {
            "preset": self.preset,
            **asdict(self.sampling),
            "strip_width": self.strip_width,
            "strip_stride": self.strip_stride,
            "coverage": self.coverage,
            "seed": self.seed,
        }


def make_settings(
    plan: Plan,
    configuration: str | None = None,
    preset: str = "plan",
    sampling_steps: int | None = None,
    strip_stride: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> InferenceSettings:
    """The settings of a preset, with a user's own values put in.

    Parameters
    ----------
    plan : gives the strip width, the planned steps and stride, and the seed
    configuration : modality cycle; None takes the plan's default
    preset : "plan" (as planned), "fast" (5 steps, every pixel hidden twice per direction, never slower than the plan)
        or "paper" (arXiv 2308.16150: 100 steps 990, 980, ..., 0, stride one eighth of the strip width, y_T shared by all
        strips of a slice, condition noise redrawn at every step)
    sampling_steps, strip_stride, batch_size, seed : instead of the preset's

    Raises
    ------
    MMCCDError
        If the preset is unknown or a value is out of range.
    """
    cycle = plan.configuration(configuration)
    if preset == "plan":
        sampling, stride, coverage = _even_sampling(cycle.sampling_steps), cycle.strip_stride, "even"
    elif preset == "fast":
        sampling = _even_sampling(min(FAST_STEPS, cycle.sampling_steps))
        stride, coverage = max(cycle.strip_stride, plan.strip_width // FAST_STARTS_PER_STRIP_WIDTH), "even"
    elif preset == "paper":
        steps = min(PAPER_STEPS, plan.diffusion.timesteps)
        sampling = SamplingSettings(steps, "leading", share_initial_noise=True, redraw_condition_noise=True)
        stride, coverage = max(1, plan.strip_width // PAPER_STARTS_PER_STRIP_WIDTH), "published"
    else:
        raise MMCCDError(f"there is no preset {preset}: choose one of {', '.join(PRESETS)}.")
    if sampling_steps is not None:
        sampling = replace(sampling, steps=_within("sampling_steps", sampling_steps, 1, plan.diffusion.timesteps))
    if strip_stride is not None:
        stride = _within("strip_stride", strip_stride, 1, plan.strip_width)
    if batch_size is None:
        batch_size = BATCH_PER_TRAINING_BATCH * plan.training.batch_size
    return InferenceSettings(
        preset=preset,
        sampling=sampling,
        strip_width=plan.strip_width,
        strip_stride=stride,
        coverage=coverage,
        batch_size=_within("batch_size", batch_size, 1, 65536),
        seed=plan.training.seed if seed is None else seed,
    )


def _even_sampling(steps: int) -> SamplingSettings:
    return SamplingSettings(steps, "trailing", share_initial_noise=False, redraw_condition_noise=False)


def _within(name: str, value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise MMCCDError(f"{name} {value} is out of range: give a whole number from {lowest} to {highest}.")
    return value
