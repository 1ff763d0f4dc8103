"""Optimiser steps: in parts where the memory is small, and shared by several processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.checkpoint import load_checkpoint
from mmccd_auto.training.data.data_loading import MEMORY_LIMIT, memory_limit
from mmccd_auto.training.ema import ExponentialMovingAverage
from mmccd_auto.training.optimisation import Optimisation, TrainingState, lay_out_as_weights
from mmccd_auto.training.ranks import Ranks, join_ranks

CPU = torch.device("cpu")
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

SHARED_TRAINING = """
import json, os, sys
from pathlib import Path
import torch
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans.plan import Plan
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.ranks import join_ranks, leave_ranks
from mmccd_auto.training.trainers import MMCCDTrainer

given = json.loads(Path(sys.argv[1]).read_text())
torch.set_num_threads(1)
ranks, device = join_ranks(os.environ, torch.device("cpu"))
here = Path(given["folder"])


class Watched(MMCCDTrainer):
    def _run(self, state):
        super()._run(state)
        torch.save(state.cycle.state_dict(), here / f"{run['name']}_{self.ranks.rank}.pth")

    def training_losses(self, cycle, x, y):
        if cycle.training and not hasattr(self, "seen"):
            self.seen = x
            torch.save(x, here / f"seen_{self.ranks.rank}.pth")
        return super().training_losses(cycle, x, y)


class Hooked(Watched):
    def on_epoch_end(self, record, state):
        with torch.no_grad():
            for parameter in state.cycle.parameters():
                parameter.mul_(1 + 1e-3 * record.validation["forward"])


for run in given["runs"]:
    output = here / (run["output"] if isinstance(run["output"], str) else run["output"][ranks.rank]) / "fold_0"
    trainer = (Hooked if run["hook"] else Watched)(
        Plan.from_json(given["plan"]), None, 0, Path(given["preprocessed"]), output, given["splits"],
        TrainerOptions(num_epochs=run["epochs"], ranks=ranks),
    )
    try:
        trainer.train(overwrite=run["overwrite"])
    except MMCCDError as error:
        (here / f"{run['name']}_{ranks.rank}.txt").write_text(str(error))
leave_ranks()
"""

TOGETHER = """
import contextlib, os, sys
from pathlib import Path
import torch
from mmccd_auto.training.data.data_loading import MEMORY_LIMIT, memory_limit
from mmccd_auto.training.ema import ExponentialMovingAverage
from mmccd_auto.training.optimisation import Optimisation, TrainingState
from mmccd_auto.training.ranks import join_ranks, leave_ranks

ranks, _ = join_ranks(os.environ, torch.device("cpu"))
values = [torch.full((2, 3), 1.0 + ranks.rank), torch.arange(4.0) * (1 + 2 * ranks.rank)]
ranks.average(values)
assert (ranks.count, ranks.local_count) == (2, 2)
torch.testing.assert_close(values[0], torch.full((2, 3), 1.5))
torch.testing.assert_close(values[1], torch.arange(4.0) * 2)
assert ranks.gather({"of": ranks.rank}) == [{"of": 0}, {"of": 1}]
assert ranks.mean({"both": ranks.rank, str(ranks.rank): 3.0}) == {"both": 0.5, "0": 1.5, "1": 1.5}

# Each process leaves another network out of its losses; the two have weights of one shape.
cycle = torch.nn.ModuleDict({"0": torch.nn.Linear(1, 1, bias=False), "1": torch.nn.Linear(1, 1, bias=False)})
for network in cycle.values():
    torch.nn.init.ones_(network.weight)
state = TrainingState(
    cycle, ExponentialMovingAverage(cycle, 0.9), torch.optim.SGD(cycle.parameters(), lr=1.0),
    torch.amp.GradScaler("cpu", enabled=False), torch.empty(0),
)
losses_of = lambda cycle, x, y: {"mine": cycle[str(ranks.rank)].weight.sum() * (1 + ranks.rank) / 4}
Optimisation(losses_of, contextlib.nullcontext, 10.0, ranks).step(state, torch.zeros(1, 2, 1, 1))
assert [network.weight.item() for network in cycle.values()] == [1 - 1 / 8, 1 - 2 / 8]

# A thread of the group that outlived it could abort the process at its end.
threads = Path("/proc/self/task")
names = lambda: {(thread / "comm").read_text().strip() for thread in threads.iterdir()} if threads.exists() else set()
assert not threads.exists() or {"gloo_tcp_loop", "pt_gloo_runloop"} <= names(), names()
leave_ranks()
assert not {"gloo_tcp_loop", "pt_gloo_runloop"} & names(), names()
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


