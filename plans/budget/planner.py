"""The default planner: the largest size of plan that the training budget fills on the machine that is here."""

from __future__ import annotations

from dataclasses import replace

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import counted, in_words
from mmccd_auto.plans import cost
from mmccd_auto.plans.budget.rungs import (
    AFTER_TRAINING,
    LARGEST_AFTER_SHARE,
    RUNGS,
    SOUND_AFTER_TRAINING,
    USED_SHARE,
    AfterWork,
    MachineSpeed,
    Schedule,
    default_hours,
    fit_schedule,
)
from mmccd_auto.plans.cost import DeviceSpeed
from mmccd_auto.plans.fingerprint import DatasetFingerprint
from mmccd_auto.plans.options import PLAIN, PlannerOptions
from mmccd_auto.plans.plan import BudgetPlan, NetworkPlan, Plan, TrainingPlan
from mmccd_auto.plans.planner import Grid, MMCCDPlanner, Patch
from mmccd_auto.plans.rules import DEFAULT_PLANS, Rung, strip_width_and_stride


class MMCCDPlannerForBudget(MMCCDPlanner):
    """Plans what a machine can train within a number of hours.

    A pure function of the fingerprint, the machine's speed, the memory and the budget.

    Parameters
    ----------
    fingerprint, dataset_name, modalities : as for :class:`MMCCDPlanner`
    machine : measured speed of the device that will train
    training_hours : that one fold may take, the work after the last epoch included; None: the default of the kind of device
    resolution : keeps every rung to this resolution; None: each has its own
    options : memory, spacing and time; their resolution is passed over

    Raises
    ------
    MMCCDError
        If an option can't be obeyed.
    """

    def __init__(
        self,
        fingerprint: DatasetFingerprint,
        dataset_name: str,
        modalities: tuple[str, ...],
        machine: MachineSpeed,
        training_hours: float | None = None,
        resolution: str | None = None,
        options: PlannerOptions = PLAIN,
    ) -> None:
        options = replace(options, resolution=resolution or "standard")
        super().__init__(fingerprint, dataset_name, modalities, options=options)
        self.machine, self.given_resolution = machine, resolution
        self.hours = default_hours(machine.kind) if training_hours is None else training_hours
        if not self.hours > 0:
            raise MMCCDError(f"the training budget of {self.hours} hours must be above 0.")
        self.device_speed = self._speed
        self.rung = RUNGS[0]

    def plan(self) -> Plan:
        """Plan by the largest rung that the budget fills.

        Raises
        ------
        MMCCDError
            As :meth:`MMCCDPlanner.plan`.
        """
        for rung in reversed(RUNGS):
            self.rung = rung
            self.resolution = self.given_resolution or rung.resolution
            plan = super().plan()
            schedule = self._schedule(plan)
            training = schedule.training
            shown = training.batch_size * training.iterations_per_epoch * training.num_epochs
            if shown >= rung.least_slices or rung is RUNGS[0]:
                return self._with_schedule(plan, schedule, shown)
        raise AssertionError("the first rung always fits")

    def for_machine(self, machine: MachineSpeed) -> MMCCDPlannerForBudget:
        """Return a planner of the same dataset for another machine, with that machine's usual budget and memory."""
        options = PlannerOptions(target_spacing=self.given_spacing, time_budget_minutes=self.time_budget_minutes)
        about = (self.fingerprint, self.dataset_name, self.modalities)
        return type(self)(*about, machine, None, self.given_resolution, options)

    def decide_plans_name(self, slice_axis: str, spacing: float) -> tuple[str, str]:
        """Decide on the name that mmccd_train takes by default, whatever the rung."""
        if self.given_resolution is not None:
            return super().decide_plans_name(slice_axis, spacing)
        return DEFAULT_PLANS, "the plan that mmccd_train takes without -p"

    def decide_network(
        self, slice_axis: str, spacing: float, largest_edge: int
    ) -> tuple[NetworkPlan, Patch, dict[str, str]]:
        """Decide on the paper's U-Net, as narrow and with as few blocks as the rung says."""
        network, patch, why = super().decide_network(slice_axis, spacing, largest_edge)
        rung = self.rung
        told = f'rung "{rung.name}" of {counted(len(RUNGS), "rung")}, see budget'
        for name in ("base_channels", "residual_blocks", "attention_edges"):
            why[f"network.{name}"] = told
        why["network.base_channels"] += "; the paper's are 32"
        why["network.residual_blocks"] += "; the paper's are 2"
        why["network.attention_edges"] += f": levels whose longer edge is at most {rung.largest_attention_edge} px"
        network = replace(
            network,
            base_channels=rung.base_channels,
            residual_blocks=rung.residual_blocks,
            attention_edges=tuple(edge for edge in network.attention_edges if edge <= rung.largest_attention_edge),
            norm_groups=min(network.norm_groups, rung.base_channels),
        )
        return network, patch, why

    def decide_batch_size(self, network: NetworkPlan, patch: Patch, largest_edge: int, healthy: int) -> tuple[int, str]:
        """Return what the memory allows, and at most the rung's: more steps an hour teach a short training more."""
        batch, why = super().decide_batch_size(network, patch, largest_edge, healthy)
        most = self.rung.largest_batch
        if most is None or batch <= most:
            return batch, why
        return most, f"{most} at most on this rung: many small steps, since the training is short; {why}"

    def decide_training(self, batch_size: int, speed: DeviceSpeed | None) -> tuple[TrainingPlan, str]:
        """Decide on the batch alone: the schedule follows once the strips are known, see :meth:`plan`."""
        return TrainingPlan(batch_size), ""

    def decide_rung(
        self, grid: Grid, wanted_steps: int, speed: DeviceSpeed | None, ladder: tuple[Rung, ...]
    ) -> tuple[Rung, str]:
        """Work as the usual planner, of the steps and strips that can be tried within a quarter of the budget."""
        if speed is None:
            raise ValueError("a budget of hours can't be filled without the speed of the device")
        evaluations = 3600 * self.hours * USED_SHARE * LARGEST_AFTER_SHARE / (1 + LARGEST_AFTER_SHARE)
        evaluations *= speed.evaluations_per_second
        affordable = tuple(
            rung
            for rung in ladder
            if self._least_work(grid, Rung(rung.times_hidden, min(rung.steps, wanted_steps))) <= evaluations
        )
        rung, why = super().decide_rung(grid, wanted_steps, speed, affordable or ladder[-1:])
        if len(affordable) < len(ladder):
            why += f"; {len(ladder) - len(affordable)} dearer ones would take more than a quarter of the training to try"
        return rung, why

    def _least_work(self, grid: Grid, rung: Rung) -> float:
        """Compute the evaluations of a sound choice of steps and calibration where ``rung`` is planned."""
        width, stride = strip_width_and_stride(grid.spacing, rung.times_hidden, self.strip_width_mm)
        return self._after_work(grid, width, stride, rung.steps).after_evaluations(AFTER_TRAINING[SOUND_AFTER_TRAINING])

    def _after_work(self, grid: Grid, width: int, stride: int, steps: int) -> AfterWork:
        _, section = self.evidence.typical_slices(grid.slice_axis)
        pixels = (section[0] / grid.spacing, section[1] / grid.spacing)
        return AfterWork.of(pixels, width, stride, steps, self._tiles(grid))

    def _schedule(self, plan: Plan) -> Schedule:
        chosen = plan.configuration()
        grid = Grid(plan.slice_axis, plan.target_spacing, plan.patch_size)
        work = self._after_work(grid, plan.strip_width, chosen.strip_stride, chosen.sampling_steps)
        seconds = self.machine.training_seconds_per_slice(plan.network, plan.patch_size)
        return fit_schedule(self.rung, plan.training.batch_size, seconds, work, self.hours)

    def _with_schedule(self, plan: Plan, schedule: Schedule, shown: int) -> Plan:
        training, after, rung = schedule.training, schedule.after, self.rung
        told = in_words(schedule.training_seconds)
        per_slice = self.machine.training_seconds_per_slice(plan.network, plan.patch_size)
        bigger = RUNGS[RUNGS.index(rung) + 1] if rung is not RUNGS[-1] else None
        why = dict(plan.why)
        why["training"] = (
            f"{training.num_epochs} epochs x {training.iterations_per_epoch} iterations x {training.batch_size} slices: "
            f"{told} at {1000 * per_slice:.3g} ms a slice for both networks on {self.machine.device}, as measured; "
            f"{in_words(schedule.after_seconds)} of the {self.hours:g} hours are for the work after it"
        )
        why["training.learning_rate_schedule"] = f"{rung.schedule} from {rung.learning_rate:g}: " + (
            "the paper's" if rung.schedule == "constant" else "a short training needs large steps first and small ones last"
        )
        why["training.judgements"] = f"{training.judgements} on {training.judged_slices} slices: within 5 % of the training"
        why["after_training"] = (
            f"about {in_words(schedule.after_seconds)}, the most thorough work within a quarter of the training "
            f"(steps tried on {after.trial_slices} slices x {after.trial_seeds} seeds, calibration on "
            f"{after.calibration_slices})"
        )
        why["budget"] = (
            f"{self.hours:g} hours a fold on {self.machine.device} show the {rung.name} network {shown:,} slices"
            + (f"; {bigger.name} needs {bigger.least_slices:,} of its own" if bigger else "")
        )
        budget = BudgetPlan(
            self.hours,
            rung.name,
            self.machine.device,
            self.machine.kind,
            dict(self.machine.seconds_per_slice),
            round(schedule.training_seconds, 1),
            round(schedule.after_seconds, 1),
        )
        return replace(plan, training=training, after_training=after, budget=budget, why=why)

    def _speed(self, network: NetworkPlan, patch: Patch) -> DeviceSpeed:
        seconds = self.machine.training_seconds_per_slice(network, patch)
        return DeviceSpeed(self.machine.device, cost.EVALUATIONS_PER_SAMPLE / seconds)
