"""The lesion remover: its network, its training, its maps through the real commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmccd_auto.inference.maps.engine import MapMaker, anomaly_maps
from mmccd_auto.inference.maps.fold_model import load_fold
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.model.block_unet import BlockUNet
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.model.lesion_remover import LesionRemover
from mmccd_auto.plans.plan import Plan, TrainingPlan
from mmccd_auto.synthetic_anomalies.batched.draws import Draws
from mmccd_auto.trained.checkpoint import load_checkpoint
from mmccd_auto.trained.model_folder import ModelFolder, fold_folder, model_folder_name
from mmccd_auto.training.budget.learning_rate import one_cycle
from mmccd_auto.training.data.data_loading import TrainingSlice
from mmccd_auto.training.data.modality_scales import measure_scales
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.trainer import Trainer
from mmccd_auto.training.trainers import MMCCDTrainerLesionRemover, cycle_class_of, find_trainer

CPU = torch.device("cpu")
BACKGROUND = -3.0
NAME = "MMCCDTrainerLesionRemover"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def remover(tiny_plan: Plan) -> LesionRemover:
    """In evaluation mode, with random weights, since a fresh network answers 0."""
    built = build_cycle("lesion_remover", tiny_plan)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return built.eval()


def make_slices(count: int = 3) -> tuple[Tensor, Tensor]:
    """x [N, 1, 32, 32] of two tissues with background around a brain, and where the brain is."""
    inside = torch.zeros(count, 1, 32, 32, dtype=torch.bool)
    inside[..., 3:29, 5:27] = True
    tissue = torch.where(Draws(count, torch.Generator().manual_seed(5)).smooth((32, 32), 3) > 0, 1.5, 0.0)
    return torch.where(inside, tissue, BACKGROUND), inside


def train(folder: Path, plan: Plan, preprocessed: Path, splits: list, **options: int) -> Trainer:
    """Fold 0 of FLAIR-T1."""
    output = fold_folder(folder / model_folder_name(NAME, plan.plans_name, "FLAIR-T1"), 0)
    trainer = MMCCDTrainerLesionRemover(plan, "FLAIR-T1", 0, preprocessed, output, splits, TrainerOptions(**options))
    trainer.train()
    return trainer


@pytest.fixture
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "picture_interval", float("inf"))


def test_the_network_is_small() -> None:
    assert 200_000 < sum(one.numel() for one in BlockUNet(2, 1).parameters()) < 250_000


@pytest.mark.parametrize("shape", [(64, 56), (30, 37), (8, 8)])
def test_the_network_takes_any_edges_and_begins_with_zero(shape: tuple[int, int]) -> None:
    network = BlockUNet(2, 1)
    answer = network(torch.randn(2, 2, *shape))
    assert answer.shape == (2, 1, *shape)
    assert answer.abs().max() == 0


def test_a_fresh_remover_takes_nothing_off_and_a_trained_one_leaves_the_background(
    tiny_plan: Plan, remover: LesionRemover
) -> None:
    x, inside = make_slices()
    assert torch.equal(build_cycle("lesion_remover", tiny_plan).restore(x), x)
    restored = remover.restore(x)
    assert torch.equal(restored[~inside], x[~inside])
    assert (restored - x)[inside].abs().mean() > 0.01


def test_what_is_restored_does_not_depend_on_the_batch(remover: LesionRemover) -> None:
    x, _ = make_slices(4)
    with torch.inference_mode():
        together = remover.restore(x)
        alone = torch.cat([remover.restore(x[[place]]) for place in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("done", "tolerance"), [(0.0, 2.0), (0.25, 0.1**0.5), (0.5, 0.05), (0.9, 0.05)])
def test_pixels_in_lesions_weigh_five_times_as_much(tiny_plan: Plan, done: float, tolerance: float) -> None:
    """A remover that takes nothing off is wrong by exactly what the lesions changed, whatever the tolerance; the gradient
    of what it should take off everywhere is Huber's."""
    built = build_cycle("lesion_remover", tiny_plan)
    built.begin_epoch(done)
    x, _ = make_slices(8)
    torch.manual_seed(3)
    loss = built.training_losses(x, x)["restoration"]
    torch.manual_seed(3)
    made = built.lesions.draw(x, torch.Generator().manual_seed(int(torch.randint(2**62, ()))))
    weight = np.where(made.lesion.numpy(), 5.0, 1.0) * (made.altered != BACKGROUND).numpy()
    error = (made.altered - made.healthy).numpy()
    size = np.abs(error)
    value = np.where(size < 0.05, size**2 / 0.1, size - 0.025)
    assert float(loss.detach()) == pytest.approx((weight * value).sum() / weight.sum(), rel=1e-5)
    loss.backward()
    slope = np.clip(error / tolerance, -1, 1)
    found = float(built.network.output.bias.grad.sum())
    assert found == pytest.approx((weight * slope).sum() / weight.sum(), rel=1e-4)


