"""The modality cycles: what training minimises, what sampling may and may not depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.cycle import (
    CYCLES,
    Cycle,
    SamplingSettings,
    build_cycle,
    mask_condition,
)
from mmccd_auto.model.noise import combine_keys, standard_normal
from mmccd_auto.model.schedule import CLEAN
from mmccd_auto.model.strip_masks import COLUMNS, ROWS, Strip, keep_mask
from mmccd_auto.plans.plan import DiffusionPlan

SHAPE, WIDTH = (32, 32), 8
STRIPS = [
    Strip(ROWS, -4),
    Strip(ROWS, 0),
    Strip(ROWS, 15),
    Strip(COLUMNS, 3),
    Strip(COLUMNS, 20),
    Strip(COLUMNS, 30),
    Strip(ROWS, 31),
]
MASKED = ["mmccd", "mmccd_published"]
WITH_TWO_NETWORKS = [*MASKED, "cyclic_unet"]
SETTINGS = SamplingSettings(steps=4, spacing="trailing", share_initial_noise=True, redraw_condition_noise=True)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=MASKED)
def cycle(tiny_plan, request) -> Cycle:
    return randomised(build_cycle(request.param, tiny_plan))


def randomised(cycle: Cycle) -> Cycle:
    """In evaluation mode, with outputs of the size of a slice's values, so that nothing hides behind zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in cycle.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return cycle.eval()


