"""The running mean of the weights, against the formula written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmccd_auto.training.ema import ExponentialMovingAverage, warmed_up_decay


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (1, 2 / 11), (90, 0.91), (89_990, 89_991 / 90_000), (10**7, 0.9999)]
)
def test_decay_warms_up(step: int, expected: float) -> None:
    assert warmed_up_decay(0.9999, step) == pytest.approx(expected)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9999])
def test_mean_follows_the_formula(decay: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    mean = ExponentialMovingAverage(model, decay)
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
            model[1].running_mean.add_(1)
        mean.update(model, step)
        d = min(decay, (1 + step) / (10 + step))
        expected = [d * old + (1 - d) * new for old, new in zip(expected, model.parameters(), strict=True)]
    for got, wanted in zip(mean.model.parameters(), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    assert torch.equal(mean.model[1].running_mean, model[1].running_mean)


def test_a_short_training_forgets_its_start() -> None:
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 100.0)
    mean = ExponentialMovingAverage(model, 0.9999)
    nn.init.constant_(model.weight, 1.0)
    for step in range(200):
        mean.update(model, step)
    assert abs(mean.model.weight.item() - 1) < 1e-3


def test_the_model_is_left_alone() -> None:
    model = nn.Linear(2, 2).train()
    before = model.weight.detach().clone()
    mean = ExponentialMovingAverage(model, 0.5)
    mean.update(model, 0)
    assert torch.equal(model.weight, before)
    assert model.training
    assert model.weight.requires_grad
    assert not mean.model.training
    assert not mean.model.weight.requires_grad
