"""The plan that each fingerprint must give."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans import cost
from mmccd_auto.plans.cost import DeviceSpeed
from mmccd_auto.plans.options import PlannerOptions
from mmccd_auto.plans.plan import Plan
from mmccd_auto.plans.planner import MMCCDPlanner
from mmccd_auto.plans.rules import LADDER, strip_width_and_stride

FIXED_INPUT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def planned(fingerprint, device_speed=None, **options) -> Plan:
    about = (fingerprint, fingerprint.dataset, fingerprint.modalities)
    return MMCCDPlanner(*about, device_speed, PlannerOptions(**options)).plan()


# name, fingerprint, options, (axis, spacing, patch, multipliers, attention, strip width, stride, batch, default)
PAPER = (1, 1, 2, 3, 4)
TABLE = [
    ("BraTS 1 mm", {}, {}, ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 16, "FLAIR-T1")),
    ("0.5 mm", {"spacing": (0.5,) * 3}, {}, ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 16, "FLAIR-T1")),
    (
        "0.5 mm in full resolution on 80 GB",
        {"spacing": (0.5,) * 3},
        {"resolution": "fullres", "memory_budget_gb": 80},
        ("axial", 0.718, (256, 224), (1, 1, 2, 2, 4, 4), (32, 16, 8), 40, 5, 56, "FLAIR-T1"),
    ),
    (
        "1 mm in low resolution",
        {},
        {"resolution": "lowres"},
        ("axial", 2.872, (64, 56), (1, 2, 3, 4), (32, 16, 8), 10, 1, 52, "FLAIR-T1"),
    ),
    (
        "22 slices of 6 mm at 0.8 mm",
        {"spacing": (0.8, 0.8, 6.0), "subjects": 1},
        {},
        ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 13, "FLAIR-T1"),
    ),
    (
        "sagittal acquisition",
        {"spacing": (5.0, 0.9, 0.9)},
        {},
        ("sagittal", 1.436, (112, 128), PAPER, (32, 16, 8), 21, 3, 16, "FLAIR-T1"),
    ),
    (
        "coronal acquisition",
        {"spacing": (1.0, 3.0, 1.0)},
        {},
        ("coronal", 1.149, (128, 128), PAPER, (32, 16, 8), 27, 3, 16, "FLAIR-T1"),
    ),
    (
        "two channels",
        {"modalities": ("T1", "T2")},
        {},
        ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 16, "T2-T1"),
    ),
    ("one subject", {"subjects": 1}, {}, ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 16, "FLAIR-T1")),
    (
        "coarse 3 mm pixels",
        {"spacing": (3.0, 3.0, 3.0)},
        {},
        ("axial", 2.0, (96, 80), (1, 2, 3, 4), (24, 12), 16, 2, 24, "FLAIR-T1"),
    ),
    (
        "infants' brains",
        {"brain": (80.0, 100.0, 75.0)},
        {},
        ("axial", 1.0, (112, 88), (1, 2, 3, 4), (28, 14), 32, 4, 20, "FLAIR-T1"),
    ),
    (
        "a spacing given by the user: tiles",
        {},
        {"target_spacing": 1.0},
        ("axial", 1.0, (128, 128), PAPER, (32, 16, 8), 32, 4, 16, "FLAIR-T1"),
    ),
    ("4 GB", {}, {"memory_budget_gb": 4}, ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 8, "FLAIR-T1")),
    ("8 GB", {}, {"memory_budget_gb": 8}, ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 16, "FLAIR-T1")),
    ("24 GB", {}, {"memory_budget_gb": 24}, ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 60, "FLAIR-T1")),
    ("80 GB", {}, {"memory_budget_gb": 80}, ("axial", 1.436, (128, 112), PAPER, (32, 16, 8), 21, 3, 64, "FLAIR-T1")),
]


@pytest.mark.parametrize(("scans", "options", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_each_fingerprint_gives_its_plan(make_fingerprint, scans, options, expected):
    plan = planned(make_fingerprint(**scans), **options)
    found = (
        plan.slice_axis,
        plan.target_spacing,
        plan.patch_size,
        plan.network.channel_multipliers,
        plan.network.attention_edges,
        plan.strip_width,
        plan.configuration().strip_stride,
        plan.training.batch_size,
        plan.default_configuration,
    )
    assert found == expected


@pytest.mark.parametrize(("scans", "options", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_plan_keeps_the_rules_that_hold_always(make_fingerprint, scans, options, expected):
    fingerprint = make_fingerprint(**scans)
    plan = planned(fingerprint, **options)
    budget = options.get("memory_budget_gb", 8)
    assert cost.training_memory_gb(plan.network, plan.patch_size, plan.training.batch_size) <= budget
    assert abs(plan.strip_width * plan.target_spacing - 30) <= plan.configuration().strip_stride * plan.target_spacing
    assert plan.strip_width % plan.configuration().strip_stride == 0
    seen = plan.training.batch_size * plan.training.num_epochs * plan.training.iterations_per_epoch
    assert 3_200_000 <= seen < 3_200_000 + 250 * plan.training.batch_size
    bottom = [edge // plan.network.divisor for edge in plan.patch_size]
    assert max(bottom) >= 8
    assert min(bottom) >= 4


def test_a_paper_sized_brain_gets_the_papers_strips():
    assert strip_width_and_stride(1.875, 8) == (16, 2)


def test_every_planned_value_has_a_why_and_the_plan_survives_its_file(make_fingerprint, tmp_path):
    plan = planned(make_fingerprint(), device_speed=DeviceSpeed("a GPU", 1000.0))

    def leaves(content, path=()):
        for key, value in content.items():
            yield from leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]

    content = plan.to_json()
    for name in ("why", "dataset_name", "planner", "modalities"):
        del content[name]
    unexplained = [
        ".".join(leaf)
        for leaf in leaves(content)
        if not any(".".join(leaf[:length]) in plan.why for length in range(1, len(leaf) + 1))
    ]
    assert len(list(leaves(content))) > 50
    assert unexplained == []
    assert all(line and "\n" not in line for line in plan.why.values())
    plan.save(tmp_path / "plans.json")
    assert Plan.load(tmp_path / "plans.json") == plan


@FIXED_INPUT
@given(budgets=st.tuples(st.floats(1.5, 100), st.floats(1.5, 100)), resolution=st.sampled_from(["standard", "fullres"]))
def test_more_memory_never_gives_less(make_fingerprint, budgets, resolution):
    small, large = (
        planned(make_fingerprint(), memory_budget_gb=gb, resolution=resolution, device_speed=DeviceSpeed("any", 100.0))
        for gb in sorted(budgets)
    )
    assert large.training.batch_size >= small.training.batch_size
    assert all(more >= less for more, less in zip(large.patch_size, small.patch_size, strict=True))
    assert large.target_spacing <= small.target_spacing
    assert large.configuration().sampling_steps >= small.configuration().sampling_steps


@FIXED_INPUT
@given(speeds=st.tuples(st.floats(0.1, 1e5), st.floats(0.1, 1e5)), minutes=st.floats(0.5, 600))
def test_a_faster_device_never_gets_fewer_evaluations(make_fingerprint, speeds, minutes):
    slow, fast = (
        planned(make_fingerprint(), device_speed=DeviceSpeed("any", speed), time_budget_minutes=minutes)
        for speed in sorted(speeds)
    )
    for name in slow.configurations:
        assert fast.cost[name].network_evaluations_per_case >= slow.cost[name].network_evaluations_per_case
    assert fast.patch_size == slow.patch_size


@FIXED_INPUT
@given(lengths=st.tuples(st.floats(0.5, 60), st.floats(0.5, 60)))
def test_finer_anatomy_asks_for_more_steps(make_fingerprint, lengths):
    fine, smooth = (
        planned(make_fingerprint(correlation_length=mm)).configuration().sampling_steps for mm in sorted(lengths)
    )
    assert fine >= smooth


def test_the_steps_follow_the_correlation_length_and_the_time(make_fingerprint):
    # 30 mm are 5 lengths of 6 mm: 50 steps; 1 length of 30 mm: 10; 10 lengths of 3 mm: 100
    for length, steps in ((6.0, 50), (30.0, 10), (3.0, 100)):
        assert planned(make_fingerprint(correlation_length=length)).configuration().sampling_steps == steps
    slowest = planned(make_fingerprint(), device_speed=DeviceSpeed("an old laptop", 0.01)).configuration()
    assert slowest.sampling_steps == LADDER[-1].steps
    assert slowest.strip_stride == 10


def test_a_chosen_rung_keeps_the_time_budget_and_the_next_better_would_not(make_fingerprint):
    fingerprint = make_fingerprint(correlation_length=3.0)
    speed = DeviceSpeed("any", 300.0)
    plan = planned(fingerprint, device_speed=speed, time_budget_minutes=10)
    case_cost = plan.cost[plan.default_configuration]
    assert case_cost.seconds_per_case == case_cost.network_evaluations_per_case / 300
    assert case_cost.seconds_per_case < 1.2 * 600
    steps = plan.configuration().sampling_steps
    better = {100: None, 50: 100, 25: 50}[steps]
    assert case_cost.seconds_per_case / (steps + 1) * (better + 1) > 0.8 * 600
    assert "10 minutes" in plan.why[f"configurations.{plan.default_configuration}.sampling_steps"]


def test_the_network_that_is_timed_is_the_planned_one(make_fingerprint):
    timed = []

    def measure(network, patch):
        timed.append((network, patch))
        return DeviceSpeed("measured", 50.0)

    plan = planned(make_fingerprint(), device_speed=measure)
    assert timed == [(plan.network, plan.patch_size)]
    assert {one.device for one in plan.cost.values()} == {"measured"}


def test_cost_of_an_unknown_device_has_no_seconds(make_fingerprint):
    plan = planned(make_fingerprint())
    assert all(one.seconds_per_case is None and one.network_evaluations_per_case > 0 for one in plan.cost.values())


def test_cycles_are_the_pairs_that_exist_and_the_default_is_what_most_cases_can_use(make_fingerprint):
    fingerprint = make_fingerprint(modalities=("T1", "T2"), subjects=5, extra=(("T1", "FLAIR"),))
    plan = planned(fingerprint)
    assert set(plan.configurations) == {"T1-T2", "T2-T1", "T1-FLAIR", "FLAIR-T1"}
    assert plan.default_configuration == "T1-T2"


@pytest.mark.parametrize(
    ("modalities", "default"),
    [
        (("t1n", "t1c", "t2w", "t2f_flair"), "t2f_flair-t1n"),
        (("T1Gd", "T2w"), "T2w-T1Gd"),
        (("T1", "T1ce"), "T1ce-T1"),
        (("PD", "T1w"), "T1w-PD"),
    ],
)
def test_channel_names_are_understood(make_fingerprint, modalities, default):
    assert planned(make_fingerprint(modalities=modalities)).default_configuration == default


@pytest.mark.parametrize(
    ("scans", "options", "message"),
    [
        ({"modalities": ("FLAIR",)}, {}, "no case of Dataset007_Test has two modalities"),
        ({"healthy_share": 0.0}, {}, "no healthy slice"),
        ({}, {"memory_budget_gb": 0.1}, "too little for the smallest network"),
        ({}, {"memory_budget_gb": -1}, "memory target"),
        ({}, {"target_spacing": 0.0}, "target spacing"),
        ({}, {"resolution": "huge"}, "standard, lowres, fullres"),
    ],
)
def test_what_cannot_be_planned_is_said(make_fingerprint, scans, options, message):
    with pytest.raises(MMCCDError, match=message):
        planned(make_fingerprint(**scans), **options)


def test_a_batch_is_never_larger_than_the_healthy_slices(make_fingerprint):
    fingerprint = make_fingerprint(subjects=1, spacing=(1.0, 1.0, 6.0), healthy_share=0.15)
    assert planned(fingerprint, memory_budget_gb=80).training.batch_size == 3


def test_fullres_is_recommended_where_the_scans_are_finer(make_fingerprint):
    assert "fullres" in planned(make_fingerprint(spacing=(0.5,) * 3)).why["plans_name"]
    assert "fullres" not in planned(make_fingerprint(spacing=(1.4,) * 3)).why["plans_name"]


def test_mixed_acquisitions_follow_the_majority(make_fingerprint):
    thick, even = make_fingerprint(spacing=(5.0, 1.0, 1.0), subjects=3), make_fingerprint(subjects=2)
    cases = {**thick.cases, **{f"even_{name}": case for name, case in even.cases.items()}}
    mixed = dataclasses.replace(thick, cases=cases)
    assert planned(mixed).slice_axis == "sagittal"
    assert planned(dataclasses.replace(thick, cases=dict(list(cases.items())[1:]))).slice_axis == "axial"
