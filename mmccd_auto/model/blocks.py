"""The parts of the U-Net: residual block, self-attention, time embedding (ADM; Dhariwal & Nichol, 2021).

On a CPU all of them keep the memory format of their input. On CUDA torch's group norm gives contiguous maps, whatever it is
given, and the convolution after it brings them back into the format of its weights.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmccd_auto.model.dropout import Dropout

Resampling = Literal["down", "up"]
Network = TypeVar("Network", bound=nn.Module)


def group_norm(groups: int, channels: int) -> nn.GroupNorm:
    """Group norm with ``groups`` groups, or, where they don't divide the channels, with the greatest common divisor."""
    return nn.GroupNorm(math.gcd(groups, channels), channels)


def zero_initialised(module: nn.Module) -> nn.Module:
    """Set every parameter of ``module`` to 0: the branch that it ends begins as no change at all."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def laid_out(module: Network, memory_format: torch.memory_format) -> Network:
    """Lay out the weights of ``module`` in a memory format, in place, and give it back."""
    return module.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch documents it, its overloads lack it


class TimeEmbedding(nn.Module):
    """Timestep -> embedding: ``channels`` sines and cosines, then two linear layers to 4 x ``channels``.

    Parameters
    ----------
    channels : even number of the sinusoidal features, whose periods run from 2 pi to 2 pi 10 000 timesteps

    Raises
    ------
    ValueError
        If ``channels`` is odd.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"a time embedding needs an even number of channels, not {channels}")
        self.channels = channels
        self.layers = nn.Sequential(nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, 4 * channels))

    def forward(self, t: Tensor) -> Tensor:
        """Map t [N] -> [N, 4 x channels]."""
        half = self.channels // 2
        frequencies = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=torch.float32, device=t.device))
        angles = t[:, None].to(torch.float32) * frequencies
        features = torch.cat([angles.cos(), angles.sin()], dim=1)
        return self.layers(features.to(self.layers.get_parameter("0.weight").dtype))


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, around a shortcut; optionally conditioned on time, optionally halving or doubling.

    Parameters
    ----------
    in_channels, out_channels : of the feature maps
    embedding_channels : of the time embedding, which scales and shifts the second norm; None: no time conditioning
    dropout : probability, before the last convolution
    norm_groups : of the group norms
    resampling : "down" averages 2 x 2 px, "up" repeats them, before the first convolution and in the shortcut; None: neither
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_channels: int | None,
        dropout: float,
        norm_groups: int,
        resampling: Resampling | None = None,
    ) -> None:
        super().__init__()
        self.resampling = resampling
        self.norm_in = group_norm(norm_groups, in_channels)
        self.convolution_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = None if embedding_channels is None else nn.Linear(embedding_channels, 2 * out_channels)
        self.norm_out = group_norm(norm_groups, out_channels)
        self.dropout = Dropout(dropout)
        self.convolution_out = zero_initialised(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map x [N, in_channels, H, W], embedding [N, embedding_channels] -> [N, out_channels, H', W']."""
        hidden = self.convolution_in(self._resample(F.silu(self.norm_in(x))))
        hidden = self.norm_out(hidden)
        if self.scale_shift is not None:
            if embedding is None:
                raise ValueError("a block that is conditioned on time needs an embedding")
            scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
            hidden = _scaled_and_shifted(hidden, 1 + scale, shift)
        hidden = self.convolution_out(self.dropout(F.silu(hidden)))
        return self.shortcut(self._resample(x)) + hidden

    def _resample(self, x: Tensor) -> Tensor:
        if self.resampling == "down":
            return F.avg_pool2d(x, 2)
        if self.resampling == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return x


def _scaled_and_shifted(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Compute x [N, C, H, W] times ``scale`` plus ``shift``, both [N, C, 1, 1], in the way that is quicker there."""
    # On a CPU addcmul is slow, in bfloat16 five times as slow, where a channel's values lie side by side.
    if x.device.type == "cpu" and x.is_contiguous():
        return x * scale + shift
    return torch.addcmul(shift, x, scale)


class AttentionBlock(nn.Module):
    """One-head self-attention over all pixels of the feature map, added to its input.

    Parameters
    ----------
    channels : of the feature maps
    norm_groups : of the group norm
    """

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = group_norm(norm_groups, channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.output = zero_initialised(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, C, H, W] -> [N, C, H, W]."""
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        attended = _attention(*self.query_key_value(pixels).chunk(3, dim=-1))
        return x + self.output(attended).transpose(1, 2).unflatten(2, x.shape[2:])


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute one head of scaled dot-product attention; all [N, L, C]."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # Torch's own is two and a half times as slow here: it doesn't use the CPU's units for bfloat16 (torch 2.13).
        return torch.softmax(query @ key.transpose(1, 2) / math.sqrt(query.shape[2]), dim=-1).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
