"""The U-Net: its size is the published one, its parts do what they are said to do, its memory formats agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmccd_auto.model.blocks import AttentionBlock, ResidualBlock, TimeEmbedding, _scaled_and_shifted, group_norm
from mmccd_auto.model.unet import UNet
from mmccd_auto.plans.plan import NetworkPlan

TINY = NetworkPlan(base_channels=8, channel_multipliers=(1, 2, 2), residual_blocks=1, attention_edges=(8,), norm_groups=4)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """In evaluation mode, without parameters that are 0 and hide what lies before them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def parameter_count(network: UNet) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_accumulates(network: UNet, channels: int) -> float:
    """Convolutions, linear layers and the two products of attention, per slice of 128 x 128 px."""
    t = torch.tensor([500]) if network.time_embedding is not None else None
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, channels, 128, 128), t)
    return counter.get_total_flops() / 2


def test_the_forward_network_is_as_large_as_the_published_one():
    network = UNet(NetworkPlan(), (128, 128), input_channels=2, time_conditioning=True)
    assert parameter_count(network) == pytest.approx(6.6e6, rel=0.02)
    assert multiply_accumulates(network, 2) == pytest.approx(5.45e9, rel=0.02)


def test_the_backward_network_costs_as_much_and_lacks_only_the_time_layers():
    forward = UNet(NetworkPlan(), (128, 128), input_channels=2, time_conditioning=True)
    backward = UNet(NetworkPlan(), (128, 128), input_channels=1, time_conditioning=False)
    time_layers = sum(
        parameter.numel()
        for name, parameter in forward.named_parameters()
        if name.startswith("time_embedding") or "scale_shift" in name
    )
    first_layer = 32 * 9
    assert parameter_count(backward) == parameter_count(forward) - time_layers - first_layer
    assert multiply_accumulates(backward, 1) == pytest.approx(5.45e9, rel=0.02)


def test_attention_stands_at_the_planned_edges_and_in_the_middle():
    network = UNet(NetworkPlan(), (96, 128), input_channels=1, time_conditioning=False)
    edges = []

    def note(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        edges.append(max(inputs[0].shape[2:]))

    for module in network.modules():
        if isinstance(module, AttentionBlock):
            module.register_forward_pre_hook(note)
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 1, 96, 128))
    assert edges == [32, 32, 16, 16, 8, 8] + [8] + [8, 8, 8, 16, 16, 16, 32, 32, 32]
    without = UNet(replace(TINY, attention_edges=()), (32, 32), 1, time_conditioning=False)
    assert sum(isinstance(module, AttentionBlock) for module in without.modules()) == 1


@pytest.mark.parametrize("shape", [(64, 48), (128, 128), (32, 32)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_output_has_the_shape_of_the_input(shape, channels_last):
    network = randomised(UNet(TINY, shape, input_channels=2))
    x = torch.randn(2, 2, *shape)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        y = network(x, torch.tensor([0, 999]))
    assert y.shape == (2, 1, *shape)
    assert torch.isfinite(y).all()
    assert y.std() > 0


def test_a_fresh_network_gives_zero_and_still_learns():
    network = UNet(TINY, (32, 32), input_channels=2)
    x, t = torch.randn(2, 2, 32, 32), torch.tensor([3, 700])
    y = network(x, t)
    assert torch.equal(y, torch.zeros(2, 1, 32, 32))
    (y - 1).square().mean().backward()
    assert network.output.weight.grad.abs().sum() > 0


def test_memory_formats_and_gradients_agree():
    x, t = torch.randn(3, 2, 32, 16), torch.tensor([0, 10, 999])
    results = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        network = randomised(UNet(TINY, (32, 16), input_channels=2)).to(memory_format=memory_format)
        y = network(x.contiguous(memory_format=memory_format), t)
        y.square().mean().backward()
        results.append([y.detach(), *(parameter.grad for parameter in network.parameters())])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3 * float(second.abs().max() + 1e-6))


def test_every_parameter_matters():
    network = randomised(UNet(TINY, (32, 32), input_channels=2))
    network(torch.randn(2, 2, 32, 32), torch.tensor([5, 400])).square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_the_timestep_matters_only_to_its_own_entry():
    network = randomised(UNet(TINY, (32, 32), input_channels=2))
    x = torch.randn(2, 2, 32, 32)
    with torch.inference_mode():
        first, second = network(x, torch.tensor([5, 400])), network(x, torch.tensor([5, 900]))
    torch.testing.assert_close(first[0], second[0])
    assert not torch.allclose(first[1], second[1], rtol=1e-2)


@pytest.mark.parametrize("base_channels", [6, 12, 16])
def test_groups_fit_any_number_of_channels(base_channels):
    plan = replace(TINY, base_channels=base_channels, channel_multipliers=(1, 3), norm_groups=16)
    with torch.inference_mode():
        assert UNet(plan, (16, 16), 1, time_conditioning=False)(torch.zeros(1, 1, 16, 16)).shape == (1, 1, 16, 16)
    assert group_norm(16, 24).num_groups == 8
    assert group_norm(16, 64).num_groups == 16


def test_dropout_acts_in_training_only():
    network = randomised(UNet(replace(TINY, dropout=0.5), (16, 16), 1, time_conditioning=False))
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(network(x), network(x))
    network.train()
    assert not torch.equal(network(x), network(x))


def test_the_output_keeps_the_dtype_under_autocast():
    network = randomised(UNet(TINY, (16, 16), 1, time_conditioning=False))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.randn(1, 1, 16, 16)).dtype == torch.float32