def test_it_is_shown_minutes_of_slices_at_most(tiny_plan: Plan, preprocessed: Path, splits: list, tmp_path: Path) -> None:
    def settings(batch: int, per_epoch: int, epochs: int) -> TrainingPlan:
        planned = TrainingPlan(batch_size=batch, iterations_per_epoch=per_epoch, num_epochs=epochs)
        plan = replace(tiny_plan, training=planned)
        return MMCCDTrainerLesionRemover(plan, None, 0, preprocessed, tmp_path / "fold_0", splits).settings

    paper, short = settings(32, 250, 400), settings(16, 20, 24)
    assert (paper.batch_size, paper.iterations_per_epoch * paper.num_epochs) == (16, 1500)
    assert 0.95 * 480 <= short.iterations_per_epoch * short.num_epochs <= 480
    for planned in (settings(4, 5, 2), settings(64, 1, 1), settings(3, 1, 1)):
        assert planned.batch_size * planned.iterations_per_epoch * planned.num_epochs <= 64
        assert min(planned.batch_size, planned.iterations_per_epoch, planned.num_epochs) >= 1


def test_the_learning_rate_rises_for_a_tenth_and_falls_to_nearly_nothing() -> None:
    rates = [one_cycle(2e-3, epoch, 60) for epoch in range(60)]
    assert rates[0] < 4e-4
    assert max(rates) == pytest.approx(2e-3, rel=0.01)
    assert int(np.argmax(rates)) in (5, 6)
    assert rates[:6] == sorted(rates[:6])
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert 0 < rates[-1] < 1e-5
    assert 0 < one_cycle(2e-3, 0, 1) <= 2e-3


def test_scales_are_those_of_the_training_cases(preprocessed: Path, tmp_path: Path) -> None:
    """The tiny cases were normalised by shift 0 and scale 1: no signal is -3. White matter is a percentile of the brain."""
    slices = [TrainingSlice("b_1", "b", path, (0, 1)) for path in sorted((preprocessed / "b_1").glob("slice_*.npz"))]
    flair, t1 = measure_scales(preprocessed, slices, ("FLAIR", "T1"))
    brains = []
    for one in slices:
        with np.load(one.file) as content:
            brains.append(content["image"][:, content["brain"]])
    brain = np.concatenate(brains, axis=1)
    assert (flair.modality, flair.zero, t1.zero) == ("FLAIR", -3.0, -3.0)
    assert flair.white_matter == pytest.approx(np.percentile(brain[0], 45), abs=1e-5)
    assert t1.white_matter == pytest.approx(np.percentile(brain[1], 80), abs=1e-5)


@pytest.fixture
def flat(preprocessed: Path, _no_pictures: None) -> Path:
    """The tiny cases with FLAIR brains of two tissues without any lesion."""
    for seed, path in enumerate(sorted(preprocessed.glob("*/slice_*.npz"))):
        with np.load(path) as content:
            slice_ = dict(content)
        pattern = Draws(1, torch.Generator().manual_seed(seed)).smooth((32, 32), 4)[0, 0].numpy()
        slice_["image"][0] = np.where(slice_["brain"], np.where(pattern > 0, 1.5, 0.0), BACKGROUND)
        np.savez(path, **slice_)
    return preprocessed


