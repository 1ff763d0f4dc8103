"""The remover that looks at any subset of the other modalities: its network, its lesions, its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.cycle import CYCLES, build_cycle
from mmccd_auto.model.subset_remover import SubsetRemover, draw_kept
from mmccd_auto.plans.plan import ConfigurationPlan, Plan
from mmccd_auto.synthetic_anomalies.batched.draw import BatchedLesions
from mmccd_auto.synthetic_anomalies.batched.draws import Draws
from mmccd_auto.synthetic_anomalies.batched.tissues import ModalityScale
from mmccd_auto.trained.checkpoint import load_checkpoint
from mmccd_auto.trained.model_folder import fold_folder, model_folder_name
from mmccd_auto.training.data.data_loading import SliceStore
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.start import Start
from mmccd_auto.training.trainer import Trainer
from mmccd_auto.training.trainers import MMCCDTrainerSubsetRemover

BACKGROUND = -3.0
NAME = "MMCCDTrainerSubsetRemover"


@pytest.fixture
def plan(tiny_plan: Plan) -> Plan:
    """The tiny plan with T2 as well."""
    configurations = {**tiny_plan.configurations, "T2-T1": ConfigurationPlan("T2", "T1", 2, 4)}
    normalisation = dict.fromkeys(("FLAIR", "T1", "T2"), "percentile")
    return replace(tiny_plan, modalities=("FLAIR", "T1", "T2"), normalisation=normalisation, configurations=configurations)


@pytest.fixture
def remover(plan: Plan) -> SubsetRemover:
    """In evaluation mode, with random weights, since a fresh network answers 0."""
    built = build_cycle("subset_remover", plan)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return built.eval()


def make_images(count: int = 3) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 32, 32] of two tissues with background around a brain, and where the brain is, [N, 1, 32, 32]."""
    inside = torch.zeros(count, 1, 32, 32, dtype=torch.bool)
    inside[..., 3:29, 5:27] = True
    tissue = torch.where(Draws(count, torch.Generator().manual_seed(5)).smooth((32, 32), 3) > 0, 1.5, 0.0)
    return torch.where(inside, tissue * torch.tensor([1.0, -0.5, 2.0]).view(1, 3, 1, 1), BACKGROUND), inside


def test_it_knows_the_other_modalities_of_the_plan(plan: Plan) -> None:
    assert SubsetRemover.of_plan(plan, "FLAIR-T1").further == ("T1", "T2")
    assert SubsetRemover.of_plan(plan, "T2-T1").further == ("FLAIR", "T1")
    assert {name for name, method in CYCLES.items() if build_cycle(name, plan).further} == {"subset_remover"}


@pytest.mark.parametrize("there", [(), (1,), (2,), (1, 2)])
def test_any_subset_gives_an_answer_of_its_own(remover: SubsetRemover, there: tuple[int, ...]) -> None:
    images, inside = make_images()
    given = images.clone()
    absent = [channel for channel in (1, 2) if channel not in there]
    given[:, absent] = BACKGROUND
    with torch.inference_mode():
        restored, whole = remover.restore(given), remover.restore(images)
    assert restored.shape == (3, 1, 32, 32)
    assert torch.isfinite(restored).all()
    assert torch.equal(restored[~inside], given[:, :1][~inside])
    assert torch.equal(restored, whole) == (there == (1, 2))


def test_modalities_that_are_left_out_are_not_there(remover: SubsetRemover) -> None:
    images, _ = make_images()
    alone = images.clone()
    alone[:, 1:] = BACKGROUND
    with torch.inference_mode():
        assert torch.equal(remover.restore(images[:, :1]), remover.restore(alone))
        shown = remover.reconstruct(images, *[None] * 4)
    assert torch.equal(shown, remover.restore(images))


def test_what_is_there_is_told_for_each_slice_of_a_batch(remover: SubsetRemover) -> None:
    """A modality that one slice lacks changes nothing in the others."""
    images, _ = make_images(2)
    images[1, 2] = BACKGROUND
    with torch.inference_mode():
        together = remover.restore(images)
        alone = torch.cat([remover.restore(images[[0]]), remover.restore(images[[1], :2])])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_each_number_of_modalities_is_kept_equally_often() -> None:
    kept = draw_kept(6000, 2, torch.Generator().manual_seed(0))[..., 0, 0]
    shares = kept.sum(dim=1).bincount() / len(kept)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert kept.float().mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)