def weights_of(state: TrainingState) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in state.cycle.parameters()]


def test_a_batch_that_does_not_fit_is_worked_on_in_parts_alike_where_losses_are_means_over_slices(tiny_plan, caplog):
    images = torch.randn(6, 2, 32, 32)
    whole, _, expected = stepped(tiny_plan, images, 6)
    parted, optimisation, losses = stepped(tiny_plan, images, 2)
    assert optimisation.parts == 4
    assert "4 parts" in caplog.text
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
        assert not losses[name].requires_grad
    torch.testing.assert_close(weights_of(whole), weights_of(parted), rtol=1e-4, atol=1e-6)
    means = [list(state.ema.model.parameters()) for state in (whole, parted)]
    torch.testing.assert_close(*means, rtol=1e-4, atol=1e-6)
    for others in (weights_of(whole), weights_of(make_state(tiny_plan))):
        assert any(not torch.equal(mean, other) for mean, other in zip(means[0], others, strict=True))
    assert parted.step == whole.step == 1


def test_nothing_holds_on_to_what_did_not_fit_when_memory_is_given_back(tiny_plan, monkeypatch):
    graphs, held = [], []

    def no_room(gradient):
        raise torch.cuda.OutOfMemoryError

    def losses_of(cycle, x, y):
        losses = plain_losses(cycle, x, y)
        if len(x) > 1:
            losses["forward"].register_hook(no_room)
            graphs.append(weakref.ref(losses["forward"]))
        return losses

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(graphs[-1]() is not None))
    optimisation = Optimisation(losses_of, contextlib.nullcontext, 1.0)
    optimisation.step(make_state(tiny_plan), torch.randn(2, 2, 32, 32))
    assert optimisation.parts == 2
    assert held == [False]


def scaled_steps(plan: Plan, scaled: bool, parts: int, infinite_at: int | None = None) -> tuple[TrainingState, list]:
    """Three steps, with or without the loss scaling of float16; the weights after each."""

    def losses_of(cycle, x, y):
        factor = float("inf") if state.step == infinite_at else 1.0
        return {name: factor * loss for name, loss in plain_losses(cycle, x, y).items()}

    images = torch.randn(6, 2, 32, 32, generator=torch.Generator().manual_seed(3))
    state = make_state(plan)
    state.optimizer = torch.optim.AdamW(state.cycle.parameters(), lr=1e-3, fused=True)
    state.scaler = torch.amp.GradScaler("cpu", enabled=scaled, init_scale=1024.0)
    optimisation = Optimisation(losses_of, contextlib.nullcontext, 1.0)
    optimisation.parts = parts
    seen = []
    for _ in range(3):
        optimisation.step(state, images)
        seen.append([weights.clone() for weights in weights_of(state)])
    return state, seen


