"""What a trainer keeps to, whatever its subclass overrides: clipping, random states, the order at an epoch's end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from mmccd_auto.model.cycle import Cycle
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.checkpoint import load_checkpoint
from mmccd_auto.training.optimisation import TrainingState
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.progress import EpochRecord
from mmccd_auto.training.trainer import Trainer
from mmccd_auto.training.trainers import CyclicUNetTrainer, MMCCDTrainer

Train = Callable[..., Trainer]


@pytest.fixture
def train(tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains fold 0 for two epochs of three iterations, without pictures, and returns the trainer."""
    monkeypatch.setattr(Trainer, "picture_interval", float("inf"))

    def run(kind: type[Trainer], name: str = "T", **options: int) -> Trainer:
        output = tmp_path / f"{name}__mmccdPlans__FLAIR-T1" / "fold_0"
        trainer = kind(
            tiny_plan, None, 0, preprocessed, output, splits, TrainerOptions(num_epochs=2, iterations_per_epoch=3, **options)
        )
        trainer.train()
        return trainer

    return run


def test_gradients_are_clipped_for_each_network_on_its_own(train: Train, tiny_plan: Plan) -> None:
    norms: list[list[float]] = []

    class Unequal(CyclicUNetTrainer):
        """The forward loss is a million times the backward one."""

        def training_losses(self, cycle: Cycle, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            losses = super().training_losses(cycle, x, y)
            return {"forward": 1e3 * losses["forward"], "backward": 1e-3 * losses["backward"]}

        def make_optimizer(self, cycle: Cycle) -> Optimizer:
            optimizer = super().make_optimizer(cycle)

            def note(*_: object) -> None:
                networks = (cycle.forward_network, cycle.backward_network)
                gradients = [[one.grad.flatten() for one in network.parameters()] for network in networks]
                norms.append([torch.cat(one).norm().item() for one in gradients])

            optimizer.register_step_pre_hook(note)
            return optimizer

    train(Unequal)
    assert len(norms) == 6
    for forward, backward in norms:
        assert forward == pytest.approx(tiny_plan.training.gradient_clip, rel=1e-3)
        # clipping both together would have left less than a millionth of the limit
        assert 1e-5 < backward < 0.1


def test_global_random_states_are_left_as_they_were(train: Train) -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(2), np.random.random(2)  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    train(MMCCDTrainer)
    assert torch.equal(torch.rand(2), expected[0])
    np.testing.assert_array_equal(np.random.random(2), expected[1])  # noqa: NPY002


def test_a_training_does_not_depend_on_its_workers_nor_on_what_was_drawn_before(train: Train) -> None:
    torch.manual_seed(1)
    one = train(MMCCDTrainer, "one")
    torch.manual_seed(2)
    other = train(MMCCDTrainer, "other", processes=2)
    weights = [load_checkpoint(trainer.output / "checkpoint_final.pth").raw_weights for trainer in (one, other)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_at_an_epochs_end_its_log_line_and_checkpoint_are_there(train: Train) -> None:
    seen = []

    class Watching(CyclicUNetTrainer):
        """Notes what is there at the end of each epoch."""

        def on_epoch_end(self, record: EpochRecord, state: TrainingState) -> None:
            latest = load_checkpoint(self.output / "checkpoint_latest.pth")
            seen.append((record.epoch, state.step, latest.epoch, len(self.log.read())))

    train(Watching)
    assert seen == [(1, 3, 1, 1), (2, 6, 2, 2)]


def test_each_epoch_has_its_learning_rate(train: Train) -> None:
    class Falling(CyclicUNetTrainer):
        """Stands still in the second epoch."""

        def learning_rate(self, epoch: int) -> float:
            return [1e-3, 0.0][epoch]

    steps: dict[int, Tensor] = {}

    class Watched(Falling):
        """Keeps a weight of each epoch's end."""

        def on_epoch_end(self, record: EpochRecord, state: TrainingState) -> None:
            steps[record.epoch] = next(state.cycle.parameters()).detach().clone()

    trainer = train(Watched)
    assert [record["learning_rate"] for record in trainer.log.read()] == [1e-3, 0.0]
    assert torch.equal(steps[1], steps[2])
