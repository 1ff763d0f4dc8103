"""The noise schedule against formulas written out here with numpy, and its properties."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.schedule import CLEAN, DiffusionSchedule
from mmccd_auto.plans.plan import DiffusionPlan

SCHEDULE = DiffusionSchedule(DiffusionPlan())


def expected_tables(timesteps: int) -> tuple[np.ndarray, np.ndarray]:
    """Betas and their cumulative products, one by one."""
    first, last = 1e-4 * 1000 / timesteps, 0.02 * 1000 / timesteps
    betas = np.array([first + (last - first) * t / (timesteps - 1) for t in range(timesteps)])
    products, product = [], 1.0
    for beta in betas:
        product *= 1.0 - beta
        products.append(product)
    return betas, np.array(products)


@pytest.mark.parametrize("timesteps", [1000, 250])
def test_tables_are_the_linear_schedule(timesteps):
    betas, products = expected_tables(timesteps)
    schedule = DiffusionSchedule(DiffusionPlan(timesteps=timesteps))
    assert schedule.alphas_cumprod.dtype == torch.float64
    np.testing.assert_allclose(schedule.betas.numpy(), betas, rtol=1e-12)
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), products, rtol=1e-10)


def test_the_ends_are_the_published_ones():
    assert float(SCHEDULE.betas[0]) == pytest.approx(1e-4)
    assert float(SCHEDULE.betas[-1]) == pytest.approx(0.02)
    assert float(SCHEDULE.alphas_cumprod[-1]) == pytest.approx(4.0358e-5, rel=1e-4)


def test_q_sample_is_the_closed_form_per_entry():
    _, products = expected_tables(1000)
    generator = torch.Generator().manual_seed(0)
    y0, noise = torch.randn(4, 1, 5, 3, generator=generator), torch.randn(4, 1, 5, 3, generator=generator)
    t = torch.tensor([0, 1, 500, 999])
    y_t = SCHEDULE.q_sample(y0, t, noise)
    assert y_t.dtype == torch.float32
    for entry, timestep in enumerate(t.tolist()):
        expected = np.sqrt(products[timestep]) * y0[entry].numpy() + np.sqrt(1 - products[timestep]) * noise[entry].numpy()
        np.testing.assert_allclose(y_t[entry].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_posterior_is_bayes_rule():
    """q(y_{t-1} | y_t, y_0) is the product of two Gaussians in y_{t-1}: q(y_{t-1} | y_0) and q(y_t | y_{t-1})."""
    betas, products = expected_tables(1000)
    y0, y_t = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64), torch.full((1, 1, 1, 1), -1.3, dtype=torch.float64)
    for t in (1, 2, 17, 500, 999):
        prior_precision = 1 / (1 - products[t - 1])
        likelihood_precision = (1 - betas[t]) / betas[t]
        variance = 1 / (prior_precision + likelihood_precision)
        mean = variance * (
            prior_precision * np.sqrt(products[t - 1]) * 0.7 + likelihood_precision * -1.3 / np.sqrt(1 - betas[t])
        )
        found_mean, found_variance = SCHEDULE.posterior_mean_variance(y0, y_t, torch.tensor([t]))
        assert found_mean.item() == pytest.approx(mean, rel=1e-9)
        assert found_variance.item() == pytest.approx(variance, rel=1e-9)


def test_posterior_at_the_last_step_is_y0_itself():
    y0, y_t = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    mean, variance = SCHEDULE.posterior_mean_variance(y0, y_t, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(mean, y0)
    assert torch.equal(variance, torch.zeros(2, 1, 1, 1))


@pytest.mark.parametrize(("t", "t_previous"), [(999, 989), (500, 3), (10, 0), (1, 0)])
def test_ddim_step_is_equation_12_with_eta_0(t, t_previous):
    _, products = expected_tables(1000)
    y0_hat, y_t = torch.randn(2, 1, 4, 6, dtype=torch.float64), torch.randn(2, 1, 4, 6, dtype=torch.float64)
    predicted_noise = (y_t.numpy() - np.sqrt(products[t]) * y0_hat.numpy()) / np.sqrt(1 - products[t])
    expected = np.sqrt(products[t_previous]) * y0_hat.numpy() + np.sqrt(1 - products[t_previous]) * predicted_noise
    np.testing.assert_allclose(SCHEDULE.ddim_step(y0_hat, y_t, t, t_previous).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_ddim_step_keeps_a_diffused_slice_on_its_path():
    y0, noise = torch.randn(1, 1, 8, 8), torch.randn(1, 1, 8, 8)
    y_t = SCHEDULE.q_sample(y0, torch.tensor([700]), noise)
    torch.testing.assert_close(
        SCHEDULE.ddim_step(y0, y_t, 700, 300), SCHEDULE.q_sample(y0, torch.tensor([300]), noise), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("t", "t_previous"), [(1000, 5), (5, 5), (5, 6), (5, -2)])
def test_ddim_refuses_impossible_steps(t, t_previous):
    y = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="no step from"):
        SCHEDULE.ddim_step(y, y, t, t_previous)


@settings(max_examples=40, deadline=None)
@given(steps=st.integers(1, 1000), spacing=st.sampled_from(["trailing", "leading"]))
def test_ddim_with_a_perfect_denoiser_returns_y0(steps, spacing):
    generator = torch.Generator().manual_seed(steps)
    y0, y = torch.randn(2, 1, 4, 4, generator=generator), torch.randn(2, 1, 4, 4, generator=generator)
    timesteps = SCHEDULE.timesteps(steps, spacing)
    for t, t_previous in zip(timesteps, [*timesteps[1:], CLEAN], strict=True):
        y = SCHEDULE.ddim_step(y0, y, t, t_previous)
        assert torch.isfinite(y).all()
    assert torch.equal(y, y0)


@pytest.mark.parametrize("timesteps", [1000, 250, 37])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_timesteps_of_every_count(timesteps, spacing):
    schedule = DiffusionSchedule(DiffusionPlan(timesteps=timesteps))
    for steps in range(1, timesteps + 1):
        visited = schedule.timesteps(steps, spacing)
        assert len(visited) == steps
        assert all(later < earlier for earlier, later in pairwise(visited))
        assert 0 <= visited[-1] <= visited[0] <= timesteps - 1
        assert (visited[0] == timesteps - 1) if spacing == "trailing" else (visited[-1] == 0)
        gaps = -np.diff([*visited, visited[-1] - timesteps / steps])[:-1]
        assert len(gaps) == 0 or np.ptp(gaps) <= 1


def test_leading_timesteps_of_the_paper():
    assert SCHEDULE.timesteps(100, "leading") == list(range(990, -1, -10))
    assert SCHEDULE.timesteps(100, "trailing") == list(range(999, 8, -10))


@pytest.mark.parametrize(("steps", "spacing"), [(0, "trailing"), (1001, "leading"), (-1, "trailing"), (10, "quadratic")])
def test_impossible_timesteps_are_refused(steps, spacing):
    with pytest.raises(MMCCDError, match="choose"):
        SCHEDULE.timesteps(steps, spacing)


@pytest.mark.parametrize(
    "plan",
    [DiffusionPlan(timesteps=0), DiffusionPlan(timesteps=10), DiffusionPlan(beta_start=0.0), DiffusionPlan(beta_end=1.5)],
)
def test_unusable_betas_are_refused(plan):
    with pytest.raises(MMCCDError, match="between 0 and 1"):
        DiffusionSchedule(plan)


class SentTables(TorchDispatchMode):
    """Notes the shapes of what is copied from the CPU to another device."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if function is torch.ops.aten._to_copy.default and (arguments[0].device.type, result.device.type) == ("cpu", "meta"):
            self.shapes.append(tuple(result.shape))
        return result


