"""Plans for a training budget: a pure function of fingerprint, speed, memory and hours."""

from __future__ import annotations

import itertools

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans import cost
from mmccd_auto.plans.budget.planner import MMCCDPlannerForBudget
from mmccd_auto.plans.budget.report import compare_machines, tell_alternative, tell_budget
from mmccd_auto.plans.budget.rungs import LARGE, REFERENCES, RUNGS, SMALL, MachineSpeed, default_hours, usual_machine
from mmccd_auto.plans.options import PlannerOptions
from mmccd_auto.plans.plan import AfterTrainingPlan, NetworkPlan, Plan
from mmccd_auto.plans.planners import MMCCDPlannerSmall

HOURS = (0.05, 0.5, 4, 12, 48)
SLOW_CPU = MachineSpeed("cpu (1 thread)", "cpu", {SMALL: 0.05, LARGE: 0.85})
MACHINES = {
    "one core": SLOW_CPU,
    "eight cores": MachineSpeed("cpu (8 threads)", "cpu", {SMALL: 0.012, LARGE: 0.14}),
    "usual GPU": usual_machine("cuda"),
    "quick GPU": MachineSpeed("a quick GPU", "cuda", {SMALL: 0.0003, LARGE: 0.002}),
    "Apple": usual_machine("mps"),
}
NAMES = [rung.name for rung in RUNGS]


def planned(fingerprint, machine: MachineSpeed, hours: float | None = None, resolution: str | None = None) -> Plan:
    about = (fingerprint, fingerprint.dataset, fingerprint.modalities)
    return MMCCDPlannerForBudget(*about, machine, hours, resolution).plan()


def work(plan: Plan) -> float:
    """Arithmetic of the whole training."""
    training = plan.training
    slices = training.batch_size * training.iterations_per_epoch * training.num_epochs
    return slices * cost.multiply_accumulates(plan.network, plan.patch_size)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_more_hours_give_a_larger_plan_that_still_fits(make_fingerprint, machine) -> None:
    plans = [planned(make_fingerprint(), machine, hours) for hours in HOURS]
    for hours, plan in zip(HOURS, plans, strict=True):
        budget = plan.budget
        assert budget.training_seconds + budget.after_training_seconds <= 3600 * hours
        assert budget.after_training_seconds <= 0.25 * budget.training_seconds
        assert plan.after_training.calibration_slices >= 32
        assert plan.plans_name == "mmccdPlans"
        assert cost.training_memory_gb(plan.network, plan.patch_size, plan.training.batch_size) <= 8
    for smaller, larger in itertools.pairwise(plans):
        assert NAMES.index(larger.budget.rung) >= NAMES.index(smaller.budget.rung)
        assert work(larger) >= 0.99 * work(smaller)


def test_faster_machines_get_larger_plans(make_fingerprint) -> None:
    for hours in HOURS:
        rungs = [
            NAMES.index(planned(make_fingerprint(), machine, hours).budget.rung)
            for machine in (SLOW_CPU, MACHINES["eight cores"], MACHINES["usual GPU"], MACHINES["quick GPU"])
        ]
        assert rungs == sorted(rungs)


def test_the_default_of_a_cpu_is_what_was_picked_by_hand(make_fingerprint) -> None:
    plan = planned(make_fingerprint(), SLOW_CPU)
    fingerprint = make_fingerprint()
    by_hand = MMCCDPlannerSmall(
        fingerprint, fingerprint.dataset, fingerprint.modalities, None, PlannerOptions(resolution="lowres")
    ).plan()
    assert plan.budget.training_hours == default_hours("cpu") == 0.5
    for name in ("network", "patch_size", "target_spacing", "slice_axis", "strip_width"):
        assert getattr(plan, name) == getattr(by_hand, name)
    training = plan.training
    assert (training.batch_size, training.learning_rate, training.learning_rate_schedule) == (16, 1e-3, "half_cosine")
    assert 1000 < training.num_epochs * training.iterations_per_epoch < 2000


