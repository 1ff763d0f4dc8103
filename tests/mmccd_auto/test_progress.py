"""What a person follows a training by: the log stands a kill, the picture can be looked at."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.plans.plan import DiffusionPlan, Plan
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.progress import EpochRecord, Example, TrainingLog, draw_progress
from mmccd_auto.training.trainers import CyclicUNetTrainer
from mmccd_auto.training.validation import example_of, mean_losses


def make_record(epoch: int) -> EpochRecord:
    losses = {"forward": 1 / epoch, "backward": 0.5 / epoch}
    return EpochRecord(epoch, 10 * epoch, 2.5, 16.0, 0.01, 1e-4, losses, losses, "validation")


def make_example(error: float = 0.0) -> Example:
    image = np.zeros((32, 28))
    shown = image.copy()
    shown[:, 10:14] = np.nan
    return Example(("FLAIR", "T1"), shown, image, image, image, image + error)


def test_a_log_is_one_json_object_per_epoch(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "fold_0" / "training_log.jsonl")
    assert log.read() == []
    for epoch in (1, 2, 3):
        log.append(make_record(epoch))
    lines = log.path.read_text().splitlines()
    assert (
        [json.loads(line) for line in lines] == log.read() == [dataclasses.asdict(make_record(epoch)) for epoch in (1, 2, 3)]
    )


def test_a_line_that_a_kill_cut_short_is_left_out_and_removed(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "training_log.jsonl")
    for epoch in (1, 2, 3):
        log.append(make_record(epoch))
    log.path.write_text(log.path.read_text()[:-40])
    assert [record["epoch"] for record in log.read()] == [1, 2]
    log.truncate(1)
    log.append(make_record(2))
    assert [record["epoch"] for record in log.read()] == [1, 2]
    assert log.path.read_text().endswith("}\n")


def test_a_damaged_line_inside_the_log_is_told(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "training_log.jsonl")
    log.append(make_record(1))
    log.path.write_text("not json\n" + log.path.read_text())
    with pytest.raises(MMCCDError, match=r"training_log\.jsonl, line 1 is not valid JSON"):
        log.read()


def test_losses_that_json_can_not_hold_are_not_logged(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "training_log.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        log.append(dataclasses.replace(make_record(1), train={"forward": float("nan")}))
    assert log.read() == []


@pytest.mark.parametrize("epochs", [0, 1, 40])
@pytest.mark.parametrize("example", [None, make_example()])
def test_the_picture_is_drawn(tmp_path: Path, epochs: int, example: Example | None) -> None:
    path = tmp_path / "progress.png"
    records = [dataclasses.asdict(make_record(epoch)) for epoch in range(1, epochs + 1)]
    draw_progress(records, example, "a title", path)
    picture = imread(path)
    assert picture.shape[0] > 300
    assert picture.shape[1] > 900
    assert picture[..., :3].std() > 0.05
    assert [file.name for file in tmp_path.iterdir()] == ["progress.png"]


def test_the_picture_has_fixed_scales(tmp_path: Path) -> None:
    """A larger error must look larger: with scales fitted to the data both would look alike."""
    pictures = []
    for error in (0.4, 1.6):
        draw_progress([], make_example(error), "a title", tmp_path / "progress.png")
        pictures.append(imread(tmp_path / "progress.png")[..., :3])
    right = pictures[0].shape[1] * 5 // 6
    bottom = pictures[0].shape[0] // 2
    small, large = (picture[bottom:, right:].mean() for picture in pictures)
    assert abs(small - large) > 0.05


@pytest.mark.parametrize("method", ["mmccd", "cyclic_unet"])
@pytest.mark.parametrize("slice_axis", ["axial", "coronal"])
def test_the_example_is_the_slice_with_most_brain_the_right_way_up(tiny_plan: Plan, method: str, slice_axis: str) -> None:
    """Coronal rows run from inferior to superior, and superior belongs to the top."""
    images = torch.full((3, 2, 32, 32), -3.0)
    images[1, :, 2:20, 8:24] = 1.0
    images[2, :, 14:18, 8:24] = 2.0
    cycle = build_cycle(method, tiny_plan).eval()
    example = example_of(cycle, images, ("FLAIR", "T1"), slice_axis, 0)
    expected = images[1].numpy() if slice_axis == "axial" else images[1].numpy()[:, ::-1]
    np.testing.assert_array_equal(example.input, expected[0])
    np.testing.assert_array_equal(example.translation, expected[1])
    hidden = np.isnan(example.shown)
    assert hidden.any(axis=0).sum() == (tiny_plan.strip_width if cycle.masked else 0)
    np.testing.assert_array_equal(example.shown[~hidden], expected[0][~hidden])
    again = example_of(cycle, images, ("FLAIR", "T1"), slice_axis, 0)
    np.testing.assert_array_equal(again.cycled, example.cycled)


def test_an_example_can_be_made_with_few_timesteps(tiny_plan: Plan) -> None:
    plan = dataclasses.replace(tiny_plan, diffusion=DiffusionPlan(timesteps=4, beta_start=1e-4, beta_end=0.002))
    images = torch.zeros(1, 2, 32, 32)
    assert example_of(build_cycle("mmccd", plan).eval(), images, ("FLAIR", "T1"), "axial", 0).cycled.shape == (32, 32)


def test_validation_draws_the_same_numbers_each_time_and_none_of_the_trainings() -> None:
    images = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 2, 4, 4)
    state = torch.get_rng_state()
    noisy = [
        mean_losses(lambda x, y: {"forward": (x + torch.randn(())).mean()}, images, 2, seed)["forward"] for seed in (1, 1, 2)
    ]
    assert noisy[0] == noisy[1] != noisy[2]
    assert torch.equal(torch.get_rng_state(), state)
    plain = mean_losses(lambda x, y: {"forward": x.mean(), "backward": 2 * y.mean()}, images, 2, 0)
    assert plain == pytest.approx({"forward": 2.0, "backward": 4.0})


def test_a_training_leaves_a_log_and_a_picture(tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list) -> None:
    trainer = CyclicUNetTrainer(
        tiny_plan,
        None,
        0,
        preprocessed,
        tmp_path / "model" / "fold_0",
        splits,
        TrainerOptions(num_epochs=2, iterations_per_epoch=1),
    )
    trainer.train()
    for record in trainer.log.read():
        assert set(record["train"]) == set(record["validation"]) == {"forward", "backward"}
        assert 0 <= record["data_wait_share"] <= 1
        assert record["samples_per_second"] > 0
    # A slice of a person on its way through the networks stays with the preprocessed data.
    assert imread(preprocessed.parent / "models" / "model" / "fold_0" / "example.png").ndim == 3
    picture = trainer.output / "progress.png"
    assert imread(picture).ndim == 3
    picture.unlink()
    trainer.train()
    assert picture.is_file()
