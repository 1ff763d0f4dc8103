"""Planning as the command does it: the same plan whatever the machine does meanwhile, and its cost told on the screen."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.phantom.dataset import PhantomPeople, write_phantom_dataset
from mmccd_auto.plans.cost import DeviceSpeed
from mmccd_auto.plans.report import advise_on_training
from mmccd_auto.workflows.plan_and_preprocess import PlanningOptions, PreparationOptions, plan_and_preprocess

CPU = torch.device("cpu")
PLANS = "Dataset007_Phantom/mmccdPlans/plans.json"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_phantom_dataset(folder, people=PhantomPeople(training_subjects=2, test_subjects=0, resolution=4), number=7)
    return folder


def plan(raw: Path, preprocessed: Path) -> list[str]:
    folders = Folders(raw, preprocessed, preprocessed / "none")
    only_plan = PreparationOptions(preprocess=False)
    return plan_and_preprocess(folders, [7], PlanningOptions(planner="MMCCDPlanner"), CPU, 0, only_plan)


@pytest.mark.parametrize("seconds", [0.1, 30.0])
def test_the_plan_is_the_same_however_busy_the_machine_is(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The clocks of the second run say that every forward pass took very long, or no time at all."""
    assert plan(raw, tmp_path / "undisturbed") == []
    ticks = itertools.count()
    for clock in ("perf_counter", "thread_time", "process_time", "monotonic"):
        monkeypatch.setattr(f"mmccd_auto.model.speed.time.{clock}", lambda: next(ticks) * seconds)
    with caplog.at_level("INFO"):
        assert plan(raw, tmp_path / "disturbed") == []
    monkeypatch.undo()
    first, second = ((tmp_path / name / PLANS).read_bytes() for name in ("undisturbed", "disturbed"))
    assert first == second
    assert "a fold on cpu" in caplog.text
    if seconds > 1:
        assert "days a fold on cpu (1 thread): use a GPU, a plan that fits into --training_hours" in caplog.text
    assert "slices/s" not in first.decode()


def test_a_training_of_days_comes_with_advice_and_a_short_one_without(tiny_plan) -> None:
    # 2 epochs x 5 iterations x 4 slices x 6 evaluations
    assert advise_on_training(tiny_plan, DeviceSpeed("a CPU", 240 / (49 * 86400)), on_cpu=True).startswith(
        "training takes about 49 days a fold on a CPU: use a GPU"
    )
    assert "a GPU," not in advise_on_training(tiny_plan, DeviceSpeed("a GPU", 240 / (49 * 86400)), on_cpu=False)
    assert advise_on_training(tiny_plan, DeviceSpeed("a CPU", 1.0), on_cpu=True) is None


def test_a_plan_that_is_removed_while_it_is_made_is_an_error(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(*_: object) -> DeviceSpeed:
        shutil.rmtree(tmp_path / "preprocessed")
        return DeviceSpeed("a CPU", 1.0)

    monkeypatch.setattr("mmccd_auto.workflows.plan_and_preprocess.measure_device_speed", vanish)
    with pytest.raises(MMCCDError, match=r"plans\.json was removed while this ran"):
        plan(raw, tmp_path / "preprocessed")
