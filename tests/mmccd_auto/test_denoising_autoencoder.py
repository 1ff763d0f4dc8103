"""The denoising autoencoder: its noise against the published figures, its training, its maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import Tensor

from mmccd_auto.inference.maps.engine import MapMaker, anomaly_maps
from mmccd_auto.inference.maps.fold_model import load_fold
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.options import PRESETS, MapOptions
from mmccd_auto.model.cycle import build_cycle
from mmccd_auto.model.denoising_autoencoder import DenoisingAutoencoder, coarse_noise
from mmccd_auto.plans.plan import Plan
from mmccd_auto.trained.checkpoint import load_checkpoint
from mmccd_auto.trained.model_folder import ModelFolder, fold_folder, model_folder_name, people_folder
from mmccd_auto.training.data.data_loading import SliceStore
from mmccd_auto.training.options import TrainerOptions
from mmccd_auto.training.progress import EXAMPLE_FILE
from mmccd_auto.training.trainer import Trainer
from mmccd_auto.training.trainers import DAETrainer, DAETrainerShort, cycle_class_of, find_trainer
from mmccd_auto.training.validation import example_of

CPU = torch.device("cpu")
BACKGROUND = -3.0
PUBLISHED_EDGE, PUBLISHED_CELL, PUBLISHED_POINTS = 128, 8, 16


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def autoencoder(tiny_plan: Plan) -> DenoisingAutoencoder:
    """In evaluation mode, with random weights, since a fresh U-Net answers 0."""
    built = build_cycle("dae", tiny_plan)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
    return built.eval()


def make_slices(count: int = 3) -> tuple[Tensor, Tensor]:
    """x [N, 1, 32, 32] with background around a brain, and where the brain is."""
    inside = torch.zeros(count, 1, 32, 32, dtype=torch.bool)
    inside[..., 4:27, 6:24] = True
    return torch.where(inside, torch.randn(count, 1, 32, 32), torch.tensor(BACKGROUND)), inside


def autocorrelation(images: Tensor, lag: int) -> float:
    """Correlation of pixels ``lag`` columns apart, over all images of mean 0."""
    return float((images[..., lag:] * images[..., :-lag]).mean() / images.square().mean())


class Watched(torch.nn.Module):
    """Stands for the network: keeps what it is given, and gives it back."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, ...]] = []

    def forward(self, *arguments: Tensor) -> Tensor:
        self.calls.append(arguments)
        return arguments[0]


def test_the_noise_has_the_published_size_and_coarseness() -> None:
    """16 x 16 points of standard deviation 1 over 128 px; between points it is their bilinear mean, rolled around."""
    shape = (PUBLISHED_EDGE, PUBLISHED_EDGE)
    noise = coarse_noise(400, shape, PUBLISHED_CELL)
    assert noise.shape == (400, 1, *shape)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(2 / 3, rel=0.04)
    assert autocorrelation(noise, PUBLISHED_CELL) == pytest.approx(0.25, abs=0.07)
    assert autocorrelation(noise, 2) > 0.85
    for lag in (2 * PUBLISHED_CELL + 2, 40):
        assert autocorrelation(noise, lag) == pytest.approx(0, abs=0.03)
        assert autocorrelation(noise.mT, lag) == pytest.approx(0, abs=0.03)


def test_the_noise_is_bilinear_between_sixteen_points_and_rolled() -> None:
    """Rolled back, it is the bilinear mean of 16 x 16 numbers of N(0, 1), the outer ones on the border."""
    points = []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        image = coarse_noise(1, (PUBLISHED_EDGE, PUBLISHED_EDGE), PUBLISHED_CELL, generator)[0, 0]
        again = torch.Generator().manual_seed(seed)
        points.append(torch.randn((1, 1, PUBLISHED_POINTS, PUBLISHED_POINTS), generator=again))
        row, column = (int(torch.randint(PUBLISHED_EDGE, (1,), generator=again)) for _ in range(2))
        back = image.roll((-row, -column), (0, 1)).double()
        places = torch.arange(PUBLISHED_EDGE).double() * (PUBLISHED_POINTS - 1) / (PUBLISHED_EDGE - 1)
        weight = (1 - (places[:, None] - torch.arange(PUBLISHED_POINTS)[None]).abs()).clamp(min=0)
        torch.testing.assert_close(back, weight @ points[-1][0, 0].double() @ weight.T, rtol=0, atol=1e-5)
    assert float(torch.cat(points).std()) == pytest.approx(1, rel=0.08)