@pytest.mark.parametrize("parts", [1, 3])
def test_scaled_losses_give_the_same_steps(tiny_plan, parts):
    expected, found = (scaled_steps(tiny_plan, scaled, parts)[1] for scaled in (False, True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_step_with_an_infinite_gradient_is_left_out_and_the_scale_halved(tiny_plan):
    state, (first, second, third) = scaled_steps(tiny_plan, True, 1, infinite_at=1)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    assert any(not torch.equal(one, other) for one, other in zip(third, second, strict=True))
    assert state.scaler.get_scale() == 512
    assert {float(one["step"]) for one in state.optimizer.state.values()} == {2}
    assert all(one.isfinite().all() for one in state.ema.model.parameters())


@pytest.mark.parametrize("fused", [True, False])
def test_moments_of_another_memory_layout_are_laid_out_as_the_weights(fused):
    generator = torch.Generator().manual_seed(0)
    weights, gradient, first = (torch.randn(8, 4, 3, 3, generator=generator) for _ in range(3))
    second = torch.rand(8, 4, 3, 3, generator=generator) + 1e-3
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter, alone = torch.nn.Parameter(weights.clone()), torch.nn.Parameter(torch.tensor(0.5))
        optimizer = torch.optim.AdamW([parameter, alone], lr=1e-2, fused=fused)
        parameter.grad, alone.grad = gradient.clone(), torch.tensor(1.0)
        moments = {"exp_avg": first.clone(memory_format=layout), "exp_avg_sq": second.clone(memory_format=layout)}
        of_one = {name: torch.tensor(0.25) for name in moments}
        states = {number: {"step": torch.tensor(10.0), **one} for number, one in enumerate((moments, of_one))}
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        lay_out_as_weights(optimizer)
        assert optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()
        optimizer.step()
        found.append([parameter.detach(), alone.detach()])
    torch.testing.assert_close(*found)


def test_no_room_for_one_slice_is_an_error(tiny_plan):
    with pytest.raises(torch.cuda.OutOfMemoryError):
        stepped(tiny_plan, torch.randn(3, 2, 32, 32), 0)


def test_a_process_that_torchrun_did_not_start_is_alone():
    assert join_ranks({}, CPU) == (Ranks(0, 1, 1), CPU)
    assert Ranks().share(7) == 7
    values = [torch.ones(3)]
    Ranks().average(values)
    assert torch.equal(values[0], torch.ones(3))
    assert Ranks().gather("one") == ["one"]


def test_the_processes_of_one_machine_share_the_memory_for_slices(monkeypatch):
    for method, workers in (("fork", 0), ("spawn", 3)):
        monkeypatch.setattr("multiprocessing.get_start_method", lambda method=method: method)
        assert memory_limit(3, Ranks(5, 8, 4).local_count) == MEMORY_LIMIT // (workers + 1) // 4
        assert memory_limit(3) == MEMORY_LIMIT // (workers + 1)


def test_batches_that_can_not_be_divided_and_devices_for_one_process_are_refused():
    with pytest.raises(MMCCDError, match="can't be divided among 3"):
        Ranks(0, 3).share(8)
    with pytest.raises(MMCCDError, match="mps"):
        join_ranks({"WORLD_SIZE": "2"}, torch.device("mps"))


def run_ranks(script: str, folder: Path, *arguments: str) -> None:
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *LAUNCH, str(path), *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_gradients_are_averaged_over_the_processes_those_that_one_of_them_lacks_too(tmp_path):
    run_ranks(TOGETHER, tmp_path)


def shared_run(name: str, epochs: int, output: str | list[str], overwrite: bool = False, hook: bool = False) -> dict:
    return {"name": name, "epochs": epochs, "output": output, "overwrite": overwrite, "hook": hook}


@pytest.fixture
def weights_of_ranks(tmp_path):
    """Gives what each of two processes ended a run with."""
    return lambda name: [torch.load(tmp_path / f"{name}_{rank}.pth", weights_only=True) for rank in (0, 1)]


def test_two_processes_train_one_model_and_one_of_them_writes(tmp_path, tiny_plan, preprocessed, splits, weights_of_ranks):
    runs = [
        shared_run("begun", 1, "model"),
        shared_run("continued", 2, "model"),
        shared_run("undisturbed", 2, "undisturbed"),
        shared_run("hooked", 2, "hooked", hook=True),
        shared_run("apart", 3, ["model", "elsewhere"]),
    ]
    given = {"plan": tiny_plan.to_json(), "preprocessed": str(preprocessed), "folder": str(tmp_path), "splits": splits}
    (tmp_path / "given.json").write_text(json.dumps(given | {"runs": runs}))
    run_ranks(SHARED_TRAINING, tmp_path, str(tmp_path / "given.json"))

    seen = weights_of_ranks("seen")
    assert seen[0].shape == seen[1].shape
    assert len(seen[0]) * 2 == tiny_plan.training.batch_size
    assert not torch.equal(seen[0], seen[1])
    for name in ("begun", "continued", "undisturbed", "hooked"):
        torch.testing.assert_close(*weights_of_ranks(name), rtol=0, atol=0)
    continued, undisturbed = (weights_of_ranks(name)[0] for name in ("continued", "undisturbed"))
    torch.testing.assert_close(continued, undisturbed, rtol=0, atol=0)

    output = tmp_path / "model" / "fold_0"
    final = load_checkpoint(output / "checkpoint_final.pth")
    assert (final.epoch, final.record["processes"]) == (2, 2)
    torch.testing.assert_close(final.raw_weights, continued, rtol=0, atol=0)
    lines = (output / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert load_json(output.parent / "plans.json")["plans_name"] == tiny_plan.plans_name

    for rank in (0, 1):
        told = (tmp_path / f"apart_{rank}.txt").read_text()
        assert "process 0: epoch 2, step 10; process 1: epoch 0, step 0" in told
        assert "the same results folder" in told
    assert not (tmp_path / "elsewhere").exists()
