"""Checkpoints: they come back as they were, hold nothing that runs, and tell when they are damaged."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.cycle import CyclicUNet, build_cycle
from mmccd_auto.plans.plan import NetworkPlan, Plan
from mmccd_auto.trained.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def make_checkpoint(plan: Plan) -> Checkpoint:
    torch.manual_seed(1)
    mean, raw = build_cycle("cyclic_unet", plan), build_cycle("cyclic_unet", plan)
    optimizer = torch.optim.AdamW(raw.parameters())
    sum(raw.training_losses(torch.randn(1, 1, 32, 32), torch.randn(1, 1, 32, 32)).values()).backward()
    optimizer.step()
    return Checkpoint(
        method="cyclic_unet",
        trainer="CyclicUNetTrainer",
        plan=plan,
        configuration="FLAIR-T1",
        fold="0",
        epoch=2,
        step=10,
        weights=mean.state_dict(),
        raw_weights=raw.state_dict(),
        optimizer=optimizer.state_dict(),
        record={"healthy_slices": 12},
    )


class Harmful:
    """What a malicious file may hold: reading it with full pickle would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_comes_back_as_it_was(tmp_path: Path, tiny_plan: Plan) -> None:
    saved = make_checkpoint(tiny_plan)
    save_checkpoint(saved, tmp_path / "checkpoint.pth")
    loaded = load_checkpoint(tmp_path / "checkpoint.pth")
    for name in ("method", "trainer", "plan", "configuration", "fold", "epoch", "step", "record"):
        assert getattr(loaded, name) == getattr(saved, name)
    for name in ("weights", "raw_weights"):
        torch.testing.assert_close(getattr(loaded, name), getattr(saved, name), rtol=0, atol=0)
    torch.testing.assert_close(loaded.optimizer["state"], saved.optimizer["state"], rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pth"]


def test_equal_checkpoints_are_equal_files(tmp_path: Path, tiny_plan: Plan) -> None:
    checkpoint = make_checkpoint(tiny_plan)
    save_checkpoint(checkpoint, tmp_path / "one.pth")
    save_checkpoint(checkpoint, tmp_path / "two.pth")
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "two.pth").read_bytes()


def test_builds_the_cycle_with_the_mean_weights(tmp_path: Path, tiny_plan: Plan) -> None:
    saved = make_checkpoint(tiny_plan)
    save_checkpoint(saved, tmp_path / "checkpoint.pth")
    loaded = load_checkpoint(tmp_path / "checkpoint.pth")
    for raw, weights in ((False, saved.weights), (True, saved.raw_weights)):
        cycle = loaded.build_cycle("cpu", raw=raw)
        assert isinstance(cycle, CyclicUNet)
        assert not cycle.training
        assert not any(parameter.requires_grad for parameter in cycle.parameters())
        torch.testing.assert_close(dict(cycle.state_dict()), dict(weights), rtol=0, atol=0)


def test_unknown_method_and_unfit_weights_are_told(tiny_plan: Plan) -> None:
    checkpoint = make_checkpoint(tiny_plan)
    with pytest.raises(MMCCDError, match="method other, trained by CyclicUNetTrainer, is unknown"):
        dataclasses.replace(checkpoint, method="other").build_cycle()
    network = NetworkPlan(
        base_channels=16, channel_multipliers=(1, 2), residual_blocks=1, attention_edges=(16,), norm_groups=4
    )
    other = dataclasses.replace(tiny_plan, network=network)
    with pytest.raises(MMCCDError, match="do not fit"):
        dataclasses.replace(checkpoint, plan=other).build_cycle()


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "checkpoint.pth", tmp_path / "was_run"
    torch.save({"metadata": Harmful(trace)}, path)
    with pytest.raises(MMCCDError, match=r"checkpoint\.pth is damaged or not a checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Harmful(trace)))
    with pytest.raises(MMCCDError, match=r"checkpoint\.pth"):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.98])
def test_a_truncated_file_is_told(tmp_path: Path, tiny_plan: Plan, kept: float) -> None:
    path = tmp_path / "checkpoint.pth"
    save_checkpoint(make_checkpoint(tiny_plan), path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(MMCCDError, match=r"checkpoint\.pth is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1], {"metadata": "{}"}, {"metadata": "no json"}, {"metadata": 3}])
def test_something_else_is_told(tmp_path: Path, content: object) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    with pytest.raises(MMCCDError, match=r"checkpoint\.pth is not a checkpoint of this package"):
        load_checkpoint(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MMCCDError, match="does not exist: train this fold first"):
        load_checkpoint(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x80\x02.", b"\x80\x02s", b"\x80\x02(l0", b"PK\x03\x04" + bytes(50), bytes(200)]
)
def test_any_bytes_are_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    with pytest.raises(MMCCDError, match=r"checkpoint\.pth is (damaged or )?not a checkpoint"):
        load_checkpoint(path)


def test_a_full_disk_is_told_and_the_old_checkpoint_stays(tmp_path: Path, tiny_plan: Plan) -> None:
    resource = pytest.importorskip("resource", reason="limits of file sizes are of POSIX systems")
    path = tmp_path / "checkpoint.pth"
    checkpoint = make_checkpoint(tiny_plan)
    save_checkpoint(checkpoint, path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1000, len(before) // 2, len(before) - 4000, len(before) - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(MMCCDError, match=r"checkpoint\.pth could not be written .*free some disk space"):
                save_checkpoint(dataclasses.replace(checkpoint, epoch=3), path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pth"]
