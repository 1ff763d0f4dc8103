"""Trainers by name, also from a folder of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.cycle import CyclicUNet, MaskedModalityCycle
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.model_folder import fold_folder, model_folder_name
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.trainers import cycle_class_of, find_trainer

OWN_TRAINER = '''
from mmccd_auto.model.cycle import CyclicUNet
from mmccd_auto.training.trainers import CyclicUNetTrainer


class HalvedCycle(CyclicUNet):
    name = "halved"


class HalvedTrainer(CyclicUNetTrainer):
    """A tenth of the learning rate after the first epoch, no augmentation, half of the backward loss."""

    cycle_class = HalvedCycle

    def learning_rate(self, epoch):
        return self.settings.learning_rate * (1 if epoch == 0 else 0.1)

    def augmentation(self):
        return None

    def training_losses(self, cycle, x, y):
        losses = super().training_losses(cycle, x, y)
        return {**losses, "backward": losses["backward"] / 2}


class Unfinished(__import__("mmccd_auto.training.trainer", fromlist=["Trainer"]).Trainer):
    pass
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my_trainers"
    path.mkdir()
    (path / "own.py").write_text(OWN_TRAINER)
    return path


@pytest.mark.parametrize(("name", "cycle"), [("MMCCDTrainer", MaskedModalityCycle), ("CyclicUNetTrainer", CyclicUNet)])
def test_own_trainers(name: str, cycle: type) -> None:
    found = find_trainer(name)
    assert found.__name__ == name
    assert found.cycle_class is cycle


def test_unknown_trainer_lists_the_known(folder: Path) -> None:
    with pytest.raises(
        MMCCDError, match=r"no Trainer named Other: choose one of .*CyclicUNetTrainer.*HalvedTrainer.*MMCCDTrainer"
    ):
        find_trainer("Other", [folder])


def test_trainer_without_a_cycle_is_told(folder: Path) -> None:
    with pytest.raises(MMCCDError, match="Unfinished names no cycle"):
        find_trainer("Unfinished", [folder])


def test_outside_trainer_trains_and_its_model_can_be_built(
    folder: Path, tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list
) -> None:
    trainer_class = find_trainer("HalvedTrainer", [folder])
    output = fold_folder(tmp_path / model_folder_name("HalvedTrainer", "mmccdPlans", "FLAIR-T1"), 0)
    trainer = trainer_class(
        tiny_plan, None, 0, preprocessed, output, splits, TrainerOptions(num_epochs=2, iterations_per_epoch=1)
    )
    trainer.train()
    records = trainer.log.read()
    assert [record["learning_rate"] for record in records] == pytest.approx([1e-4, 1e-5])
    from mmccd_auto.trained.model_folder import ModelFolder

    checkpoint = ModelFolder(output.parent).checkpoint(0)
    assert (checkpoint.method, checkpoint.trainer) == ("halved", "HalvedTrainer")
    with pytest.raises(MMCCDError, match="HalvedTrainer"):
        cycle_class_of(checkpoint)
    cycle_class = cycle_class_of(checkpoint, [folder])
    assert type(checkpoint.build_cycle("cpu", cycle_class)).__name__ == "HalvedCycle"
