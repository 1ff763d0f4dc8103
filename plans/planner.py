"""The planner: from a dataset's fingerprint and a device to a Plan, each decision a small method with its reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import in_words
from mmccd_auto.plans import cost, rules
from mmccd_auto.plans.cost import DeviceSpeed
from mmccd_auto.plans.evidence import Evidence
from mmccd_auto.plans.fingerprint import DatasetFingerprint
from mmccd_auto.plans.options import PLAIN, PlannerOptions
from mmccd_auto.plans.plan import (
    SLICE_AXES,
    AfterTrainingPlan,
    ConfigurationPlan,
    CostPlan,
    DiffusionPlan,
    NetworkPlan,
    Plan,
    ScorePlan,
    SliceAxis,
    TrainingPlan,
)
from mmccd_auto.plans.rules import LADDER, RESOLUTIONS, Rung

Patch = tuple[int, int]
Decision = TypeVar("Decision")


@dataclass(frozen=True)
class Grid:
    """On what slices are cut: the axis, mm per pixel, and the network's input (rows, columns px)."""

    slice_axis: SliceAxis
    spacing: float
    patch: Patch


class MMCCDPlanner:
    """Plans a dataset by the rules of documentation/planning.md.

    A subclass overrides one of the ``decide_...`` methods, which return a value and its ``why`` in plans.json.

    Parameters
    ----------
    fingerprint : of the dataset
    dataset_name : DatasetXXX_Name
    modalities : channel names in channel order
    device_speed : of the planned network on the device that will predict, or a function that gives it; None: unknown, then
        time limits nothing. Not timed (:func:`cost.usual_device_speed`): a plan must not depend on what else a machine does
    options : memory, resolution, spacing and time

    Raises
    ------
    MMCCDError
        If the fingerprint holds no case.
    """

    margin = 1.05
    strip_width_mm = 30.0
    spacing_limits = (0.5, 2.0)
    smallest_edge = 64
    default_memory_gb = 8.0
    batch_limits = (4, 64)
    samples_seen = 3_200_000
    iterations_per_epoch = 250
    steps_per_correlation_length = 10
    smoothing_mm = 4.0
    fine_smoothing_mm = 1.0

    def __init__(
        self,
        fingerprint: DatasetFingerprint,
        dataset_name: str,
        modalities: tuple[str, ...],
        device_speed: DeviceSpeed | Callable[[NetworkPlan, Patch], DeviceSpeed] | None = None,
        options: PlannerOptions = PLAIN,
    ) -> None:
        if not fingerprint.cases:
            raise MMCCDError(f"the fingerprint of {dataset_name} holds no case: nothing can be planned.")
        self.fingerprint = fingerprint
        self.evidence = Evidence(fingerprint)
        self.dataset_name = dataset_name
        self.modalities = tuple(modalities)
        self.memory_gb = options.memory_budget_gb or self.default_memory_gb
        self.memory_known = options.memory_budget_gb is not None
        self.device_speed = device_speed
        self.resolution, self.given_spacing = options.resolution, options.target_spacing
        self.time_budget_minutes = options.time_budget_minutes

    def plan(self) -> Plan:
        """Take every decision and gather the plan.

        Raises
        ------
        MMCCDError
            If no case has two modalities, there is no healthy slice, or the smallest network exceeds the memory.
        """
        why: dict[str, str] = {}

        def keep(key: str, decision: tuple[Decision, str]) -> Decision:
            value, why[key] = decision
            return value

        pairs = keep("configurations", self.decide_cycles())
        default = keep("default_configuration", self.decide_default_cycle(pairs))
        slice_axis = keep("slice_axis", self.decide_slice_axis())
        largest_edge, spacing, patch, network = self._fit_into_memory(slice_axis, why)
        healthy = self.evidence.healthy_slices(slice_axis, *pairs[default])
        if not healthy:
            raise MMCCDError(
                f"{self.dataset_name} has no healthy slice with both modalities of {default}, so there is nothing to learn "
                "from: add scans of healthy people."
            )
        batch = keep("training.batch_size", self.decide_batch_size(network, patch, largest_edge, healthy))
        speed = self.device_speed(network, patch) if callable(self.device_speed) else self.device_speed
        grid = Grid(slice_axis, spacing, patch)
        wanted = {name: self.decide_wanted_steps(pair, slice_axis) for name, pair in pairs.items()}
        times_hidden = self.decide_rung(grid, wanted[default][0], speed, LADDER)[0].times_hidden
        width, stride = keep("strip_width", self.decide_strips(spacing, times_hidden))
        rungs = tuple(rung for rung in LADDER if rung.times_hidden == times_hidden)
        configurations, costs = {}, {}
        for name, pair in pairs.items():
            rung, reason = self.decide_rung(grid, wanted[name][0], speed, rungs)
            why[f"configurations.{name}.sampling_steps"] = f"{reason}; {wanted[name][1]}"
            why[f"configurations.{name}.strip_stride"] = f"{width} px / {width // stride}: see strip_width"
            score = keep(f"configurations.{name}.score", self.decide_score(pair))
            configurations[name] = ConfigurationPlan(*pair, rung.steps, stride, score)
            costs[name] = keep(f"cost.{name}", self.estimate_cost(grid, width, configurations[name], speed))
        return Plan(
            plans_name=keep("plans_name", self.decide_plans_name(slice_axis, spacing)),
            dataset_name=self.dataset_name,
            planner=type(self).__name__,
            modalities=self.modalities,
            slice_axis=slice_axis,
            target_spacing=spacing,
            patch_size=patch,
            normalisation={name: keep(f"normalisation.{name}", self.decide_normalisation(name)) for name in self.modalities},
            strip_width=width,
            network=network,
            diffusion=keep("diffusion", self.decide_diffusion()),
            training=keep("training", self.decide_training(batch, speed)),
            default_configuration=default,
            configurations=configurations,
            cost=costs,
            after_training=keep("after_training", self.decide_after_training()),
            why=why | {"budget": "none: planned without a look at the machine's speed"},
        )

    def decide_plans_name(self, slice_axis: str, spacing: float) -> tuple[str, str]:
        """Decide on the name of the plan, and whether a finer one would be worth while."""
        resolution = RESOLUTIONS[self.resolution]
        why = f"resolution {self.resolution}: patch edges up to {resolution.largest_edge} px"
        native = self.evidence.native_spacing(slice_axis)
        if self.resolution == "standard" and native < 0.75 * spacing:
            why += (
                f"; the scans' own {native:.3g} mm are finer than 0.75 x {spacing:.3g} mm: resolution fullres "
                f"({RESOLUTIONS['fullres'].plans_name}) is worth its cost where there is a large GPU"
            )
        return resolution.plans_name, why

    def decide_slice_axis(self) -> tuple[SliceAxis, str]:
        """Decide on the axis of most cases' coarsest spacing; axial where it's a draw."""
        votes = Counter(case.slice_axis for case in self.evidence.cases)
        axis = max(SLICE_AXES, key=lambda name: votes[name])
        return axis, (
            f"{votes[axis]} of {len(self.evidence.cases)} cases: the coarsest axis where it is > 1.5 x the finest, else "
            "axial (slices must be the high-resolution plane)"
        )

    def decide_target_spacing(self, slice_axis: str, largest_edge: int) -> tuple[float, str]:
        """Decide on the pixel size (mm).

        The median in-plane spacing, coarser where the brain would not fit into one patch.
        """
        if self.given_spacing is not None:
            return float(self.given_spacing), "given by the user"
        native, extent = self.evidence.native_spacing(slice_axis), max(self.evidence.brain_extent(slice_axis))
        fitting = self.margin * extent / largest_edge
        low, high = self.spacing_limits
        high = max(high, high * RESOLUTIONS["standard"].largest_edge / largest_edge)
        spacing = math.ceil(min(high, max(low, native, fitting)) * 1000 - 1e-6) / 1000
        return spacing, (
            f"max(median in-plane spacing {native:.3g} mm, {self.margin} x 99th percentile of the brain box "
            f"{extent:.0f} mm / {largest_edge} px = {fitting:.3g} mm), within {low:g} and {high:.3g} mm"
        )

    def decide_network(
        self, slice_axis: str, spacing: float, largest_edge: int
    ) -> tuple[NetworkPlan, Patch, dict[str, str]]:
        """Decide on the U-Net and the patch, which depend on one another, and the why of both."""
        low = min(self.smallest_edge, largest_edge // 2)
        box = self.evidence.brain_extent(slice_axis)
        rows, columns = (min(largest_edge, max(low, self.margin * edge / spacing)) for edge in box)
        levels = rules.network_levels((rows, columns))
        patch = rules.rounded_up(rows, 2 ** (levels - 1)), rules.rounded_up(columns, 2 ** (levels - 1))
        network = NetworkPlan(
            channel_multipliers=rules.MULTIPLIERS[levels], attention_edges=rules.attention_edges(patch, levels)
        )
        fixed = ("base_channels", "residual_blocks", "dropout", "norm_groups")
        why = {f"network.{name}": "fixed: the paper's" for name in fixed}
        why["patch_size"] = (
            f"{self.margin} x brain box {box[0]:.0f} x {box[1]:.0f} mm (rows x columns, 99th percentile of "
            f"{len(self.evidence.cases)} cases) / {spacing:g} mm, within {low} and {largest_edge} px, rounded up to the "
            f"network's divisor {network.divisor}"
        )
        why["network.channel_multipliers"] = (
            f"{levels} levels: the most (of 3 to 6) that leave at least 8 px of the longer and 4 px of the shorter edge at "
            f"the bottom ({patch[0] >> levels - 1} x {patch[1] >> levels - 1} px)"
        )
        why["network.attention_edges"] = (
            f"levels whose longer edge is at most {rules.LARGEST_ATTENTION_EDGE} px, as in the paper"
        )
        return network, patch, why

    def decide_batch_size(self, network: NetworkPlan, patch: Patch, largest_edge: int, healthy: int) -> tuple[int, str]:
        """Decide on the slices per iteration: what fits into the memory, in fours.

        The least where the patch had to shrink already.
        """
        least, most = self.batch_limits
        wanted = RESOLUTIONS[self.resolution].largest_edge
        per_four = cost.training_memory_gb(network, patch, 4) - cost.training_memory_gb(network, patch, 0)
        fitting = 4 * int((self.memory_gb - cost.training_memory_gb(network, patch, 0)) / per_four)
        batch = least if largest_edge < wanted else max(least, min(most, fitting))
        batch = max(1, min(batch, healthy))
        return batch, (
            f"an estimated {cost.training_memory_gb(network, patch, batch):.1f} of {self._memory()} for both networks, "
            f"within {least} and {most}, not more than the {healthy} slices without abnormality"
        )

    def decide_training(self, batch_size: int, speed: DeviceSpeed | None) -> tuple[TrainingPlan, str]:
        """Decide on epochs: as many as show 3.2 million slices."""
        epochs = math.ceil(self.samples_seen / (self.iterations_per_epoch * batch_size))
        why = (
            f"{epochs} epochs x {self.iterations_per_epoch} iterations x {batch_size} slices: the paper's 3.2 million "
            "slices for each network; AdamW, learning rate and mean of the weights are the paper's"
        )
        if speed is not None:
            seconds = speed.training_seconds(epochs * self.iterations_per_epoch * batch_size)
            why += f"; roughly {in_words(seconds)} on {speed.device} (--num_epochs shortens it)"
        return TrainingPlan(batch_size, self.iterations_per_epoch, epochs), why

    def decide_after_training(self) -> tuple[AfterTrainingPlan, str]:
        """Decide on the work after the last epoch."""
        return AfterTrainingPlan(), "fixed: small beside a training of days"

    def decide_diffusion(self) -> tuple[DiffusionPlan, str]:
        """Decide on the noise schedule."""
        return DiffusionPlan(), "fixed: the paper's 1000 timesteps with linear betas"

    def decide_normalisation(self, modality: str) -> tuple[str, str]:
        """Decide on the scheme for a modality."""
        found = self.evidence.cases_with(modality)
        if not found:
            return "bias_corrected", "no case has this modality"
        low, high = self.evidence.percentile(modality, "2"), self.evidence.percentile(modality, "75")
        return "bias_corrected", (
            "divided by the bias field (N4) where one can be estimated (bias_field_p1 and _p99 in CASE.json give its range, "
            "1 to 1 where there is none), then percentiles 2 and 75 inside the brain to -3 and +2 (medians over "
            f"{len(found)} cases before that: {low:.4g} and {high:.4g}): scales differ between scanners, and big lesions "
            "don't move these percentiles"
        )

    def decide_cycles(self) -> tuple[dict[str, tuple[str, str]], str]:
        """Decide on every ordered pair of modalities that at least one case has: name -> (input, translation)."""
        pairs = [(x, y) for x in self.modalities for y in self.modalities if x != y and self.evidence.cases_with(x, y)]
        if not pairs:
            raise MMCCDError(
                f"no case of {self.dataset_name} has two modalities, and a modality cycle needs two of the same person: add "
                "the scans that are missing, CASE_0001 beside CASE_0000."
            )
        named = {f"{x}-{y}": (x, y) for x, y in pairs}
        return named, "every ordered pair of modalities that at least one case has (input-translation)"

    def decide_default_cycle(self, pairs: dict[str, tuple[str, str]]) -> tuple[str, str]:
        """Decide on the input, what most cases have (FLAIR > T2 > T1C > T1), and what most of these have too (T1 first)."""

        def key(name: str) -> tuple[int, int, int, int]:
            x, y = pairs[name]
            return (
                -len(self.evidence.cases_with(x)),
                rules.preference(x, rules.INPUT_PREFERENCE),
                -len(self.evidence.cases_with(x, y)),
                rules.preference(y, rules.PARTNER_PREFERENCE),
            )

        default = min(pairs, key=key)
        x, y = pairs[default]
        return default, (
            f"{len(self.evidence.cases_with(x))} of {len(self.evidence.cases)} cases have {x} (FLAIR before T2, "
            f"T1C, T1), {len(self.evidence.cases_with(x, y))} also {y} (T1 preferred)"
        )

    def decide_strips(self, spacing: float, times_hidden: int) -> tuple[tuple[int, int], str]:
        """Strip width and stride (px)."""
        width, stride = rules.strip_width_and_stride(spacing, times_hidden, self.strip_width_mm)
        return (width, stride), (
            f"{self.strip_width_mm:g} mm / {spacing:g} mm, rounded to {width // stride} strides of {stride} px "
            f"({width * spacing:.1f} mm): every pixel is hidden equally often"
        )

    def decide_wanted_steps(self, pair: tuple[str, str], slice_axis: str) -> tuple[int, str]:
        """Decide on sampling steps that the hidden anatomy asks for: 10 for each correlation length that a strip is wide."""
        length = self.evidence.correlation_length(pair[1], slice_axis)
        ratio = self.strip_width_mm / max(length, 1e-3)
        known = sorted({rung.steps for rung in LADDER})
        steps = next((one for one in known if one >= self.steps_per_correlation_length * ratio), known[-1])
        return steps, (
            f"a strip is {ratio:.1f} correlation lengths of {pair[1]} ({length:.1f} mm) wide, which asks for {steps} steps "
            f"(at least {self.steps_per_correlation_length} per correlation length)"
        )

    def decide_score(self, pair: tuple[str, str]) -> tuple[ScorePlan, str]:
        """Decide which sign of the error counts in full, how much the other one, and how far it is smoothed."""
        sign = rules.lesion_sign(pair[0])
        plan = ScorePlan(sign, smoothing_mm=self.smoothing_mm, fine_smoothing_mm=self.fine_smoothing_mm)
        return plan, (
            f"most lesions are {plan.lesion_sign} than healthy tissue on {pair[0]}; what is the other way "
            f"round (cysts, necrosis, bleeding) counts x {plan.other_weight:g}; a Gaussian of {plan.smoothing_mm:g} mm "
            f"finds large lesions best and loses small ones, for which one of {plan.fine_smoothing_mm:g} mm stands beside it"
        )

    def decide_rung(
        self, grid: Grid, wanted_steps: int, speed: DeviceSpeed | None, ladder: tuple[Rung, ...]
    ) -> tuple[Rung, str]:
        """Decide on the first rung that a typical case's time budget allows with at most the wanted steps, else the last."""
        rungs = [Rung(rung.times_hidden, min(rung.steps, wanted_steps)) for rung in ladder]
        if speed is None:
            unknown = "the device's speed isn't known, so time sets no limit"
            return rungs[0], f"hidden about {rungs[0].times_hidden} x per direction; {unknown}"
        seconds = [self._nominal_evaluations(grid, rung) / speed.evaluations_per_second for rung in rungs]
        budget = 60 * self.time_budget_minutes
        chosen = next((index for index, one in enumerate(seconds) if one <= budget), len(rungs) - 1)
        rung = rungs[chosen]
        quickest = "the quickest" + ("" if self.resolution == "lowres" else " (resolution lowres is quicker still)")
        found = "the best" if seconds[chosen] <= budget else quickest
        return rung, (
            f"hidden about {rung.times_hidden} x per direction with {rung.steps} sampling "
            f"step{'' if rung.steps == 1 else 's'}: {found} of "
            f"{len(LADDER)} rungs for {self.time_budget_minutes:g} minutes per typical case on {speed.device} ("
            f"{speed.evaluations_per_second:.3g} network evaluations/s, {in_words(seconds[chosen])})"
        )

    def estimate_cost(
        self, grid: Grid, width: int, configuration: ConfigurationPlan, speed: DeviceSpeed | None
    ) -> tuple[CostPlan, str]:
        """Return what a typical case costs at prediction."""
        slices, (rows, columns) = self.evidence.typical_slices(grid.slice_axis)
        strips = cost.strips_per_slice((rows / grid.spacing, columns / grid.spacing), width, configuration.strip_stride)
        tiles = self._tiles(grid)
        evaluations = cost.network_evaluations(slices * tiles, strips, configuration.sampling_steps)
        rate = None if speed is None else speed.evaluations_per_second
        seconds = None if rate is None else evaluations / rate
        plan = CostPlan(slices, round(strips, 2), evaluations, seconds, speed.device if speed else "not timed")
        return plan, (
            f"{slices} slices x {tiles} tiles x {strips:.1f} strips x ({configuration.sampling_steps} + 1) evaluations"
            + ("" if rate is None or seconds is None else f" at {rate:.3g} a second: about {in_words(seconds)}")
        )

    def _fit_into_memory(self, slice_axis: SliceAxis, why: dict[str, str]) -> tuple[int, float, Patch, NetworkPlan]:
        """Find the largest patch edge at which the smallest batch fits, with the spacing, patch and network that follow."""
        wanted = RESOLUTIONS[self.resolution].largest_edge
        for largest_edge in (edge for edge in rules.PATCH_EDGES if edge <= wanted):
            spacing, why_spacing = self.decide_target_spacing(slice_axis, largest_edge)
            network, patch, why_network = self.decide_network(slice_axis, spacing, largest_edge)
            if cost.training_memory_gb(network, patch, self.batch_limits[0]) <= self.memory_gb:
                why |= {"target_spacing": why_spacing} | why_network
                if largest_edge < wanted:
                    why["patch_size"] += f"; more than {largest_edge} px don't fit into {self._memory()}"
                return largest_edge, spacing, patch, network
        needed = cost.training_memory_gb(network, patch, self.batch_limits[0])
        raise MMCCDError(
            f"{self._memory()} are too little for the smallest network: give "
            f"-gpu_memory_target {math.ceil(10 * needed) / 10:g} or more."
        )

    def _memory(self) -> str:
        return f"{self.memory_gb:g} GB" + ("" if self.memory_known else " (assumed)")

    def _tiles(self, grid: Grid) -> int:
        rows, columns = self.evidence.brain_extent(grid.slice_axis)
        return cost.tiles_per_slice((rows / grid.spacing, columns / grid.spacing), grid.patch)

    def _nominal_evaluations(self, grid: Grid, rung: Rung) -> int:
        """Compute the evaluations of a typical case with strips counted in mm: rounding to pixels moves no choice."""
        slices, section = self.evidence.typical_slices(grid.slice_axis)
        strips = cost.strips_per_slice(section, self.strip_width_mm, self.strip_width_mm / rung.times_hidden)
        return cost.network_evaluations(slices * self._tiles(grid), strips, rung.steps)