def test_training_teaches_it_to_take_lesions_off(tmp_path: Path, tiny_plan: Plan, flat: Path, splits: list) -> None:
    """The loss falls, and what is taken off is larger inside a lesion that was put in than outside."""
    plan = replace(tiny_plan, training=replace(tiny_plan.training, batch_size=16))
    trainer = train(tmp_path, plan, flat, splits, num_epochs=5, iterations_per_epoch=20)
    records = trainer.log.read()
    assert all(set(record[losses]) == {"restoration"} for record in records for losses in ("train", "validation"))
    assert records[-1]["train"]["restoration"] < 0.85 * records[0]["train"]["restoration"]
    assert records[-1]["validation"]["restoration"] < records[0]["validation"]["restoration"]
    trained = load_checkpoint(trainer.output / "checkpoint_final.pth").build_cycle()
    x, inside = make_slices(1)
    x[..., 12:18, 10:16] = 6.0
    with torch.inference_mode():
        off = (x - trained.restore(x))[inside].numpy()
    lesion = torch.zeros_like(inside)
    lesion[..., 12:18, 10:16] = True
    within = lesion[inside].numpy()
    assert off[within].mean() > 0.5
    assert off[within].mean() > 5 * np.abs(off[~within]).mean()


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, tiny_plan: Plan, flat: Path, splits: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The learning rate depends on the number of epochs, which a training that is cut short here must not change.
    monkeypatch.setattr(MMCCDTrainerLesionRemover, "learning_rate", lambda self, epoch: 1e-3)
    whole = train(tmp_path / "whole", tiny_plan, flat, splits, num_epochs=2, iterations_per_epoch=2)
    part = train(tmp_path / "part", tiny_plan, flat, splits, num_epochs=1, iterations_per_epoch=2)
    rest = MMCCDTrainerLesionRemover(
        tiny_plan, None, 0, flat, part.output, splits, TrainerOptions(num_epochs=2, iterations_per_epoch=2)
    )
    rest.train()
    weights = [load_checkpoint(one.output / "checkpoint_final.pth").raw_weights for one in (whole, rest)]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-7)


def test_scores_of_dark_lesions_are_not_joined_with_the_control(
    tmp_path: Path, tiny_plan: Plan, flat: Path, splits: list
) -> None:
    cycle = tiny_plan.configuration("FLAIR-T1")
    plan = replace(tiny_plan, configurations={"FLAIR-T1": replace(cycle, score=replace(cycle.score, lesion_sign="darker"))})
    trainer = train(tmp_path, plan, flat, splits, num_epochs=1, iterations_per_epoch=1)
    assert ModelFolder(trainer.output.parent).plan.configuration("FLAIR-T1").score.control_weight == 0


def test_a_checkpoint_comes_back_and_makes_signed_maps(tmp_path: Path, tiny_plan: Plan, flat: Path, splits: list) -> None:
    trainer = train(tmp_path, tiny_plan, flat, splits, num_epochs=1, iterations_per_epoch=2)
    model = ModelFolder(trainer.output.parent)
    checkpoint = model.checkpoint(0)
    assert (checkpoint.method, checkpoint.trainer) == ("lesion_remover", NAME)
    assert cycle_class_of(checkpoint) is LesionRemover
    assert find_trainer(NAME) is MMCCDTrainerLesionRemover
    assert tiny_plan.configuration("FLAIR-T1").score.other_weight == 0.5
    assert {one.score.other_weight for one in model.plan.configurations.values()} == {0.0}
    # Joined with the score without a network, where that finds something.
    assert tiny_plan.configuration("FLAIR-T1").score.control_weight == 0
    assert {one.score.control_weight for one in model.plan.configurations.values()} == {0.5}
    x, inside = make_slices()
    loaded = load_fold(model, "0", CPU).cycle
    maps = anomaly_maps(
        MapMaker(loaded, make_settings(tiny_plan), CPU, (32, 32)), x[:, 0].numpy(), inside[:, 0].numpy(), "case"
    )
    with torch.inference_mode():
        error = torch.where(inside, x - loaded.restore(x), 0)[:, 0].numpy()
    np.testing.assert_allclose(maps.signed, error, rtol=1e-4, atol=1e-5)
    assert np.abs(maps.signed).max() > 0


def test_the_picture_shows_a_slice_with_lesions_and_without(remover: LesionRemover) -> None:
    x, inside = make_slices(2)
    keys = torch.tensor([4, 7])
    altered, restored, reconstruction = remover.illustrate(x, torch.ones_like(x), keys)
    assert torch.equal(altered, remover.illustrate(x, torch.ones_like(x), keys)[0])
    assert torch.equal(restored, remover.restore(altered))
    assert torch.equal(reconstruction, remover.restore(x))
    assert not torch.equal(altered[0], altered[1])
    assert (reconstruction[~inside] == BACKGROUND).all()