def test_every_image_has_its_own_numbers_and_shift() -> None:
    noise = coarse_noise(200, (32, 32), 4)
    assert not torch.equal(noise[0], noise[1])
    # Somewhere in the image the last grid point meets the first one: the largest step from one column to the next.
    seams = (noise - noise.roll(1, dims=3)).square().mean(dim=(1, 2)).argmax(dim=1)
    assert len(seams.unique()) > 20


@pytest.mark.parametrize(("edge", "strip_width"), [(32, 8), (64, 8), (160, 16), (256, 32)])
def test_cells_are_half_a_strip_wide_whatever_the_patch(tiny_plan: Plan, edge: int, strip_width: int) -> None:
    built = build_cycle("dae", replace(tiny_plan, strip_width=strip_width, patch_size=(edge, 2 * edge)))
    assert built.cell == strip_width / 2
    noise = coarse_noise(400 * 32 // edge, (edge, 2 * edge), built.cell)
    for image in (noise, noise.mT):
        assert autocorrelation(image, strip_width // 2) == pytest.approx(0.28, abs=0.08)
        assert autocorrelation(image, strip_width + 2) == pytest.approx(0, abs=0.05)


def test_the_same_seed_gives_the_same_noise_and_another_one_does_not() -> None:
    noises = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        noises.append(coarse_noise(2, (32, 32), 4))
    assert torch.equal(noises[0], noises[1])
    assert not torch.allclose(noises[0], noises[2])
    state = torch.get_rng_state()
    assert torch.equal(*(coarse_noise(2, (32, 32), 4, torch.Generator().manual_seed(7)) for _ in range(2)))
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_added_to_the_foreground_only_and_is_as_strong_as_stated(
    autoencoder: DenoisingAutoencoder,
) -> None:
    x, inside = make_slices(200)
    autoencoder.network = Watched()
    autoencoder.training_losses(x, torch.zeros_like(x))
    ((seen,),) = autoencoder.network.calls
    assert torch.equal(seen[~inside], x[~inside])
    added = (seen - x)[inside]
    assert (added != 0).float().mean() > 0.999
    assert float(added.mean()) == pytest.approx(0, abs=0.05)
    # Noise of this standard deviation at the grid points, of which every pixel is a mean.
    assert float(added.std()) == pytest.approx(2.2 * 2 / 3, rel=0.1)


def test_the_network_sees_one_channel_and_no_time(autoencoder: DenoisingAutoencoder) -> None:
    assert {name for name, _ in autoencoder.named_children()} == {"network"}
    assert autoencoder.network.stem.in_channels == 1
    assert autoencoder.network.time_embedding is None
    with pytest.raises(ValueError, match="time conditioning"):
        autoencoder.network(torch.zeros(1, 1, 32, 32), torch.zeros(1, dtype=torch.int64))


def test_the_loss_is_the_squared_error_in_the_foreground(autoencoder: DenoisingAutoencoder, tiny_plan: Plan) -> None:
    x, inside = make_slices()
    y = torch.randn_like(x)
    fresh = build_cycle("dae", tiny_plan).training_losses(x, y)
    assert set(fresh) == {"denoising"}
    torch.testing.assert_close(fresh["denoising"], (x.square() * inside).mean())
    torch.manual_seed(3)
    with_one = autoencoder.training_losses(x, y)["denoising"]
    torch.manual_seed(3)
    assert torch.equal(with_one, autoencoder.training_losses(x, -y)["denoising"])
    with_one.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in autoencoder.network.parameters())


def test_a_network_that_takes_the_noise_off_costs_nothing(autoencoder: DenoisingAutoencoder) -> None:
    x, _ = make_slices()
    autoencoder.network = Watched()
    autoencoder.noise_std = 0.0
    assert float(autoencoder.training_losses(x, x)["denoising"]) == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_maps_are_the_error_without_noise_at_one_evaluation_a_slice(
    autoencoder: DenoisingAutoencoder, tiny_plan: Plan, preset: str
) -> None:
    x, inside = make_slices()
    inside[1] = False
    calls = []
    autoencoder.network.register_forward_hook(lambda module, given, made: calls.append(len(made)))
    settings = make_settings(tiny_plan, options=MapOptions(preset=preset, batch_size=2))
    image, brain = x[:, 0].numpy(), inside[:, 0].numpy()
    maps = anomaly_maps(MapMaker(autoencoder, settings, CPU, (32, 32)), image, brain, "case")
    assert maps.network_evaluations == sum(calls) == 2
    with torch.inference_mode():
        made = autoencoder.network(x)[:, 0].numpy()
    for name, values in (("signed", image - made), ("squared", (image - made) ** 2), ("cycle", made)):
        np.testing.assert_allclose(getattr(maps, name), np.where(brain, values, 0), rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.abs(maps.signed[brain]).min() > 0


@pytest.fixture
def striped(preprocessed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny cases with FLAIR brains of 4 px stripes, which no coarse noise looks like; trainings draw no pictures."""
    monkeypatch.setattr(Trainer, "picture_interval", float("inf"))
    stripes = 2 * np.sin(np.pi / 2 * np.arange(32, dtype=np.float32))[:, None] + np.ones((1, 32), dtype=np.float32)
    for path in preprocessed.glob("*/slice_*.npz"):
        with np.load(path) as content:
            slice_ = dict(content)
        slice_["image"][0] = np.where(slice_["brain"], stripes, BACKGROUND)
        np.savez(path, **slice_)
    return preprocessed


def train(kind: type[Trainer], folder: Path, plan: Plan, preprocessed: Path, splits: list, **options: int) -> Trainer:
    """Fold 0 of FLAIR-T1."""
    output = fold_folder(folder / model_folder_name(kind.__name__, plan.plans_name, "FLAIR-T1"), 0)
    trainer = kind(plan, "FLAIR-T1", 0, preprocessed, output, splits, TrainerOptions(**options))
    trainer.train()
    return trainer


def test_training_teaches_it_to_take_the_noise_off(tmp_path: Path, tiny_plan: Plan, striped: Path, splits: list) -> None:
    plan = replace(tiny_plan, training=replace(tiny_plan.training, learning_rate=5e-3))
    trainer = train(DAETrainer, tmp_path, plan, striped, splits, num_epochs=2, iterations_per_epoch=12)
    records = trainer.log.read()
    for losses in ("train", "validation"):
        assert all(set(record[losses]) == {"denoising"} for record in records)
    assert records[-1]["train"]["denoising"] < 0.3 * records[0]["train"]["denoising"]
    trained = load_checkpoint(trainer.output / "checkpoint_final.pth").build_cycle()
    store = SliceStore(trainer.data.validation)
    x = torch.from_numpy(np.stack([store[index][:1] for index in range(len(store))]))
    brain = x != BACKGROUND
    with torch.inference_mode():
        noisy, denoised, reconstruction = trained.illustrate(x, torch.ones_like(x), torch.arange(len(x)))
    added, left, wrong = (float((image - x)[brain].square().mean()) for image in (noisy, denoised, reconstruction))
    assert left < 0.5 * added
    assert wrong < 0.5 * added


def test_a_checkpoint_comes_back_and_makes_maps(tmp_path: Path, tiny_plan: Plan, striped: Path, splits: list) -> None:
    trainer = train(DAETrainerShort, tmp_path, tiny_plan, striped, splits, num_epochs=1, iterations_per_epoch=2)
    model = ModelFolder(trainer.output.parent)
    checkpoint = model.checkpoint(0)
    assert (checkpoint.method, checkpoint.trainer) == ("dae", "DAETrainerShort")
    assert cycle_class_of(checkpoint) is DenoisingAutoencoder
    assert all(name.startswith("network.") for name in checkpoint.weights)
    loaded = load_fold(model, "0", CPU).cycle
    x, inside = make_slices()
    maps = anomaly_maps(
        MapMaker(loaded, make_settings(tiny_plan), CPU, (32, 32)), x[:, 0].numpy(), inside[:, 0].numpy(), "case"
    )
    expected = build_cycle("dae", tiny_plan).eval()
    expected.load_state_dict(checkpoint.weights)
    with torch.inference_mode():
        error = torch.where(inside, x - expected.network(x), 0)[:, 0].numpy()
    np.testing.assert_allclose(maps.signed, error, rtol=1e-4, atol=1e-5)


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, tiny_plan: Plan, striped: Path, splits: list
) -> None:
    whole = train(DAETrainer, tmp_path / "whole", tiny_plan, striped, splits, num_epochs=2, iterations_per_epoch=2)
    part = train(DAETrainer, tmp_path / "part", tiny_plan, striped, splits, num_epochs=1, iterations_per_epoch=2)
    rest = DAETrainer(tiny_plan, None, 0, striped, part.output, splits, TrainerOptions(num_epochs=2, iterations_per_epoch=2))
    rest.train()
    weights = [load_checkpoint(one.output / "checkpoint_final.pth").raw_weights for one in (whole, rest)]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-7)


def test_the_progress_picture_shows_the_noisy_slice_and_no_translation(
    tmp_path: Path, tiny_plan: Plan, preprocessed: Path, splits: list, autoencoder: DenoisingAutoencoder
) -> None:
    trainer = train(DAETrainer, tmp_path, tiny_plan, preprocessed, splits, num_epochs=1, iterations_per_epoch=1)
    picture = imread(people_folder(preprocessed, trainer.output.parent, 0) / EXAMPLE_FILE)
    assert picture.shape[0] > 500
    assert picture[..., :3].std() > 0.05
    x, inside = make_slices(1)
    images, brain = torch.cat([x, torch.ones_like(x)], dim=1), inside[0, 0].numpy()
    first, again = (example_of(autoencoder, images, ("FLAIR", "T1"), "axial", 5) for _ in range(2))
    assert first.translation is None
    assert [title.format(input="FLAIR", translation="T1") for title in first.titles] == [
        "FLAIR, noisy",
        "FLAIR, denoised",
        "FLAIR, reconstructed",
    ]
    np.testing.assert_array_equal(first.shown, again.shown)
    assert 0.3 < (first.shown - first.input)[brain].std() < 1.5
    with torch.inference_mode():
        for given, made in ((first.shown, first.generated), (first.input, first.cycled)):
            expected = autoencoder.network(torch.from_numpy(given)[None, None])[0, 0].numpy()
            np.testing.assert_allclose(made[brain], expected[brain], rtol=1e-4, atol=1e-5)
    for image in (first.shown, first.generated, first.cycled):
        assert (image[~brain] == BACKGROUND).all()
    assert not np.array_equal(example_of(autoencoder, images, ("FLAIR", "T1"), "axial", 6).shown, first.shown)


def test_both_trainers_are_found_by_name(tiny_plan: Plan, preprocessed: Path, splits: list, tmp_path: Path) -> None:
    for name, kind in (("DAETrainer", DAETrainer), ("DAETrainerShort", DAETrainerShort)):
        assert find_trainer(name) is kind
        assert kind.cycle_class is DenoisingAutoencoder
    wide = replace(tiny_plan, training=replace(tiny_plan.training, batch_size=64, num_epochs=10))
    short = DAETrainerShort(wide, None, 0, preprocessed, tmp_path / "fold_0", splits)
    assert short.settings.batch_size == 16
    assert short.learning_rate(0) > short.learning_rate(5) > short.learning_rate(9) > 0
