"""Which number format a training computes in, and that a CPU learns in bfloat16 what it learns in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.checkpoint import load_checkpoint
from mmccd_auto.training.mixed_precision import NARROWEST, gpu_has_bfloat16, training_dtype
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.trainers import MMCCDTrainer

CPU = torch.device("cpu")


@pytest.fixture
def wide_plan(tiny_plan: Plan) -> Plan:
    """The tiny plan with the narrowest networks that bfloat16 serves, which learn fast."""
    return replace(
        tiny_plan,
        network=replace(tiny_plan.network, base_channels=NARROWEST),
        training=replace(tiny_plan.training, learning_rate=2e-3),
    )


@pytest.mark.parametrize("unit", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_with_units_for_bfloat16_takes_it_for_wide_networks(wide_plan: Plan, monkeypatch, unit: str) -> None:
    narrow = replace(wide_plan.network, base_channels=NARROWEST // 2)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, unit: True}, raising=False)
    assert training_dtype(CPU, wide_plan.network) == torch.bfloat16
    assert training_dtype(CPU, narrow) == torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, unit: False})
    assert training_dtype(CPU, wide_plan.network) == torch.float32
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert training_dtype(CPU, wide_plan.network) == torch.float32


@pytest.mark.parametrize(
    ("capability", "dtype"), [((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16), ((7, 5), torch.float16)]
)
def test_a_gpu_takes_bfloat16_where_it_has_units_for_it(wide_plan: Plan, monkeypatch, capability, dtype) -> None:
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.version, "hip", None)
    # The current device, 0, is of the other kind.
    others = (7, 5) if dtype == torch.bfloat16 else (8, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda asked=None: capability if asked == device else others)
    # Torch counts emulation.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert gpu_has_bfloat16(device) == (dtype == torch.bfloat16)
    assert training_dtype(device, wide_plan.network) == dtype


def test_a_gpu_of_amd_has_bfloat16(monkeypatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert gpu_has_bfloat16(torch.device("cuda"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_format_that_a_trainer_names_holds_for_networks_loss_scaling_and_record(
    tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list, monkeypatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(MMCCDTrainer, "picture_interval", float("inf"))
    # What the rule would choose is never what is named.
    monkeypatch.setattr("mmccd_auto.training.trainer.training_dtype", lambda *given: torch.float64)
    convolutions: set[torch.dtype] = set()
    scaled: list[bool] = []

    class Naming(MMCCDTrainer):
        """Names its format; notes what the networks compute in, and whether losses are scaled."""

        def number_format(self):
            return dtype

        def build_cycle(self):
            cycle = super().build_cycle()
            cycle.forward_network.stem.register_forward_hook(lambda *given: convolutions.add(given[2].dtype))
            return cycle

        def on_epoch_end(self, record, state):
            scaled.append(state.scaler.is_enabled())

    output = tmp_path / "Naming__mmccdPlans__FLAIR-T1" / "fold_0"
    Naming(tiny_plan, None, 0, preprocessed, output, splits, TrainerOptions(num_epochs=1, iterations_per_epoch=1)).train()
    assert convolutions == {dtype}
    assert scaled == [dtype == torch.float16]
    assert load_checkpoint(output / "checkpoint_final.pth").record["precision"] == str(dtype).removeprefix("torch.")


@pytest.mark.slow
def test_a_training_in_bfloat16_learns_as_one_in_float32(
    tmp_path: Path, wide_plan: Plan, preprocessed: Path, splits: list, monkeypatch
) -> None:
    monkeypatch.setattr(MMCCDTrainer, "picture_interval", float("inf"))
    losses: dict[str, list[float]] = {}
    convolutions: set[torch.dtype] = set()

    class Noting(MMCCDTrainer):
        """Notes the format that the networks compute in."""

        def build_cycle(self):
            cycle = super().build_cycle()
            cycle.forward_network.stem.register_forward_hook(lambda *given: convolutions.add(given[2].dtype))
            return cycle

    for name, units in (("float32", False), ("bfloat16", True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: {"avx512_bf16": units}, raising=False)
        convolutions.clear()
        output = tmp_path / f"{name}__mmccdPlans__FLAIR-T1" / "fold_0"
        trainer = _train(Noting, wide_plan, preprocessed, output, splits)
        assert convolutions == {getattr(torch, name)}
        losses[name] = [sum(record["train"].values()) for record in trainer.log.read()]
        found = load_checkpoint(output / "checkpoint_final.pth")
        assert found.record["precision"] == name
        assert {one.dtype for one in found.weights.values()} == {torch.float32}
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"][-1] < 0.5 * losses["bfloat16"][0]


def _train(kind: Callable[..., MMCCDTrainer], plan: Plan, preprocessed: Path, output: Path, splits: list) -> MMCCDTrainer:
    trainer = kind(plan, None, 0, preprocessed, output, splits, TrainerOptions(num_epochs=3, iterations_per_epoch=6))
    trainer.train()
    return trainer