def test_a_night_on_a_usual_gpu_is_the_papers_training(make_fingerprint) -> None:
    plan = planned(make_fingerprint(), MACHINES["usual GPU"])
    training = plan.training
    assert plan.budget.training_hours == default_hours("cuda") == 12
    assert plan.network == NetworkPlan()
    assert plan.patch_size == (128, 112)
    assert (training.learning_rate, training.learning_rate_schedule) == (1e-4, "constant")
    slices = training.num_epochs * training.iterations_per_epoch * training.batch_size
    assert slices == pytest.approx(3_200_000, rel=0.01)


def test_the_same_speed_gives_the_same_plan(make_fingerprint, tmp_path) -> None:
    first, second = (planned(make_fingerprint(), SLOW_CPU, 0.5) for _ in range(2))
    assert first == second
    first.save(tmp_path / "plans.json")
    assert Plan.load(tmp_path / "plans.json") == first


def test_every_value_has_its_why(make_fingerprint) -> None:
    why = planned(make_fingerprint(), SLOW_CPU).why
    for name in ("training", "training.learning_rate_schedule", "training.judgements", "after_training", "budget"):
        assert any(character.isdigit() for character in why[name])
    assert "small" in why["network.base_channels"]


def test_a_resolution_is_kept_whatever_the_budget(make_fingerprint) -> None:
    plan = planned(make_fingerprint(), MACHINES["quick GPU"], 12, resolution="lowres")
    assert max(plan.patch_size) == 64
    assert plan.plans_name == "mmccdPlans_lowres"


def test_plans_of_earlier_versions_load_with_what_was_done_then(make_fingerprint) -> None:
    content = planned(make_fingerprint(), SLOW_CPU).to_json()
    for name in ("after_training", "budget"):
        del content[name]
    for name in ("learning_rate_schedule", "judgements", "judged_slices"):
        del content["training"][name]
    plan = Plan.from_json(content)
    assert plan.budget is None
    assert plan.after_training == AfterTrainingPlan(24, 3, 96)
    assert (plan.training.learning_rate_schedule, plan.training.judgements, plan.training.judged_slices) == (
        "constant",
        10,
        24,
    )


def test_speed_goes_through_the_timed_networks_and_grows_with_the_work() -> None:
    for name, reference in REFERENCES.items():
        assert SLOW_CPU.training_seconds_per_slice(*reference) == pytest.approx(SLOW_CPU.seconds_per_slice[name])
    between = SLOW_CPU.training_seconds_per_slice(NetworkPlan(16, (1, 2, 3, 4), 1, (16, 8)), (64, 56))
    assert 0.05 < between < 0.85


def test_a_plan_is_told_in_one_line(make_fingerprint) -> None:
    plan = planned(make_fingerprint(), SLOW_CPU)
    told = tell_budget(plan)
    assert told.startswith("8 channels, 64 x 56 px, ")
    assert "minutes a fold on this CPU (1 thread)" in told
    assert "\n" not in told
    assert tell_alternative(planned(make_fingerprint(), MACHINES["usual GPU"])).startswith(
        "with a GPU: 32 channels, 128 x 112 px"
    )


@pytest.mark.parametrize(
    ("factor", "told"), [(1.0, ""), (1.4, ""), (0.7, ""), (2.0, "takes 2 times as long"), (0.1, "is 10 times as quick")]
)
def test_another_machine_is_told_of_beyond_half_as_much_again(make_fingerprint, factor: float, told: str) -> None:
    budget = planned(make_fingerprint(), SLOW_CPU).budget
    here = MachineSpeed("cpu (2 threads)", "cpu", {SMALL: 0.05 * factor})
    text = compare_machines(budget, here)
    assert told in text
    assert bool(text) == bool(told)
    assert not text or "mmccd_plan_and_preprocess --overwrite" in text


def test_no_time_is_no_budget(make_fingerprint) -> None:
    with pytest.raises(MMCCDError, match="must be above 0"):
        planned(make_fingerprint(), SLOW_CPU, 0)