def test_a_lesion_is_drawn_at_one_place_into_all_modalities_that_are_there() -> None:
    scales = tuple(ModalityScale(name, 1.0, -5.0) for name in ("FLAIR", "T1", "T2"))
    images, _ = make_images(24)
    images[12:, 1] = BACKGROUND
    made = BatchedLesions(scales, 4.0).draw(images, torch.Generator().manual_seed(3))
    change = (made.altered - made.healthy).abs()
    assert (made.altered[12:, 1] == BACKGROUND).all()
    # Lesions are drawn as often into the slices that lack a modality.
    assert min(int(made.lesion[:12].sum()), int(made.lesion[12:].sum())) > 100
    inside = made.lesion.expand_as(change)
    for slices, channels in ((slice(0, 12), (0, 1, 2)), (slice(12, 24), (0, 2))):
        for channel in channels:
            within = change[slices, channel][inside[slices, channel]]
            assert within.mean() > 3 * change[slices, channel][~inside[slices, channel]].mean()


@pytest.mark.parametrize(("done", "tolerance"), [(0.0, 2.0), (0.25, 0.1**0.5), (0.9, 0.05)])
def test_pixels_of_what_is_not_shown_do_not_count(plan: Plan, done: float, tolerance: float) -> None:
    """A fresh remover takes nothing off: it is wrong by what the lesions changed in the modalities that are shown, whatever
    the tolerance; the gradient is Huber's, as of the lesion remover."""
    built = SubsetRemover.of_plan(plan, "FLAIR-T1")
    built.begin_epoch(done)
    images, _ = make_images(8)
    torch.manual_seed(3)
    losses = built.training_losses(images[:, :1], images[:, 1:])
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    made = built.lesions.draw(images, generator)
    kept = torch.cat([torch.ones(8, 1, 1, 1, dtype=torch.bool), draw_kept(8, 2, generator)], dim=1)
    weight = torch.where(made.lesion, 5.0, 1.0) * ((made.altered != BACKGROUND) & kept)
    change = made.altered - made.healthy
    size = change.abs()
    error = weight * torch.where(size < 0.05, size**2 / 0.1, size - 0.025)
    expected = {
        "restoration": float(error[:, :1].sum() / weight[:, :1].sum()),
        "further": 0.2 * float(error[:, 1:].sum() / weight[:, 1:].sum()),
    }
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-5)
    losses["restoration"].backward()
    slope = (weight * (change / tolerance).clamp(-1, 1))[:, :1].sum() / weight[:, :1].sum()
    assert float(built.network.output.bias.grad[:4].sum()) == pytest.approx(float(slope), rel=1e-4)


@pytest.fixture
def trainer(
    plan: Plan, write_preprocessed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: list
) -> Trainer:
    """Of FLAIR-T1; no case has a T2."""
    monkeypatch.setattr(Trainer, "picture_interval", float("inf"))
    preprocessed = write_preprocessed(tmp_path / "preprocessed" / "Dataset900_Tiny" / "mmccdPlans")
    output = fold_folder(tmp_path / model_folder_name(NAME, plan.plans_name, "FLAIR-T1"), 0)
    options = TrainerOptions(num_epochs=2, iterations_per_epoch=4)
    return MMCCDTrainerSubsetRemover(plan, "FLAIR-T1", 0, preprocessed, output, splits, options)


def test_cases_without_a_modality_are_trained_on(trainer: Trainer) -> None:
    store = SliceStore(trainer.data.training)
    assert len(store) == 12
    assert all(store[index].shape == (3, 32, 32) and (store[index][2] == BACKGROUND).all() for index in range(len(store)))
    assert [scale.modality for scale in trainer.build_cycle().lesions.scales] == ["FLAIR", "T1", "T2"]
    trained = load_checkpoint(trainer.train()).build_cycle()
    assert trained.further == ("T1", "T2")
    records = trainer.log.read()
    assert all(set(record["train"]) == {"restoration", "further"} for record in records)
    image = torch.from_numpy(np.stack([store[0]]))
    with torch.inference_mode():
        assert not torch.equal(trained.restore(image), image[:, :1])


def test_a_model_of_other_modalities_is_no_start(plan: Plan) -> None:
    """The channels would stand for something else, though the networks are of one size."""
    earlier = SubsetRemover.of_plan(plan, "T2-T1")
    start = Start("earlier", "subset_remover", earlier.state_dict(), "0" * 64, plan, "T2-T1")
    start.give_to(SubsetRemover.of_plan(plan, "T2-T1"))
    with pytest.raises(MMCCDError, match="it knows FLAIR, T1, and the dataset has T1, T2"):
        start.give_to(SubsetRemover.of_plan(plan, "FLAIR-T1"))


def test_the_picture_shows_the_input_with_lesions_and_without(remover: SubsetRemover) -> None:
    images, inside = make_images(2)
    x = images[:, :1]
    altered, restored, reconstruction = remover.illustrate(x, torch.ones_like(x), torch.tensor([4, 7]))
    assert altered.shape == restored.shape == reconstruction.shape == x.shape
    assert torch.equal(restored, remover.restore(altered))
    assert (reconstruction[~inside] == BACKGROUND).all()
