"""How maps are made: the presets and what a user may change of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.options import AS_PLANNED, MOST_FITS, PRESETS, MapOptions
from mmccd_auto.model.cycle import SamplingSettings
from mmccd_auto.model.strip_masks import Coverage
from mmccd_auto.plans.plan import LARGEST_STRIPS_PER_PASS, Plan

PAPER_STEPS = 100
PAPER_STARTS_PER_STRIP_WIDTH = 8
FAST_STRIPS_PER_PASS = 2
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
    strips_per_pass : that are hidden together at most, see :func:`mmccd_auto.model.strip_masks.group_strips`; 0 hides
        nothing, and the whole slice counts
    coverage : "even" (every pixel is hidden equally often) or "published" (starts 0, stride, 2 stride, ...)
    batch_size : (slice, tile, strips) items in one network evaluation
    seed : all noise comes from it together with the slice's number, the tile and the strip
    fits : of the scan's bias field and intensity scale: 1, or 2, the second without what a first look marks, see
        mmccd_auto.inference.scores.second_fit
    """

    preset: str
    sampling: SamplingSettings
    strip_width: int
    strip_stride: int
    strips_per_pass: int
    coverage: Coverage
    batch_size: int
    seed: int
    fits: int

    def to_json(self) -> dict[str, Any]:
        """Return a flat dictionary of what decides the map (the batch size is left out: it changes nothing)."""
        return {
            "preset": self.preset,
            **asdict(self.sampling),
            "strip_width": self.strip_width,
            "strip_stride": self.strip_stride,
            "strips_per_pass": self.strips_per_pass,
            "coverage": self.coverage,
            "seed": self.seed,
            "fits": self.fits,
        }


def make_settings(
    plan: Plan,
    configuration: str | None = None,
    options: MapOptions = AS_PLANNED,
    seed: int | None = None,
) -> InferenceSettings:
    """Make the settings of a preset, with a user's own values put in.

    Parameters
    ----------
    plan : gives the strip width, the planned steps, stride and strips per pass, and the seed
    configuration : modality cycle; None takes the plan's default
    options : the preset, and what replaces its values:

        - "balanced": as planned, or as was chosen by experiment after the training, which is put into the plan
        - "fast": one step, strips side by side, two of them at once; never slower than "balanced"
        - "paper" (arXiv 2308.16150): 100 steps 990, 980, ..., 0, stride one eighth of the strip width, y_T shared by all
          strips of a slice, condition noise redrawn at every step, one fit of the intensities
        - "cyclic": one step and nothing hidden, two network evaluations a slice, as the paper's Cyclic U-Net
    seed : instead of the plan's

    Raises
    ------
    MMCCDError
        If the preset is unknown or a value is out of range.
    """
    settings = _preset(plan, configuration, options.preset)
    if options.sampling_steps is not None:
        steps = _within("sampling_steps", options.sampling_steps, 1, plan.diffusion.timesteps)
        settings = replace(settings, sampling=replace(settings.sampling, steps=steps))
    limits = {
        "strip_stride": (1, plan.strip_width),
        "strips_per_pass": (0, LARGEST_STRIPS_PER_PASS),
        "batch_size": (1, 65536),
        "fits": (1, MOST_FITS),
    }
    given = {name: getattr(options, name) for name in limits}
    changed: dict[str, Any] = {
        name: _within(name, value, *limits[name]) for name, value in given.items() if value is not None
    }
    return replace(settings, **changed, seed=plan.training.seed if seed is None else seed)


def _preset(plan: Plan, configuration: str | None, preset: str) -> InferenceSettings:
    """Return the settings of a preset as it is."""
    cycle = plan.configuration(configuration)
    sampling = _even_sampling(cycle.sampling_steps)
    coverage: Coverage = "even"
    stride, together = cycle.strip_stride, cycle.strips_per_pass
    if preset == "fast":
        sampling, stride = _even_sampling(1), plan.strip_width
        together = max(FAST_STRIPS_PER_PASS, together)
    elif preset == "paper":
        steps = min(PAPER_STEPS, plan.diffusion.timesteps)
        sampling = SamplingSettings(steps, "leading", share_initial_noise=True, redraw_condition_noise=True)
        stride, coverage, together = max(1, plan.strip_width // PAPER_STARTS_PER_STRIP_WIDTH), "published", 1
    elif preset == "cyclic":
        sampling, together = _even_sampling(1), 0
    elif preset != "balanced":
        raise MMCCDError(f"there is no preset {preset}: choose one of {', '.join(PRESETS)}.")
    return InferenceSettings(
        preset=preset,
        sampling=sampling,
        strip_width=plan.strip_width,
        strip_stride=stride,
        strips_per_pass=together,
        coverage=coverage,
        batch_size=BATCH_PER_TRAINING_BATCH * plan.training.batch_size,
        seed=plan.training.seed,
        fits=1 if preset == "paper" else MOST_FITS,
    )


def _even_sampling(steps: int) -> SamplingSettings:
    return SamplingSettings(steps, "trailing", share_initial_noise=False, redraw_condition_noise=False)


def _within(name: str, value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise MMCCDError(f"{name} {value} is out of range: give a whole number from {lowest} to {highest}.")
    return value
