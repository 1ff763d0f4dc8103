"""The formulas of cost against the network and the strips themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.model.speed import device_name, measure_device_speed
from mmccd_auto.model.strip_masks import all_strips
from mmccd_auto.model.unet import UNet
from mmccd_auto.plans import cost
from mmccd_auto.plans.plan import NetworkPlan

NETWORKS = [
    (NetworkPlan(), (128, 128), True),
    (NetworkPlan(), (128, 112), False),
    (NetworkPlan(channel_multipliers=(1, 2, 3, 4)), (64, 56), True),
    (NetworkPlan(channel_multipliers=(1, 2, 3), attention_edges=(24, 12), residual_blocks=1), (48, 32), True),
    (NetworkPlan(base_channels=16, channel_multipliers=(1, 1, 2, 2, 4, 4)), (160, 128), False),
]

SMALLER = [
    NetworkPlan(channel_multipliers=(1, 2, 3, 4)),
    NetworkPlan(channel_multipliers=(1, 2, 3, 4), residual_blocks=1),
    NetworkPlan(base_channels=8, channel_multipliers=(1, 2), norm_groups=4, attention_edges=(8,)),
]


@pytest.mark.parametrize(("network", "patch", "time"), NETWORKS)
def test_multiply_accumulates_and_parameters_are_those_of_the_network(network, patch, time):
    with torch.device("meta"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        unet = UNet(network, patch, 2 if time else 1, time_conditioning=time)
        unet(torch.zeros(1, 2 if time else 1, *patch), torch.zeros(1, dtype=torch.int64) if time else None)
    assert cost.multiply_accumulates(network, patch, time) == pytest.approx(counter.get_total_flops() / 2, rel=0.005)
    assert cost.parameter_count(network, patch, time) == pytest.approx(
        sum(parameter.numel() for parameter in unet.parameters()), rel=0.02
    )


def test_the_papers_network_costs_what_the_paper_says():
    assert cost.multiply_accumulates(NetworkPlan(), (128, 128)) == pytest.approx(5.45e9, rel=0.01)


@pytest.mark.parametrize(("network", "patch", "time"), NETWORKS)
def test_saved_activations_are_what_autograd_keeps(network, patch, time):
    unet = UNet(network, patch, 2 if time else 1, time_conditioning=time)
    weights = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = unet(torch.zeros(1, 2 if time else 1, *patch), torch.tensor([5]) if time else None)
    assert output.requires_grad
    numbers = sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights) / 4
    assert cost.saved_activations(network, patch) == pytest.approx(numbers, rel=0.12)


def test_memory_grows_by_the_batch():
    base = cost.training_memory_gb(NetworkPlan(), (128, 128), 0)
    eight, sixteen = (cost.training_memory_gb(NetworkPlan(), (128, 128), batch) - base for batch in (8, 16))
    assert sixteen == pytest.approx(2 * eight)
    assert 0 < base < 2


@pytest.mark.parametrize(("width", "stride"), [(16, 2), (21, 3), (20, 10), (12, 12), (8, 1)])
def test_strips_per_slice_is_the_mean_over_brain_positions(width, stride):
    counts = []
    for shift in range(stride):
        brain = np.zeros((128, 112), dtype=bool)
        brain[20 + shift : 90 + shift, 15 + shift : 75 + shift] = True
        counts.append(len(all_strips(brain.shape, width, stride, "even", brain)))
    # in pixels a strip of width w meets n pixels at n + w - 1 positions, in mm at n + w
    assert cost.strips_per_slice((70, 60), width, stride) == pytest.approx(np.mean(counts) + 2 / stride, rel=1e-6)


@pytest.mark.parametrize(
    ("extent", "tiles"), [((128, 128), 1), ((100, 60), 1), ((129, 128), 2), ((192, 128), 2), ((193, 193), 9)]
)
def test_tiles_overlap_by_half(extent, tiles):
    assert cost.tiles_per_slice(extent, (128, 128)) == tiles


def test_network_evaluations_count_the_backward_model_once_per_strip():
    assert cost.network_evaluations(slices=10, strips=7, steps=4) == 10 * 7 * 5


def test_device_speed_is_measured_and_named(monkeypatch):
    monkeypatch.setattr("mmccd_auto.model.speed.TIMED_SECONDS", 0.05)
    network = NetworkPlan(base_channels=8, channel_multipliers=(1, 2), norm_groups=4, attention_edges=(8,))
    speed = measure_device_speed(network, (16, 16), "cpu")
    assert speed.evaluations_per_second > 0
    assert "cpu" in speed.device


def test_a_gpu_is_called_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert device_name(torch.device("cuda:1")) == "GPU 1"


def test_a_usual_device_is_quicker_with_less_work():
    for device in ("cpu", "cuda", "mps"):
        speeds = [cost.usual_device_speed(network, (64, 64), device).evaluations_per_second for network in SMALLER]
        assert speeds == sorted(speeds)
    assert cost.usual_device_speed(SMALLER[0], (64, 64), "cuda:1") == cost.usual_device_speed(SMALLER[0], (64, 64), "cuda")


def test_a_sample_of_training_is_six_evaluations():
    assert cost.DeviceSpeed("any", 12.0).training_seconds(samples=100) == 50.0


def test_the_threads_of_a_process_stay_as_they_are_when_it_is_timed(monkeypatch):
    monkeypatch.setattr("mmccd_auto.model.speed.TIMED_SECONDS", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert "2 threads" in measure_device_speed(SMALLER[-1], (16, 16), "cpu").device
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_device_that_does_not_exist_is_said():
    with pytest.raises(MMCCDError, match="choose another -device"):
        measure_device_speed(NetworkPlan(), (32, 32), "quantum")