def test_wrong_calls_are_refused():
    network = UNet(TINY, (32, 32), input_channels=1)
    with pytest.raises(ValueError, match="multiples of 4"):
        network(torch.zeros(1, 1, 32, 30), torch.tensor([1]))
    with pytest.raises(ValueError, match="timestep"):
        network(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="timestep"):
        UNet(TINY, (32, 32), 1, time_conditioning=False)(torch.zeros(1, 1, 32, 32), torch.tensor([1]))
    with pytest.raises(ValueError, match="even"):
        TimeEmbedding(7)


def test_attention_is_softmax_attention_over_all_pixels():
    block = randomised(AttentionBlock(6, norm_groups=3))
    x = torch.randn(2, 6, 4, 5)
    normalised = torch.nn.functional.group_norm(x, 3, block.norm.weight, block.norm.bias)
    for entry in range(2):
        pixels = normalised[entry].reshape(6, 20).T
        query, key, value = (pixels @ block.query_key_value.weight.T + block.query_key_value.bias).split(6, dim=1)
        weights = torch.softmax(query @ key.T / 6**0.5, dim=1)
        expected = x[entry] + ((weights @ value) @ block.output.weight.T + block.output.bias).T.reshape(6, 4, 5)
        for given in (x, x.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(block(given)[entry], expected, rtol=1e-4, atol=1e-5)


def test_residual_block_scales_and_shifts_by_the_embedding():
    block = randomised(ResidualBlock(4, 6, 5, dropout=0.3, norm_groups=2))
    x, embedding = torch.randn(2, 4, 6, 6), torch.randn(2, 5)
    silu, convolve = torch.nn.functional.silu, torch.nn.functional.conv2d
    hidden = silu(torch.nn.functional.group_norm(x, 2, block.norm_in.weight, block.norm_in.bias))
    hidden = convolve(hidden, block.convolution_in.weight, block.convolution_in.bias, padding=1)
    hidden = torch.nn.functional.group_norm(hidden, 2, block.norm_out.weight, block.norm_out.bias)
    scale_shift = silu(embedding) @ block.scale_shift.weight.T + block.scale_shift.bias
    hidden = silu(hidden * (1 + scale_shift[:, :6, None, None]) + scale_shift[:, 6:, None, None])
    hidden = convolve(hidden, block.convolution_out.weight, block.convolution_out.bias, padding=1)
    expected = convolve(x, block.shortcut.weight, block.shortcut.bias) + hidden
    torch.testing.assert_close(block(x, embedding), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("device", "layout", "fused"),
    [
        ("cpu", torch.contiguous_format, False),
        ("cpu", torch.channels_last, True),
        # as group norm gives it on CUDA, whatever it was given
        ("meta", torch.contiguous_format, True),
        ("meta", torch.channels_last, True),
    ],
)
def test_maps_are_scaled_and_shifted_in_one_go_but_for_contiguous_ones_on_a_cpu(monkeypatch, device, layout, fused):
    x = torch.randn(2, 3, 4, 5, device=device).contiguous(memory_format=layout)
    scale, shift = torch.randn(2, 2, 3, 1, 1, device=device)
    used, addcmul = [], torch.addcmul
    monkeypatch.setattr(torch, "addcmul", lambda *given: used.append(given) or addcmul(*given))
    found = _scaled_and_shifted(x, scale, shift)
    assert bool(used) == fused
    if device == "cpu":
        torch.testing.assert_close(found, x * scale + shift)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_blocks_keep_the_memory_format_on_a_cpu(layout):
    blocks = [
        ResidualBlock(4, 6, 5, 0.0, 2),
        ResidualBlock(4, 4, 5, 0.0, 2, "down"),
        ResidualBlock(4, 4, 5, 0.0, 2, "up"),
        AttentionBlock(4, norm_groups=2),
    ]
    x, embedding = torch.randn(2, 4, 6, 8).contiguous(memory_format=layout), torch.randn(2, 5)
    for block in blocks:
        block.to(memory_format=layout)
        found = block(x) if isinstance(block, AttentionBlock) else block(x, embedding)
        assert found.is_contiguous(memory_format=layout)


def test_resampling_blocks_average_and_repeat():
    x = torch.randn(1, 4, 6, 8)
    down = ResidualBlock(4, 4, None, 0.0, 2, resampling="down")(x)
    up = ResidualBlock(4, 4, None, 0.0, 2, resampling="up")(x)
    torch.testing.assert_close(down, x.reshape(1, 4, 3, 2, 4, 2).mean(dim=(3, 5)))
    torch.testing.assert_close(up, x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


def test_time_embedding_begins_with_sines_and_cosines():
    embedding = TimeEmbedding(4)
    seen = []
    embedding.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert embedding(torch.tensor([0, 250])).shape == (2, 16)
    angles = torch.tensor([250.0, 250.0 / 10_000**0.5])
    torch.testing.assert_close(seen[0][0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(seen[0][1], torch.cat([angles.cos(), angles.sin()]), rtol=1e-4, atol=1e-4)


def test_attention_in_bfloat16_is_that_in_float32():
    block = AttentionBlock(16, norm_groups=4)
    torch.nn.init.normal_(block.output.weight)
    x = torch.randn(2, 16, 6, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    exact = block(x)
    (exact_gradient,) = torch.autograd.grad(exact.square().sum(), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = block(x)
    (gradient,) = torch.autograd.grad(rounded.square().sum(), x)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.05)
    torch.testing.assert_close(gradient, exact_gradient, rtol=0.05, atol=0.3)
