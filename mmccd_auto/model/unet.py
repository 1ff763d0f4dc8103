"""The U-Net of both networks of the cycle (ADM family, see METHOD: Networks)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmccd_auto.model.blocks import (
    AttentionBlock,
    Resampling,
    ResidualBlock,
    TimeEmbedding,
    group_norm,
    laid_out,
    zero_initialised,
)
from mmccd_auto.plans.plan import NetworkPlan


class Stage(nn.Module):
    """A residual block, and self-attention after it where the feature map is small enough."""

    def __init__(self, residual: ResidualBlock, attention: AttentionBlock | None = None) -> None:
        super().__init__()
        self.residual = residual
        self.attention = nn.Identity() if attention is None else attention

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Map x [N, C, H, W] -> [N, C', H', W']."""
        return self.attention(self.residual(x, embedding))


class UNet(nn.Module):
    """Slices -> slices of the same size.

    An encoder of ``residual_blocks`` stages a level with a halving residual block between levels; a middle with attention; a
    decoder of one stage more a level, each fed with the encoder's feature map from the other side, and doubling residual
    blocks between levels. The output layer begins at 0.

    Parameters
    ----------
    network : widths, depth, attention edges, dropout, norm groups
    patch_size : (rows, columns) px; attention stands at the levels where the longer side is one of ``attention_edges``
    input_channels, output_channels : of the slices
    time_conditioning : whether ``forward`` takes a timestep

    Notes
    -----
    The weights are laid out channels_last, which is faster on CPU; ``to(memory_format=...)`` changes that.
    """

    def __init__(
        self,
        network: NetworkPlan,
        patch_size: tuple[int, int],
        input_channels: int,
        output_channels: int = 1,
        time_conditioning: bool = True,
    ) -> None:
        super().__init__()
        self.divisor = network.divisor
        base = network.base_channels
        self.time_embedding = TimeEmbedding(base) if time_conditioning else None
        embedding_channels = 4 * base if time_conditioning else None

        def residual(in_channels: int, out_channels: int, resampling: Resampling | None = None) -> ResidualBlock:
            return ResidualBlock(
                in_channels, out_channels, embedding_channels, network.dropout, network.norm_groups, resampling
            )

        def stage(level: int, in_channels: int, out_channels: int) -> Stage:
            attends = max(patch_size) // 2**level in network.attention_edges
            attention = AttentionBlock(out_channels, network.norm_groups) if attends else None
            return Stage(residual(in_channels, out_channels), attention)

        widths = [base * multiplier for multiplier in network.channel_multipliers]
        self.stem = nn.Conv2d(input_channels, widths[0], 3, padding=1)
        self.encoder, skip_channels = _encoder(widths, network.residual_blocks, stage, residual)
        deepest = widths[-1]
        self.middle = nn.ModuleList(
            [
                Stage(residual(deepest, deepest), AttentionBlock(deepest, network.norm_groups)),
                Stage(residual(deepest, deepest)),
            ]
        )
        self.decoder = _decoder(widths, skip_channels, network.residual_blocks + 1, stage, residual)
        self.norm = group_norm(network.norm_groups, widths[0])
        self.output = zero_initialised(nn.Conv2d(widths[0], output_channels, 3, padding=1))
        laid_out(self, torch.channels_last)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Run the network.

        Parameters
        ----------
        x : [N, input_channels, H, W], H and W multiples of the plan's divisor
        t : int64 [N] timesteps, given exactly if the network has time conditioning

        Returns
        -------
        [N, output_channels, H, W] of the dtype of ``x``, under autocast too

        Raises
        ------
        ValueError
            If the edges aren't multiples of the divisor, or t is missing or not wanted.
        """
        if any(edge % self.divisor for edge in x.shape[2:]):
            raise ValueError(f"slices of {tuple(x.shape[2:])} px: both edges must be multiples of {self.divisor}")
        if (t is None) != (self.time_embedding is None):
            raise ValueError("a timestep must be given exactly if the network has time conditioning")
        embedding = None if self.time_embedding is None else self.time_embedding(t)
        hidden = self.stem(x)
        skips = [hidden]
        for stage in self.encoder:
            hidden = stage(hidden, embedding)
            skips.append(hidden)
        for stage in self.middle:
            hidden = stage(hidden, embedding)
        for stage in self.decoder:
            if isinstance(stage, Stage) and stage.residual.resampling is None:
                hidden = torch.cat([hidden, skips.pop()], dim=1)
            hidden = stage(hidden, embedding)
        return self.output(F.silu(self.norm(hidden))).to(x.dtype)


def _encoder(
    widths: list[int], blocks: int, stage: Callable[..., Stage], residual: Callable[..., ResidualBlock]
) -> tuple[nn.ModuleList, list[int]]:
    """Return the encoder's stages, and the channels of the stem and of every stage, which the decoder takes from the end."""
    stages = nn.ModuleList()
    skip_channels = [widths[0]]
    for level, width in enumerate(widths):
        for _ in range(blocks):
            stages.append(stage(level, skip_channels[-1], width))
            skip_channels.append(width)
        if level < len(widths) - 1:
            stages.append(Stage(residual(width, width, "down")))
            skip_channels.append(width)
    return stages, skip_channels


def _decoder(
    widths: list[int],
    skip_channels: list[int],
    blocks: int,
    stage: Callable[..., Stage],
    residual: Callable[..., ResidualBlock],
) -> nn.ModuleList:
    """Return the decoder's stages, from the deepest level up."""
    stages = nn.ModuleList()
    skips = list(skip_channels)
    channels = widths[-1]
    for level, width in reversed(list(enumerate(widths))):
        for _ in range(blocks):
            stages.append(stage(level, channels + skips.pop(), width))
            channels = width
        if level > 0:
            stages.append(Stage(residual(channels, channels, "up")))
    return stages