def batch(count: int = len(STRIPS)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One slice hidden by ``count`` strips: x, keep, strip keys, slice keys."""
    slice_ = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(2))
    strip_keys = torch.tensor([combine_keys(0, "case", 7, strip) for strip in range(count)])
    slice_keys = torch.full((count,), combine_keys(0, "case", 7))
    return slice_.repeat(count, 1, 1, 1), keep_mask(STRIPS[:count], SHAPE, WIDTH), strip_keys, slice_keys


def relative_difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max() / second.abs().max())


class Recorder(nn.Module):
    """Stands for the forward network: keeps what it is given, answers with ``answer``."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls.append((x.clone(), t.clone()))
        return self.answer


class Backward(nn.Module):
    """Stands for the backward network: keeps what it is given, answers 0."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(x.clone())
        return torch.zeros_like(x)


@pytest.mark.parametrize("method", list(CYCLES))
def test_build_cycle_gives_the_named_method(tiny_plan, method):
    built = build_cycle(method, tiny_plan)
    assert isinstance(built, CYCLES[method])
    assert built.name == method
    assert built.strip_width == tiny_plan.strip_width


@pytest.mark.parametrize("method", WITH_TWO_NETWORKS)
def test_a_cycle_has_two_networks_and_a_schedule(tiny_plan, method):
    cycle = build_cycle(method, tiny_plan)
    assert isinstance(cycle, Cycle)
    assert cycle.schedule.num_timesteps == tiny_plan.diffusion.timesteps
    names = {name.split(".")[0] for name, _ in cycle.named_parameters()}
    assert names == {"forward_network", "backward_network"}


def test_an_unknown_method_is_refused(tiny_plan):
    with pytest.raises(MMCCDError, match="mmccd, mmccd_published, cyclic_unet"):
        build_cycle("gan", tiny_plan)


@pytest.mark.parametrize("method", ["mmccd_published", "cyclic_unet"])
def test_untrained_losses_are_the_mean_squares_of_the_targets(tiny_plan, method):
    """A fresh network answers 0, over the whole slice."""
    x, y = torch.randn(4, 1, *SHAPE), torch.randn(4, 1, *SHAPE) + 1
    losses = build_cycle(method, tiny_plan).training_losses(x, y)
    assert set(losses) == {"forward", "backward"}
    torch.testing.assert_close(losses["forward"], y.square().mean())
    torch.testing.assert_close(losses["backward"], x.square().mean())


@pytest.mark.parametrize("method", WITH_TWO_NETWORKS)
def test_each_loss_trains_its_own_network_only(tiny_plan, method):
    cycle = randomised(build_cycle(method, tiny_plan))
    for name, own, other in (
        ("forward", cycle.forward_network, cycle.backward_network),
        ("backward", cycle.backward_network, cycle.forward_network),
    ):
        cycle.zero_grad()
        cycle.training_losses(torch.randn(2, 1, *SHAPE), torch.randn(2, 1, *SHAPE))[name].backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in own.parameters())
        assert all(parameter.grad is None for parameter in other.parameters())


def test_a_perfect_prediction_costs_nothing(cycle):
    y = torch.randn(6, 1, *SHAPE)
    cycle.forward_network = Recorder(y)
    assert float(cycle.training_losses(torch.randn(6, 1, *SHAPE), y)["forward"]) == 0


def run_lengths(line: torch.Tensor) -> list[int]:
    """Of the runs of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.numpy().astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_training_shows_the_network_diffused_y_and_masked_x(cycle):
    """With y = 0 the first channel is scaled noise; with x = 100 the second one is 100 but in the strips."""
    count = 400
    x, y = torch.full((count, 1, *SHAPE), 100.0), torch.zeros(count, 1, *SHAPE)
    cycle.forward_network = Recorder(y)
    cycle.training_losses(x, y)
    ((seen, t),) = cycle.forward_network.calls
    assert t.min() >= 0
    assert t.max() <= 999
    if cycle.name == "mmccd":
        assert (t == 999).float().mean() == pytest.approx(0.5, abs=0.1)
    assert len(t.unique()) > (130 if cycle.name == "mmccd" else 250)
    expected_std = (1 - cycle.schedule.alphas_cumprod[t]).sqrt().float()
    torch.testing.assert_close(seen[:, 0].std(dim=(1, 2)), expected_std, rtol=0.15, atol=0)
    hidden = seen[:, 1] != 100
    assert torch.equal(hidden, hidden.any(dim=2, keepdim=True) & hidden.any(dim=1, keepdim=True))
    across_rows = hidden.all(dim=2).any(dim=1)
    widths = [run_lengths(one.all(dim=1 if rows else 0)) for one, rows in zip(hidden, across_rows, strict=True)]
    assert {length for one in widths for length in one} <= set(range(1, WIDTH + 1))
    several = np.mean([len(one) == 2 for one in widths])
    assert several == pytest.approx(0.5 if cycle.name == "mmccd" else 0, abs=0.1)
    assert max(len(one) for one in widths) <= 2
    lengths = np.concatenate(widths)
    assert (lengths == WIDTH).mean() == pytest.approx(25 / 39, abs=0.1)
    assert across_rows.float().mean() == pytest.approx(0.5, abs=0.1)
    noise = seen[:, 1][hidden]
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    if cycle.name == "mmccd":
        assert torch.equal(seen[:, 2] == 0, hidden)


def test_what_is_hidden_weighs_five_times_as_much(tiny_plan):
    """Against the sum written out here; fresh networks answer 0, so that the errors are the slices' own squares."""
    cycle = build_cycle("mmccd", tiny_plan)
    x, y = torch.randn(40, 1, *SHAPE), torch.randn(40, 1, *SHAPE) + 1
    cycle.forward_network = Recorder(torch.zeros_like(y))
    cycle.backward_network = recorded = Backward()
    losses = cycle.training_losses(x, y)
    ((seen, _),) = cycle.forward_network.calls
    weight = torch.where(seen[:, 2:] == 0, 5.0, 1.0)
    torch.testing.assert_close(losses["forward"], (weight * y**2).sum() / weight.sum())
    (fed,) = recorded.calls
    generated = (fed == 0).all(dim=(1, 2, 3))
    assert torch.equal(fed[~generated], y[~generated])
    assert 5 < int(generated.sum()) < 35
    weight[~generated] = 1
    torch.testing.assert_close(losses["backward"], (weight * x**2).sum() / weight.sum())


def test_mask_condition_takes_noise_inside_and_x_outside():
    x, keep, _, _ = batch()
    noise = torch.randn_like(x)
    torch.testing.assert_close(mask_condition(x, keep, noise), keep * x + (1 - keep) * noise)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("redraw", [True, False])
def test_a_strip_alone_and_in_a_batch_gives_the_same(cycle, share, redraw):
    sampling = replace(SETTINGS, share_initial_noise=share, redraw_condition_noise=redraw)
    x, keep, strip_keys, slice_keys = batch()
    with torch.inference_mode():
        together = cycle.reconstruct(x, keep, sampling, strip_keys, slice_keys)
        for entry in range(len(x)):
            one = slice(entry, entry + 1)
            alone = cycle.reconstruct(x[one], keep[one], sampling, strip_keys[one], slice_keys[one])
            assert relative_difference(alone, together[one]) < 1e-5


def test_hidden_pixels_have_no_influence(cycle):
    x, keep, strip_keys, slice_keys = batch()
    with torch.inference_mode():
        expected = cycle.reconstruct(x, keep, SETTINGS, strip_keys, slice_keys)
        for hidden_value in (50.0, float("nan")):
            changed = torch.where(keep > 0, x, torch.tensor(hidden_value))
            assert torch.equal(cycle.reconstruct(changed, keep, SETTINGS, strip_keys, slice_keys), expected)
        seen = torch.where(keep > 0, x + 1, x)
        assert relative_difference(cycle.reconstruct(seen, keep, SETTINGS, strip_keys, slice_keys), expected) > 1e-3


def test_sampling_is_ddim_from_keyed_noise_to_the_predicted_y0(cycle):
    """Against the loop written out here, with a network whose answer is known."""
    x, keep, strip_keys, slice_keys = batch()
    answer = torch.randn_like(x)
    cycle.forward_network = Recorder(answer)
    found = cycle.translate(x, keep, SETTINGS, strip_keys, slice_keys)
    torch.testing.assert_close(found, answer)
    timesteps = cycle.schedule.timesteps(4, "trailing")
    y = standard_normal(slice_keys, 0, SHAPE)
    assert len(cycle.forward_network.calls) == 4
    for step, (seen, t) in enumerate(cycle.forward_network.calls):
        assert t.tolist() == [timesteps[step]] * len(x)
        noise = standard_normal(strip_keys, 1 + step, SHAPE)
        torch.testing.assert_close(seen[:, :1], y)
        torch.testing.assert_close(seen[:, 1:2], keep * x + (1 - keep) * noise)
        if cycle.name == "mmccd":
            assert torch.equal(seen[:, 2:], keep)
        y = cycle.schedule.ddim_step(answer, y, timesteps[step], [*timesteps, CLEAN][step + 1])


def test_settings_of_the_noise(cycle):
    x, keep, strip_keys, slice_keys = batch()

    def calls(share: bool, redraw: bool) -> list[Tensor]:
        cycle.forward_network = Recorder(torch.zeros_like(x))
        sampling = SamplingSettings(3, "leading", share_initial_noise=share, redraw_condition_noise=redraw)
        cycle.translate(x, keep, sampling, strip_keys, slice_keys)
        return [seen for seen, _ in cycle.forward_network.calls]

    shared, own = calls(True, False), calls(False, True)
    assert all(torch.equal(shared[0][0, 0], shared[0][entry, 0]) for entry in range(len(x)))
    assert not torch.equal(own[0][0, 0], own[0][1, 0])
    assert torch.equal(shared[0][:, 1], shared[1][:, 1])
    assert torch.equal(shared[0][:, 1], shared[2][:, 1])
    hidden = keep[:, 0] == 0
    assert (own[0][:, 1] != own[1][:, 1])[hidden].float().mean() > 0.99
    assert (own[1][:, 1] != own[2][:, 1])[hidden].float().mean() > 0.99
    assert not (own[0][:, 1] == own[0][:, 0])[hidden].any()


def test_reconstruction_is_the_backward_network_of_the_translation(cycle):
    arguments = (*batch()[:2], SETTINGS, *batch()[2:])
    with torch.inference_mode():
        expected = cycle.backward_network(cycle.translate(*arguments))
        assert torch.equal(cycle.reconstruct(*arguments), expected)


@pytest.mark.parametrize("method", WITH_TWO_NETWORKS)
def test_evaluations_are_the_calls_of_both_networks(tiny_plan, method):
    cycle, calls = build_cycle(method, tiny_plan), []
    for network in (cycle.forward_network, cycle.backward_network):
        network.register_forward_hook(lambda *_: calls.append(1))
    x, keep, strip_keys, slice_keys = batch(1)
    with torch.inference_mode():
        cycle.reconstruct(x, keep, SETTINGS, strip_keys, slice_keys)
    assert cycle.evaluations(SETTINGS) == len(calls) == {"mmccd": 5, "mmccd_published": 5, "cyclic_unet": 2}[method]


@pytest.mark.parametrize("method", WITH_TWO_NETWORKS)
def test_the_illustration_is_what_is_seen_its_translation_and_the_cycle(tiny_plan, method):
    """In ten steps, or as many as there are."""
    cycle = randomised(build_cycle(method, replace(tiny_plan, diffusion=DiffusionPlan(6, 1e-4, 0.001))))
    x, keep, strip_keys, _ = batch(2)
    with torch.inference_mode():
        shown, generated, cycled = cycle.illustrate(x, keep, strip_keys)
        sampling = SamplingSettings(6, "trailing", share_initial_noise=False, redraw_condition_noise=False)
        assert torch.equal(generated, cycle.translate(x, keep, sampling, strip_keys, strip_keys))
        assert torch.equal(cycled, cycle.backward_network(generated))
    hidden = shown.isnan()
    assert torch.equal(hidden, (keep == 0) if cycle.masked else torch.zeros_like(hidden))
    assert torch.equal(shown[~hidden], x[~hidden])


def test_cyclic_unet_ignores_the_mask(tiny_plan):
    cycle = randomised(build_cycle("cyclic_unet", tiny_plan))
    assert not cycle.masked
    x, keep, strip_keys, slice_keys = batch(3)
    with torch.inference_mode():
        expected = cycle.backward_network(cycle.forward_network(x))
        assert torch.equal(cycle.reconstruct(x, keep, SETTINGS, strip_keys, slice_keys), expected)
        assert torch.equal(cycle.reconstruct(x, 1 - keep, SETTINGS, strip_keys + 1, slice_keys), expected)


@pytest.mark.parametrize("method", MASKED)
def test_a_few_steps_of_training_lower_both_losses(tiny_plan, method):
    """On one pair of slices that are functions of each other."""
    cycle = build_cycle(method, tiny_plan)
    x = torch.sin(torch.linspace(0, 6, 32))[None, None, :, None].expand(4, 1, *SHAPE).contiguous()
    y = -x
    optimiser = torch.optim.AdamW(cycle.parameters(), lr=3e-3)
    history = []
    for _ in range(40):
        losses = cycle.training_losses(x, y)
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    for name in ("forward", "backward"):
        assert sum(entry[name] for entry in history[-5:]) < 0.5 * sum(entry[name] for entry in history[:5])


def test_saved_weights_restore_the_cycle(tmp_path, tiny_plan):
    first = randomised(build_cycle("mmccd", tiny_plan))
    torch.save(first.state_dict(), tmp_path / "weights.pth")
    second = build_cycle("mmccd", tiny_plan).eval()
    second.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    x, keep, strip_keys, slice_keys = batch(2)
    with torch.inference_mode():
        assert torch.equal(
            first.reconstruct(x, keep, SETTINGS, strip_keys, slice_keys),
            second.reconstruct(x, keep, SETTINGS, strip_keys, slice_keys),
        )


def test_the_background_is_never_hidden(tiny_plan):
    """A network that knows where the brain ends need not guess it; the published one is shown noise there."""
    x = torch.full((40, 1, *SHAPE), -3.0)
    x[:, :, 8:24, 8:24] = 1
    brain = x[:, 0] == 1
    strips, keep, strip_keys, slice_keys = batch()
    outlined = torch.where(brain[:1, None], strips, -3.0)
    for method in MASKED:
        cycle = build_cycle(method, tiny_plan)
        cycle.forward_network = Recorder(torch.zeros_like(x))
        cycle.training_losses(x, torch.zeros_like(x))
        ((seen, _),) = cycle.forward_network.calls
        hidden = seen[:, 1] != x[:, 0]
        assert hidden[brain].any()
        assert hidden[~brain].any() == (method == "mmccd_published")
        cycle.forward_network = Recorder(torch.zeros_like(outlined))
        cycle.translate(outlined, keep, SETTINGS, strip_keys, slice_keys)
        condition = cycle.forward_network.calls[0][0][:, 1:2]
        assert (condition != outlined)[brain[:1, None].expand_as(outlined) & (keep == 0)].all()
        assert ((condition != outlined) & (outlined == -3)).any() == (method == "mmccd_published")
