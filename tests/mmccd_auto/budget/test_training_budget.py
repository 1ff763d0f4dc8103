"""Training by a plan for a budget: its schedule, what is told, and the plans that are found without a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans.budget.rungs import LARGE, SMALL
from mmccd_auto.plans.plan import PLANS_FILE, Plan
from mmccd_auto.trained.checkpoint import load_checkpoint
from mmccd_auto.training.budget.speed import measure_machine
from mmccd_auto.training.progress import draw_progress, tell_whether_longer
from mmccd_auto.training.trainers import MMCCDTrainer, MMCCDTrainerShort
from mmccd_auto.workflows.train import find_default_plans


def test_the_plain_trainer_trains_a_short_plan_as_the_short_trainer_does(
    tmp_path: Path, preprocessed: Path, splits: list, tiny_plan: Plan
) -> None:
    training = replace(tiny_plan.training, batch_size=2, num_epochs=3, iterations_per_epoch=2)
    plans = {
        MMCCDTrainerShort: replace(tiny_plan, training=training),
        MMCCDTrainer: replace(
            tiny_plan, training=replace(training, learning_rate=1e-3, learning_rate_schedule="half_cosine", judgements=0)
        ),
    }
    weights = []
    for trainer, plan in plans.items():
        output = tmp_path / trainer.__name__ / "fold_0"
        weights.append(load_checkpoint(trainer(plan, "FLAIR-T1", 0, preprocessed, output, splits).train()).weights)
    assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())


def test_a_plan_of_an_earlier_version_trains_at_a_constant_rate_and_is_judged_ten_times(
    tmp_path: Path, preprocessed: Path, splits: list, tiny_plan: Plan
) -> None:
    content = tiny_plan.to_json()
    for name in ("learning_rate_schedule", "judgements", "judged_slices"):
        del content["training"][name]
    del content["after_training"], content["budget"]
    trainer = MMCCDTrainer(Plan.from_json(content), "FLAIR-T1", 0, preprocessed, tmp_path / "fold_0", splits)
    assert {trainer.learning_rate(epoch) for epoch in range(5)} == {1e-4}
    assert trainer.judgements == 10


def test_plans_are_found_without_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_default_plans(tmp_path) == "mmccdPlans"
    for name in ("mmccdPlansSmall_lowres", "mmccdPlans_lowres", "mmccdPlans"):
        (tmp_path / name).mkdir()
    (tmp_path / "mmccdPlansSmall_lowres" / PLANS_FILE).touch()
    with caplog.at_level("INFO"):
        assert find_default_plans(tmp_path) == "mmccdPlansSmall_lowres"
    assert "mmccdPlansSmall_lowres, the only ones" in caplog.text
    (tmp_path / "mmccdPlans_lowres" / PLANS_FILE).touch()
    with pytest.raises(MMCCDError, match=r"mmccdPlansSmall_lowres, mmccdPlans_lowres\): name one with -p"):
        find_default_plans(tmp_path)
    (tmp_path / "mmccdPlans" / PLANS_FILE).touch()
    assert find_default_plans(tmp_path) == "mmccdPlans"


def records(*judgements: float | None) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "iterations": 5 * epoch,
            "seconds": 1.0,
            "samples_per_second": 1.0,
            "data_wait_share": 0.0,
            "learning_rate": 1e-3,
            "train": {"forward": 1.0 / epoch},
            "validation": {"forward": 1.0 / epoch},
            "validation_on": "validation",
            "synthetic_auprc": judgement,
        }
        for epoch, judgement in enumerate(judgements, start=1)
    ]


@pytest.mark.parametrize(
    ("judgements", "told"),
    [
        ((0.1, None, 0.3, None, 0.5), "still rising, so longer training is worthwhile"),
        ((0.1, None, 0.5, None, 0.505), "no longer rising, so longer training is hardly worthwhile"),
        ((0.6, 0.2, 0.3, 0.4, 0.5), "no longer rising"),
        ((None, None, 0.5), "isn't known"),
        ((), "isn't known"),
    ],
)
def test_whether_longer_training_is_worthwhile_is_said(judgements: tuple[float | None, ...], told: str) -> None:
    assert told in tell_whether_longer(records(*judgements))


def test_judgements_are_drawn(tmp_path: Path) -> None:
    for name, judgements in (("with", (0.1, 0.3, 0.5)), ("without", (None, None, None))):
        draw_progress(records(*judgements), None, "title", tmp_path / f"{name}.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_a_machine_is_timed_with_the_threads_left_as_they_were() -> None:
    threads = torch.get_num_threads()
    state = torch.random.get_rng_state()
    machine = measure_machine("cpu", (SMALL,))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert machine.kind == "cpu"
    assert LARGE not in machine.seconds_per_slice
    assert 1e-5 < machine.seconds_per_slice[SMALL] < 60
    with pytest.raises(MMCCDError, match="choose another -device"):
        measure_machine("quantum")
