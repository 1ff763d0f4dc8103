"""What a planned network costs, by formula.

Multiply-accumulates, memory, network evaluations, and the speed of a usual device of a kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mmccd_auto.plans.plan import NetworkPlan

BYTES_PER_VALUE = 4
MEMORY_OVERHEAD = 1.2
FIXED_MEMORY_GB = 0.75
COPIES_OF_WEIGHTS = 5
NETWORKS_PER_CYCLE = 2
TRAVELS_OF_ACTIVATIONS = 2
# A forward and a backward pass, which takes two forward ones, of two networks.
EVALUATIONS_PER_SAMPLE = 6


@dataclass(frozen=True)
class DeviceSpeed:
    """How fast a device runs one planned network.

    Attributes
    ----------
    device : name
    evaluations_per_second : network evaluations: forward passes of one slice through one network
    """

    device: str
    evaluations_per_second: float

    def training_seconds(self, samples: int) -> float:
        """Compute how long both networks of a cycle take to train on so many slices, estimated by their forward passes."""
        return EVALUATIONS_PER_SAMPLE * samples / self.evaluations_per_second


@dataclass(frozen=True)
class UsualDevice:
    """What plans take a kind of device for, so that a plan doesn't depend on what a machine did when it was made.

    Attributes
    ----------
    name : in words
    multiply_accumulates : per second, of convolutions
    bytes : per second, to and from its memory
    """

    name: str
    multiply_accumulates: float
    bytes: float


USUAL_DEVICES = {
    "cpu": UsualDevice("a usual CPU of 8 cores", 1.5e11, 2e10),
    "cuda": UsualDevice("a usual GPU", 5e12, 4e11),
    "mps": UsualDevice("a usual Apple GPU", 1.5e12, 1.5e11),
}


@dataclass(frozen=True)
class _Part:
    """A residual block (with the attention after it): channels, pixels at its input and output, attention or not."""

    in_channels: int
    out_channels: int
    in_pixels: int
    out_pixels: int
    attention: bool


def multiply_accumulates(network: NetworkPlan, patch_size: tuple[int, int], time_conditioning: bool = True) -> int:
    """Count the multiply-accumulates of one slice through the U-Net (convolutions, linear layers, attention products).

    The forward model has time conditioning and two input channels, the backward model one and none.
    """
    base, pixels = network.base_channels, patch_size[0] * patch_size[1]
    total = 9 * ((2 if time_conditioning else 1) + 1) * base * pixels
    total += 20 * base**2 if time_conditioning else 0
    for part in _parts(network, patch_size):
        total += part.out_pixels * _block_weights(part)
        total += 8 * base * part.out_channels if time_conditioning else 0
        if part.attention:
            total += 4 * part.out_channels**2 * part.out_pixels + 2 * part.out_channels * part.out_pixels**2
    return total


def parameter_count(network: NetworkPlan, patch_size: tuple[int, int], time_conditioning: bool = True) -> int:
    """Count the parameters of the U-Net, without biases and norms (about 1 %)."""
    base = network.base_channels
    total = 9 * ((2 if time_conditioning else 1) + 1) * base + (20 * base**2 if time_conditioning else 0)
    for part in _parts(network, patch_size):
        total += _block_weights(part) + (8 * base * part.out_channels if time_conditioning else 0)
        total += 4 * part.out_channels**2 if part.attention else 0
    return total


def saved_activations(network: NetworkPlan, patch_size: tuple[int, int]) -> int:
    """Count the numbers kept for the backward pass of one slice through one network, counted layer by layer.

    A residual block keeps the inputs of its two norms, two SiLUs, two convolutions and of the scaling, and the dropout's
    mask; attention keeps the input of its norm, of its linear layers, and queries, keys and values.
    """
    total = 0
    for part in _parts(network, patch_size):
        total += part.in_channels * (2 * part.in_pixels + part.out_pixels)
        total += int(4.25 * part.out_channels * part.out_pixels)
        total += 6 * part.out_channels * part.out_pixels if part.attention else 0
    return total + 3 * network.base_channels * patch_size[0] * patch_size[1]


def training_memory_gb(network: NetworkPlan, patch_size: tuple[int, int], batch_size: int) -> float:
    """Estimate the memory (GiB) while both networks of a cycle are trained on a batch.

    Activations at 4 bytes (mixed precision needs less: that is the margin) and 20 % for work space, five copies of the
    weights (themselves, gradients, two moments, running mean), and 0.75 GiB for the libraries.
    """
    activations = MEMORY_OVERHEAD * batch_size * saved_activations(network, patch_size)
    weights = COPIES_OF_WEIGHTS * parameter_count(network, patch_size)
    return FIXED_MEMORY_GB + NETWORKS_PER_CYCLE * BYTES_PER_VALUE * (activations + weights) / 2**30


def strips_per_slice(section: tuple[float, float], width: float, stride: float) -> float:
    """Compute the mean number of strips, both directions, that hide any of a brain section.

    The section is (rows, columns) px, or all is in mm.
    """
    return sum((extent + width - stride) / stride + 1 for extent in section)


def tiles_per_slice(extent: tuple[float, float], patch_size: tuple[int, int]) -> int:
    """Count the patches, half overlapping, that cover a brain of (rows, columns) px; 1 where it fits."""
    return math.prod(
        1 + max(0, math.ceil(2 * (size - edge) / edge - 1e-9)) for size, edge in zip(extent, patch_size, strict=True)
    )


def network_evaluations(slices: int, strips: float, steps: int) -> int:
    """Count the slices through a network for one case.

    Per slice and strip ``steps`` of the forward model and one of the backward.
    """
    return round(slices * strips * (steps + 1))


def usual_device_speed(network: NetworkPlan, patch_size: tuple[int, int], device: str | torch.device = "cpu") -> DeviceSpeed:
    """Compute how fast a usual device of this kind runs the forward model, by formula.

    The arithmetic, and the activations on their way to memory and back. Always the same, whatever the machine and its load.
    """
    usual = USUAL_DEVICES.get(torch.device(device).type, USUAL_DEVICES["cpu"])
    moved = TRAVELS_OF_ACTIVATIONS * BYTES_PER_VALUE * saved_activations(network, patch_size)
    seconds = multiply_accumulates(network, patch_size) / usual.multiply_accumulates + moved / usual.bytes
    return DeviceSpeed(usual.name, 1 / seconds)


def _block_weights(part: _Part) -> int:
    shortcut = part.in_channels * part.out_channels if part.in_channels != part.out_channels else 0
    return 9 * part.out_channels * (part.in_channels + part.out_channels) + shortcut


def _parts(network: NetworkPlan, patch_size: tuple[int, int]) -> Iterator[_Part]:
    """Yield the blocks of the U-Net from input to output: encoder, middle, decoder."""
    widths = [network.base_channels * multiplier for multiplier in network.channel_multipliers]
    pixels = [(patch_size[0] >> level) * (patch_size[1] >> level) for level in range(len(widths))]
    attends = [max(patch_size) >> level in network.attention_edges for level in range(len(widths))]
    last = len(widths) - 1
    skips = [widths[0]]
    for level, width in enumerate(widths):
        for _ in range(network.residual_blocks):
            yield _Part(skips[-1], width, pixels[level], pixels[level], attends[level])
            skips.append(width)
        if level < last:
            yield _Part(width, width, pixels[level], pixels[level + 1], False)
            skips.append(width)
    yield _Part(widths[last], widths[last], pixels[last], pixels[last], True)
    yield _Part(widths[last], widths[last], pixels[last], pixels[last], False)
    channels = widths[last]
    for level in range(last, -1, -1):
        for _ in range(network.residual_blocks + 1):
            yield _Part(channels + skips.pop(), widths[level], pixels[level], pixels[level], attends[level])
            channels = widths[level]
        if level > 0:
            yield _Part(channels, channels, pixels[level], pixels[level - 1], False)