def test_a_device_gets_each_table_once():
    schedule = DiffusionSchedule(DiffusionPlan())
    y, t = torch.zeros(2, 1, 4, 4, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
    for expected in (2, 0):
        with SentTables() as sent:
            schedule.q_sample(y, t, y)
        assert sent.shapes == [(1000,)] * expected


@pytest.mark.parametrize("made_in_inference_mode", [False, True])
def test_tables_that_inference_used_first_serve_training_and_copies(made_in_inference_mode):
    t, noise = torch.tensor([3, 500]), torch.ones(2, 1, 1, 1)
    with torch.inference_mode(made_in_inference_mode):
        schedule = DiffusionSchedule(DiffusionPlan())
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        with torch.inference_mode():
            expected = schedule.q_sample(torch.ones(2, 1, 1, 1, dtype=dtype), t, noise.to(dtype))
        for one in (schedule, copy.deepcopy(schedule)):
            y0 = torch.ones(2, 1, 1, 1, dtype=dtype, requires_grad=True)
            y_t = one.q_sample(y0, t, noise.to(dtype))
            assert y_t.dtype == dtype
            assert torch.equal(y_t.detach(), expected)
            y_t.sum().backward()
            assert not any(table.is_inference() for table in one._sent.values())
            torch.testing.assert_close(y0.grad.flatten(), schedule.alphas_cumprod[t].sqrt().to(dtype))
