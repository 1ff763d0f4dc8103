"""Turn, scale, shift, mirror and bend slices, and sample them where tissue has moved from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.synthetic_anomalies.batched.draws import Draws

LARGEST_ANGLE = 0.2
LARGEST_SCALE = 1.18
LARGEST_STRETCH = 1.08
LARGEST_SHIFT = 0.06
LARGEST_BEND_MM = 2.5
BEND_SMOOTHNESS_MM = 14.0


def pixel_grid(like: Tensor) -> tuple[Tensor, Tensor]:
    """Give the rows [H, 1] and columns [1, W] of ``like`` [..., H, W], counted from 0 in px."""
    rows = torch.arange(like.shape[-2], dtype=torch.float32, device=like.device)[:, None]
    return rows, torch.arange(like.shape[-1], dtype=torch.float32, device=like.device)[None]


def sample_at(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate slices bilinearly at positions.

    Tissue isn't mixed with background: only pixels of the brain count, and a pixel is brain where they have more than half
    of the weight.

    Parameters
    ----------
    images : [N, M, H, W], background exactly -3
    rows, columns : [N, H, W] px, the same for all modalities

    Returns
    -------
    [N, M, H, W], background exactly -3
    """
    height, width = images.shape[-2:]
    places = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    brain = (images != BACKGROUND).float()
    both = F.grid_sample(torch.cat([images - BACKGROUND, brain], dim=1), places, align_corners=False)
    values, share = both.chunk(2, dim=1)
    return torch.where(share > 0.5, values / share.clamp(min=0.5) + BACKGROUND, BACKGROUND)


def augmented(images: Tensor, spacing: float, mirror: bool, draws: Draws) -> Tensor:
    """Turn slices by up to 11 degrees, scale, stretch and shift them, bend them by some mm, and mirror half of them.

    Parameters
    ----------
    images : [N, M, H, W], background exactly -3
    spacing : mm per px
    mirror : whether columns run from right to left, so that slices may be mirrored
    draws : of N slices
    """
    height, width = images.shape[-2:]
    rows, columns = (axis - (axis.numel() - 1) / 2 for axis in pixel_grid(images))
    angle = draws.uniform(-LARGEST_ANGLE, LARGEST_ANGLE)
    scale, stretch = (draws.log_uniform(1 / limit, limit) for limit in (LARGEST_SCALE, LARGEST_STRETCH))
    side = torch.where(draws.coin(0.5), -1.0, 1.0) if mirror else torch.ones_like(angle)
    shifts = [draws.uniform(-LARGEST_SHIFT, LARGEST_SHIFT) * edge for edge in (height, width)]
    bend = draws.smooth((height, width), BEND_SMOOTHNESS_MM / spacing, 2) * draws.uniform() * LARGEST_BEND_MM / spacing / 2
    source_rows = scale * stretch * (rows * angle.cos() + columns * angle.sin()) + shifts[0] + bend[:, :1]
    source_columns = scale / stretch * (columns * angle.cos() - rows * angle.sin()) * side + shifts[1] + bend[:, 1:]
    return sample_at(images, source_rows[:, 0] + (height - 1) / 2, source_columns[:, 0] + (width - 1) / 2)


def local_mean(images: Tensor, brain: Tensor, radius: int) -> Tensor:
    """Average over the brain's pixels in a square of 2 ``radius`` + 1 px; all [N, M, H, W], 0 where there are none."""
    edge = 2 * radius + 1
    sums = F.avg_pool2d(torch.cat([images * brain, brain.expand_as(images).float()], dim=1), edge, 1, radius)
    values, share = sums.chunk(2, dim=1)
    return values / share.clamp(min=1 / edge**2 / 2)
