"""Dropout against its definition; the numbers behind it are torch's own."""

from __future__ import annotations

import pytest
import torch

from mmccd_auto.model.dropout import Dropout

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_share_p_is_zero_and_the_rest_is_scaled(memory_format):
    torch.manual_seed(0)
    x = torch.rand(16, 6, 33, 31).to(memory_format=memory_format) + 1
    made = Dropout(0.1)(x)
    assert made.is_contiguous(memory_format=memory_format)
    dropped = made == 0
    assert dropped.float().mean() == pytest.approx(0.1, abs=0.005)
    torch.testing.assert_close(made[~dropped], x[~dropped] / 0.9, rtol=1e-4, atol=0)
    # Nothing that is regular: neither along an axis nor between neighbours.
    for axis in (0, 1, 2, 3):
        first, second = dropped.narrow(axis, 0, dropped.shape[axis] - 1), dropped.narrow(axis, 1, dropped.shape[axis] - 1)
        assert (first & second).float().mean() == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_gradient_is_that_of_the_mask(memory_format):
    x = torch.randn(2, 3, 5, 7).to(memory_format=memory_format).requires_grad_()
    made = Dropout(0.5)(x)
    made.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(made == 0, 0.0, 2.0))


def test_the_seed_decides_and_evaluation_and_nothing_to_drop_change_nothing():
    x = torch.rand(3, 101)
    dropout = Dropout(0.3)
    torch.manual_seed(4)
    first = dropout(x)
    torch.manual_seed(4)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(dropout(x), first)
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()


def test_odd_numbers_of_values_and_strided_inputs_are_fine():
    x = torch.ones(7, 9)[:, ::2]
    assert Dropout(0.2)(x).shape == x.shape
