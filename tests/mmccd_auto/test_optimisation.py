"""Optimiser steps: in parts where the memory is small, and shared by several processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmccd_auto.errors import MMCCDError
from mmccd_auto.files import load_json
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.plans.plan import Plan
from mmccd_auto.training.checkpoint import load_checkpoint
from mmccd_auto.training.ema import ExponentialMovingAverage
from mmccd_auto.training.optimisation import Optimisation, TrainingState
from mmccd_auto.training.ranks import Ranks, join_ranks

CPU = torch.device("cpu")
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

SHARED_TRAINING = """
import json, os, sys
from pathlib import Path
import torch
from mmccd_auto.plans.plan import Plan
from mmccd_auto.training.ranks import join_ranks, leave_ranks
from mmccd_auto.training.trainers import MMCCDTrainer

given = json.loads(Path(sys.argv[1]).read_text())
torch.set_num_threads(1)
ranks, device = join_ranks(os.environ, torch.device("cpu"))


class Watched(MMCCDTrainer):
    def _run(self, state):
        super()._run(state)
        torch.save(state.cycle.state_dict(), Path(given["weights"]) / f"{self.ranks.rank}.pth")

    def training_losses(self, cycle, x, y):
        if cycle.training and not hasattr(self, "seen"):
            self.seen = x
            torch.save(x, Path(given["weights"]) / f"seen_{self.ranks.rank}.pth")
        return super().training_losses(cycle, x, y)


trainer = Watched(
    Plan.from_json(given["plan"]), None, 0, Path(given["preprocessed"]), Path(given["output"]), given["splits"],
    num_epochs=given["epochs"], ranks=ranks,
)
trainer.train(resume=given["resume"])
leave_ranks()
"""

MEAN_OF_GRADIENTS = """
import os, sys
import torch
from mmccd_auto.training.ranks import join_ranks, leave_ranks

ranks, _ = join_ranks(os.environ, torch.device("cpu"))
values = [torch.full((2, 3), 1.0 + ranks.rank), torch.arange(4.0) * (1 + 2 * ranks.rank)]
ranks.average(values)
assert ranks.count == 2
torch.testing.assert_close(values[0], torch.full((2, 3), 1.5))
torch.testing.assert_close(values[1], torch.arange(4.0) * 2)
leave_ranks()
"""


def plain_losses(cycle, x, y):
    """Losses that are means over the batch, and draw nothing."""
    return {
        "forward": ((cycle.forward_network(x) - y) ** 2).mean(),
        "backward": ((cycle.backward_network(y) - x) ** 2).mean(),
    }


def make_state(plan: Plan) -> TrainingState:
    torch.manual_seed(1)
    cycle = build_cycle("cyclic_unet", plan)
    with torch.no_grad():
        for parameter in cycle.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    cycle.train().apply(lambda module: setattr(module, "p", 0.0))
    return TrainingState(
        cycle,
        ExponentialMovingAverage(cycle, 0.9),
        torch.optim.SGD(cycle.parameters(), lr=0.1),
        torch.amp.GradScaler("cpu", enabled=False),
        torch.empty(0),
    )


def stepped(plan: Plan, images: torch.Tensor, room: int) -> tuple[TrainingState, Optimisation, dict[str, torch.Tensor]]:
    """A step on a device that has room for ``room`` slices at once."""

    def losses_of(cycle, x, y):
        if len(x) > room:
            raise torch.cuda.OutOfMemoryError
        return plain_losses(cycle, x, y)

    state, optimisation = make_state(plan), Optimisation(losses_of, contextlib.nullcontext, 1.0)
    return state, optimisation, optimisation.step(state, images)


def test_a_batch_that_does_not_fit_is_worked_on_in_parts_with_the_same_result(tiny_plan, caplog):
    images = torch.randn(6, 2, 32, 32)
    whole, _, expected = stepped(tiny_plan, images, 6)
    parted, optimisation, losses = stepped(tiny_plan, images, 2)
    assert optimisation.parts == 4
    assert "4 parts" in caplog.text
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
        assert not losses[name].requires_grad
    for one, other in zip(whole.cycle.parameters(), parted.cycle.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert parted.step == whole.step == 1


def test_no_room_for_one_slice_is_an_error(tiny_plan):
    with pytest.raises(torch.cuda.OutOfMemoryError):
        stepped(tiny_plan, torch.randn(3, 2, 32, 32), 0)


def test_a_process_that_torchrun_did_not_start_is_alone():
    assert join_ranks({}, CPU) == (Ranks(0, 1), CPU)
    assert Ranks().share(7) == 7
    values = [torch.ones(3)]
    Ranks().average(values)
    assert torch.equal(values[0], torch.ones(3))


def test_batches_that_can_not_be_divided_and_devices_for_one_process_are_refused():
    with pytest.raises(MMCCDError, match="can't be divided among 3"):
        Ranks(0, 3).share(8)
    with pytest.raises(MMCCDError, match="mps"):
        join_ranks({"WORLD_SIZE": "2"}, torch.device("mps"))


def run_ranks(script: str, folder: Path, *arguments: str) -> None:
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *LAUNCH, str(path), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_tensors_are_averaged_over_the_processes(tmp_path):
    run_ranks(MEAN_OF_GRADIENTS, tmp_path)


def test_two_processes_train_one_model_on_different_slices_and_one_of_them_writes(tmp_path, tiny_plan, preprocessed, splits):
    given = {
        "plan": tiny_plan.to_json(),
        "preprocessed": str(preprocessed),
        "output": str(tmp_path / "model" / "fold_0"),
        "weights": str(tmp_path),
        "splits": splits,
        "epochs": 1,
        "resume": False,
    }
    for epochs, resume in ((1, False), (2, True)):
        (tmp_path / "given.json").write_text(json.dumps(given | {"epochs": epochs, "resume": resume}))
        run_ranks(SHARED_TRAINING, tmp_path, str(tmp_path / "given.json"))
        first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1))
        assert all(torch.equal(first[name], second[name]) for name in first)
        seen = [torch.load(tmp_path / f"seen_{rank}.pth", weights_only=True) for rank in (0, 1)]
        assert seen[0].shape == seen[1].shape
        assert len(seen[0]) * 2 == tiny_plan.training.batch_size
        assert not torch.equal(seen[0], seen[1])
    output = Path(given["output"])
    final = load_checkpoint(output / "checkpoint_final.pth")
    assert final.epoch == 2
    assert all(torch.equal(final.raw_weights[name], first[name]) for name in first)
    lines = (output / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert load_json(output.parent / "plans.json")["plans_name"] == tiny_plan.plans_name
